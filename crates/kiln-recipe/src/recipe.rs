//! A recipe that has been read and checked.

use kiln_store_path::OutputName;

use crate::error::RecipeError;
use crate::parse;
use crate::resolve;
use crate::source_text::SourceText;
use crate::syntax::Document;

/// A recipe: derivations, and sources that they use. All that it refers to is there, and nothing needs itself.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub(crate) text: SourceText,
    pub(crate) document: Document,
    /// The names of the derivations, each after those that it refers to.
    pub(crate) order: Vec<String>,
}

/// A derivation of a recipe, and which of its outputs are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The name that the derivation has in the recipe.
    pub derivation: String,
    /// The outputs, in the order of the recipe; never empty.
    pub outputs: Vec<OutputName>,
}

impl Recipe {
    /// Reads a recipe. `file` is the name of its file as messages should show it; `bytes` is its content.
    ///
    /// # Errors
    /// Whatever is wrong with the recipe as such, in any of its derivations. Nothing but the text is looked at: whether
    /// sources exist shows when the recipe is instantiated.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, RecipeError> {
        let (text, readable) = parse::decode(file, bytes);
        let parsed = readable.and_then(|()| parse::parse(&text)).and_then(|document| {
            let order = resolve::resolve(&document)?;
            Ok((document, order))
        });
        match parsed {
            Ok((document, order)) => Ok(Self { text, document, order }),
            Err(mistake) => Err(RecipeError::new(&text, mistake)),
        }
    }

    /// The names of all derivations, sorted.
    pub fn derivations(&self) -> impl Iterator<Item = &str> {
        self.document.derivations.keys().map(String::as_str)
    }

    /// What to build when nothing is named: what `default` says; without it, all derivations with all their outputs.
    pub fn default_targets(&self) -> Vec<Target> {
        let stated = self.document.default.iter().map(|target| target.get_ref().as_str());
        let names: Vec<&str> =
            if self.document.default.is_empty() { self.derivations().collect() } else { stated.collect() };
        // All these are known to be there.
        names.into_iter().filter_map(|name| resolve::find_target(&self.document, name).ok()).collect()
    }

    /// The target that `NAME` (a derivation with all its outputs) or `NAME.OUTPUT` means.
    ///
    /// # Errors
    /// There is no such derivation or output.
    pub fn target(&self, text: &str) -> Result<Target, RecipeError> {
        resolve::find_target(&self.document, text).map_err(|mistake| RecipeError::new(&self.text, mistake))
    }
}
