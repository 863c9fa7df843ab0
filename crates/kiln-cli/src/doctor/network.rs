//! What builds of fixed outputs need for a network of their own, and virtual machines for speed.

use rustix::fs::{Access, access};

use super::{Facts, Finding};

const AREA: &str = "Devices and networks";

/// Looks for programs and devices.
pub(super) fn examine(facts: &Facts<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let search_path = facts.invocation.environment.value("PATH").unwrap_or_default();
    let usable = Access::READ_OK | Access::WRITE_OK;
    match kiln_build::network_program(facts.settings(), search_path.as_encoded_bytes()) {
        Ok(None) => findings.push(Finding::note(AREA, "builds of fixed outputs share the machine's network (fod-network = host)")),
        Ok(Some(program)) => findings.push(match access("/dev/net/tun", usable) {
            Ok(()) => Finding::ok(AREA, format!("builds of fixed outputs get a network of their own by '{}'", program.display())),
            Err(error) => Finding::warning(AREA, format!("'{}' is there, but '/dev/net/tun' cannot be used ({error}), so that builds of fixed outputs share the machine's network or fail", program.display()))
                .advise("'modprobe tun', or give the container the device"),
        }),
        Err(reason) => findings.push(Finding::warning(AREA, format!("builds of fixed outputs have no network of their own: {reason}"))),
    }
    findings.push(match access("/dev/kvm", usable) {
        Ok(()) => Finding::ok(AREA, "'/dev/kvm' can be used: the system feature 'kvm' is there"),
        Err(error) => Finding::note(AREA, format!("'/dev/kvm' cannot be used ({error}): derivations that need the system feature 'kvm' are not built here")),
    });
    findings
}
