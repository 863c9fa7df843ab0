//! The attributes of a derivation that speak to the engine rather than to the builder, read once into one typed value.
//!
//! They come from one of two sources: environment variables, where everything is text, or structured attributes, where
//! types are checked. What a source cannot say, such as checks for a single output without structured attributes, is
//! absent.

mod output_checks;
mod references_graph;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use kiln_store_path::{OutputName, StorePathName};

pub use output_checks::{IllegalReferenceSpecifier, OutputCheck, OutputChecks, ReferenceSpecifier};
pub use references_graph::{GraphRootError, ReferencesGraph};

use crate::derivation::{Derivation, DerivationKind};
use source::Source;

/// The system feature that building a derivation without known output paths takes.
const CA_DERIVATIONS: &str = "ca-derivations";

/// What a derivation asks of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildOptions {
    /// `passAsFile`: variables that the builder gets as files.
    pub pass_as_file: BTreeSet<Vec<u8>>,
    /// `exportReferencesGraph`: closures that the builder wants described.
    pub references_graphs: Vec<ReferencesGraph>,
    /// `outputChecks`, or the older attributes such as `allowedReferences`: what outputs may refer to and how large they
    /// may be.
    pub output_checks: OutputChecks,
    /// `unsafeDiscardReferences`: outputs whose references are not recorded.
    pub unsafe_discard_references: BTreeSet<OutputName>,
    /// `impureEnvVars`: variables of the engine's environment that the builder of a fixed or impure derivation sees.
    pub impure_environment_variables: BTreeSet<Vec<u8>>,
    /// `preferLocalBuild`: better built here than sent away.
    pub prefer_local_build: bool,
    /// `allowSubstitutes`: whether substituters may be asked for the outputs.
    pub allow_substitutes: bool,
    /// `requiredSystemFeatures`, and `ca-derivations` if the paths of the outputs are not known: what the machine must
    /// offer.
    pub required_system_features: BTreeSet<String>,
    /// `__noChroot`: build without a sandbox.
    pub no_chroot: bool,
    /// `__impureHostDeps`: paths of the host that the builder sees.
    pub impure_host_dependencies: BTreeSet<Vec<u8>>,
    /// `__sandboxProfile`: more rules for the sandbox of macOS.
    pub sandbox_profile: Vec<u8>,
    /// `__darwinAllowLocalNetworking`: let the sandbox of macOS use the loopback interface.
    pub allow_local_networking: bool,
    /// What was found and ignored.
    pub warnings: Vec<OptionWarning>,
}

/// An attribute without effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionWarning {
    /// Structured attributes make the attribute pointless.
    Superseded {
        /// The attribute.
        attribute: &'static str,
        /// What to use in its place.
        instead: &'static str,
    },
    /// `exportReferencesGraph` among structured attributes is no object.
    ReferencesGraphNotAnObject,
}

impl fmt::Display for OptionWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Superseded { attribute, instead } => write!(
                f,
                "'structuredAttrs' disables the effect of the top-level attribute '{attribute}'; use '{instead}' instead"
            ),
            Self::ReferencesGraphNotAnObject => {
                f.write_str("'exportReferencesGraph' in structured attrs is not a JSON object, ignoring")
            }
        }
    }
}

/// Why the options of a derivation cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A structured attribute has the wrong type.
    #[error("attribute '{attribute}' of derivation '{derivation}' must be {expected}, found {found}")]
    Type {
        /// The derivation.
        derivation: StorePathName,
        /// The attribute; with dots between the keys if it lies deeper.
        attribute: String,
        /// The type that it must have.
        expected: &'static str,
        /// The type that it has.
        found: &'static str,
    },
    /// A text must be UTF-8 to be compared with anything.
    #[error("attribute '{attribute}' of derivation '{derivation}' contains '{value}', which is not UTF-8")]
    NotUtf8 {
        /// The derivation.
        derivation: StorePathName,
        /// The attribute.
        attribute: &'static str,
        /// The offending text, as far as it can be shown.
        value: String,
    },
    /// `exportReferencesGraph` is not made of pairs.
    #[error("derivation '{derivation}': odd number of tokens {count} in 'exportReferencesGraph': '{value}'")]
    OddTokens {
        /// The derivation.
        derivation: StorePathName,
        /// The number of tokens.
        count: usize,
        /// The value.
        value: String,
    },
    /// A file name in `exportReferencesGraph` that could leave the build directory or hide a file of the engine.
    #[error("derivation '{derivation}': invalid file name '{name}' in 'exportReferencesGraph'")]
    GraphFileName {
        /// The derivation.
        derivation: StorePathName,
        /// The file name.
        name: String,
    },
}

impl BuildOptions {
    /// Reads the options of a derivation.
    ///
    /// # Errors
    /// See [`OptionsError`]. Environment variables hardly ever fail, structured attributes must have the right types.
    pub fn of(derivation: &Derivation) -> Result<Self, OptionsError> {
        let source = Source::new(derivation);
        let mut warnings = Vec::new();
        if source.is_structured() {
            for (attribute, instead) in SUPERSEDED {
                if source.has(attribute) {
                    warnings.push(OptionWarning::Superseded { attribute, instead });
                }
            }
        }
        Ok(Self {
            pass_as_file: if source.is_structured() {
                BTreeSet::new()
            } else {
                source.string_set("passAsFile")?
            },
            references_graphs: references_graph::read(&source, &mut warnings)?,
            output_checks: output_checks::read(&source)?,
            unsafe_discard_references: unsafe_discard_references(&source, derivation)?,
            impure_environment_variables: source.string_set("impureEnvVars")?,
            prefer_local_build: source.boolean("preferLocalBuild", false)?,
            allow_substitutes: source.boolean("allowSubstitutes", true)?,
            required_system_features: required_system_features(&source, derivation)?,
            no_chroot: source.boolean("__noChroot", false)?,
            impure_host_dependencies: source.string_set("__impureHostDeps")?,
            sandbox_profile: source.string("__sandboxProfile")?.unwrap_or_default(),
            allow_local_networking: source.boolean("__darwinAllowLocalNetworking", false)?,
            warnings,
        })
    }
}

/// Attributes that have no effect among structured attributes, and what has it.
const SUPERSEDED: [(&str, &str); 7] = [
    ("allowedReferences", "outputChecks"),
    ("allowedRequisites", "outputChecks"),
    ("disallowedReferences", "outputChecks"),
    ("disallowedRequisites", "outputChecks"),
    ("maxSize", "outputChecks"),
    ("maxClosureSize", "outputChecks"),
    ("passAsFile", ".attrs.json"),
];

fn required_system_features(
    source: &Source<'_>,
    derivation: &Derivation,
) -> Result<BTreeSet<String>, OptionsError> {
    const ATTRIBUTE: &str = "requiredSystemFeatures";
    let mut features = source
        .string_set(ATTRIBUTE)?
        .into_iter()
        .map(|feature| {
            String::from_utf8(feature).map_err(|error| OptionsError::NotUtf8 {
                derivation: derivation.name.clone(),
                attribute: ATTRIBUTE,
                value: crate::output::shown(error.as_bytes()),
            })
        })
        .collect::<Result<BTreeSet<_>, _>>()?;
    if !derivation.kind().is_ok_and(DerivationKind::has_known_paths) {
        features.insert(CA_DERIVATIONS.into());
    }
    Ok(features)
}

fn unsafe_discard_references(
    source: &Source<'_>,
    derivation: &Derivation,
) -> Result<BTreeSet<OutputName>, OptionsError> {
    const ATTRIBUTE: &str = "unsafeDiscardReferences";
    let flags: BTreeMap<&str, bool> = source.object_of(ATTRIBUTE, source::boolean)?;
    Ok(derivation
        .outputs
        .keys()
        .filter(|output| flags.get(output.as_str()) == Some(&true))
        .cloned()
        .collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::derivation::Derivation;
    use crate::output::DerivationOutput;
    use crate::structured_attrs::StructuredAttrs;

    fn derivation() -> Derivation {
        Derivation {
            name: StorePathName::new("t").unwrap(),
            outputs: [(
                OutputName::out(),
                DerivationOutput::InputAddressed("00000000000000000000000000000000-t".parse().unwrap()),
            )]
            .into(),
            input_derivations: BTreeMap::new(),
            input_sources: BTreeSet::new(),
            system: b"x86_64-linux".to_vec(),
            builder: b"/bin/sh".to_vec(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            structured_attrs: None,
        }
    }

    fn plain(variables: &[(&str, &str)]) -> Result<BuildOptions, OptionsError> {
        let environment = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        BuildOptions::of(&Derivation { environment, ..derivation() })
    }

    fn structured(attributes: serde_json::Value) -> Result<BuildOptions, OptionsError> {
        let serde_json::Value::Object(attributes) = attributes else { panic!("not an object") };
        let structured_attrs = Some(StructuredAttrs::from_attributes(attributes));
        // Variables count for nothing beside structured attributes.
        let environment = [(b"preferLocalBuild".to_vec(), b"1".to_vec())].into();
        BuildOptions::of(&Derivation { structured_attrs, environment, ..derivation() })
    }

    fn set(elements: &[&str]) -> BTreeSet<Vec<u8>> {
        elements.iter().map(|element| element.as_bytes().to_vec()).collect()
    }

    fn defaults(output_checks: OutputChecks) -> BuildOptions {
        BuildOptions {
            pass_as_file: BTreeSet::new(),
            references_graphs: Vec::new(),
            output_checks,
            unsafe_discard_references: BTreeSet::new(),
            impure_environment_variables: BTreeSet::new(),
            prefer_local_build: false,
            allow_substitutes: true,
            required_system_features: BTreeSet::new(),
            no_chroot: false,
            impure_host_dependencies: BTreeSet::new(),
            sandbox_profile: Vec::new(),
            allow_local_networking: false,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn defaults_of_both_sources() {
        assert_eq!(plain(&[]), Ok(defaults(OutputChecks::ForAllOutputs(OutputCheck::default()))));
        assert_eq!(structured(json!({})), Ok(defaults(OutputChecks::PerOutput(BTreeMap::new()))));
    }

    #[test]
    fn plain_attributes() {
        let options = plain(&[
            ("passAsFile", "a\tb  c\n"),
            ("exportReferencesGraph", "g /nix/store/x h /1placeholder"),
            ("allowedReferences", ""),
            ("disallowedRequisites", "out /nix/store/y"),
            ("impureEnvVars", "http_proxy NO_PROXY"),
            ("preferLocalBuild", "1"),
            ("allowSubstitutes", ""),
            ("requiredSystemFeatures", "kvm big-parallel"),
            ("__noChroot", "true"),
            ("__impureHostDeps", "/usr/lib"),
            ("__sandboxProfile", "(allow x)"),
            ("__darwinAllowLocalNetworking", "1"),
            ("maxSize", "3"),
            ("unsafeDiscardReferences", "out"),
            ("outputChecks", "nonsense"),
        ]);
        let graph = |name: &str, root: &str| ReferencesGraph { name: name.into(), roots: vec![root.into()] };
        let expected = BuildOptions {
            pass_as_file: set(&["a", "b", "c"]),
            references_graphs: vec![graph("g", "/nix/store/x"), graph("h", "/1placeholder")],
            impure_environment_variables: set(&["http_proxy", "NO_PROXY"]),
            prefer_local_build: true,
            allow_substitutes: false,
            required_system_features: ["kvm", "big-parallel"].map(str::to_owned).into(),
            no_chroot: false,
            impure_host_dependencies: set(&["/usr/lib"]),
            sandbox_profile: b"(allow x)".to_vec(),
            allow_local_networking: true,
            ..defaults(OutputChecks::ForAllOutputs(OutputCheck {
                allowed_references: Some(BTreeSet::new()),
                disallowed_requisites: set(&["out", "/nix/store/y"]),
                ..OutputCheck::default()
            }))
        };
        assert_eq!(options, Ok(expected));
    }

    #[test]
    fn structured_attributes() {
        let options = structured(json!({
            "passAsFile": ["a"],
            "exportReferencesGraph": { "g": ["/nix/store/x", ["/nix/store/y"]], "h": "/nix/store/z" },
            "outputChecks": { "out": { "maxSize": 10, "maxClosureSize": 20, "allowedRequisites": ["out"] }, "dev": {} },
            "unsafeDiscardReferences": { "out": true, "dev": true, "doc": false },
            "impureEnvVars": ["x"],
            "preferLocalBuild": false,
            "allowSubstitutes": false,
            "requiredSystemFeatures": ["kvm"],
            "__noChroot": true,
            "__impureHostDeps": [],
            "__sandboxProfile": "p",
            "__darwinAllowLocalNetworking": true,
            "allowedReferences": 3,
        }));
        let check = OutputCheck {
            counts_itself_as_requisite: true,
            max_size: Some(10),
            max_closure_size: Some(20),
            allowed_requisites: Some(set(&["out"])),
            ..OutputCheck::default()
        };
        let empty = OutputCheck { counts_itself_as_requisite: true, ..OutputCheck::default() };
        let superseded = |attribute, instead| OptionWarning::Superseded { attribute, instead };
        let expected = BuildOptions {
            references_graphs: vec![
                ReferencesGraph {
                    name: "g".into(),
                    roots: vec!["/nix/store/x".into(), "/nix/store/y".into()],
                },
                ReferencesGraph { name: "h".into(), roots: vec!["/nix/store/z".into()] },
            ],
            unsafe_discard_references: [OutputName::out()].into(),
            impure_environment_variables: set(&["x"]),
            allow_substitutes: false,
            required_system_features: ["kvm".to_owned()].into(),
            no_chroot: true,
            sandbox_profile: b"p".to_vec(),
            allow_local_networking: true,
            warnings: vec![
                superseded("allowedReferences", "outputChecks"),
                superseded("passAsFile", ".attrs.json"),
            ],
            ..defaults(OutputChecks::PerOutput([("out".to_owned(), check), ("dev".to_owned(), empty)].into()))
        };
        assert_eq!(options, Ok(expected));
    }

    #[test]
    fn structured_attributes_have_types() {
        for (attributes, message) in [
            (
                json!({"preferLocalBuild": "1"}),
                "attribute 'preferLocalBuild' of derivation 't' must be a Boolean, found a string",
            ),
            (
                json!({"allowSubstitutes": 0}),
                "attribute 'allowSubstitutes' of derivation 't' must be a Boolean, found a number",
            ),
            (
                json!({"impureEnvVars": "x"}),
                "attribute 'impureEnvVars' of derivation 't' must be a list of strings, found a string",
            ),
            (
                json!({"requiredSystemFeatures": [1]}),
                "attribute 'requiredSystemFeatures' of derivation 't' must be a list of strings, found a number",
            ),
            (
                json!({"__sandboxProfile": []}),
                "attribute '__sandboxProfile' of derivation 't' must be a string, found an array",
            ),
            (
                json!({"outputChecks": []}),
                "attribute 'outputChecks' of derivation 't' must be an object, found an array",
            ),
            (
                json!({"outputChecks": {"out": {"maxSize": -1}}}),
                "attribute 'outputChecks.out.maxSize' of derivation 't' must be an unsigned integer, found a number",
            ),
            (
                json!({"outputChecks": {"out": {"allowedReferences": [null]}}}),
                "attribute 'outputChecks.out.allowedReferences' of derivation 't' must be a list of strings, found null",
            ),
            (
                json!({"unsafeDiscardReferences": {"out": 1}}),
                "attribute 'unsafeDiscardReferences.out' of derivation 't' must be a Boolean, found a number",
            ),
            (
                json!({"exportReferencesGraph": {"g": {}}}),
                "attribute 'exportReferencesGraph.g' of derivation 't' must be a string or an array of strings, found an object",
            ),
        ] {
            assert_eq!(structured(attributes).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn references_graphs_come_in_pairs_of_harmless_names() {
        assert_eq!(
            plain(&[("exportReferencesGraph", "a b c")]).unwrap_err().to_string(),
            "derivation 't': odd number of tokens 3 in 'exportReferencesGraph': 'a b c'"
        );
        for name in ["../x", ".attrs.json", "a/b", "1", "-"] {
            let error = plain(&[("exportReferencesGraph", &format!("{name} /nix/store/x"))]).unwrap_err();
            assert!(matches!(error, OptionsError::GraphFileName { .. }), "{name}: {error}");
        }
        let options = structured(json!({"exportReferencesGraph": ["g", "/nix/store/x"]})).unwrap();
        assert_eq!(options.references_graphs, []);
        assert_eq!(options.warnings, [OptionWarning::ReferencesGraphNotAnObject]);
    }

    #[test]
    fn unknown_paths_take_a_feature() {
        let outputs: BTreeMap<_, _> = [(OutputName::out(), DerivationOutput::Deferred)].into();
        let options = BuildOptions::of(&Derivation { outputs, ..derivation() }).unwrap();
        assert_eq!(options.required_system_features, ["ca-derivations".to_owned()].into());
    }

    #[test]
    fn features_are_text() {
        let environment = [(b"requiredSystemFeatures".to_vec(), b"kvm \xff".to_vec())].into();
        let error = BuildOptions::of(&Derivation { environment, ..derivation() }).unwrap_err();
        assert!(matches!(error, OptionsError::NotUtf8 { .. }), "{error}");
    }

    /// O6: an element of a check is a path, or an output of the derivation.
    #[test]
    fn reference_specifiers() {
        let parse = |text: &str| {
            ReferenceSpecifier::parse(text.as_bytes(), &derivation(), &kiln_store_path::StoreDir::default())
        };
        let path = "mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple";
        assert_eq!(parse(&format!("/nix/store/{path}")), Ok(ReferenceSpecifier::Path(path.parse().unwrap())));
        assert_eq!(parse("out"), Ok(ReferenceSpecifier::Output(OutputName::out())));
        for illegal in
            ["dev", "", "/nix/store", "/etc/passwd", "/nix/store/mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple/bin"]
        {
            let message = parse(illegal).unwrap_err().to_string();
            assert!(
                message
                    .starts_with(&format!("derivation contains an illegal reference specifier '{illegal}'")),
                "{message}"
            );
        }
    }
}
