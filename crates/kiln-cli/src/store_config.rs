//! Which store a run works with, and how it is used: from settings and environment to the store's configuration.

use std::ffi::CString;

use kiln_narinfo::{PublicKey, PublicKeys};
use kiln_settings::{Settings, StoreUrl};
use kiln_store::{Automatic, StoreConfig};

use crate::any_store::only_local;
use crate::daemon_store;
use crate::environment::Environment;
use crate::failure::{Failure, While};

/// The configuration of the store that the settings name.
pub(crate) fn from_settings(settings: &Settings, environment: &Environment) -> Result<StoreConfig, Failure> {
    let lookup = |name: &str| environment.value(name);
    let mut config = match &settings.store {
        StoreUrl::Local(url) => StoreConfig::from_url(url, &lookup)?,
        StoreUrl::Auto => match Automatic::choose(&lookup)? {
            Automatic::Local(locations) | Automatic::OfUser(locations) => StoreConfig::new(locations),
            Automatic::Daemon(socket) => {
                return Err(only_local("this", &format!("unix://{}", socket.display()), true));
            }
        },
        StoreUrl::Daemon { .. } => return Err(only_local("this", &settings.store.render(), true)),
        StoreUrl::Ssh(machine) => return Err(only_local("this", &machine.name(), false)),
        StoreUrl::Other(other) => return Err(unsupported(&format!("'{other}'"))),
    };
    let states_signatures = matches!(&settings.store, StoreUrl::Local(url) if url.require_sigs.is_some());
    if !states_signatures {
        config.require_signatures = settings.require_sigs;
    }
    config.trusted_keys = trusted_keys(settings)?;
    config.build_users_gid = build_users_gid(settings)?;
    config.use_write_ahead_log = settings.use_sqlite_wal;
    config.sync_metadata = settings.fsync_metadata;
    config.sync_store_paths = settings.fsync_store_paths;
    config.sync_before_registering = settings.sync_before_registering;
    config.realisations = settings.experimental_features.contains("ca-derivations");
    config.reserved_space = settings.gc_reserved_space;
    config.auto_optimise = settings.auto_optimise_store;
    config.ignored_attributes = settings.ignored_acls.iter().cloned().collect();
    Ok(config)
}

/// The same for who works on the store itself: never by way of a daemon, which might be this process.
pub(crate) fn of_this_machine(
    settings: &Settings,
    environment: &Environment,
) -> Result<StoreConfig, Failure> {
    let is_daemon = matches!(settings.store, StoreUrl::Daemon { .. });
    let is_socket = matches!(settings.store, StoreUrl::Auto)
        && daemon_store::address(&settings.store, environment)?.is_some();
    if is_daemon || is_socket {
        let local = Settings { store: StoreUrl::Local(Default::default()), ..settings.clone() };
        return from_settings(&local, environment);
    }
    from_settings(settings, environment)
}

fn unsupported(store: &str) -> Failure {
    Failure::input(format!("the store is {store}, and Kiln can work only with local stores and with daemons"))
        .with_hint(
            "name a store with '--store': 'local', a directory for a store of its own, or 'ssh-ng://HOST'",
        )
}

fn trusted_keys(settings: &Settings) -> Result<PublicKeys, Failure> {
    let parse = |text: &String| {
        text.parse::<PublicKey>()
            .doing(|| format!("reading the key '{text}' of the setting 'trusted-public-keys'"))
    };
    settings.trusted_public_keys.iter().map(parse).collect()
}

/// The group of the build users, if builds run as such.
fn build_users_gid(settings: &Settings) -> Result<Option<u32>, Failure> {
    let group = &settings.build_users_group;
    if group.is_empty() || !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let Ok(name) = CString::new(group.as_str()) else { return Ok(None) };
    let found =
        kiln_sys::accounts::group_by_name(&name).doing(|| format!("looking for the group '{group}'"))?;
    // That it is missing is an error of builds, not of all that can be done with a store.
    Ok(found.map(|group| group.gid))
}
