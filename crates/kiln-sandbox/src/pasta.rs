//! `pasta`, the program that connects a network namespace with the world by ordinary sockets of its own.
//!
//! It is a network stack in user space: what the builder sends to the interface in its namespace, `pasta` sends on as
//! connections and datagrams of an ordinary process. So a builder can reach what that process could, but for the host's
//! loopback addresses: nothing is mapped to them, and no port is forwarded in either direction. The one service that may
//! listen there, the resolver, has an address of its own within the namespace.

use crate::ByteString;

/// The host as the builder sees it: its gateway, and its name server.
const GATEWAY: &str = "169.254.1.1";
/// The builder itself.
const ADDRESS: &str = "169.254.1.2";
const PREFIX_LENGTH: &str = "16";
/// The same for IPv6, in a prefix of our own among the unique local addresses.
const GATEWAY_6: &str = "fd4b:696c:6e00::1";
const ADDRESS_6: &str = "fd4b:696c:6e00::2";
const INTERFACE: &str = "eth0";

/// Its arguments after its name, for a network namespace that is its standard input, in whose user namespace it is.
///
/// It goes on in the background when the namespace is connected; that is when the program ends.
pub(crate) fn arguments() -> Vec<&'static str> {
    let mut arguments = vec!["--quiet", "--config-net", "--no-netns-quit"];
    arguments.extend(["--netns-only", "--netns", "/proc/self/fd/0", "--ns-ifname", INTERFACE]);
    // No port of the host leads to the builder, and none of the builder's loopback interface to the host's.
    arguments.extend(["-t", "none", "-u", "none", "-T", "none", "-U", "none", "--no-map-gw"]);
    arguments.extend(["--no-dhcp", "--no-dhcpv6", "--no-ndp", "--no-ra"]);
    arguments.extend(["--address", ADDRESS, "--netmask", PREFIX_LENGTH, "--gateway", GATEWAY]);
    arguments.extend(["--address", ADDRESS_6, "--gateway", GATEWAY_6, "--dns-forward", GATEWAY]);
    arguments
}

/// What `/etc/resolv.conf` says in the namespace: queries go to the host's own name server.
pub(crate) fn resolv_conf() -> ByteString {
    format!("nameserver {GATEWAY}\n").into()
}

/// What it said about its failure, in one line, without what says nothing about it.
pub(crate) fn reason(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines = text.lines().map(str::trim);
    let lines: Vec<&str> =
        lines.filter(|line| !line.is_empty() && !line.starts_with("Failed to send ")).collect();
    let mut reason = if lines.is_empty() { "it does not say why".to_owned() } else { lines.join("; ") };
    if reason.contains("tun") {
        reason.push_str(" (its user must be allowed to open '/dev/net/tun' for reading and writing)");
    } else if reason.contains("routable interface") {
        reason.push_str(" (this machine has no default route)");
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_way_leads_to_the_hosts_loopback_interface() {
        let arguments = arguments();
        assert!(arguments.contains(&"--no-map-gw"));
        for ports in ["-t", "-u", "-T", "-U"] {
            let position = arguments.iter().position(|argument| *argument == ports).unwrap();
            assert_eq!(arguments[position + 1], "none");
        }
    }

    #[test]
    fn the_reason_is_one_line_without_noise() {
        let output = b"Failed to send 35 bytes to syslog\nbad\xff\n\n worse\n";
        assert_eq!(reason(output), "bad\u{fffd}; worse");
        assert_eq!(reason(b"\n"), "it does not say why");
        assert!(reason(b"Failed to open tun socket in namespace").contains("'/dev/net/tun'"));
    }
}
