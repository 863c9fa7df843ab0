//! Scratch paths: where a build puts an output that it must not put in its place, or whose place is not known yet.

use kiln_hash::{Algorithm, Hash, Sha256};
use kiln_store_path::{DIGEST_LENGTH, InvalidName, OutputName, StoreDir, StorePath, StorePathName};

use crate::rewrites::Rewrites;

/// The scratch path of an output whose own path is known. Both have the same length, so that one can be rewritten to the
/// other in place.
pub fn scratch_path(store_dir: &StoreDir, derivation: &StorePath, output_path: &StorePath) -> StorePath {
    let text = format!("rewrite:{}:{}", store_dir.display(derivation), store_dir.display(output_path));
    let digits = Sha256::of(text).nix32();
    let digits = digits.get(..DIGEST_LENGTH).unwrap_or_default();
    // The digits come from the encoder of digests and the name from a valid path.
    output_path.with_digest(digits).unwrap_or_else(|_| output_path.clone())
}

/// The scratch path of an output whose path follows from its content.
///
/// # Errors
/// The name with the output's suffix may be too long.
pub fn floating_scratch_path(
    store_dir: &StoreDir,
    derivation: &StorePath,
    derivation_name: &StorePathName,
    output: &OutputName,
) -> Result<StorePath, InvalidName> {
    let kind = format!("rewrite:{derivation}:name:{output}");
    let hash = Hash::zero(Algorithm::Sha256).prefixed_base16();
    Ok(store_dir.make_path(&kind, &hash, &derivation_name.with_output(output)?))
}

impl Rewrites {
    /// Makes the digest of one path into that of another, in whatever text holds it.
    pub fn redirect(&mut self, from: &StorePath, to: &StorePath) {
        self.insert(from.digest(), to.digest());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(base_name: &str) -> StorePath {
        StorePath::from_base_name(base_name).unwrap()
    }

    #[test]
    fn keeps_the_name_and_the_length() {
        let store_dir = StoreDir::default();
        let derivation = path("4gd87ivd2zhmmqkslb944cwpzpz256w1-simple.drv");
        let output = path("mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple");
        let scratch = scratch_path(&store_dir, &derivation, &output);
        let expected = Sha256::of(
            "rewrite:/nix/store/4gd87ivd2zhmmqkslb944cwpzpz256w1-simple.drv:/nix/store/mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple",
        )
        .nix32();
        assert_eq!(scratch.base_name(), format!("{}-simple", &expected[..32]));
        let mut rewrites = Rewrites::new();
        rewrites.redirect(&scratch, &output);
        let content = format!("see /nix/store/{scratch}/bin");
        assert_eq!(
            &*rewrites.apply(content.as_bytes()),
            b"see /nix/store/mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple/bin"
        );
    }

    #[test]
    fn floating_outputs_have_distinct_paths() {
        let store_dir = StoreDir::default();
        let derivation = path("a2xbd4fvhcwf205k2hpvx92iw5bnjcjx-ca-multi.drv");
        let name = StorePathName::new("ca-multi").unwrap();
        let scratch = |output: &str| {
            floating_scratch_path(&store_dir, &derivation, &name, &OutputName::new(output).unwrap()).unwrap()
        };
        assert_eq!(scratch("out").name(), "ca-multi");
        assert_eq!(scratch("dev").name(), "ca-multi-dev");
        assert_ne!(scratch("out").digest(), scratch("dev").digest());
    }
}
