//! Comparing what the rounds of a repeated build made (D13).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kiln_fs::{Component, rename_new};
use kiln_nar::NarDigest;
use kiln_store::{LocalStore, blocking};
use kiln_store_path::{OutputName, StorePath};

use super::check::{differences, keep, kept_name, run_diff_hook};
use super::collect::Collected;
use crate::core::Core;
use crate::error::Failure;
use crate::execute::Workspace;

/// What the first round made. The trees lie beside their paths, as `<path>.check`.
pub(crate) struct EarlierRound {
    outputs: BTreeMap<OutputName, Made>,
}

struct Made {
    nar: NarDigest,
    references: BTreeSet<StorePath>,
    tree: Component,
}

impl EarlierRound {
    /// Moves the outputs of a round out of the way of the next one.
    pub(crate) async fn keep(
        core: &Core,
        collected: BTreeMap<OutputName, Collected>,
        workspace: &mut Workspace,
    ) -> Result<Self, Failure> {
        // Before they are there: what is given up while they are moved is deleted too.
        let names: Result<Vec<Component>, kiln_fs::Error> = collected.values().map(kept_name).collect();
        workspace.hold_earlier(names?);
        let store = core.store.clone();
        let outputs = blocking(move || {
            let keep = |(name, output): (OutputName, Collected)| {
                let tree = keep(&store, &output)?;
                Ok((name, Made { nar: output.nar, references: output.references, tree }))
            };
            collected.into_iter().map(keep).collect::<Result<BTreeMap<_, _>, kiln_fs::Error>>()
        });
        Ok(Self { outputs: outputs.await? })
    }

    /// What the outputs of another round have that these have not, in words; `None` if they are the same. The diff hook is
    /// shown the first that differs, at its place in the store.
    pub(crate) async fn compare(
        &self,
        core: &Arc<Core>,
        derivation: &StorePath,
        collected: &mut BTreeMap<OutputName, Collected>,
        workspace: &mut Workspace,
    ) -> Result<Option<String>, Failure> {
        let Some((name, made)) = collected.iter_mut().find(|(name, made)| !self.has(name, made)) else {
            return Ok(None);
        };
        let path = core.store_dir().print(&made.path);
        let derivation = core.store_dir().print(derivation);
        let Some(earlier) = self.outputs.get(name).map(|earlier| earlier.tree.clone()) else {
            return Ok(Some(format!("output '{path}' of '{derivation}' was not made by the previous round")));
        };
        if core.settings.run_diff_hook {
            show_in_store(core, made, workspace).await?;
            run_diff_hook(core, workspace, &derivation, &earlier, &made.tree).await;
        }
        let (check, made) = (format!("{path}.check"), made.try_clone().ok());
        let from = if core.keeps_what_differs() { format!(" from '{check}'") } else { String::new() };
        let core = Arc::clone(core);
        let told = blocking(move || {
            let made = made?;
            differences(&core, &earlier, &made, "the previous round".to_owned(), "this round".to_owned()).ok()
        });
        let report = told.await.map(|report| format!("\n{}", report.trim_end())).unwrap_or_default();
        Ok(Some(format!("output '{path}' of '{derivation}' differs{from} from previous round{report}")))
    }

    fn has(&self, name: &OutputName, made: &Collected) -> bool {
        let same = |earlier: &Made| earlier.nar == made.nar && earlier.references == made.references;
        self.outputs.get(name).is_some_and(same)
    }
}

/// Moves an output to where others can look at it, which is the place that it will have. It is deleted in the end, unless it
/// becomes valid there.
async fn show_in_store(core: &Core, made: &mut Collected, workspace: &mut Workspace) -> Result<(), Failure> {
    let place = LocalStore::component(&made.path)?;
    if made.directory.path() == core.store.directory().path() {
        return Ok(());
    }
    workspace.expect_in_store(made.path.clone(), core.real_dir());
    let shown =
        Collected { directory: core.store.directory().try_clone()?, tree: place, ..made.try_clone()? };
    let (from, to) = (made.try_clone()?, shown.try_clone()?);
    blocking(move || rename_new((&from.directory, &from.tree), (&to.directory, &to.tree))).await?;
    *made = shown;
    Ok(())
}
