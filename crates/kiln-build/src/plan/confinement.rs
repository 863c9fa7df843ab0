//! Whether a build is sandboxed, and what it sees in its sandbox.

use std::path::Path;

use kiln_derivation::{BuildOptions, Derivation, DerivationKind};
use kiln_sandbox::{ByteString, Input, Network, Sandbox, SandboxPath, StoreView};
use kiln_settings::{SandboxMode, Settings};
use kiln_store_path::{StoreDir, StorePath};

use super::build_plan::{Facts, PlanError, bytes};

/// What a build is kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confined {
    Sandbox,
    Nothing,
}

/// What a system has for keeping builds in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sandboxing {
    /// All of it.
    Linux,
    /// Processes can be kept from files, but see none at other places than they are.
    Macos,
    /// Nothing.
    Elsewhere,
}

impl Sandboxing {
    /// That of the system that this program is made for.
    pub(crate) const HERE: Self = if cfg!(target_os = "linux") {
        Self::Linux
    } else if cfg!(target_os = "macos") {
        Self::Macos
    } else {
        Self::Elsewhere
    };

    /// Whether a build can be confined like this (X12).
    pub(crate) fn check(self, confined: Confined, diverted: bool) -> Result<(), PlanError> {
        match self {
            Self::Macos if diverted => Err(PlanError::NoDivertedStore),
            Self::Elsewhere if confined == Confined::Sandbox => Err(PlanError::NoSandbox),
            Self::Linux | Self::Macos | Self::Elsewhere => Ok(()),
        }
    }
}

/// Whether this derivation, at `path`, is sandboxed (X1). `diverted`: the store's files are elsewhere than their paths say, so that
/// only a sandbox can show them where they should be.
pub(crate) fn is_confined(
    settings: &Settings,
    path: &str,
    derivation: &Derivation,
    options: &BuildOptions,
    diverted: bool,
) -> Result<Confined, PlanError> {
    let name = || path.to_owned();
    let outside = match settings.sandbox {
        SandboxMode::True if options.no_chroot => {
            return Err(PlanError::NoChroot { derivation: name() });
        }
        SandboxMode::True => false,
        SandboxMode::False => true,
        SandboxMode::Relaxed => options.no_chroot || is_fixed(derivation),
    };
    let confined = match (outside, diverted) {
        (false, _) => Confined::Sandbox,
        (true, false) => Confined::Nothing,
        // What the user did not ask for by name is done in a sandbox all the same.
        (true, true) if options.no_chroot => return Err(PlanError::Diverted { derivation: name() }),
        (true, true) => Confined::Sandbox,
    };
    Sandboxing::HERE.check(confined, diverted)?;
    Ok(confined)
}

/// Whether it is a fixed-output derivation.
pub(crate) fn is_fixed(derivation: &Derivation) -> bool {
    derivation.kind().is_ok_and(|kind| kind == DerivationKind::Fixed)
}

/// The sandbox of these facts.
pub(super) fn sandbox(facts: &Facts<'_>) -> Result<Sandbox, PlanError> {
    let is_own = |path: &StorePath| facts.scratch.paths.values().any(|own| own == path);
    // Of the closures of sandbox paths, a build sees nothing that it is to make.
    let shown = facts.sandbox_closure.difference(facts.inputs).filter(|path| !is_own(path));
    let inputs = facts.inputs.iter().chain(shown).map(|path| Input {
        name: path.base_name().into(),
        source: bytes(&facts.real_dir.join(path.base_name())),
    });
    let (network, network_helper) =
        if is_fixed(facts.derivation) { facts.network.of_sandbox() } else { (Network::Private, None) };
    let features = &facts.options.required_system_features;
    Ok(Sandbox {
        store: StoreView {
            target: facts.store_dir.as_str().into(),
            source: bytes(&facts.chroot.join("store")),
            inputs: inputs.collect(),
        },
        temporary_directory: bytes(&facts.chroot.join("tmp")),
        id_count: id_count(facts)?,
        network,
        network_helper,
        kvm: features.contains("kvm") || facts.settings.system_features.contains("kvm"),
        shared_memory_size: facts.settings.sandbox_dev_shm_size.clone(),
        paths: host_paths(facts)?,
        mask_proc: true,
    })
}

/// Whether a derivation wants to be root among many IDs.
pub(super) fn wants_id_range(options: &BuildOptions) -> bool {
    options.required_system_features.contains("uid-range")
}

/// How many IDs the builder gets: all that there are for it if it wants them.
fn id_count(facts: &Facts<'_>) -> Result<u32, PlanError> {
    if !wants_id_range(facts.options) {
        return Ok(1);
    }
    let derivation = || facts.store_dir.print(facts.path);
    if facts.ids == 1 {
        let needs = "requires the setting 'auto-allocate-uids' to be enabled, and Kiln to run as root";
        return Err(PlanError::UidRange { derivation: derivation(), needs });
    }
    if facts.cgroup.is_none() {
        let needs = "requires the setting 'use-cgroups' to be enabled";
        return Err(PlanError::UidRange { derivation: derivation(), needs });
    }
    Ok(facts.ids)
}

/// `sandbox-paths`, and the derivation's own wishes. Store paths that are to be seen where they are need nothing more than to
/// be among the inputs.
fn host_paths(facts: &Facts<'_>) -> Result<Vec<SandboxPath>, PlanError> {
    let plain = |target: ByteString, source: ByteString| SandboxPath {
        target,
        source,
        optional: false,
        read_only: false,
    };
    let is_input = |path: &kiln_settings::SandboxPath| {
        path.target == path.source && facts.store_dir.split(&path.target).is_ok()
    };
    let is_own_output = |target: &str| {
        facts.store_dir.parse(target).is_ok_and(|path| facts.scratch.paths.values().any(|own| *own == path))
    };
    let mut paths: Vec<SandboxPath> = facts
        .settings
        .sandbox_paths
        .iter()
        .filter(|path| !facts.hook_paths.iter().any(|hook| hook.target == path.target))
        .chain(facts.hook_paths)
        .filter(|path| !is_own_output(&path.target) && !is_input(path))
        .map(|path| SandboxPath {
            optional: path.optional,
            ..plain(path.target.as_str().into(), real_source(facts.store_dir, facts.real_dir, &path.source))
        })
        .collect();
    for path in &facts.options.impure_host_dependencies {
        if !is_allowed(path, &facts.settings.allowed_impure_host_deps) {
            return Err(PlanError::ImpurePath {
                derivation: facts.store_dir.print(facts.path),
                path: String::from_utf8_lossy(path).into_owned(),
            });
        }
        paths.push(plain(path.clone().into(), path.clone().into()));
    }
    Ok(paths)
}

/// Where a source of `sandbox-paths` really is: paths in the store are logical ones.
fn real_source(store_dir: &StoreDir, real_dir: &Path, source: &str) -> ByteString {
    match source.strip_prefix(store_dir.as_str()) {
        Some(rest) if rest.starts_with('/') => bytes(&real_dir.join(rest.trim_start_matches('/'))),
        _ => source.into(),
    }
}

/// Whether a path is one of the allowed ones or below one, by its text alone: following links would tell a derivation
/// what there is on the host (X7).
fn is_allowed<'a>(path: &[u8], allowed: impl IntoIterator<Item = &'a String>) -> bool {
    let canonical = |path: &[u8]| {
        path.starts_with(b"/")
            && !path.split(|byte| *byte == b'/').skip(1).any(|part| matches!(part, b"" | b"." | b".."))
    };
    canonical(path)
        && allowed.into_iter().any(|allowed| {
            path.strip_prefix(allowed.as_bytes())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x12_where_there_is_no_sandbox_that_is_said() {
        let said = |sandboxing: Sandboxing, confined, diverted| {
            sandboxing.check(confined, diverted).map_err(|error| error.to_string())
        };
        let unsupported = |what: &str| Err(format!("{what} is not supported on this platform"));
        let (sandbox, store) = ("sandboxing builds", "building using a diverted store");
        for diverted in [false, true] {
            assert_eq!(said(Sandboxing::Linux, Confined::Sandbox, diverted), Ok(()));
            assert_eq!(said(Sandboxing::Elsewhere, Confined::Sandbox, diverted), unsupported(sandbox));
        }
        assert_eq!(said(Sandboxing::Elsewhere, Confined::Nothing, false), Ok(()));
        assert_eq!(said(Sandboxing::Macos, Confined::Sandbox, false), Ok(()));
        assert_eq!(said(Sandboxing::Macos, Confined::Sandbox, true), unsupported(store));
    }

    #[test]
    fn x7_impure_paths_are_compared_by_components() {
        let allowed = ["/usr/lib".to_owned(), "/bin/sh".to_owned()];
        for path in ["/usr/lib", "/usr/lib/libc.so", "/bin/sh"] {
            assert!(is_allowed(path.as_bytes(), &allowed), "{path}");
        }
        for path in
            ["/usr/lib64", "/usr", "/bin/sh2", "/usr/lib/../../etc", "/usr/lib/", "usr/lib", "//usr/lib", ""]
        {
            assert!(!is_allowed(path.as_bytes(), &allowed), "{path}");
        }
    }

    #[test]
    fn x6_sources_in_the_store_are_where_the_store_really_is() {
        let store_dir = StoreDir::default();
        let real = Path::new("/home/me/root/nix/store");
        assert_eq!(real_source(&store_dir, real, "/nix/store/a/bin"), "/home/me/root/nix/store/a/bin".into());
        assert_eq!(real_source(&store_dir, real, "/nix/storefront"), "/nix/storefront".into());
        assert_eq!(real_source(&store_dir, real, "/usr"), "/usr".into());
    }
}
