//! Properties of all derivations: texts read back, damage is noticed or harmless, and another implementation agrees.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails panics")]

use std::collections::{BTreeMap, BTreeSet};

use kiln_derivation::{
    Addressing, Attributes, Derivation, DerivationOutput, HashModuloCache, InputOutputs, JsonLayout,
    JsonVersion, Strictness, StructuredAttrs, UnfilledDerivation, check_outputs, show_json,
};
use kiln_hash::{Algorithm, Hash};
use kiln_store_path::{ContentAddress, ContentAddressMethod, OutputName, StoreDir, StorePath, StorePathName};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use serde_json::Value;

fn name() -> impl Strategy<Value = StorePathName> {
    "[a-zA-Z0-9+_?=][-a-zA-Z0-9+._?=]{0,12}".prop_map(|name| StorePathName::new(name).unwrap())
}

fn output_name() -> impl Strategy<Value = OutputName> {
    prop_oneof![Just("out".to_owned()), "[a-z][a-z0-9_-]{0,6}".prop_map(|name| name)]
        .prop_map(|name| OutputName::new(name).unwrap())
}

fn store_path() -> impl Strategy<Value = StorePath> {
    (any::<[u8; 20]>(), name()).prop_map(|(digest, name)| StorePath::from_parts(&digest, &name))
}

fn derivation_path() -> impl Strategy<Value = StorePath> {
    (any::<[u8; 20]>(), name())
        .prop_map(|(digest, name)| StorePath::from_parts(&digest, &name.with_suffix(".drv").unwrap()))
}

fn addressing() -> impl Strategy<Value = (ContentAddressMethod, Algorithm)> {
    (0..4_usize, 0..5_usize).prop_map(|(method, algorithm)| {
        let method = [
            ContentAddressMethod::Flat,
            ContentAddressMethod::Nar,
            ContentAddressMethod::Text,
            ContentAddressMethod::Git,
        ][method];
        (method, Algorithm::ALL[algorithm])
    })
}

/// Outputs that go together; fixed ones belong to a derivation of the name `fixed`.
fn outputs() -> impl Strategy<Value = BTreeMap<OutputName, DerivationOutput>> {
    let all = |output: DerivationOutput| {
        btree_set(output_name(), 1..4)
            .prop_map(move |names| names.into_iter().map(|name| (name, output.clone())).collect())
    };
    let fixed =
        (addressing(), any::<u8>()).prop_filter_map("some have no path", |((method, algorithm), seed)| {
            let address = ContentAddress { method, hash: Hash::of(algorithm, [seed]) };
            let name = StorePathName::new("fixed").unwrap();
            let output =
                DerivationOutput::fixed(&StoreDir::default(), &name, &OutputName::out(), address).ok()?;
            Some(BTreeMap::from([(OutputName::out(), output)]))
        });
    prop_oneof![
        btree_map(output_name(), store_path().prop_map(DerivationOutput::InputAddressed), 1..4),
        fixed,
        addressing()
            .prop_flat_map(move |(method, algorithm)| all(DerivationOutput::Floating { method, algorithm })),
        all(DerivationOutput::Deferred),
        addressing()
            .prop_flat_map(move |(method, algorithm)| all(DerivationOutput::Impure { method, algorithm })),
    ]
}

fn input_outputs() -> impl Strategy<Value = InputOutputs> {
    let leaf = btree_set(output_name(), 0..3).prop_map(InputOutputs::new);
    leaf.prop_recursive(4, 8, 2, |inner| {
        (btree_set(output_name(), 0..3), btree_map(output_name(), inner, 0..3)).prop_map(
            |(outputs, dynamic)| {
                let mut node = InputOutputs::new(outputs);
                for (output, child) in dynamic {
                    node.insert_dynamic(output, child).unwrap();
                }
                node
            },
        )
    })
}

/// Byte strings: with much that must be escaped, some of it no UTF-8.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..12), "[a-z\"\\\\\n\r\t/()\\[\\],é☃\0]{0,12}".prop_map(String::into_bytes),]
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("JSON has finite numbers only", |number| number.is_finite())
            .prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map("[a-z\"☃]{0,4}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn structured_attrs() -> impl Strategy<Value = Option<StructuredAttrs>> {
    proptest::option::weighted(
        0.3,
        btree_map("[a-zA-Z_-]{1,6}", json(), 0..4)
            .prop_map(|attributes| StructuredAttrs::from_attributes(attributes.into_iter().collect())),
    )
}

/// Any derivation whose texts come from `text`.
fn derivation_with<S: Strategy<Value = Vec<u8>>>(text: impl Fn() -> S) -> impl Strategy<Value = Derivation> {
    let inputs = (btree_map(derivation_path(), input_outputs(), 0..3), btree_set(store_path(), 0..3));
    let program = (text(), vec(text(), 0..3), btree_map(text(), text(), 0..4), structured_attrs());
    (outputs(), inputs, "[a-z0-9_-]{0,8}", program).prop_map(|(outputs, inputs, system, program)| {
        let (input_derivations, input_sources) = inputs;
        let (builder, arguments, mut environment, structured_attrs) = program;
        environment.remove(&b"__json"[..]);
        Derivation {
            name: StorePathName::new("fixed").unwrap(),
            outputs,
            input_derivations,
            input_sources,
            system: system.into_bytes(),
            builder,
            arguments,
            environment,
            structured_attrs,
        }
    })
}

fn derivation() -> impl Strategy<Value = Derivation> {
    derivation_with(bytes)
}

fn utf8_derivation() -> impl Strategy<Value = Derivation> {
    derivation_with(|| ".{0,8}".prop_map(String::into_bytes))
}

fn read(text: &[u8], strictness: Strictness) -> Option<Derivation> {
    Derivation::parse_aterm(text, &StorePathName::new("fixed").unwrap(), &StoreDir::default(), strictness)
        .ok()
}

/// What is read from a damaged text must be a derivation like any other.
fn check_damaged(text: &[u8]) {
    if let Some(derivation) = read(text, Strictness::Lenient)
        && let Ok(written) = derivation.to_aterm(&StoreDir::default())
    {
        assert_eq!(
            read(&written, Strictness::Strict),
            Some(derivation),
            "{:?}",
            String::from_utf8_lossy(text)
        );
    }
    if let Some(derivation) = read(text, Strictness::Strict) {
        assert_eq!(derivation.to_aterm(&StoreDir::default()).unwrap(), text);
    }
}

proptest! {
    #[test]
    fn the_text_reads_back(derivation in derivation()) {
        let text = derivation.to_aterm(&StoreDir::default()).unwrap();
        prop_assert_eq!(read(&text, Strictness::Strict), Some(derivation.clone()));
        prop_assert_eq!(read(&text, Strictness::Lenient), Some(derivation));
    }

    #[test]
    fn every_truncation_is_noticed(derivation in derivation()) {
        let text = derivation.to_aterm(&StoreDir::default()).unwrap();
        for end in 0..text.len() {
            prop_assert!(read(&text[..end], Strictness::Lenient).is_none(), "the first {} bytes", end);
        }
    }

    #[test]
    fn a_changed_byte_is_noticed_or_harmless(
        derivation in derivation(),
        position in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut text = derivation.to_aterm(&StoreDir::default()).unwrap();
        let position = position.index(text.len());
        text[position] = byte;
        check_damaged(&text);
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        start in prop::sample::select(vec!["", "Derive(", "Derive([],[],[],", "DrvWithVersion(\"xp-dyn-drv\",[],[("]),
        text in vec(prop_oneof![any::<u8>(), prop::sample::select(b"()[],\"\\".to_vec())], 0..60),
    ) {
        check_damaged(&[start.as_bytes(), &text].concat());
    }

    #[test]
    fn json_reads_back(derivation in utf8_derivation()) {
        let store_dir = StoreDir::default();
        for version in [JsonVersion::V1, JsonVersion::V2, JsonVersion::V3, JsonVersion::V4] {
            let json = derivation.to_json(&store_dir, version).unwrap();
            let read = Derivation::from_json(&json, Some(&derivation.name), &store_dir, version);
            prop_assert_eq!(read.unwrap(), derivation.clone(), "{:?}", version);
        }
    }

    #[test]
    fn json_has_no_place_for_other_bytes(derivation in derivation()) {
        let is_utf8 = |bytes: &Vec<u8>| std::str::from_utf8(bytes).is_ok();
        let all_utf8 = is_utf8(&derivation.builder)
            && derivation.arguments.iter().all(is_utf8)
            && derivation.environment.iter().all(|(name, value)| is_utf8(name) && is_utf8(value));
        let path = StorePath::from_base_name("00000000000000000000000000000000-fixed.drv").unwrap();
        let show = |version| show_json([(&path, &derivation)], &StoreDir::default(), version, JsonLayout::Compact);
        prop_assert_eq!(show(JsonVersion::V4).is_ok(), all_utf8);
        prop_assert!(show(JsonVersion::V1).is_ok());
    }

    #[test]
    fn damaged_json_is_noticed_or_harmless(
        derivation in utf8_derivation(),
        position in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let store_dir = StoreDir::default();
        let json = derivation.to_json(&store_dir, JsonVersion::V4).unwrap();
        let mut text = kiln_derivation::canonical_json(&json).into_bytes();
        let position = position.index(text.len());
        text[position] = byte;
        if let Ok(read) = Derivation::parse_json(&text, None, &store_dir, JsonVersion::V4) {
            let json = read.to_json(&store_dir, JsonVersion::V4).unwrap();
            prop_assert_eq!(Derivation::from_json(&json, None, &store_dir, JsonVersion::V4).unwrap(), read);
        }
    }
}

/// A description of an input-addressed derivation, which uses the outputs of `inputs`.
fn unfilled(
    name: StorePathName,
    variables: BTreeMap<String, Vec<u8>>,
    outputs: BTreeSet<OutputName>,
    inputs: BTreeMap<StorePath, InputOutputs>,
) -> UnfilledDerivation {
    UnfilledDerivation {
        name,
        system: b"x86_64-linux".to_vec(),
        builder: b"/bin/sh".to_vec(),
        arguments: vec![b"-c".to_vec(), "echo \"é\" > $out".into()],
        outputs: Some(outputs.into_iter().collect()),
        addressing: Addressing::InputAddressed,
        attributes: Attributes::Plain(
            variables.into_iter().map(|(name, value)| (format!("v{name}").into_bytes(), value)).collect(),
        ),
        input_derivations: inputs,
        input_sources: BTreeSet::new(),
    }
}

proptest! {
    /// Another implementation reads the same texts, writes them again and computes the same paths.
    #[test]
    fn another_implementation_agrees(
        names in [name(), name()],
        outputs in [btree_set(output_name(), 1..4), btree_set(output_name(), 1..4)],
        variables in [btree_map("[a-z]{0,6}", bytes(), 0..4), btree_map("[a-z]{0,6}", bytes(), 0..4)],
    ) {
        let store_dir = StoreDir::default();
        let mut hashes = HashModuloCache::new(store_dir.clone());
        let [lower_name, upper_name] = names;
        let [lower_outputs, upper_outputs] = outputs;
        let [lower_variables, upper_variables] = variables;

        let lower = unfilled(lower_name, lower_variables, lower_outputs.clone(), BTreeMap::new()).fill_in(&hashes).unwrap();
        let lower_file = lower.to_file(&store_dir).unwrap();
        hashes.insert(lower_file.path.clone(), &lower).unwrap();
        let inputs = BTreeMap::from([(lower_file.path.clone(), InputOutputs::new(lower_outputs))]);
        let upper = unfilled(upper_name, upper_variables, upper_outputs, inputs).fill_in(&hashes).unwrap();
        let upper_file = upper.to_file(&store_dir).unwrap();
        check_outputs(&upper, &hashes).unwrap();

        let other = |text: &[u8], name: &str| nix_derivation::Derivation::from_aterm_bytes(text, name).unwrap();
        let other_lower = other(&lower_file.text, lower.name.as_str());
        let lower_hash = other_lower.hash_input_derivation_modulo(|_| -> [u8; 32] { unreachable!() }).unwrap();
        let other_upper = other(&upper_file.text, upper.name.as_str());
        for (other, file) in [(&other_lower, &lower_file), (&other_upper, &upper_file)] {
            prop_assert_eq!(other.to_aterm_bytes(), file.text.clone());
            prop_assert_eq!(other.drv_path().unwrap().to_absolute_path(), store_dir.print(&file.path));
        }
        other_lower.into_validated().unwrap();
        other_upper.into_validated_with_input_hashes(|_| lower_hash).unwrap();
    }
}
