//! What kind of machine this is, as far as defaults of settings depend on it.

use std::path::Path;

use kiln_settings::Machine;

use crate::build_hook;
use crate::environment::Environment;

/// Where distributions keep the certificates of the authorities that they trust.
const CERTIFICATES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Looks at the machine.
pub(crate) fn detect(environment: &Environment) -> Machine {
    let mut machine = Machine::plain(&system());
    machine.cpus = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    machine.x86_64_level = x86_64_level();
    machine.has_kvm =
        rustix::fs::access("/dev/kvm", rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK).is_ok();
    machine.has_rosetta =
        machine.system == "aarch64-darwin" && Path::new("/Library/Apple/usr/libexec/oah").exists();
    machine.is_root = rustix::process::geteuid().is_root();
    machine.conf_dir = kiln_settings::system_conf_dir(&|name| environment.value(name)).display().to_string();
    machine.build_hook = build_hook::command();
    machine.ssl_cert_file = ["NIX_SSL_CERT_FILE", "SSL_CERT_FILE"]
        .iter()
        .find_map(|name| environment.text(name).map(str::to_owned))
        .or_else(|| CERTIFICATES.iter().find(|file| Path::new(file).exists()).map(|file| (*file).to_owned()));
    machine
}

/// Nix's name of the platform that this program is for.
fn system() -> String {
    let processor = match std::env::consts::ARCH {
        "x86" => "i686",
        "arm" => "armv7l",
        "powerpc64" if cfg!(target_endian = "little") => "powerpc64le",
        other => other,
    };
    let os = match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    format!("{processor}-{os}")
}

/// The micro-architecture level of the x86-64 ABI that the processor reaches; 0 on others.
fn x86_64_level() -> u8 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        let level_2 = has!("cmpxchg16b")
            && has!("popcnt")
            && has!("sse3")
            && has!("ssse3")
            && has!("sse4.1")
            && has!("sse4.2");
        let level_3 = level_2
            && has!("avx")
            && has!("avx2")
            && has!("bmi1")
            && has!("bmi2")
            && has!("f16c")
            && has!("fma")
            && has!("lzcnt")
            && has!("movbe");
        let level_4 = level_3
            && has!("avx512f")
            && has!("avx512bw")
            && has!("avx512cd")
            && has!("avx512dq")
            && has!("avx512vl");
        1 + u8::from(level_2) + u8::from(level_3) + u8::from(level_4)
    }
    #[cfg(not(target_arch = "x86_64"))]
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platform_has_its_nix_name() {
        let (processor, os) = system().split_once('-').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        assert!(!processor.is_empty() && ["linux", "darwin", "freebsd"].contains(&os.as_str()));
        assert!(x86_64_level() <= 4);
    }
}
