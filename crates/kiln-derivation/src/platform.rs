//! Which machine can build a derivation.

use std::collections::BTreeSet;

use kiln_store_path::StorePathName;

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
    /// The derivation.
    pub derivation: StorePathName,
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
            derivation: derivation.name.clone(),
            required_system: shown(&derivation.system),
            required_features: options.required_system_features.clone(),
            system: self.system.clone(),
            features: self.system_features.clone(),
        })
    }
}
