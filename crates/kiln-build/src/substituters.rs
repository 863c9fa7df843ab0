//! The substituters that a client's settings name.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::time::Duration;

use kiln_http::AwsEnvironment;
use kiln_narinfo::PublicKey;
use kiln_remote::DaemonAddress;
use kiln_settings::{DEFAULT_SUBSTITUTER, Settings};
use kiln_store::blocking;
use kiln_store_path::StoreDir;
use kiln_substitute::{LookupCache, Network, Substituters, Surroundings, TimeToLive, TrustPolicy};

use crate::builtin::{read_small, transfer_settings};
use crate::core::Core;
use crate::profile::to_usize;

impl Core {
    /// Where paths can be had from; none if nothing is to be substituted. What is wrong with the settings is told when they
    /// are used first.
    pub(crate) async fn substituters(&self) -> Option<&Substituters> {
        let urls = &self.settings.substituters;
        let is_of_no_use = *urls == [DEFAULT_SUBSTITUTER] && *self.store_dir() != StoreDir::default();
        if !self.settings.substitute || urls.is_empty() || is_of_no_use {
            return None;
        }
        let substituters = self.profile.substituters.get_or_try_init(|| self.open_substituters()).await;
        match substituters {
            Ok(substituters) => Some(substituters).filter(|substituters| !substituters.is_empty()),
            Err(error) => {
                self.events.warn(format!("nothing is substituted: {error}"));
                None
            }
        }
    }

    async fn open_substituters(&self) -> Result<Substituters, kiln_substitute::Error> {
        let settings = &self.settings;
        let time_to_live = TimeToLive {
            negative: Duration::from_secs(settings.narinfo_cache_negative_ttl),
            positive: Duration::from_secs(settings.narinfo_cache_positive_ttl),
            ..TimeToLive::default()
        };
        let known = LookupCache::open(cache_directory(&self.environment), time_to_live).await?;
        let (surroundings, bad) =
            surroundings(settings, &self.environment, self.store_dir().clone(), known).await;
        let (substituters, errors) = Substituters::open(&settings.substituters, &surroundings);
        let errors = errors.into_iter().map(|error| error.to_string());
        for error in bad.into_iter().chain(errors) {
            self.events.warn(error);
        }
        Ok(substituters)
    }
}

/// The user's directory for what can be had again, as an environment has it.
#[must_use]
pub fn cache_directory(environment: &BTreeMap<Vec<u8>, Vec<u8>>) -> Option<PathBuf> {
    let variable = |name: &[u8]| {
        let value = environment.get(name).filter(|value| value.starts_with(b"/"))?;
        Some(PathBuf::from(OsString::from_vec(value.clone())))
    };
    variable(b"XDG_CACHE_HOME").or_else(|| Some(variable(b"HOME")?.join(".cache")))
}

/// What substituters for a store need of their surroundings, as settings and environment have it; and what is wrong with
/// keys among them. Reads the files of credentials and certificates.
pub async fn surroundings(
    settings: &Settings,
    environment: &BTreeMap<Vec<u8>, Vec<u8>>,
    store_dir: StoreDir,
    known: LookupCache,
) -> (Surroundings, Vec<String>) {
    let files = [Some(settings.netrc_file.clone()), settings.ssl_cert_file.clone()];
    let [netrc, certificates] = blocking(move || files.map(|file| read_small(&file?))).await;
    let transfers = transfer_settings(settings, environment);
    let variable = |name: &str| String::from_utf8(environment.get(name.as_bytes())?.clone()).ok();
    let aws = AwsEnvironment::new(variable);
    let network = Network::with_aws(
        transfers,
        to_usize(settings.http_connections),
        netrc.as_deref(),
        certificates,
        aws,
    );
    let mut trust = TrustPolicy { require_signatures: settings.require_sigs, ..TrustPolicy::default() };
    let (keys, bad): (Vec<_>, Vec<_>) = settings
        .trusted_public_keys
        .iter()
        .map(|text| text.parse::<PublicKey>().map_err(|error| format!("key '{text}': {error}")))
        .partition(Result::is_ok);
    trust.keys = keys.into_iter().flatten().collect();
    let bad = bad.into_iter().filter_map(Result::err).collect();
    let daemon_socket = DaemonAddress::usual_socket(&|name| {
        environment.get(name.as_bytes()).map(|value| OsString::from_vec(value.clone()))
    });
    let ssh_options = variable("NIX_SSHOPTS");
    (Surroundings { store_dir, network, known, daemon_socket, ssh_options, trust }, bad)
}
