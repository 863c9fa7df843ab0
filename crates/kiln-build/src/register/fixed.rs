//! The content of a fixed output, hashed as its derivation says (O3).

use std::io::Read;
use std::path::Path;

use kiln_fs::{Component, hash_tree};
use kiln_hash::{Algorithm, Hash, Hasher};
use kiln_nar::Stage;
use kiln_store_path::ContentAddressMethod;

use super::collect::Collected;

/// Why content has no hash by a method.
#[derive(Debug, thiserror::Error)]
pub(super) enum FixedError {
    #[error("should be a non-executable regular file, since the derivation states a flat hash of it")]
    NotFlat,
    #[error("is hashed by a method that is not supported: {0}")]
    Method(ContentAddressMethod),
    #[error(transparent)]
    Files(#[from] kiln_fs::Error),
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
}

/// The hash of an output by a method and an algorithm.
pub(super) fn hash_output(
    output: &Collected,
    method: ContentAddressMethod,
    algorithm: Algorithm,
) -> Result<Hash, FixedError> {
    match (method, algorithm) {
        (ContentAddressMethod::Nar, Algorithm::Sha256) => Ok(output.nar.hash.into()),
        (ContentAddressMethod::Nar, _) => {
            let component = Component::new(output.path.base_name()).map_err(kiln_fs::Error::from)?;
            let mut stage = HashStage(Hasher::new(algorithm));
            hash_tree(&output.directory, &component, &mut stage)?;
            Ok(stage.0.finish())
        }
        (ContentAddressMethod::Flat | ContentAddressMethod::Text, _) => hash_flat(output, algorithm),
        (ContentAddressMethod::Git, _) => Err(FixedError::Method(method)),
    }
}

/// Hashes the bytes of a plain file that is canonical already.
fn hash_flat(output: &Collected, algorithm: Algorithm) -> Result<Hash, FixedError> {
    let component = Component::new(output.path.base_name()).map_err(kiln_fs::Error::from)?;
    let status = output.directory.status(&component)?;
    if !status.is_some_and(|status| status.kind == kiln_fs::Kind::Regular && status.permissions & 0o111 == 0)
    {
        return Err(FixedError::NotFlat);
    }
    let mut file = output.directory.open_beneath(Path::new(output.path.base_name()))?;
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0; 256 << 10];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(buffer.get(..length).unwrap_or_default());
    }
}

struct HashStage(Hasher);

impl Stage for HashStage {
    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}
