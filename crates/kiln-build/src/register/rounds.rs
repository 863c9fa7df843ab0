//! Comparing what the rounds of a repeated build made (D13).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kiln_fs::Component;
use kiln_nar::NarDigest;
use kiln_store::blocking;
use kiln_store_path::{OutputName, StorePath};

use super::check::{differences, keep};
use super::collect::Collected;
use crate::engine::Core;
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
        let store = core.store.clone();
        let outputs = blocking(move || {
            let keep = |(name, output): (OutputName, Collected)| {
                let tree = keep(&store, &output)?;
                Ok((name, Made { nar: output.nar, references: output.references, tree }))
            };
            collected.into_iter().map(keep).collect::<Result<BTreeMap<_, _>, kiln_fs::Error>>()
        });
        let outputs = outputs.await?;
        workspace.hold_earlier(outputs.values().map(|made| made.tree.clone()).collect());
        Ok(Self { outputs })
    }

    /// What the outputs of another round have that these have not, in words; `None` if they are the same.
    pub(crate) async fn compare(
        &self,
        core: &Arc<Core>,
        derivation: &StorePath,
        collected: &BTreeMap<OutputName, Collected>,
    ) -> Option<String> {
        let (name, made) = collected.iter().find(|(name, made)| !self.has(name, made))?;
        let path = core.store_dir().print(&made.path);
        let derivation = core.store_dir().print(derivation);
        let Some(earlier) = self.outputs.get(name).map(|earlier| earlier.tree.clone()) else {
            return Some(format!("output '{path}' of '{derivation}' was not made by the previous round"));
        };
        let (check, made) = (format!("{path}.check"), made.try_clone().ok());
        let from = if core.keeps_what_differs() { format!(" from '{check}'") } else { String::new() };
        let core = Arc::clone(core);
        let told = blocking(move || {
            let made = made?;
            differences(&core, &earlier, &made, "the previous round".to_owned(), "this round".to_owned()).ok()
        });
        let report = told.await.map(|report| format!("\n{}", report.trim_end())).unwrap_or_default();
        Some(format!("output '{path}' of '{derivation}' differs{from} from previous round{report}"))
    }

    fn has(&self, name: &OutputName, made: &Collected) -> bool {
        let same = |earlier: &Made| earlier.nar == made.nar && earlier.references == made.references;
        self.outputs.get(name).is_some_and(same)
    }
}
