//! What a store knows about one of its paths, and the text of it that is signed.

use std::collections::BTreeSet;

use kiln_hash::Sha256;
use kiln_store_path::{ContentAddress, References, StoreDir, StorePath};

use crate::key::{PublicKeys, SecretKey};
use crate::signature::SignatureSet;

/// The metadata of a valid path; the one type of it in all of Kiln.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathInfo {
    /// The path itself.
    pub path: StorePath,
    /// SHA-256 of its NAR serialisation; [`Sha256::UNKNOWN`] if nobody has computed it.
    pub nar_hash: Sha256,
    /// Bytes of its NAR serialisation; 0 if not known.
    pub nar_size: u64,
    /// The paths that it refers to, itself among them if it contains its own path.
    pub references: BTreeSet<StorePath>,
    /// The derivation that it is an output of, if known; that derivation need not be valid.
    pub deriver: Option<StorePath>,
    /// When it became valid here, in seconds since the Unix epoch; 0 if not known.
    pub registration_time: u64,
    /// Whether this very store built it, so that it needs no signature.
    pub ultimate: bool,
    /// Signatures of its [fingerprint](Self::fingerprint).
    pub signatures: SignatureSet,
    /// The claim that the path was computed from its content; see [`is_content_addressed`](Self::is_content_addressed).
    pub content_address: Option<ContentAddress>,
}

/// A path without a NAR size has no fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot calculate the fingerprint of path '{path}' because its size is not known")]
pub struct NoFingerprint {
    /// The full path.
    pub path: String,
}

/// Why a path may be believed to be what its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Its path follows from its content address, so that only its content has to be checked.
    ContentAddressed,
    /// It was built here.
    Ultimate,
    /// It carries a signature by a trusted key.
    Signed,
    /// Nothing vouches for it.
    None,
}

impl Trust {
    /// Whether anything vouches for the path.
    pub fn is_trusted(self) -> bool {
        self != Self::None
    }
}

impl PathInfo {
    /// Path info with nothing but a path, the hash and the size of its NAR.
    pub fn new(path: StorePath, nar_hash: Sha256, nar_size: u64) -> Self {
        Self {
            path,
            nar_hash,
            nar_size,
            references: BTreeSet::new(),
            deriver: None,
            registration_time: 0,
            ultimate: false,
            signatures: SignatureSet::new(),
            content_address: None,
        }
    }

    /// The references, with the one to the path itself split off.
    pub fn split_references(&self) -> References {
        let mut others = self.references.clone();
        let to_self = others.remove(&self.path);
        References { others, to_self }
    }

    /// Whether the path is the one that its content address, name and references give. The content itself is not looked
    /// at; whoever takes it from elsewhere has to.
    pub fn is_content_addressed(&self, store_dir: &StoreDir) -> bool {
        self.content_address.is_some_and(|address| {
            let references = self.split_references();
            store_dir
                .make_content_addressed_path(&self.path.to_name(), &address, &references)
                .is_ok_and(|computed| computed == self.path)
        })
    }

    /// The text that is signed: `1;PATH;sha256:NIX32;SIZE;REFERENCE,REFERENCE…`. Deriver, content address and origin are
    /// not covered.
    ///
    /// # Errors
    /// The size must be known.
    pub fn fingerprint(&self, store_dir: &StoreDir) -> Result<String, NoFingerprint> {
        if self.nar_size == 0 {
            return Err(NoFingerprint { path: store_dir.print(&self.path) });
        }
        let mut text = format!(
            "1;{};sha256:{};{};",
            store_dir.display(&self.path),
            self.nar_hash.nix32(),
            self.nar_size
        );
        for (index, reference) in self.references.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            text.push_str(store_dir.as_str());
            text.push('/');
            text.push_str(reference.base_name());
        }
        Ok(text)
    }

    /// Adds a signature by `key`; `false` if it was there already.
    ///
    /// # Errors
    /// The size must be known.
    pub fn sign(&mut self, store_dir: &StoreDir, key: &SecretKey) -> Result<bool, NoFingerprint> {
        let fingerprint = self.fingerprint(store_dir)?;
        Ok(self.signatures.insert(key.sign(fingerprint.as_bytes())))
    }

    /// How many different trusted keys have signed the path.
    pub fn count_valid_signatures(&self, store_dir: &StoreDir, keys: &PublicKeys) -> usize {
        if self.signatures.is_empty() || keys.is_empty() {
            return 0;
        }
        let Ok(fingerprint) = self.fingerprint(store_dir) else { return 0 };
        let signers: BTreeSet<&str> = self
            .signatures
            .iter()
            .filter(|signature| keys.verify(fingerprint.as_bytes(), signature))
            .map(|signature| signature.key_name())
            .collect();
        signers.len()
    }

    /// What vouches for the path. `ultimate` is this store's own knowledge: clear it in what comes from others.
    pub fn trust(&self, store_dir: &StoreDir, keys: &PublicKeys) -> Trust {
        if self.ultimate {
            Trust::Ultimate
        } else if self.is_content_addressed(store_dir) {
            Trust::ContentAddressed
        } else if self.count_valid_signatures(store_dir, keys) > 0 {
            Trust::Signed
        } else {
            Trust::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NarInfo;

    fn dep2() -> PathInfo {
        let text = include_bytes!("../tests/data/cache/2.34-none/lj3q75s8vxysliflp8z0a7w75mpl98wh.narinfo");
        NarInfo::parse(&StoreDir::default(), "dep2.narinfo", text).unwrap().info
    }

    fn keys() -> PublicKeys {
        PublicKeys::from_iter([include_str!("../tests/data/keys/kiln-test-1.pub").parse().unwrap()])
    }

    #[test]
    fn fingerprint_is_what_nix_signs() {
        let store_dir = StoreDir::default();
        assert_eq!(
            dep2().fingerprint(&store_dir).unwrap(),
            "1;/nix/store/lj3q75s8vxysliflp8z0a7w75mpl98wh-dep2;sha256:1gldqai9q6c6lypa2jk96qgwdgqij7j6ccxk8macikzgy3j59dwv;672;/nix/store/9jkdg1fd3213linvmnsyvl2qc00gifpm-dep,/nix/store/lj3q75s8vxysliflp8z0a7w75mpl98wh-dep2,/nix/store/mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple,/nix/store/pfqja8c3gi5f4j3dhhgb8f01ck85cl15-src.txt"
        );
        let without_size = PathInfo { nar_size: 0, ..dep2() };
        assert!(without_size.fingerprint(&store_dir).is_err());
        assert_eq!(without_size.trust(&store_dir, &keys()), Trust::None);
    }

    #[test]
    fn signing_again_gives_the_signature_of_nix() {
        let store_dir = StoreDir::default();
        let key = include_str!("../tests/data/keys/kiln-test-1.sec").parse().unwrap();
        let mut info = dep2();
        let signed_by_nix = std::mem::take(&mut info.signatures);
        assert!(info.sign(&store_dir, &key).unwrap());
        assert_eq!(info.signatures, signed_by_nix);
        assert!(!info.sign(&store_dir, &key).unwrap(), "the same signature again changes nothing");
    }

    #[test]
    fn a_signature_vouches_for_all_that_it_covers() {
        let store_dir = StoreDir::default();
        let info = dep2();
        assert_eq!(info.trust(&store_dir, &keys()), Trust::Signed);
        assert_eq!(info.trust(&store_dir, &PublicKeys::default()), Trust::None);
        let mut fewer = info.clone();
        fewer.references.pop_first();
        let changed = [
            PathInfo { nar_size: info.nar_size + 1, ..info.clone() },
            PathInfo { nar_hash: Sha256([1; 32]), ..info.clone() },
            fewer,
        ];
        for info in changed {
            assert_eq!(info.trust(&store_dir, &keys()), Trust::None, "{info:?}");
        }
        assert_eq!(info.trust(&StoreDir::new("/gnu/store").unwrap(), &keys()), Trust::None);
        let built_here = PathInfo { ultimate: true, signatures: SignatureSet::new(), ..info };
        assert_eq!(built_here.trust(&store_dir, &keys()), Trust::Ultimate);
    }

    #[test]
    fn a_content_address_counts_only_if_it_computes() {
        let store_dir = StoreDir::default();
        let text = include_bytes!("../tests/data/cache/2.34-ca/1dn9mch4nc1zjb0g19vb8whhp1zbhxzg.narinfo");
        let mut info = NarInfo::parse(&store_dir, "ca-self.narinfo", text).unwrap().info;
        info.signatures = SignatureSet::new();
        assert!(info.references.contains(&info.path), "the sample refers to itself");
        assert_eq!(info.trust(&store_dir, &keys()), Trust::ContentAddressed);
        info.references.clear();
        assert_eq!(info.trust(&store_dir, &keys()), Trust::None);
    }
}
