//! Which machine can build a derivation.

use std::collections::BTreeSet;

use crate::derivation::Derivation;
use crate::options::BuildOptions;
use crate::output::shown;

/// What the machine is and offers, by its settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Platform {
    /// The setting `system`.
    pub system: String,
    /// The setting `extra-platforms`.
    pub extra_platforms: BTreeSet<String>,
    /// The setting `system-features`.
    pub system_features: BTreeSet<String>,
}

/// A derivation that this machine cannot build.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a '{required_system}' with features {{{}}} is required to build '{derivation}', but I am a '{system}' with features {{{}}}",
    listed(required_features),
    listed(features)
)]
pub struct CannotBuildHere {
    /// The derivation: its name, unless whoever knows its path says that instead.
    pub derivation: String,
    /// The system that it needs.
    pub required_system: String,
    /// The features that it needs.
    pub required_features: BTreeSet<String>,
    /// The system that there is.
    pub system: String,
    /// The features that there are.
    pub features: BTreeSet<String>,
}

fn listed(features: &BTreeSet<String>) -> String {
    features.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

impl Platform {
    /// Whether the derivation can be built on this machine: the system fits, or the builder is a builtin, which runs
    /// anywhere, and every required feature is there.
    ///
    /// # Errors
    /// It cannot.
    pub fn check(&self, derivation: &Derivation, options: &BuildOptions) -> Result<(), CannotBuildHere> {
        let is_system = |system: &str| system.as_bytes() == derivation.system;
        let fits = derivation.is_builtin()
            || is_system(&self.system)
            || self.extra_platforms.iter().any(|system| is_system(system));
        if fits && options.required_system_features.is_subset(&self.system_features) {
            return Ok(());
        }
        Err(CannotBuildHere {
            derivation: derivation.name.to_string(),
            required_system: shown(&derivation.system),
            required_features: options.required_system_features.clone(),
            system: self.system.clone(),
            features: self.system_features.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_store_path::{StoreDir, StorePathName};

    use crate::aterm::Strictness;

    fn check(system: &str, builder: &str, features: &str) -> Result<(), CannotBuildHere> {
        let platform = Platform {
            system: "x86_64-linux".into(),
            extra_platforms: ["i686-linux".to_owned()].into(),
            system_features: ["big-parallel", "kvm"].map(str::to_owned).into(),
        };
        let text = format!(
            r#"Derive([("out","/nix/store/00000000000000000000000000000000-t","","")],[],[],"{system}","{builder}",[],[("requiredSystemFeatures","{features}")])"#
        );
        let name = StorePathName::new("t").unwrap();
        let derivation =
            Derivation::parse_aterm(text.as_bytes(), &name, &StoreDir::default(), Strictness::Strict)
                .unwrap();
        platform.check(&derivation, &BuildOptions::of(&derivation).unwrap())
    }

    /// D8: this system, an extra platform or a builtin, and all features.
    #[test]
    fn what_can_be_built_here() {
        assert_eq!(check("x86_64-linux", "/bin/sh", ""), Ok(()));
        assert_eq!(check("i686-linux", "/bin/sh", "kvm"), Ok(()));
        assert_eq!(check("builtin", "builtin:fetchurl", "kvm big-parallel"), Ok(()));
        assert!(check("builtin", "/bin/sh", "").is_err());
        assert!(check("builtin", "builtin:fetchurl", "uid-range").is_err());
        assert_eq!(
            check("aarch64-linux", "/bin/sh", "kvm").unwrap_err().to_string(),
            "a 'aarch64-linux' with features {kvm} is required to build 't', but I am a 'x86_64-linux' with features {big-parallel, kvm}"
        );
    }
}
