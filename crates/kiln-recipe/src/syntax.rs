//! What a recipe says, read but not yet checked against itself: each value with its place in the text.

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_derivation::Addressing;
use kiln_store_path::{OutputName, StorePathName};
use toml::Spanned;

use crate::filter::Filter;
use crate::interpolation::{Reference, Template};
use crate::source_text::Span;

/// A value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// A string; the places of its references are those in the file.
    Text(Template),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    List(Vec<Spanned<Value>>),
    /// Only in structured attributes.
    Table(BTreeMap<String, Spanned<Value>>),
    /// `{ source = "NAME" }` or `{ output = "NAME.OUTPUT" }`.
    Reference(Reference),
    /// `{ path = "…" }`: the index of a source without a name of its own.
    InlineSource(usize),
}

/// Where a source comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SourceOrigin {
    /// A file or directory that is added to the store.
    Local { path: String, name: StorePathName, filter: Filter },
    /// Something that is in a store already.
    Store { path: String },
}

/// A `[source.NAME]`, or a source within a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceDeclaration {
    /// What messages point to.
    pub(crate) at: Span,
    pub(crate) origin: SourceOrigin,
}

/// How the outputs get their paths, and the attribute that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StatedAddressing {
    pub(crate) at: Span,
    pub(crate) addressing: Addressing,
}

/// The outputs of a derivation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outputs {
    /// In the order of the recipe; the first is the default one. Never empty.
    pub(crate) names: Vec<OutputName>,
    /// Whether the recipe lists them; then the list is also a variable.
    pub(crate) stated: bool,
}

/// What can be said for all derivations at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Defaults {
    pub(crate) system: Option<String>,
    pub(crate) builder: Option<Arc<Spanned<Value>>>,
    pub(crate) args: Option<Arc<[Spanned<Value>]>>,
    pub(crate) env: BTreeMap<String, Arc<Spanned<Value>>>,
    pub(crate) structured: bool,
}

/// A `[derivation.NAME]`, with the defaults filled in.
#[derive(Clone, Debug)]
pub(crate) struct DerivationDeclaration {
    /// The place of its name.
    pub(crate) at: Span,
    pub(crate) name: StorePathName,
    /// The host's system if the recipe says nothing.
    pub(crate) system: Option<String>,
    pub(crate) builder: Arc<Spanned<Value>>,
    pub(crate) args: Arc<[Spanned<Value>]>,
    pub(crate) outputs: Outputs,
    pub(crate) addressing: Option<StatedAddressing>,
    pub(crate) structured: bool,
    pub(crate) env: BTreeMap<String, Arc<Spanned<Value>>>,
}

/// A whole recipe.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) default: Vec<Spanned<String>>,
    pub(crate) sources: BTreeMap<String, SourceDeclaration>,
    pub(crate) inline_sources: Vec<SourceDeclaration>,
    pub(crate) derivations: BTreeMap<String, DerivationDeclaration>,
}

/// Visits a value and all values within it, parents first, in order.
pub(crate) fn visit<'a>(value: &'a Spanned<Value>, mut see: impl FnMut(&'a Spanned<Value>)) {
    let mut pending = vec![value];
    while let Some(value) = pending.pop() {
        see(value);
        match value.get_ref() {
            Value::List(items) => pending.extend(items.iter().rev()),
            Value::Table(fields) => pending.extend(fields.values().rev()),
            _ => {}
        }
    }
}
