//! Which outputs of an input derivation are used, and what is used of the derivations that those outputs are.

use std::collections::{BTreeMap, BTreeSet};

use kiln_store_path::OutputName;

/// How many levels deep outputs of outputs may nest. Real derivations use one or two; the bound keeps every walk over
/// the tree short.
pub const MAX_DYNAMIC_DEPTH: usize = 32;

/// The used outputs of one input derivation (Nix's experimental feature `dynamic-derivations` makes this a tree: an
/// output may itself be a derivation, of which outputs are used in turn).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputOutputs {
    outputs: BTreeSet<OutputName>,
    dynamic: BTreeMap<OutputName, InputOutputs>,
    /// Levels of children below this node.
    depth: usize,
}

/// The tree of outputs is deeper than [`MAX_DYNAMIC_DEPTH`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("outputs of dynamic derivations are nested deeper than {MAX_DYNAMIC_DEPTH} levels")]
pub struct TooDeep;

impl InputOutputs {
    /// Uses these outputs.
    pub fn new(outputs: impl IntoIterator<Item = OutputName>) -> Self {
        Self { outputs: outputs.into_iter().collect(), ..Self::default() }
    }

    /// The outputs that are used as they are.
    pub fn outputs(&self) -> &BTreeSet<OutputName> {
        &self.outputs
    }

    /// The outputs that are derivations, each with what is used of it.
    pub fn dynamic(&self) -> &BTreeMap<OutputName, InputOutputs> {
        &self.dynamic
    }

    /// Whether some output is used as a derivation.
    pub fn is_dynamic(&self) -> bool {
        !self.dynamic.is_empty()
    }

    /// Uses one more output.
    pub fn insert(&mut self, output: OutputName) {
        self.outputs.insert(output);
    }

    /// Uses `node` of the derivation that `output` is, in place of what was used of it before.
    ///
    /// # Errors
    /// The tree would be too deep.
    pub fn insert_dynamic(&mut self, output: OutputName, node: Self) -> Result<(), TooDeep> {
        if node.depth + 1 > MAX_DYNAMIC_DEPTH {
            return Err(TooDeep);
        }
        self.depth = self.depth.max(node.depth + 1);
        self.dynamic.insert(output, node);
        Ok(())
    }
}

impl FromIterator<OutputName> for InputOutputs {
    fn from_iter<I: IntoIterator<Item = OutputName>>(outputs: I) -> Self {
        Self::new(outputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_bounded() {
        let mut node = InputOutputs::new([OutputName::out()]);
        for _ in 0..MAX_DYNAMIC_DEPTH {
            let mut parent = InputOutputs::default();
            parent.insert_dynamic(OutputName::out(), node).unwrap();
            node = parent;
        }
        assert_eq!(InputOutputs::default().insert_dynamic(OutputName::out(), node), Err(TooDeep));
    }
}
