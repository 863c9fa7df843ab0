//! What defaults depend on.

use std::collections::BTreeSet;

/// The facts about a machine and a process that defaults of settings are made from. The caller finds them out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Nix's name of the platform, e.g. `x86_64-linux`.
    pub system: String,
    /// Number of processors that may be used; at least 1.
    pub cpus: u64,
    /// The x86-64 micro-architecture level (1–4) on x86_64; 0 elsewhere.
    pub x86_64_level: u8,
    /// `/dev/kvm` can be used.
    pub has_kvm: bool,
    /// x86_64 programs run here although the system is `aarch64-darwin`.
    pub has_rosetta: bool,
    /// The process is root's.
    pub is_root: bool,
    /// The directory of `nix.conf`, `machines` and `netrc`, usually `/etc/nix`.
    pub conf_dir: String,
    /// The command that starts the build hook, as words; none if there is none.
    pub build_hook: Vec<String>,
    /// The file of certificates of authorities that the system trusts, if one was found.
    pub ssl_cert_file: Option<String>,
}

impl Machine {
    /// A machine of which only the platform is known: one processor, no special features, not root, `/etc/nix`.
    #[must_use]
    pub fn plain(system: &str) -> Machine {
        Machine {
            system: system.to_owned(),
            cpus: 1,
            x86_64_level: 0,
            has_kvm: false,
            has_rosetta: false,
            is_root: false,
            conf_dir: "/etc/nix".to_owned(),
            build_hook: Vec::new(),
            ssl_cert_file: None,
        }
    }

    pub(crate) fn is_linux(&self) -> bool {
        self.system.ends_with("-linux")
    }

    pub(crate) fn is_darwin(&self) -> bool {
        self.system.ends_with("-darwin")
    }

    /// Features that this machine offers to derivations.
    pub(crate) fn system_features(&self) -> BTreeSet<String> {
        let mut features: BTreeSet<String> =
            ["benchmark", "big-parallel", "nixos-test"].map(str::to_owned).into_iter().collect();
        if self.is_linux() && self.has_kvm {
            features.insert("kvm".to_owned());
        }
        features
    }

    /// Other platforms whose programs run here.
    pub(crate) fn extra_platforms(&self) -> BTreeSet<String> {
        let mut platforms = BTreeSet::new();
        if self.system == "x86_64-linux" {
            platforms.insert("i686-linux".to_owned());
        }
        if let Some(os) = self.system.strip_prefix("x86_64-") {
            platforms.extend((1..=self.x86_64_level.min(4)).map(|level| format!("x86_64-v{level}-{os}")));
        }
        if self.system == "aarch64-darwin" && self.has_rosetta {
            platforms.insert("x86_64-darwin".to_owned());
        }
        platforms
    }
}
