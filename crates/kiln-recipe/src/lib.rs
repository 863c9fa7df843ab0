//! Recipes: derivations described in TOML, and the derivations that they stand for.
//!
//! A recipe is a declarative front end for those who have no Nix expressions. It has no language of its own: it names
//! sources and derivations, gives the latter the attributes of Nix's `derivation` primitive, and refers from strings to
//! sources and outputs. What comes of it is, byte for byte, what `nix-instantiate` makes of the same attributes. The
//! format is described in `docs/recipes.md`.
//!
//! ```
//! # fn main() -> Result<(), kiln_recipe::RecipeError> {
//! let text = br#"
//!     [source.greeting]
//!     path = "greeting.txt"
//!
//!     [derivation.hello]
//!     builder = "/bin/sh"
//!     args = ["-c", "echo ${source.greeting} > $out"]
//! "#;
//! let recipe = kiln_recipe::Recipe::parse("kiln.toml", text)?;
//! assert_eq!(recipe.default_targets()[0].derivation, "hello");
//! # Ok(())
//! # }
//! ```
//!
//! The way is parse → resolve → instantiate. [`Recipe::parse`] reads the text and checks all that can be checked by
//! itself: types, names, references, circles. [`Recipe::instantiate`] makes the derivations of some [`Target`]s. It does
//! no I/O: adding sources and derivations is the caller's part, the trait [`RecipeStore`], and so is walking a source's
//! files, for which [`Filter`] says what to leave out. Every [`RecipeError`] shows the place in the recipe.

mod coerce;
mod error;
mod filter;
mod instantiate;
mod interpolation;
mod parse;
mod recipe;
mod resolve;
mod source_text;
mod suggestion;
mod syntax;

pub use error::{Problem, RecipeError};
pub use filter::{Filter, InvalidPattern};
pub use instantiate::{InstantiatedDerivation, Instantiation, RecipeStore, SourceSpec, StoreError};
pub use interpolation::InvalidReference;
pub use recipe::{Recipe, Target};
pub use source_text::Position;
