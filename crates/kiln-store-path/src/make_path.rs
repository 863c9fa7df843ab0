//! How store paths are computed (hashes-and-paths specification, "Digest computation").
//!
//! Every path is the folded SHA-256 of a fingerprint `TYPE:HASH:STOREDIR:NAME`; the kinds of paths differ in what they
//! put for the type and the hash.

use std::collections::BTreeSet;

use kiln_hash::{Algorithm, Hash, Sha256, fold};

use crate::content_address::{ContentAddress, ContentAddressMethod};
use crate::name::{InvalidName, OutputName, StorePathName};
use crate::store_dir::StoreDir;
use crate::store_path::StorePath;

/// What content refers to: other paths, and perhaps its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Paths other than the content's own.
    pub others: BTreeSet<StorePath>,
    /// Whether the content contains its own path.
    pub to_self: bool,
}

impl References {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.others.is_empty() && !self.to_self
    }
}

/// Why no path can be computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MakePathError {
    /// The name with its output's suffix is not valid.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// Only texts and SHA-256 NARs can have references.
    #[error(
        "fixed output derivation '{name}' is not allowed to refer to other store paths, which its content address '{address}' has no room for"
    )]
    References {
        /// The name of the path to be.
        name: StorePathName,
        /// Its content address.
        address: ContentAddress,
    },
    /// Texts are hashed with SHA-256 and cannot refer to themselves.
    #[error(
        "text '{name}' with content address '{address}' must be hashed with sha256 and must not refer to itself"
    )]
    Text {
        /// The name of the path to be.
        name: StorePathName,
        /// Its content address.
        address: ContentAddress,
    },
    /// Git knows SHA-1 and SHA-256 only.
    #[error("'{name}' with content address '{address}': Git hashes with sha1 or sha256 only")]
    Git {
        /// The name of the path to be.
        name: StorePathName,
        /// Its content address.
        address: ContentAddress,
    },
}

impl StoreDir {
    /// The path for a type and the text of a hash, `sha256:BASE16` in practice.
    pub fn make_path(&self, kind: &str, hash: &str, name: &StorePathName) -> StorePath {
        let digest = Sha256::of(format!("{kind}:{hash}:{self}:{name}"));
        let mut folded = [0_u8; 20];
        for (slot, byte) in folded.iter_mut().zip(fold(&digest.0, 20)) {
            *slot = byte;
        }
        StorePath::from_parts(&folded, name)
    }

    /// The path of an input-addressed output, from the hash modulo of its derivation and the derivation's name.
    ///
    /// # Errors
    /// The name with the output's suffix may be too long.
    pub fn make_output_path(
        &self,
        hash_modulo: &Sha256,
        derivation_name: &StorePathName,
        output: &OutputName,
    ) -> Result<StorePath, MakePathError> {
        let name = derivation_name.with_output(output)?;
        Ok(self.make_path(&format!("output:{output}"), &Hash::from(*hash_modulo).prefixed_base16(), &name))
    }

    /// The path of content that is addressed by itself: added sources, texts, fixed and floating outputs.
    ///
    /// # Errors
    /// Combinations that have no path: see [`MakePathError`].
    pub fn make_content_addressed_path(
        &self,
        name: &StorePathName,
        address: &ContentAddress,
        references: &References,
    ) -> Result<StorePath, MakePathError> {
        let is_sha256 = address.hash.algorithm() == Algorithm::Sha256;
        let (name_of, address_of) = (|| name.clone(), || *address);
        match address.method {
            ContentAddressMethod::Text if !is_sha256 || references.to_self => {
                Err(MakePathError::Text { name: name_of(), address: address_of() })
            }
            ContentAddressMethod::Text => Ok(self.make_referring_path("text", name, address, references)),
            ContentAddressMethod::Nar if is_sha256 => {
                Ok(self.make_referring_path("source", name, address, references))
            }
            _ if !references.is_empty() => {
                Err(MakePathError::References { name: name_of(), address: address_of() })
            }
            ContentAddressMethod::Git
                if !matches!(address.hash.algorithm(), Algorithm::Sha1 | Algorithm::Sha256) =>
            {
                Err(MakePathError::Git { name: name_of(), address: address_of() })
            }
            method => {
                let inner =
                    format!("fixed:out:{}{}:", method.derivation_prefix(), address.hash.prefixed_base16());
                Ok(self.make_path("output:out", &Hash::from(Sha256::of(inner)).prefixed_base16(), name))
            }
        }
    }

    /// A path whose type lists its references.
    fn make_referring_path(
        &self,
        kind: &str,
        name: &StorePathName,
        address: &ContentAddress,
        references: &References,
    ) -> StorePath {
        let mut kind = kind.to_owned();
        for path in &references.others {
            kind.push(':');
            kind.push_str(&self.print(path));
        }
        if references.to_self {
            kind.push_str(":self");
        }
        self.make_path(&kind, &address.hash.prefixed_base16(), name)
    }

    /// The path of a text such as a derivation file, from its bytes.
    ///
    /// # Errors
    /// None in practice: a text hashed with SHA-256 that does not refer to itself has a path.
    pub fn make_text_path(
        &self,
        name: &StorePathName,
        text: &[u8],
        references: BTreeSet<StorePath>,
    ) -> Result<StorePath, MakePathError> {
        let address = ContentAddress { method: ContentAddressMethod::Text, hash: Sha256::of(text).into() };
        self.make_content_addressed_path(name, &address, &References { others: references, to_self: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(base_name: &str) -> StorePath {
        StorePath::from_base_name(base_name).unwrap()
    }

    fn references(others: &[&str], to_self: bool) -> References {
        References { others: others.iter().map(|name| path(name)).collect(), to_self }
    }

    /// The specification's table of vectors: content `x`, name `foo`, digest of the path.
    #[test]
    fn content_addressed_vectors() {
        use ContentAddressMethod::{Flat, Git, Nar, Text};
        const A: &str = "mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple";
        const B: &str = "fkcy6m3kx766j9lmy6dy4c5i4k2x23s6-multi";
        let name = StorePathName::new("foo").unwrap();
        for (method, algorithm, references, digest) in [
            (Nar, Algorithm::Sha256, references(&[], false), "dppxka05i2fys67mpmdi2dwqcks572rc"),
            (Nar, Algorithm::Sha256, references(&[A, B], false), "5ycx66314j9szjsr3x0m3gi23jvl6fsl"),
            (Nar, Algorithm::Sha256, references(&[], true), "vldim9xymkf6jza4viji8nd9110l7ll8"),
            (Nar, Algorithm::Sha256, references(&[A], true), "098kdcinmszz5wgb3knl3cgiv6rxqg0d"),
            (Nar, Algorithm::Sha1, references(&[], false), "87bc007411nxk4xxijw2rprgiz41p7s5"),
            (Nar, Algorithm::Sha512, references(&[], false), "mds8w14x21yha2zsa78z50pbn54j8vwz"),
            (Text, Algorithm::Sha256, references(&[A], false), "cvw0pbb7nffpw0psgdz0q2gs1l332dwv"),
            (Flat, Algorithm::Sha256, references(&[], false), "fwvavrb5fgiba3q0jzywk26xsgq4r8dq"),
            (Flat, Algorithm::Md5, references(&[], false), "4inzsnjj9kdv073anr4gys6id5pcnai5"),
            (Flat, Algorithm::Sha512, references(&[], false), "1rhpnf67ry522csa6lxgviinaigipyk8"),
            (Git, Algorithm::Sha1, references(&[], false), "l5rywam6kc6cic36498dm9ba5sw236l3"),
            (Git, Algorithm::Sha256, references(&[], false), "hgak759fjmkcdkrr4xs4drnlls54vmpr"),
        ] {
            let address = ContentAddress { method, hash: Hash::of(algorithm, "x") };
            let made = StoreDir::default().make_content_addressed_path(&name, &address, &references).unwrap();
            assert_eq!(made.digest(), digest, "{address} {references:?}");
        }
    }

    #[test]
    fn other_paths_of_the_specification() {
        let name = StorePathName::new("foo").unwrap();
        let gnu = StoreDir::new("/gnu/store").unwrap();
        assert_eq!(
            gnu.make_text_path(&name, b"x", BTreeSet::new()).unwrap().digest(),
            "b7gh8i0wx77grn7615vsza9mv4jf9aqc"
        );
        let lib = OutputName::new("lib").unwrap();
        assert_eq!(
            StoreDir::default().make_output_path(&Sha256::of("x"), &name, &lib).unwrap().base_name(),
            "1ya1wpjdbpi4n5jmi7cfnlpkajjrz9kk-foo-lib"
        );
        let flat = ContentAddress {
            method: ContentAddressMethod::Flat,
            hash: Hash::of(Algorithm::Sha256, "hello\n"),
        };
        let fod = StorePathName::new("fod-flat").unwrap();
        assert_eq!(
            StoreDir::default().make_content_addressed_path(&fod, &flat, &References::default()).unwrap(),
            path("2vmnikz9gvdskxvni5na3alrgzm86qqy-fod-flat")
        );
    }

    #[test]
    fn combinations_without_a_path() {
        use ContentAddressMethod::{Flat, Git, Nar, Text};
        let name = StorePathName::new("foo").unwrap();
        let other = references(&["mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple"], false);
        let none = references(&[], false);
        for (method, algorithm, references) in [
            (Flat, Algorithm::Sha256, &other),
            (Nar, Algorithm::Sha1, &other),
            (Git, Algorithm::Sha1, &other),
            (Git, Algorithm::Md5, &none),
            (Text, Algorithm::Sha1, &none),
            (Text, Algorithm::Sha256, &references(&[], true)),
        ] {
            let address = ContentAddress { method, hash: Hash::of(algorithm, "x") };
            let made = StoreDir::default().make_content_addressed_path(&name, &address, references);
            assert!(made.is_err(), "{address} {references:?}");
        }
    }
}
