//! Making the directories of a store, with the modes that Nix gives them.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use crate::config::{Locations, StoreConfig};
use crate::error::{During, Error, Result};

/// Mode of the store directory in multi-user mode: build users may add entries, but not touch those of others.
const SHARED_STORE_MODE: u32 = 0o1775;

/// Makes what is missing. These are the engine's own directories, in places that only it can write.
pub(crate) fn create_missing(config: &StoreConfig) -> Result<()> {
    let Locations { real_dir, state_dir, .. } = &config.locations;
    create(real_dir)?;
    if !config.allow_symlinked_store {
        refuse_links(real_dir)?;
    }
    create(&real_dir.join(".links"))?;
    for below in ["db", "temproots", "gcroots", "gcroots/per-user", "profiles", "profiles/per-user"] {
        create(&state_dir.join(below))?;
    }
    let link = state_dir.join("gcroots").join("profiles");
    match symlink(state_dir.join("profiles"), &link) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(error).during("create symlink", &link)?
        }
        _ => {}
    }
    match config.build_users_gid {
        Some(gid) if rustix::process::geteuid().is_root() => share_with_builders(real_dir, gid),
        _ => Ok(()),
    }
}

fn create(directory: &Path) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(directory).during("create directory", directory)
}

/// Gives the store directory to the group of the build users.
fn share_with_builders(store: &Path, gid: u32) -> Result<()> {
    let metadata = fs::symlink_metadata(store).during("look at", store)?;
    if metadata.gid() == gid && metadata.mode() & 0o7777 == SHARED_STORE_MODE {
        return Ok(());
    }
    chown(store, Some(0), Some(gid)).during("change the owner of", store)?;
    fs::set_permissions(store, fs::Permissions::from_mode(SHARED_STORE_MODE))
        .during("change the permissions of", store)
}

/// A link on the way to the store would let whoever owns it move the store.
pub(crate) fn refuse_links(store: &Path) -> Result<()> {
    for prefix in store.ancestors() {
        if fs::symlink_metadata(prefix).during("look at", prefix)?.is_symlink() {
            return Err(Error::SymlinkedStore(prefix.to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_settings::LocalStoreUrl;

    fn config(root: &Path) -> StoreConfig {
        let url = LocalStoreUrl { root: Some(root.to_owned()), ..LocalStoreUrl::default() };
        StoreConfig::from_url(&url, &|_| None).unwrap()
    }

    #[test]
    fn makes_what_nix_makes() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().canonicalize().unwrap();
        let config = config(&root);
        create_missing(&config).unwrap();
        create_missing(&config).unwrap();
        let state = root.join("nix/var/nix");
        assert_eq!(fs::read_link(state.join("gcroots/profiles")).unwrap(), state.join("profiles"));
        for directory in ["nix/store/.links", "nix/var/nix/temproots", "nix/var/nix/gcroots/per-user"] {
            let mode = fs::metadata(root.join(directory)).unwrap().mode() & 0o7777;
            assert_eq!(mode & !0o755, 0, "{directory} has mode {mode:o}");
        }
    }

    #[test]
    fn the_store_may_not_be_reached_through_a_link() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().canonicalize().unwrap();
        fs::create_dir(root.join("real")).unwrap();
        symlink(root.join("real"), root.join("link")).unwrap();
        let mut config = config(&root.join("link"));
        assert!(
            matches!(create_missing(&config), Err(Error::SymlinkedStore(path)) if path == root.join("link"))
        );
        config.allow_symlinked_store = true;
        create_missing(&config).unwrap();
    }

    #[test]
    fn in_multi_user_mode_the_store_belongs_to_the_builders_group() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: only root can give the store to the group of the build users");
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().canonicalize().unwrap();
        let config = StoreConfig { build_users_gid: Some(4711), ..config(&root) };
        create_missing(&config).unwrap();
        let metadata = fs::metadata(root.join("nix/store")).unwrap();
        assert_eq!((metadata.gid(), metadata.mode() & 0o7777), (4711, 0o1775));
    }
}
