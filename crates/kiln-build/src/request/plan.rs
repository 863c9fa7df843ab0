//! What would be done to build a derivation, without doing it.

use std::collections::BTreeSet;

use kiln_sandbox::{BuildUser, Credentials};
use kiln_store::{LocalStore, blocking};
use kiln_store_path::StorePath;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::goal::{Place, build_options, load, prepare};
use crate::plan::BuildPlan;

impl Engine {
    /// The plan by which a derivation would be built now, all outputs of it. Of inputs that are not valid yet, what they
    /// refer to is not known, and so not in the plan. The directories and the build user of the real build may differ.
    ///
    /// # Errors
    /// The derivation is not valid, or cannot be built here.
    pub async fn plan(&self, path: &StorePath) -> Result<BuildPlan, EngineError> {
        let core = &*self.core();
        let target = load(core, path, None).await?;
        let mut inputs = target.derivation.input_sources.clone();
        for (input, wanted) in &target.derivation.input_derivations {
            let input = core.store.read_derivation(input).await?;
            let outputs = wanted.outputs().iter().filter_map(|output| input.outputs.get(output)?.path());
            inputs.extend(outputs.cloned());
        }
        let valid = core.valid(&inputs).await?;
        inputs.extend(core.closure(&valid).await?);
        let options = build_options(core, &target)?;
        let prepared = prepare(core, &target, options, inputs).await?;
        let users = core.build_users.clone();
        let user = blocking(move || users.map_or(Ok(None), |users| users.try_acquire())).await;
        let user = user.map_err(kiln_sandbox::SandboxError::from)?;
        let name = target.path.name();
        let place = Place {
            credentials: user.as_ref().map_or(Credentials::Caller, BuildUser::credentials),
            ids: user.as_ref().map_or(1, BuildUser::ids),
            chroot: core.real_dir().join(LocalStore::build_directory_name(&target.path)),
            hook_paths: Vec::new(),
            build_directory: core.build_directories.path().join(format!("nix-build-{name}-0")).join("build"),
            network: prepared.network.clone(),
        };
        let outputs: BTreeSet<_> = target.derivation.outputs.keys().cloned().collect();
        let mut plan = prepared.plan(core, &target, &outputs, &BTreeSet::new(), prepared.confined, &place)?;
        // Plans are shown, and a builtin may be given credentials.
        plan.launch.builtin = plan.launch.builtin.map(|_| "{}".into());
        Ok(plan)
    }
}
