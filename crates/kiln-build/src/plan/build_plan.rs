//! The plan of one build.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kiln_derivation::{BuildContext, BuildOptions, BuilderView, Derivation, GraphMember};
use kiln_sandbox::{
    BuildDirectoryPlan, ByteString, Confinement, Credentials, LaunchPlan, PersonalityPlan, PlacedFile,
    SystemCallFilter,
};
use kiln_schedule::Limits;
use kiln_settings::{SandboxPath, Settings};
use kiln_store_path::{OutputName, StoreDir, StorePath};

use super::confinement::{Confined, sandbox, wants_id_range};
use super::fixed_network::FixedNetwork;
use super::scratch::ScratchPaths;
use crate::builtin::BuiltinInput;

/// What will be done to build a derivation.
#[derive(Clone, Debug)]
pub struct BuildPlan {
    /// The derivation, as a full path.
    pub derivation: String,
    /// The outputs that are wanted from this build, and where the builder puts them.
    pub outputs: BTreeMap<OutputName, PlannedOutput>,
    /// What the builder makes besides, and what nobody wants of it.
    pub unwanted: Vec<PlannedOutput>,
    /// The paths of all outputs that the builder is told.
    pub scratch: BTreeMap<OutputName, StorePath>,
    /// The builder and its world.
    pub launch: LaunchPlan,
    /// What it may take.
    pub limits: Limits,
}

/// An output of a build that is about to run.
#[derive(Clone, Debug)]
pub struct PlannedOutput {
    /// The path that it will have, if that does not follow from its content.
    pub path: Option<StorePath>,
    /// The path that the builder is told: the same one, or one that is rewritten afterwards.
    pub scratch: StorePath,
    /// The directory of the host in which the builder makes it, under the base name of `scratch`.
    pub directory: PathBuf,
}

impl PlannedOutput {
    /// What it is called while its path may not be known.
    pub(crate) fn path_or_scratch(&self) -> &StorePath {
        self.path.as_ref().unwrap_or(&self.scratch)
    }
}

/// All that a plan is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) store_dir: &'a StoreDir,
    /// Where the store's objects really are.
    pub(crate) real_dir: &'a Path,
    pub(crate) path: &'a StorePath,
    pub(crate) derivation: &'a Derivation,
    pub(crate) options: &'a BuildOptions,
    pub(crate) confined: Confined,
    /// What it gets if its output is fixed.
    pub(crate) network: &'a FixedNetwork,
    /// The paths that the builder is told.
    pub(crate) scratch: &'a ScratchPaths,
    /// Those that the build is for.
    pub(crate) missing: &'a BTreeSet<OutputName>,
    /// What the builder may read of the store.
    pub(crate) inputs: &'a BTreeSet<StorePath>,
    /// The closures of the store paths among `sandbox-paths`.
    pub(crate) sandbox_closure: &'a BTreeSet<StorePath>,
    pub(crate) references_graphs: &'a BTreeMap<String, Vec<GraphMember>>,
    pub(crate) impure_values: &'a BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) credentials: &'a Credentials,
    /// How many IDs the credentials come with.
    pub(crate) ids: u32,
    /// The build's own cgroup, if it is to have one.
    pub(crate) cgroup: Option<&'a ByteString>,
    /// The build's own directory beside the store, of which the builder sees parts.
    pub(crate) chroot: &'a Path,
    /// The directory for the builder's files.
    pub(crate) build_directory: &'a Path,
    /// What the pre-build hook adds to `sandbox-paths`.
    pub(crate) hook_paths: &'a [SandboxPath],
    /// What a builtin is given.
    pub(crate) builtin: Option<&'a BuiltinInput>,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlanError {
    #[error(
        "derivation '{derivation}' has '__noChroot' set, but that's not allowed when 'sandbox' is 'true'"
    )]
    NoChroot { derivation: String },
    #[error(
        "derivation '{derivation}' requested impure path '{path}', but it was not in allowed-impure-host-deps"
    )]
    ImpurePath { derivation: String, path: String },
    #[error("cannot build '{derivation}': feature 'uid-range' {needs}")]
    UidRange { derivation: String, needs: &'static str },
    #[error("unsupported builtin function '{0}'")]
    Builtin(String),
    #[error(
        "derivation '{derivation}' must be built in a sandbox, since the files of its store are not where their paths say; \
         '__noChroot' and 'sandbox = false' are not possible there"
    )]
    Diverted { derivation: String },
    #[error("sandboxing builds is not supported on this platform")]
    NoSandbox,
    #[error("building using a diverted store is not supported on this platform")]
    NoDivertedStore,
}

/// The plan for these facts.
pub(crate) fn make_plan(facts: &Facts<'_>) -> Result<BuildPlan, PlanError> {
    let inside = match facts.confined {
        Confined::Sandbox => facts.settings.sandbox_build_dir.as_bytes().to_vec(),
        Confined::Nothing => bytes(facts.build_directory).as_bytes().to_vec(),
    };
    let context = BuildContext {
        store_dir: facts.store_dir,
        build_directory: &inside,
        cores: facts.settings.cores,
        output_paths: &facts.scratch.paths,
        redirections: &facts.scratch.redirections,
        impure_values: facts.impure_values,
        references_graphs: facts.references_graphs,
    };
    let view = BuilderView::new(facts.derivation, facts.options, &context);
    if let Some(name) = view.builder.strip_prefix(b"builtin:")
        && !kiln_builtins::NAMES.iter().any(|known| known.as_bytes() == name)
    {
        return Err(PlanError::Builtin(String::from_utf8_lossy(name).into_owned()));
    }
    if facts.confined == Confined::Nothing && wants_id_range(facts.options) {
        let derivation = facts.store_dir.print(facts.path);
        return Err(PlanError::UidRange { derivation, needs: "is only supported in sandboxed builds" });
    }
    let (confinement, directory) = match facts.confined {
        Confined::Sandbox => (Confinement::Sandbox(Box::new(sandbox(facts)?)), facts.chroot.join("store")),
        Confined::Nothing => (Confinement::None, facts.real_dir.to_path_buf()),
    };
    let files = view.files.into_iter().map(|(name, contents)| PlacedFile {
        name: name.into_bytes().into(),
        contents: contents.into(),
        mode: 0o644,
    });
    let launch = LaunchPlan {
        builder: view.builder.into(),
        builtin: facts.builtin.map(|input| input.to_json().into()),
        arguments: view.arguments.into_iter().map(ByteString::from).collect(),
        environment: view.environment.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
        build_directory: BuildDirectoryPlan { source: bytes(facts.build_directory), target: inside.into() },
        files: files.collect(),
        credentials: facts.credentials.clone(),
        personality: personality(facts),
        system_calls: system_call_filter(facts),
        open_files: None,
        cgroup: facts.cgroup.cloned(),
        confinement,
    };
    let made = facts.scratch.paths.iter().map(|(name, scratch)| {
        let path = facts.derivation.outputs.get(name).and_then(|output| output.path()).cloned();
        (name.clone(), PlannedOutput { path, scratch: scratch.clone(), directory: directory.clone() })
    });
    let (outputs, unwanted): (BTreeMap<_, _>, BTreeMap<_, _>) =
        made.partition(|(name, _)| facts.missing.contains(name));
    Ok(BuildPlan {
        derivation: facts.store_dir.print(facts.path),
        outputs,
        unwanted: unwanted.into_values().collect(),
        scratch: facts.scratch.paths.clone(),
        launch,
        limits: limits(facts.settings),
    })
}

fn personality(facts: &Facts<'_>) -> PersonalityPlan {
    let (own, wanted) = (facts.settings.system.as_str(), facts.derivation.system.as_slice());
    PersonalityPlan {
        linux32: own == "x86_64-linux" && wanted == b"i686-linux",
        linux26: facts.settings.impersonate_linux_26 && matches!(wanted, b"i686-linux" | b"x86_64-linux"),
    }
}

fn system_call_filter(facts: &Facts<'_>) -> SystemCallFilter {
    if !facts.settings.filter_syscalls {
        SystemCallFilter::Off
    } else if facts.derivation.system == b"i686-linux" {
        SystemCallFilter::StrictWithSocketcall
    } else {
        SystemCallFilter::Strict
    }
}

fn limits(settings: &Settings) -> Limits {
    let seconds = |seconds: u64| (seconds > 0).then(|| Duration::from_secs(seconds));
    Limits {
        total: seconds(settings.timeout),
        silence: seconds(settings.max_silent_time),
        log_bytes: Some(settings.max_build_log_size).filter(|limit| *limit > 0),
    }
}

/// A path of the host as the plan has it.
pub(super) fn bytes(path: &Path) -> ByteString {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes().to_vec().into()
}

impl BuildPlan {
    /// All that the builder makes.
    pub(crate) fn made(&self) -> impl Iterator<Item = &PlannedOutput> {
        self.outputs.values().chain(&self.unwanted)
    }

    /// The plan as JSON, for programs.
    pub fn to_json(&self, store_dir: &StoreDir) -> serde_json::Value {
        let outputs: serde_json::Map<_, _> = self
            .outputs
            .iter()
            .map(|(name, output)| {
                let value = serde_json::json!({
                    "path": output.path.as_ref().map(|path| store_dir.print(path)),
                    "madeAs": store_dir.print(&output.scratch),
                    "madeIn": output.directory.to_string_lossy(),
                });
                (name.to_string(), value)
            })
            .collect();
        let seconds = |limit: Option<Duration>| limit.map(|limit| limit.as_secs());
        serde_json::json!({
            "derivation": self.derivation,
            "outputs": outputs,
            "launch": self.launch,
            "limits": {
                "timeout": seconds(self.limits.total),
                "maxSilentTime": seconds(self.limits.silence),
                "maxBuildLogSize": self.limits.log_bytes,
            },
        })
    }
}

impl fmt::Display for BuildPlan {
    /// For people: what runs, with what around it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "derivation  {}", self.derivation)?;
        for (name, output) in &self.outputs {
            let path = output.path_or_scratch();
            writeln!(f, "output      {name} → {path}, made in {}", output.directory.display())?;
            match &output.path {
                None => {
                    writeln!(f, "            (a path in place of the one that will follow from its content)")?
                }
                Some(path) if *path != output.scratch => writeln!(f, "            as {}", output.scratch)?,
                Some(_) => {}
            }
        }
        writeln!(f, "builder     {}", self.launch.builder)?;
        for argument in &self.launch.arguments {
            writeln!(f, "  argument  {argument}")?;
        }
        for (name, value) in &self.launch.environment {
            writeln!(f, "  variable  {name}={value}")?;
        }
        for file in &self.launch.files {
            writeln!(f, "  file      {}", file.name)?;
        }
        writeln!(f, "directory   {}", self.launch.build_directory.target)?;
        match self.launch.sandbox() {
            None => writeln!(f, "sandbox     none: the builder sees the host"),
            Some(sandbox) => {
                writeln!(f, "sandbox     network {:?}", sandbox.network)?;
                for path in &sandbox.paths {
                    writeln!(f, "  path      {} from {}", path.target, path.source)?;
                }
                sandbox.store.inputs.iter().try_for_each(|input| writeln!(f, "  input     {}", input.name))
            }
        }
    }
}
