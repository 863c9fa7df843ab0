//! Writing derivations as JSON.

use kiln_store_path::{StoreDir, StorePath, StorePathName};
use serde_json::{Map, Value, json};

use super::{JsonLayout, JsonVersion, first_version};
use crate::canonical_json::{canonical_json, indented_json};
use crate::derivation::Derivation;
use crate::input_outputs::InputOutputs;
use crate::output::{DerivationOutput, shown};

/// A derivation that JSON cannot hold, which is UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("derivation '{derivation}' cannot be shown as JSON: its {field} '{value}' is not UTF-8")]
pub struct JsonWriteError {
    /// The derivation.
    pub derivation: StorePathName,
    /// The field.
    pub field: &'static str,
    /// Its value, as far as it can be shown.
    pub value: String,
}

/// What `nix derivation show` prints of derivations, without the line feed at the end.
///
/// # Errors
/// A field may not be UTF-8. Only the first version never fails, since it writes such bytes as they are, which strictly
/// is no JSON.
pub fn show_json<'a>(
    derivations: impl IntoIterator<Item = (&'a StorePath, &'a Derivation)>,
    store_dir: &StoreDir,
    version: JsonVersion,
    layout: JsonLayout,
) -> Result<Vec<u8>, JsonWriteError> {
    if version == JsonVersion::V1 {
        return Ok(first_version::show(derivations, store_dir, layout));
    }
    let mut shown = Map::new();
    for (path, derivation) in derivations {
        shown.insert(
            print_path(path, store_dir, version),
            Value::Object(derivation.to_json(store_dir, version)?),
        );
    }
    let shown = match version {
        JsonVersion::V4 => json!({ "derivations": shown, "version": 4 }),
        JsonVersion::V1 | JsonVersion::V2 | JsonVersion::V3 => Value::Object(shown),
    };
    Ok(match layout {
        JsonLayout::Compact => canonical_json(&shown),
        JsonLayout::Indented => indented_json(&shown),
    }
    .into_bytes())
}

impl Derivation {
    /// The JSON object of this derivation: what `nix derivation add` takes.
    ///
    /// # Errors
    /// A field may not be UTF-8.
    pub fn to_json(
        &self,
        store_dir: &StoreDir,
        version: JsonVersion,
    ) -> Result<Map<String, Value>, JsonWriteError> {
        let text = |field: &'static str, bytes: &[u8]| {
            std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| JsonWriteError {
                derivation: self.name.clone(),
                field,
                value: shown(bytes),
            })
        };
        let mut object = Map::new();
        if version != JsonVersion::V1 {
            object.insert("name".into(), self.name.as_str().into());
        }
        if let Some(number) = version.stated() {
            object.insert("version".into(), number.into());
        }
        let outputs: Map<String, Value> = self
            .outputs
            .iter()
            .map(|(name, output)| (name.to_string(), output_json(output, store_dir, version)))
            .collect();
        object.insert("outputs".into(), outputs.into());
        self.insert_inputs(&mut object, store_dir, version);
        object.insert("system".into(), text("system", &self.system)?.into());
        object.insert("builder".into(), text("builder", &self.builder)?.into());
        let arguments = self
            .arguments
            .iter()
            .map(|argument| Ok(text("argument", argument)?.into()))
            .collect::<Result<Vec<Value>, _>>()?;
        object.insert("args".into(), arguments.into());
        let mut environment = Map::new();
        let mut insert = |(name, value): (&[u8], &[u8])| {
            environment.insert(text("variable", name)?, text("value of a variable", value)?.into());
            Ok(())
        };
        if version.has_structured_attrs() {
            self.environment.iter().try_for_each(|(name, value)| insert((name, value)))?;
        } else {
            self.written_environment().try_for_each(insert)?;
        }
        object.insert("env".into(), environment.into());
        if let Some(attrs) = self.structured_attrs.as_ref().filter(|_| version.has_structured_attrs()) {
            object.insert("structuredAttrs".into(), attrs.attributes().clone().into());
        }
        Ok(object)
    }

    fn insert_inputs(&self, object: &mut Map<String, Value>, store_dir: &StoreDir, version: JsonVersion) {
        let sources: Vec<Value> =
            self.input_sources.iter().map(|path| print_path(path, store_dir, version).into()).collect();
        let derivations: Map<String, Value> = self
            .input_derivations
            .iter()
            .map(|(path, used)| {
                // The first version has no place for outputs of outputs.
                let is_list = version == JsonVersion::V1 && !used.is_dynamic();
                let used = if is_list { output_names(used) } else { input_json(used) };
                (print_path(path, store_dir, version), used)
            })
            .collect();
        if version == JsonVersion::V4 {
            object.insert("inputs".into(), json!({ "srcs": sources, "drvs": derivations }));
        } else {
            object.insert("inputSrcs".into(), sources.into());
            object.insert("inputDrvs".into(), derivations.into());
        }
    }
}

fn print_path(path: &StorePath, store_dir: &StoreDir, version: JsonVersion) -> String {
    if version.has_full_paths() { store_dir.print(path) } else { path.to_string() }
}

pub(super) fn output_json(output: &DerivationOutput, store_dir: &StoreDir, version: JsonVersion) -> Value {
    let mut object = Map::new();
    if let Some((method, algorithm)) = output.content_addressing() {
        match version {
            JsonVersion::V1 => {
                object.insert("hashAlgo".into(), format!("{}{algorithm}", method.derivation_prefix()).into());
            }
            JsonVersion::V2 | JsonVersion::V3 | JsonVersion::V4 => {
                object.insert("method".into(), method.name().into());
                object.insert("hashAlgo".into(), algorithm.name().into());
            }
        }
    }
    match output {
        DerivationOutput::InputAddressed(path) => {
            object.insert("path".into(), print_path(path, store_dir, version).into());
        }
        DerivationOutput::Fixed { address, path } => {
            if version.has_full_paths() {
                object.insert("path".into(), print_path(path, store_dir, version).into());
            }
            if version == JsonVersion::V4 {
                object.remove("hashAlgo");
                object.insert("hash".into(), address.hash.sri().into());
            } else {
                object.insert("hash".into(), address.hash.base16().into());
            }
        }
        DerivationOutput::Impure { .. } => {
            object.insert("impure".into(), true.into());
        }
        DerivationOutput::Floating { .. } | DerivationOutput::Deferred => {}
    }
    Value::Object(object)
}

fn output_names(used: &InputOutputs) -> Value {
    used.outputs().iter().map(|output| Value::from(output.as_str())).collect()
}

/// A node of the tree of used outputs; the tree's depth is bounded by its type.
fn input_json(used: &InputOutputs) -> Value {
    let dynamic: Map<String, Value> =
        used.dynamic().iter().map(|(output, child)| (output.to_string(), input_json(child))).collect();
    json!({ "outputs": output_names(used), "dynamicOutputs": dynamic })
}
