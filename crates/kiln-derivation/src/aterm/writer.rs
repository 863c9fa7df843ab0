//! Writing a derivation as text: its file, and the variants of it that are hashed.

use std::collections::{BTreeMap, BTreeSet};

use kiln_store_path::{OutputName, StoreDir};

use super::{CLASSIC_HEADER, DYNAMIC_VERSION, VERSIONED_HEADER};
use crate::derivation::Derivation;
use crate::input_outputs::InputOutputs;
use crate::output::shown;
use crate::structured_attrs::STRUCTURED_ATTRS_VARIABLE;

/// Why a derivation has no text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A field that is written without escapes would need them.
    #[error("cannot write derivation '{derivation}': its {field} '{value}' contains a quote or a backslash")]
    NeedsEscape {
        /// The name of the derivation.
        derivation: String,
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// The plain environment has the variable that holds the structured attributes.
    #[error(
        "cannot write derivation '{derivation}': the variable '{STRUCTURED_ATTRS_VARIABLE}' is reserved for its structured attributes"
    )]
    ReservedVariable {
        /// The name of the derivation.
        derivation: String,
    },
}

/// What to write as the input derivations.
pub(crate) enum Inputs<'a> {
    /// Their paths, as in the file.
    Paths,
    /// Hashes in their place, as in the text that is hashed.
    Hashes(&'a BTreeMap<String, BTreeSet<&'a OutputName>>),
}

/// What to write as the paths of the derivation's own outputs, in their descriptions and in the environment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputPaths {
    /// The paths.
    Known,
    /// Nothing, since they are to be computed from the text.
    Masked,
}

impl Derivation {
    /// The text of the `.drv` file.
    ///
    /// # Errors
    /// A few derivations have none: see [`WriteError`].
    pub fn to_aterm(&self, store_dir: &StoreDir) -> Result<Vec<u8>, WriteError> {
        write(self, store_dir, &Inputs::Paths, OutputPaths::Known)
    }
}

/// The text of a derivation with some of its fields replaced.
pub(crate) fn write(
    derivation: &Derivation,
    store_dir: &StoreDir,
    inputs: &Inputs<'_>,
    output_paths: OutputPaths,
) -> Result<Vec<u8>, WriteError> {
    check_unescaped(derivation, "store directory", store_dir.as_str().as_bytes())?;
    check_unescaped(derivation, "system", &derivation.system)?;
    if derivation.environment.contains_key(STRUCTURED_ATTRS_VARIABLE.as_bytes()) {
        return Err(WriteError::ReservedVariable { derivation: derivation.name.to_string() });
    }
    let mut writer = Writer { text: Vec::new(), store_dir };
    if derivation.has_dynamic_inputs() {
        writer.raw(VERSIONED_HEADER);
        writer.unescaped(DYNAMIC_VERSION);
        writer.raw(",");
    } else {
        writer.raw(CLASSIC_HEADER);
    }
    writer.outputs(derivation, output_paths);
    writer.raw(",");
    match inputs {
        Inputs::Paths => writer.list(&derivation.input_derivations, |writer, (path, outputs)| {
            writer.raw("(");
            writer.unescaped(&store_dir.print(path));
            writer.raw(",");
            writer.input_outputs(outputs);
            writer.raw(")");
        }),
        Inputs::Hashes(inputs) => writer.list(*inputs, |writer, (hash, outputs)| {
            writer.raw("(");
            writer.unescaped(hash);
            writer.raw(",");
            writer.list(outputs, |writer, output| writer.unescaped(output.as_str()));
            writer.raw(")");
        }),
    }
    writer.raw(",");
    writer.list(&derivation.input_sources, |writer, path| writer.unescaped(&store_dir.print(path)));
    writer.raw(",\"");
    writer.text.extend_from_slice(&derivation.system);
    writer.raw("\",");
    writer.escaped(&derivation.builder);
    writer.raw(",");
    writer.list(&derivation.arguments, |writer, argument| writer.escaped(argument));
    writer.raw(",");
    writer.environment(derivation, output_paths);
    writer.raw(")");
    Ok(writer.text)
}

fn check_unescaped(derivation: &Derivation, field: &'static str, value: &[u8]) -> Result<(), WriteError> {
    if value.iter().any(|byte| matches!(byte, b'"' | b'\\')) {
        return Err(WriteError::NeedsEscape {
            derivation: derivation.name.to_string(),
            field,
            value: shown(value),
        });
    }
    Ok(())
}

struct Writer<'a> {
    text: Vec<u8>,
    store_dir: &'a StoreDir,
}

impl Writer<'_> {
    fn raw(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
    }

    /// A string that holds nothing to escape.
    fn unescaped(&mut self, string: &str) {
        self.raw("\"");
        self.raw(string);
        self.raw("\"");
    }

    fn escaped(&mut self, mut string: &[u8]) {
        self.raw("\"");
        let needs_escape = |byte: &u8| matches!(byte, b'"' | b'\\' | b'\n' | b'\r' | b'\t');
        while let Some(length) = string.iter().position(needs_escape) {
            let (run, rest) = string.split_at(length);
            self.text.extend_from_slice(run);
            if let Some((special, rest)) = rest.split_first() {
                self.raw(match special {
                    b'"' => "\\\"",
                    b'\\' => "\\\\",
                    b'\n' => "\\n",
                    b'\r' => "\\r",
                    _ => "\\t",
                });
                string = rest;
            }
        }
        self.text.extend_from_slice(string);
        self.raw("\"");
    }

    fn list<T>(&mut self, elements: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut Self, T)) {
        self.raw("[");
        for (index, element) in elements.into_iter().enumerate() {
            if index > 0 {
                self.raw(",");
            }
            write(self, element);
        }
        self.raw("]");
    }

    fn outputs(&mut self, derivation: &Derivation, paths: OutputPaths) {
        self.list(&derivation.outputs, |writer, (name, output)| {
            let fields = output.to_fields(writer.store_dir);
            writer.raw("(");
            writer.unescaped(name.as_str());
            writer.raw(",");
            writer.unescaped(match paths {
                OutputPaths::Known => &fields.path,
                OutputPaths::Masked => "",
            });
            for field in [&fields.hash_algorithm, &fields.hash] {
                writer.raw(",");
                writer.unescaped(field);
            }
            writer.raw(")");
        });
    }

    /// A node of the tree of used outputs; the tree's depth is bounded by its type.
    fn input_outputs(&mut self, node: &InputOutputs) {
        if node.is_dynamic() {
            self.raw("(");
        }
        self.list(node.outputs(), |writer, output| writer.unescaped(output.as_str()));
        if node.is_dynamic() {
            self.raw(",");
            self.list(node.dynamic(), |writer, (output, child)| {
                writer.raw("(");
                writer.unescaped(output.as_str());
                writer.raw(",");
                writer.input_outputs(child);
                writer.raw(")");
            });
            self.raw(")");
        }
    }

    fn environment(&mut self, derivation: &Derivation, paths: OutputPaths) {
        let is_output =
            |name: &[u8]| std::str::from_utf8(name).is_ok_and(|name| derivation.outputs.contains_key(name));
        self.list(derivation.written_environment(), |writer, (name, value)| {
            let is_masked = paths == OutputPaths::Masked && is_output(name);
            writer.raw("(");
            writer.escaped(name);
            writer.raw(",");
            writer.escaped(if is_masked { b"" } else { value });
            writer.raw(")");
        });
    }
}
