//! The sandbox: what the kernel offers, and whether a build in it really succeeds.

use std::time::Duration;

use kiln_build::{BuildMode, BuildRequest, Engine};
use kiln_derivation::{Derivation, DerivationFile};
use kiln_events::EventSender;
use kiln_recipe::{Recipe, RecipeStore, SourceSpec, StoreError};
use kiln_sandbox::{Capabilities, Capability, Launcher};
use kiln_settings::{LocalStoreUrl, MaxJobs, SandboxMode, Settings};
use kiln_store::{LocalStore, Locations, StoreConfig};
use kiln_store_path::{DerivedPath, OutputsSpec, StorePath};

use super::{Facts, Finding};
use crate::failure::{Failure, While};
use crate::session::Work;

const AREA: &str = "Sandbox";

/// How long the build may take that is tried.
const PATIENCE: Duration = Duration::from_secs(60);

/// A build that needs nothing but a sandbox: it makes an environment of nothing.
const TRIAL: &[u8] =
    b"[derivation.trial]\nbuilder = \"builtin:buildenv\"\nenv = { derivations = \"\", manifest = \"/nothing\" }\n";

/// Tries everything out.
pub(super) fn examine(facts: &Facts<'_>) -> Vec<Finding> {
    let capabilities = match Launcher::start().and_then(|launcher| launcher.probe()) {
        Ok(capabilities) => capabilities,
        Err(error) => {
            return vec![Finding::problem(
                AREA,
                format!("the process that starts builders does not work: {error}"),
            )];
        }
    };
    let mut findings = offered(facts.settings(), &capabilities);
    if facts.settings().sandbox == SandboxMode::False || capabilities.sandbox_supported().is_err() {
        return findings;
    }
    findings.push(match trial(facts.work) {
        Ok(()) => Finding::ok(AREA, "a build in a sandbox has succeeded"),
        Err(failure) => {
            Finding::problem(AREA, format!("a build in a sandbox has failed: {}", failure.message()))
        }
    });
    findings
}

/// What the kernel offers.
fn offered(settings: &Settings, capabilities: &Capabilities) -> Vec<Finding> {
    let mut findings = Vec::new();
    let there: Vec<&str> =
        capabilities.found().filter(|(_, reason)| reason.is_none()).map(|(found, _)| found.name()).collect();
    findings.push(Finding::ok(AREA, format!("the kernel offers {}", there.join(", "))));
    for (capability, reason) in capabilities.found() {
        let Some(reason) = reason else { continue };
        let text = format!("there are no {}: {reason}", capability.name());
        findings.push(match capability {
            _ if Capabilities::is_essential(capability) => continue,
            Capability::Cgroup if settings.use_cgroups => {
                Finding::problem(AREA, format!("{text}, and 'use-cgroups' wants them"))
                    .advise("mount the cgroup2 hierarchy, and let systemd delegate it ('Delegate=yes')")
            }
            Capability::Cgroup => Finding::note(AREA, format!("{text}; only 'use-cgroups' needs them")),
            Capability::SystemCallFilter if settings.filter_syscalls => {
                Finding::problem(AREA, format!("{text}, and 'filter-syscalls' wants it"))
                    .advise("use a kernel with CONFIG_SECCOMP_FILTER")
            }
            _ => Finding::note(AREA, format!("{text}; builds are kept apart a little less well")),
        });
    }
    if let Err(reason) = capabilities.sandbox_supported() {
        let is_wanted = settings.sandbox != SandboxMode::False;
        findings.push(if is_wanted { Finding::problem(AREA, reason) } else { Finding::note(AREA, reason) });
    }
    findings
}

/// Builds something in a store of its own, which is gone afterwards.
fn trial(work: &Work) -> Result<(), Failure> {
    let scratch =
        tempfile::Builder::new().prefix("kiln-doctor-").tempdir().doing(|| "making a temporary directory")?;
    let locations = Locations::resolve(
        &LocalStoreUrl { root: Some(scratch.path().to_owned()), ..LocalStoreUrl::default() },
        &|_| None,
    )?;
    let settings = trial_settings(&work.settings);
    // What goes wrong is told by the result.
    let events = EventSender::null();
    let store = work.open_store(StoreConfig::new(locations))?;
    let recipe = Recipe::parse("trial", TRIAL)?;
    let mut adding = Adding { work, store: &store };
    let made =
        recipe.instantiate(&recipe.default_targets(), &settings.system, store.store_dir(), &mut adding)?;
    let targets = made
        .derivations
        .values()
        .map(|made| DerivedPath::Built { derivation: made.path.clone().into(), outputs: OutputsSpec::All });
    let request = BuildRequest { targets: targets.collect(), mode: BuildMode::Normal, keep_going: false };
    let answer = work.wait(async {
        let engine = Engine::start(store, &settings, [], events)?;
        let answer = tokio::time::timeout(PATIENCE, engine.build(request)).await;
        engine.idle().await;
        Ok::<_, Failure>(answer)
    })?;
    let seconds = PATIENCE.as_secs();
    let answer = answer.map_err(|_| Failure::environment(format!("it takes longer than {seconds} s")))?;
    match answer.results.iter().find(|result| !result.result.is_success()) {
        Some(failed) => Err(Failure::environment(failed.result.error_message.to_str_lossy())),
        None => Ok(()),
    }
}

/// The settings of the trial: nothing but the sandbox is to matter. Build users are numbers that no other engine uses, since
/// the processes of those that are in use must be left alone.
fn trial_settings(settings: &Settings) -> Settings {
    Settings {
        sandbox: SandboxMode::True,
        sandbox_fallback: false,
        sandbox_paths: Default::default(),
        substituters: Vec::new(),
        build_users_group: String::new(),
        auto_allocate_uids: rustix::process::geteuid().is_root(),
        start_id: settings.start_id.saturating_add(settings.id_count),
        use_cgroups: false,
        max_jobs: MaxJobs::Count(1),
        build_hook: Vec::new(),
        pre_build_hook: None,
        post_build_hook: None,
        keep_failed: false,
        min_free: 0,
        secret_key_files: Vec::new(),
        ..settings.clone()
    }
}

/// The store of the trial as its recipe sees it.
struct Adding<'a> {
    work: &'a Work,
    store: &'a LocalStore,
}

impl RecipeStore for Adding<'_> {
    fn add_source(&mut self, _: &SourceSpec) -> Result<StorePath, StoreError> {
        Err("the trial has no sources".into())
    }

    fn ensure_path(&mut self, path: &StorePath) -> Result<(), StoreError> {
        Err(format!("the trial does not need '{path}'").into())
    }

    fn add_derivation(&mut self, _: &Derivation, file: &DerivationFile) -> Result<(), StoreError> {
        let (name, text) = (file.path.to_name(), file.text.clone());
        self.work.wait(self.store.add_text(&name, text, file.references.clone()))?;
        Ok(())
    }
}
