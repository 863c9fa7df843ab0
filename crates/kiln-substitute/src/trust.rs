//! Whether a path that a substituter offers may be believed (G3).

use std::fmt;

use kiln_narinfo::{PathInfo, PublicKeys, Trust};
use kiln_store_path::StoreDir;

/// Whom the user trusts.
#[derive(Clone, Debug, Default)]
pub struct TrustPolicy {
    /// `require-sigs`: paths need a signature or a content address.
    pub require_signatures: bool,
    /// `trusted-public-keys`.
    pub keys: PublicKeys,
}

/// Whether a path may be believed, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Trusted(Grounds),
    /// It may not.
    Untrusted(Objection),
}

/// Why a path may be believed. Its contents are compared with what is said of them all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grounds {
    /// `require-sigs` is off.
    NothingIsRequired,
    /// The user trusts the substituter.
    Substituter,
    /// The path follows from the address of its content.
    ContentAddressed,
    /// A trusted key has signed it.
    Signed,
}

/// Why a path may not be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Objection {
    /// Nobody has signed it.
    Unsigned,
    /// Only these keys have signed it, none of which is trusted.
    UnknownKeys(Vec<String>),
    /// A trusted key should have signed it, but the signature is of something else.
    FalseSignature(String),
}

impl TrustPolicy {
    /// Whether what a substituter says about a path may be believed.
    #[must_use]
    pub fn verdict(&self, store_dir: &StoreDir, info: &PathInfo, substituter_is_trusted: bool) -> Verdict {
        if !self.require_signatures {
            return Verdict::Trusted(Grounds::NothingIsRequired);
        }
        if substituter_is_trusted {
            return Verdict::Trusted(Grounds::Substituter);
        }
        // Nobody but this store itself knows what it has built.
        let claimed = PathInfo { ultimate: false, ..info.clone() };
        match claimed.trust(store_dir, &self.keys) {
            Trust::ContentAddressed => Verdict::Trusted(Grounds::ContentAddressed),
            Trust::Signed => Verdict::Trusted(Grounds::Signed),
            Trust::Ultimate | Trust::None => Verdict::Untrusted(self.objection(info)),
        }
    }

    fn objection(&self, info: &PathInfo) -> Objection {
        let names = || info.signatures.iter().map(|signature| signature.key_name());
        if let Some(name) = names().find(|name| self.keys.get(name).is_some()) {
            return Objection::FalseSignature(name.to_owned());
        }
        let mut names: Vec<String> = names().map(str::to_owned).collect();
        names.dedup();
        if names.is_empty() { Objection::Unsigned } else { Objection::UnknownKeys(names) }
    }
}

impl Verdict {
    /// Whether the path may be believed.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        matches!(self, Self::Trusted(_))
    }
}

impl fmt::Display for Objection {
    /// What follows "does not have a valid signature for path '…'".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned => write!(f, "it is not signed"),
            Self::UnknownKeys(names) => {
                // A hostile cache may name any number of them.
                let some: Vec<&str> = names.iter().take(5).map(String::as_str).collect();
                write!(f, "it is signed by '{}'", some.join("', '"))?;
                if names.len() > some.len() {
                    write!(f, " and {} others", names.len() - some.len())?;
                }
                write!(f, ", not by any of the keys in 'trusted-public-keys'")
            }
            Self::FalseSignature(name) => write!(f, "its signature by '{name}' is false"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_hash::Sha256;
    use kiln_narinfo::SecretKey;
    use kiln_store_path::StorePath;

    fn info() -> PathInfo {
        let path = StorePath::from_base_name("mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple").unwrap();
        PathInfo::new(path, Sha256::of(b"x"), 120)
    }

    fn key(name: &str, seed: u8) -> SecretKey {
        SecretKey::generate(name, [seed; 32]).unwrap()
    }

    fn policy(keys: &[SecretKey]) -> TrustPolicy {
        TrustPolicy { require_signatures: true, keys: keys.iter().map(SecretKey::public_key).collect() }
    }

    #[test]
    fn g3_who_is_believed() {
        let store_dir = StoreDir::default();
        let (mine, other) = (key("mine", 1), key("other", 2));
        let policy = policy(std::slice::from_ref(&mine));
        let verdict = |info: &PathInfo, trusted| policy.verdict(&store_dir, info, trusted);

        let mut path = info();
        assert_eq!(verdict(&path, false), Verdict::Untrusted(Objection::Unsigned));
        assert_eq!(verdict(&path, true), Verdict::Trusted(Grounds::Substituter));
        path.ultimate = true;
        assert!(!verdict(&path, false).is_trusted(), "a cache may say so, but can't know");
        path.ultimate = false;
        path.sign(&store_dir, &other).unwrap();
        let unknown = verdict(&path, false);
        assert_eq!(unknown, Verdict::Untrusted(Objection::UnknownKeys(vec!["other".into()])));
        path.sign(&store_dir, &mine).unwrap();
        assert_eq!(verdict(&path, false), Verdict::Trusted(Grounds::Signed));
        path.nar_size += 1;
        assert_eq!(verdict(&path, false), Verdict::Untrusted(Objection::FalseSignature("mine".into())));
        let lax = TrustPolicy { require_signatures: false, ..policy.clone() };
        assert_eq!(lax.verdict(&store_dir, &info(), false), Verdict::Trusted(Grounds::NothingIsRequired));
    }

    #[test]
    fn objections_are_short() {
        let names = (0..1000).map(|number| format!("key-{number}")).collect();
        let text = Objection::UnknownKeys(names).to_string();
        assert!(text.len() < 200 && text.contains("and 995 others"), "{text}");
    }
}
