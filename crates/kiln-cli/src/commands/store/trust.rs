//! Whether signatures vouch for paths, for `kiln store verify`.

use kiln_narinfo::PathInfo;
use kiln_store_path::StorePath;

use crate::failure::Failure;
use crate::session::Session;

/// Exit code of a verification that found paths for which nothing vouches.
pub(super) const UNTRUSTED_EXIT_CODE: u8 = 2;

/// Those of `paths` for which fewer than `needed` trusted keys vouch. What follows from its content needs none; what was
/// built here only counts as trusted if no signature is needed.
pub(super) fn untrusted(
    session: &Session,
    paths: &[StorePath],
    needed: usize,
) -> Result<Vec<(StorePath, usize)>, Failure> {
    let mut found = Vec::new();
    for path in paths {
        let info = session.path_info(path)?;
        let signatures = valid_signatures(session, &info);
        let is_trusted = info.is_content_addressed(session.store_dir())
            || info.ultimate && needed == 0
            || signatures >= needed.max(1);
        if !is_trusted {
            found.push((path.clone(), signatures));
        }
    }
    Ok(found)
}

fn valid_signatures(session: &Session, info: &PathInfo) -> usize {
    info.count_valid_signatures(session.store_dir(), &session.store.config().trusted_keys)
}
