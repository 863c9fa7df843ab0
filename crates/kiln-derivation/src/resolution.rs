//! Resolution: a derivation with the outputs of its input derivations in their place.
//!
//! Needed before building whatever depends on content-addressed outputs, whose paths are known only after their build.
//! Resolved derivations of equal inputs are equal, however those inputs came about, which is what makes early cut-off
//! work.

use std::collections::BTreeMap;

use kiln_store_path::{OutputName, Placeholder, StoreDir, StorePath, StorePathName};

use crate::derivation::{BasicDerivation, Derivation};
use crate::hash_modulo::HashModuloCache;
use crate::input_outputs::InputOutputs;
use crate::output_paths::{OutputPathError, fill_in_outputs};
use crate::rewrites::Rewrites;
use crate::structured_attrs::{StructuredAttrs, StructuredAttrsError};

/// Why a derivation cannot be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The path of an input's output is not known.
    #[error(
        "cannot resolve derivation '{derivation}': output '{output}' of its input '{input}' has no realisation"
    )]
    NotRealised {
        /// The derivation.
        derivation: StorePathName,
        /// Its input, or a derivation that is an output of an input.
        input: StorePath,
        /// The output without a path.
        output: OutputName,
    },
    /// The structured attributes are damaged by putting the paths in.
    #[error("cannot resolve derivation '{derivation}': {error}")]
    StructuredAttrs {
        /// The derivation.
        derivation: StorePathName,
        /// What is wrong.
        error: StructuredAttrsError,
    },
    /// The paths of the derivation's own outputs cannot be computed.
    #[error(transparent)]
    OutputPath(#[from] OutputPathError),
}

/// A node of the tree of used outputs: whose outputs they are and what stands for that derivation, if it is an output.
struct Node<'a> {
    derivation: StorePath,
    placeholder: Option<Placeholder>,
    used: &'a InputOutputs,
}

impl Derivation {
    /// The derivation with the paths that `realised` knows in the place of its input derivations; deferred outputs get
    /// their paths. `realised` is asked for outputs of input derivations and of derivations that are outputs.
    ///
    /// # Errors
    /// See [`ResolveError`].
    pub fn resolve(
        &self,
        store_dir: &StoreDir,
        mut realised: impl FnMut(&StorePath, &OutputName) -> Option<StorePath>,
    ) -> Result<BasicDerivation, ResolveError> {
        let mut resolved = Self { input_derivations: BTreeMap::new(), ..self.clone() };
        let mut rewrites = Rewrites::new();
        let mut nodes: Vec<Node<'_>> = self
            .input_derivations
            .iter()
            .map(|(path, used)| Node { derivation: path.clone(), placeholder: None, used })
            .collect();
        while let Some(node) = nodes.pop() {
            let mut path_of = |output: &OutputName| {
                realised(&node.derivation, output).ok_or_else(|| ResolveError::NotRealised {
                    derivation: self.name.clone(),
                    input: node.derivation.clone(),
                    output: output.clone(),
                })
            };
            let placeholder_of = |output: &OutputName| match node.placeholder {
                None => Placeholder::upstream_output(&node.derivation, output),
                Some(placeholder) => placeholder.computed_output(output),
            };
            for output in node.used.outputs() {
                let path = path_of(output)?;
                rewrites.insert(placeholder_of(output).to_string(), store_dir.print(&path));
                resolved.input_sources.insert(path);
            }
            for (output, used) in node.used.dynamic() {
                let derivation = path_of(output)?;
                nodes.push(Node { derivation, placeholder: Some(placeholder_of(output)), used });
            }
        }
        resolved
            .rewrite(&rewrites)
            .map_err(|error| ResolveError::StructuredAttrs { derivation: self.name.clone(), error })?;
        fill_in_outputs(&mut resolved, &HashModuloCache::new(store_dir.clone()))?;
        Ok(BasicDerivation::without_inputs(resolved))
    }

    /// Applies rewrites to the builder, its arguments, the environment (names and values) and the text of the structured
    /// attributes.
    ///
    /// # Errors
    /// The rewritten structured attributes may be no JSON object any more.
    pub fn rewrite(&mut self, rewrites: &Rewrites) -> Result<(), StructuredAttrsError> {
        if rewrites.is_empty() {
            return Ok(());
        }
        if let Some(attrs) = &self.structured_attrs {
            self.structured_attrs = Some(StructuredAttrs::parse(&rewrites.apply(attrs.text().as_bytes()))?);
        }
        self.builder = rewrites.apply_owned(std::mem::take(&mut self.builder));
        for argument in &mut self.arguments {
            *argument = rewrites.apply_owned(std::mem::take(argument));
        }
        self.environment = std::mem::take(&mut self.environment)
            .into_iter()
            .map(|(name, value)| (rewrites.apply_owned(name), rewrites.apply_owned(value)))
            .collect();
        Ok(())
    }
}
