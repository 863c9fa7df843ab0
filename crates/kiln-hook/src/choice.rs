//! Which machine is the best one for a build.

use kiln_protocol::hook::Offer;
use kiln_settings::RemoteMachine;

/// The system of derivations that every machine can build: builtins.
pub(crate) const ANY_SYSTEM: &[u8] = b"builtin";

/// Whether a machine is of the right kind for a build: whatever is required is there, and whatever must be required is.
pub(crate) fn fits(machine: &RemoteMachine, offer: &Offer) -> bool {
    let is_system =
        offer.system == ANY_SYSTEM || machine.systems.iter().any(|system| system.as_bytes() == offer.system);
    is_system
        && offer.features.is_subset(&machine.supported_features)
        && machine.mandatory_features.is_subset(&offer.features)
}

/// A machine with a free place.
#[derive(Clone, Debug)]
pub(crate) struct Candidate<T> {
    /// How fast it is.
    pub(crate) speed: f64,
    /// How many builds it has.
    pub(crate) load: u64,
    /// What it is.
    pub(crate) what: T,
}

/// The candidate with the least load for its speed; of equal ones the fastest, and then the least loaded. The first of those.
pub(crate) fn best<T>(candidates: impl IntoIterator<Item = Candidate<T>>) -> Option<Candidate<T>> {
    candidates.into_iter().reduce(|best, other| if is_better(&other, &best) { other } else { best })
}

fn is_better<T>(one: &Candidate<T>, other: &Candidate<T>) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "no machine has so many builds")]
    let relative = |candidate: &Candidate<T>| candidate.load as f64 / candidate.speed;
    relative(one)
        .total_cmp(&relative(other))
        .then(other.speed.total_cmp(&one.speed))
        .then(one.load.cmp(&other.load))
        .is_lt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn set(words: &[&str]) -> BTreeSet<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn h5_a_machine_has_what_is_required_and_is_wanted() {
        let machines = "host x86_64-linux,i686-linux - 1 1 kvm,big benchmark";
        let machine =
            kiln_settings::parse_machines(machines, "x86_64-linux", &|_: &std::path::Path| Ok(None));
        let machine = machine.unwrap().remove(0);
        let fits = |system: &str, features: &[&str]| {
            let derivation = "/nix/store/x.drv".to_owned();
            let system = system.as_bytes().to_vec();
            fits(&machine, &Offer { willing: true, system, derivation, features: set(features) })
        };
        assert!(fits("x86_64-linux", &["benchmark"]) && fits("i686-linux", &["benchmark", "kvm"]));
        assert!(fits("builtin", &["benchmark"]));
        assert!(!fits("aarch64-linux", &["benchmark"]), "another system");
        assert!(!fits("x86_64-linux", &["kvm"]), "what is mandatory isn't required");
        assert!(!fits("x86_64-linux", &["benchmark", "warp"]), "it has no such feature");
    }

    #[test]
    fn h5_the_least_loaded_for_its_speed_is_best() {
        let best = |candidates: &[(f64, u64)]| {
            let numbered = candidates.iter().enumerate();
            best(numbered.map(|(what, &(speed, load))| Candidate { speed, load, what })).map(|best| best.what)
        };
        assert_eq!(best(&[]), None);
        assert_eq!(best(&[(1.0, 2), (1.0, 1)]), Some(1));
        assert_eq!(best(&[(1.0, 1), (4.0, 3)]), Some(1), "less for its speed");
        assert_eq!(best(&[(1.0, 0), (2.0, 0)]), Some(1), "the faster one");
        assert_eq!(best(&[(2.0, 2), (1.0, 1)]), Some(0), "the faster one, though it has more");
        assert_eq!(best(&[(1.0, 1), (1.0, 1)]), Some(0), "the first one");
    }
}
