//! The content of an output that is addressed by it, as a stream that is hashed (O3).

use std::io::Read;

use kiln_fs::{Kind, hash_tree};
use kiln_hash::{Algorithm, Hash, Hasher};
use kiln_nar::Stage;
use kiln_store_path::ContentAddressMethod;

use super::collect::Collected;

/// Why content has no hash by a method.
#[derive(Debug, thiserror::Error)]
pub(super) enum ContentError {
    #[error("should be a non-executable regular file, since the derivation states a flat hash of it")]
    NotFlat,
    #[error("is hashed by a method that is not supported: {0}")]
    Method(ContentAddressMethod),
    #[error(transparent)]
    Files(#[from] kiln_fs::Error),
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
}

/// The hash of an output's content by a method and an algorithm.
pub(super) fn hash_content(
    output: &Collected,
    method: ContentAddressMethod,
    algorithm: Algorithm,
) -> Result<Hash, ContentError> {
    if (method, algorithm) == (ContentAddressMethod::Nar, Algorithm::Sha256) {
        return Ok(output.nar.hash.into());
    }
    let mut stage = HashStage(Hasher::new(algorithm));
    read_content(output, method, &mut stage)?;
    Ok(stage.0.finish())
}

/// Shows the content of an output, as a method sees it, to a stage. The output is canonical already.
pub(super) fn read_content(
    output: &Collected,
    method: ContentAddressMethod,
    stage: &mut impl Stage,
) -> Result<(), ContentError> {
    match method {
        ContentAddressMethod::Nar => Ok(hash_tree(&output.directory, &output.tree, stage).map(drop)?),
        ContentAddressMethod::Flat | ContentAddressMethod::Text => read_file(output, stage),
        ContentAddressMethod::Git => Err(ContentError::Method(method)),
    }
}

/// Reads the bytes of a plain file.
fn read_file(output: &Collected, stage: &mut impl Stage) -> Result<(), ContentError> {
    let status = output.directory.status(&output.tree)?;
    if !status.is_some_and(|status| status.kind == Kind::Regular && status.permissions & 0o111 == 0) {
        return Err(ContentError::NotFlat);
    }
    let mut file = output.directory.open_beneath(output.tree.as_path())?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        stage.update(buffer.get(..length).unwrap_or_default());
    }
}

struct HashStage(Hasher);

impl Stage for HashStage {
    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}
