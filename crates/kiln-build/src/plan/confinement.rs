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
    match (outside, diverted) {
        (false, _) => Ok(Confined::Sandbox),
        (true, false) => Ok(Confined::Nothing),
        // What the user did not ask for by name is done in a sandbox all the same.
        (true, true) if options.no_chroot => Err(PlanError::Diverted { derivation: name() }),
        (true, true) => Ok(Confined::Sandbox),
    }
}

fn is_fixed(derivation: &Derivation) -> bool {
    derivation.kind().is_ok_and(|kind| kind == DerivationKind::Fixed)
}

/// The sandbox of these facts.
pub(super) fn sandbox(facts: &Facts<'_>) -> Result<Sandbox, PlanError> {
    let is_own = |path: &StorePath| facts.output_paths.values().any(|own| own == path);
    // Of the closures of sandbox paths, a build sees nothing that it is to make.
    let shown = facts.sandbox_closure.difference(facts.inputs).filter(|path| !is_own(path));
    let inputs = facts.inputs.iter().chain(shown).map(|path| Input {
        name: path.base_name().into(),
        source: bytes(&facts.real_dir.join(path.base_name())),
    });
    let features = &facts.options.required_system_features;
    Ok(Sandbox {
        store: StoreView {
            target: facts.store_dir.as_str().into(),
            source: bytes(&facts.chroot.join("store")),
            inputs: inputs.collect(),
        },
        temporary_directory: bytes(&facts.chroot.join("tmp")),
        network: if is_fixed(facts.derivation) { Network::Host } else { Network::Private },
        kvm: features.contains("kvm") || facts.settings.system_features.contains("kvm"),
        shared_memory_size: facts.settings.sandbox_dev_shm_size.clone(),
        paths: host_paths(facts)?,
        mask_proc: true,
    })
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
        facts.store_dir.parse(target).is_ok_and(|path| facts.output_paths.values().any(|own| *own == path))
    };
    let mut paths: Vec<SandboxPath> = facts
        .settings
        .sandbox_paths
        .iter()
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
