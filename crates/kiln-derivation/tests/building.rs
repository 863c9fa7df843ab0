//! Making derivations, resolving them and presenting them to builders gives what real Nix gave.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails panics")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use kiln_derivation::{
    Addressing, Attributes, BuildContext, BuildOptions, BuilderView, Derivation, DerivationKind, GraphMember,
    HashModuloCache, ResolveError, Strictness, UnfilledDerivation,
};
use kiln_hash::Hash;
use kiln_narinfo::{PathInfo, SignatureSet};
use kiln_store_path::{OutputName, StoreDir, StorePath};
use serde_json::Value;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn path(base_name: &str) -> StorePath {
    StorePath::from_base_name(base_name).unwrap()
}

fn derivation(path: &StorePath) -> Derivation {
    let text = std::fs::read(data("drv").join(path.base_name())).unwrap();
    let name = Derivation::name_of_path(path).unwrap();
    Derivation::parse_aterm(&text, &name, &StoreDir::default(), Strictness::Strict).unwrap()
}

fn hashes_for(unhashed: &Derivation) -> HashModuloCache {
    let mut hashes = HashModuloCache::new(StoreDir::default());
    hashes.load_inputs(unhashed, |path| Ok::<_, String>(derivation(path))).unwrap();
    hashes
}

/// Takes the engine's work back: the description from which an evaluator would have made the derivation.
fn describe(derivation: &Derivation) -> UnfilledDerivation {
    let text = |value: Option<Vec<u8>>| value.map(|value| String::from_utf8(value).unwrap());
    let mut environment = derivation.environment.clone();
    for output in derivation.outputs.keys() {
        environment.remove(output.as_str().as_bytes());
    }
    let mut json = derivation.structured_attrs.as_ref().map(|attrs| attrs.attributes().clone());
    let mut take = |attribute: &str| match &mut json {
        Some(json) => json.remove(attribute).map(|value| match value {
            Value::String(text) => text.into_bytes(),
            Value::Array(names) => {
                names.iter().map(|name| name.as_str().unwrap()).collect::<Vec<_>>().join(" ").into_bytes()
            }
            other => panic!("{attribute} is {other}"),
        }),
        None => environment.remove(attribute.as_bytes()),
    };
    for attribute in ["name", "system", "builder"] {
        assert!(take(attribute).is_some(), "{attribute} is an attribute");
    }
    let outputs = text(take("outputs"));
    let hash = text(take("outputHash"));
    let (algorithm, mode) = (text(take("outputHashAlgo")), text(take("outputHashMode")));
    UnfilledDerivation {
        name: derivation.name.clone(),
        system: derivation.system.clone(),
        builder: derivation.builder.clone(),
        arguments: derivation.arguments.clone(),
        outputs: outputs.map(|names| names.split(' ').map(|name| name.parse().unwrap()).collect()),
        addressing: match derivation.kind().unwrap() {
            DerivationKind::InputAddressed | DerivationKind::Deferred => Addressing::InputAddressed,
            DerivationKind::Fixed => Addressing::Fixed { hash: hash.unwrap(), algorithm, mode },
            DerivationKind::Floating => Addressing::Floating { algorithm, mode },
            DerivationKind::Impure => Addressing::Impure { algorithm, mode },
        },
        attributes: match json {
            Some(json) => Attributes::Structured(json),
            None => Attributes::Plain(environment),
        },
        input_derivations: derivation.input_derivations.clone(),
        input_sources: derivation.input_sources.clone(),
    }
}

#[test]
fn every_derivation_is_made_again_from_its_description() {
    let mut made = 0;
    for entry in std::fs::read_dir(data("drv")).unwrap() {
        let path = path(entry.unwrap().file_name().to_str().unwrap());
        let expected = derivation(&path);
        let filled =
            describe(&expected).fill_in(&hashes_for(&expected)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(filled, expected);
        assert_eq!(filled.to_file(&StoreDir::default()).unwrap().path, path);
        made += 1;
    }
    assert_eq!(made, 51);
}

/// Resolves with the paths that real Nix realised, and compares with the derivation that it then wrote.
fn check_resolution(unresolved: &str, realised: &[(&str, &str)], resolved: &str) {
    let store_dir = StoreDir::default();
    let realised: BTreeMap<(StorePath, OutputName), StorePath> = realised
        .iter()
        .map(|(derivation, output)| ((path(derivation), OutputName::out()), path(output)))
        .collect();
    let result = derivation(&path(unresolved))
        .resolve(&store_dir, |path, output| realised.get(&(path.clone(), output.clone())).cloned())
        .unwrap();
    let expected = derivation(&path(resolved));
    assert_eq!(*result, expected);
    assert_eq!(result.to_file(&store_dir).unwrap().path, path(resolved));
    assert!(matches!(
        derivation(&path(unresolved)).resolve(&store_dir, |_, _| None),
        Err(ResolveError::NotRealised { .. })
    ));
}

#[test]
fn a_deferred_derivation_resolves() {
    check_resolution(
        "rh3dgjnpycilgi5gkz5wq27rx72ikb3q-deferred.drv",
        &[("73729r2qcgqncznjl19snx59k3qvqqp5-ca.drv", "aqmbawjqpi9mpgizb5byy3p01yd4zzkv-ca")],
        "gmkqcd7g5030q55a3mxbjrvwm6ggcb71-deferred.drv",
    );
    check_resolution(
        "447wvlq53gpzd5wlfcbrwy3gq479z0yh-deferred2.drv",
        &[("rh3dgjnpycilgi5gkz5wq27rx72ikb3q-deferred.drv", "fm0g1fnzn4f1k8mps5s03wg288b72i5v-deferred")],
        "drp8fv012qw5g0q73dilq1dmc273a717-deferred2.drv",
    );
}

#[test]
fn a_floating_derivation_resolves() {
    check_resolution(
        "y0kxkhmy6pvy551rg5vbghkav9mdr2sj-ca-dep.drv",
        &[("73729r2qcgqncznjl19snx59k3qvqqp5-ca.drv", "aqmbawjqpi9mpgizb5byy3p01yd4zzkv-ca")],
        "s5v1m0752h0kjzyij740lxv0dp48kr4j-ca-dep.drv",
    );
}

#[test]
fn a_derivation_with_a_dynamic_input_resolves() {
    check_resolution(
        "vcyn6lb3x252csljag9fqhfs9g9n5yci-consumer.drv",
        &[
            ("dhp61n06jgich8bq31zf3sh6cyiwa1ng-inner.drv.drv", "av8ycmdn4cc0azpgv556cl4bqdgl5ccg-inner.drv"),
            ("av8ycmdn4cc0azpgv556cl4bqdgl5ccg-inner.drv", "c1jf6sdkjdxm5mng4rdd1w1d6gn2vcq1-inner"),
        ],
        "74w2d0i7202nxkyk1xwj54c4zajkql6f-consumer.drv",
    );
}

/// The closure of `dep`, as the table of the corpus gives it.
fn closure_of_dep() -> Vec<GraphMember> {
    let member = |base_name: &str, nar_hash: &str, nar_size, closure_size, references: &[&str]| GraphMember {
        info: PathInfo {
            path: path(base_name),
            nar_hash: Hash::parse_prefixed(nar_hash).unwrap().as_sha256().unwrap(),
            nar_size,
            references: references.iter().map(|reference| path(reference)).collect(),
            deriver: Some(path("p4rh9rh6s137h8va7x6qv8qhi9sfl5ny-dep.drv")),
            registration_time: 1,
            ultimate: true,
            signatures: SignatureSet::default(),
            content_address: None,
        },
        closure_size,
    };
    const SIMPLE: &str = "mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple";
    const MULTI: &str = "fkcy6m3kx766j9lmy6dy4c5i4k2x23s6-multi";
    const MULTI_DEV: &str = "89zys9jcw5x2zvgnmkhcja0vw5qzfck6-multi-dev";
    const DEP: &str = "9jkdg1fd3213linvmnsyvl2qc00gifpm-dep";
    vec![
        member(SIMPLE, "sha256:04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw", 120, 120, &[]),
        member(MULTI, "sha256:1f1layi40aar7sfj6mbwpp9r02pp8i0zzcv9nxb15zhkdag66bv4", 288, 288, &[]),
        member(MULTI_DEV, "sha256:1aa1shnvrb20xbghbm99x3ca0q7npfa5y0q6vm60mip0ld7plwpy", 504, 792, &[MULTI]),
        member(
            DEP,
            "sha256:0cbi8l0ccchi7s3shmjgk5xcw5iqji2n9fqj99by0ijfgbwr20cd",
            392,
            1304,
            &[MULTI_DEV, SIMPLE],
        ),
    ]
}

fn view(derivation: &Derivation, graph: &str) -> BuilderView {
    let output_paths =
        derivation.known_output_paths().map(|(name, path)| (name.clone(), path.clone())).collect();
    let context = BuildContext {
        store_dir: &StoreDir::default(),
        build_directory: b"/build",
        cores: 4,
        output_paths: &output_paths,
        redirections: &[],
        impure_values: &BTreeMap::new(),
        references_graphs: &BTreeMap::from([(graph.to_owned(), closure_of_dep())]),
    };
    BuilderView::new(derivation, &BuildOptions::of(derivation).unwrap(), &context)
}

/// B4, B5: the files that the builder of `structured` copied to its output.
#[test]
fn structured_attributes_as_the_builder_saw_them() {
    let derivation = derivation(&path("i2n938kav7hdkdsawfjcz4l6pazkjpxb-structured.drv"));
    let view = view(&derivation, "graph");
    for (file, expected) in [(".attrs.json", "structured/json.2.34"), (".attrs.sh", "structured/sh.2.34")] {
        let expected = std::fs::read_to_string(data(expected)).unwrap();
        assert_eq!(String::from_utf8_lossy(&view.files[file]), expected, "{file}");
    }
    assert_eq!(view.files.len(), 2);
    assert_eq!(view.environment[&b"NIX_ATTRS_JSON_FILE"[..]], b"/build/.attrs.json");
    assert_eq!(view.environment[&b"NIX_ATTRS_SH_FILE"[..]], b"/build/.attrs.sh");
    assert!(!view.environment.contains_key(&b"out"[..]), "no variables of the derivation's own");
}

/// B5: the file that the builder of `export-graph` copied to its output.
#[test]
fn a_references_graph_as_the_builder_saw_it() {
    let derivation = derivation(&path("hya3gkpr2hsh0dzs70rrqc4v9m8da5zj-export-graph.drv"));
    let graphs = BuildOptions::of(&derivation).unwrap().references_graphs;
    assert_eq!(graphs.len(), 1);
    assert_eq!(
        graphs[0].store_paths(&StoreDir::default()).unwrap(),
        BTreeSet::from([path("9jkdg1fd3213linvmnsyvl2qc00gifpm-dep")])
    );
    let view = view(&derivation, &graphs[0].name);
    let expected = std::fs::read_to_string(data("structured/export-graph.txt")).unwrap();
    assert_eq!(String::from_utf8_lossy(&view.files["g1"]), expected);
}

/// B1, B3: variables of the derivation come between those of the engine, and large ones become files.
#[test]
fn the_environment_of_a_builder() {
    let derivation = derivation(&path("jw00272gzx8cn1x19qd0ww7qrjinzz7h-huge-env.drv"));
    let view = view(&derivation, "unused");
    let environment: BTreeMap<String, String> = view
        .environment
        .iter()
        .map(|(name, value)| {
            (String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(value).into_owned())
        })
        .collect();
    let blob = "/build/.attr-1f5qqrmd9d3ljqpw97iyfb9rrirlk9bdydmpskpbnxl1yb28qb7s";
    let expected = [
        ("HOME", "/homeless-shelter"),
        ("NIX_BUILD_CORES", "4"),
        ("NIX_BUILD_TOP", "/build"),
        ("NIX_LOG_FD", "2"),
        ("NIX_STORE", "/nix/store"),
        ("PATH", "/bin:/usr/bin"),
        ("PWD", "/build"),
        ("TEMP", "/build"),
        ("TEMPDIR", "/build"),
        ("TERM", "xterm-256color"),
        ("TMP", "/build"),
        ("TMPDIR", "/build"),
        ("blobPath", blob),
        ("builder", "/bin/sh"),
        ("name", "huge-env"),
        ("out", "/nix/store/h7w5rsrbm5vm7z6dmwsnl6sl2nw8md2v-huge-env"),
        ("passAsFile", "blob"),
        ("system", "x86_64-linux"),
    ];
    assert_eq!(environment, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    assert_eq!(
        view.files[blob.strip_prefix("/build/").unwrap()],
        derivation.environment[&b"blob"[..]],
        "the file holds the variable"
    );
}
