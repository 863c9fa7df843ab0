//! What instantiating a recipe asks of a store, and what comes of it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "support/pretend_store.rs"]
mod pretend_store;

use kiln_recipe::{Instantiation, Problem, Recipe, RecipeError, Target};
use kiln_store_path::{OutputName, StoreDir};
use pretend_store::PretendStore;

const SIMPLE: &str = "mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple";

const GRAPH: &str = r#"
default = ["app", "lib.dev"]
defaults = { builder = "/bin/sh" }

[source]
lib = { path = "lib" }
app = { path = "app" }
docs = { path = "docs" }

[derivation.lib]
outputs = ["out", "dev"]
env = { src = "${source.lib}", again = { source = "lib" } }

[derivation.app]
env = { src = "${source.app}", lib = "${lib}", common = "${source.lib}", extra = { path = "extra" } }

[derivation.docs]
env = { src = "${source.docs}", app = "${app}" }
"#;

fn recipe(text: &str) -> Recipe {
    Recipe::parse("kiln.toml", text.as_bytes()).unwrap_or_else(|error| panic!("{error}"))
}

fn instantiate(
    recipe: &Recipe,
    targets: &[Target],
    store: &mut PretendStore,
) -> Result<Instantiation, RecipeError> {
    recipe.instantiate(targets, "host-system", &StoreDir::default(), store)
}

#[test]
fn only_what_the_targets_need_is_added_once_and_in_order() {
    let recipe = recipe(GRAPH);
    for (target, added) in [
        ("lib", &["lib", "lib"][..]),
        ("lib.dev", &["lib", "lib"]),
        ("app", &["lib", "lib", "app", "extra", "app"]),
        ("docs", &["lib", "lib", "app", "extra", "app", "docs", "docs"]),
    ] {
        let mut store = PretendStore::default();
        let target = recipe.target(target).unwrap();
        let made = instantiate(&recipe, std::slice::from_ref(&target), &mut store).unwrap();
        assert_eq!(store.added, added, "{target:?}");
        assert_eq!(made.derivations.len(), store.derivations.len());
        let made = &made.derivations[&target.derivation];
        assert!(target.outputs.iter().all(|output| made.outputs.iter().any(|(name, _)| name == output)));
    }
}

#[test]
fn targets_are_derivations_or_outputs() {
    let recipe = recipe(GRAPH);
    let outputs =
        |names: &[&str]| names.iter().map(|name| OutputName::new(name).unwrap()).collect::<Vec<_>>();
    let target = |name: &str| recipe.target(name).unwrap();
    assert_eq!(target("lib"), Target { derivation: "lib".into(), outputs: outputs(&["out", "dev"]) });
    assert_eq!(target("lib.dev"), Target { derivation: "lib".into(), outputs: outputs(&["dev"]) });
    assert_eq!(recipe.default_targets(), [target("app"), target("lib.dev")]);
    assert_eq!(recipe.derivations().collect::<Vec<_>>(), ["app", "docs", "lib"]);
    for (unknown, message) in [
        ("lob", "kiln.toml: no derivation is named 'lob'\nhelp: did you mean 'lib'?"),
        ("", "kiln.toml: no derivation is named ''"),
        ("lib.", "kiln.toml: derivation 'lib' has no output ''"),
        ("lib.bin", "kiln.toml: derivation 'lib' has no output 'bin'"),
    ] {
        assert_eq!(recipe.target(unknown).unwrap_err().to_string(), message);
    }
}

#[test]
fn without_a_default_all_derivations_are_built() {
    let recipe = recipe("[derivation]\nb = { builder = \"x\" }\na = { builder = \"x\" }\n");
    let names: Vec<String> = recipe.default_targets().into_iter().map(|target| target.derivation).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(Recipe::parse("kiln.toml", b"").unwrap().default_targets(), []);
}

#[test]
fn a_target_of_another_recipe_is_an_error() {
    let target = recipe(GRAPH).target("lib").unwrap();
    let other = recipe("[derivation.x]\nbuilder = \"x\"\n");
    let error = instantiate(&other, &[target], &mut PretendStore::default()).unwrap_err();
    assert!(matches!(error.problem(), Problem::UnknownDerivation(name) if name == "lib"), "{error}");
}

#[test]
fn the_hosts_system_is_used_where_none_is_stated() {
    let recipe = recipe(
        "[derivation]\na = { builder = \"builtin:fetchurl\", system = \"builtin\" }\nb = { builder = \"x\" }\n",
    );
    let mut store = PretendStore::default();
    instantiate(&recipe, &recipe.default_targets(), &mut store).unwrap();
    let systems: Vec<&[u8]> = store.derivations.iter().map(|made| made.system.as_slice()).collect();
    assert_eq!(systems, [&b"builtin"[..], b"host-system"]);
    assert_eq!(store.derivations[1].environment[&b"system"[..]], b"host-system");
}

#[test]
fn failures_of_the_store_point_to_what_it_was_asked_for() {
    let recipe = recipe(GRAPH);
    for (refuses, position, message) in [
        ("extra", "15:91", "cannot add source 'extra' to the store: disk on fire"),
        ("docs", "8:17", "cannot add source 'docs' to the store: disk on fire"),
    ] {
        let mut store = PretendStore { refuses: Some(refuses), ..Default::default() };
        let error = instantiate(&recipe, &[recipe.target("docs").unwrap()], &mut store).unwrap_err();
        assert_eq!(error.problem().to_string(), message);
        assert_eq!(error.position().unwrap().to_string(), position, "{error}");
    }
    let single = self::recipe("[derivation.only]\nbuilder = \"x\"\n");
    let mut store = PretendStore { refuses: Some("only"), ..Default::default() };
    let error = instantiate(&single, &single.default_targets(), &mut store).unwrap_err();
    assert_eq!(
        error.to_string(),
        "kiln.toml:1:13: cannot add derivation 'only' to the store: disk on fire\n  \
         |\n1 | [derivation.only]\n  |             ^^^^"
    );
}

#[test]
fn what_is_in_the_store_is_used_as_it_is() {
    let text = format!(
        "[source.shell]\nstorePath = \"/nix/store/{SIMPLE}\"\n\n[derivation.x]\nbuilder = \"${{source.shell}}/bin/sh\"\n"
    );
    let recipe = recipe(&text);
    let mut store = PretendStore::default();
    instantiate(&recipe, &recipe.default_targets(), &mut store).unwrap();
    assert_eq!(store.added, [SIMPLE, "x"]);
    assert_eq!(store.derivations[0].builder, format!("/nix/store/{SIMPLE}/bin/sh").into_bytes());
    assert_eq!(store.derivations[0].input_sources.first().unwrap().base_name(), SIMPLE);

    let mut store = PretendStore { refuses: Some(SIMPLE), ..Default::default() };
    let error = instantiate(&recipe, &recipe.default_targets(), &mut store).unwrap_err();
    assert_eq!(error.problem().to_string(), format!("cannot use '/nix/store/{SIMPLE}': disk on fire"));
}

#[test]
fn a_path_of_another_store_is_an_error() {
    for path in
        [format!("/gnu/store/{SIMPLE}"), SIMPLE.to_owned(), format!("/nix/store/{SIMPLE}/bin"), String::new()]
    {
        let recipe = recipe(&format!(
            "[source]\ns = {{ storePath = '{path}' }}\n[derivation.x]\nbuilder = 'x'\nargs = [{{ source = 's' }}]\n"
        ));
        let error =
            instantiate(&recipe, &recipe.default_targets(), &mut PretendStore::default()).unwrap_err();
        assert!(matches!(error.problem(), Problem::InvalidStorePath { .. }), "{error}");
        assert_eq!(error.position().unwrap().to_string(), "2:19");
    }
}

#[test]
fn floating_point_numbers_among_structured_attributes_are_nixs() {
    let recipe = recipe(
        "[derivation.x]\nbuilder = 'x'\nstructuredAttrs = true\nenv = { a = 1.0, b = -2.5e-7, c = 1e300, d = 0.1 }\n",
    );
    let mut store = PretendStore::default();
    instantiate(&recipe, &recipe.default_targets(), &mut store).unwrap();
    assert_eq!(
        store.derivations[0].structured_attrs.as_ref().unwrap().text(),
        r#"{"a":1.0,"b":-2.5e-07,"builder":"x","c":1e+300,"d":0.1,"name":"x","system":"host-system"}"#
    );
}

#[test]
fn sources_are_named_for_their_paths() {
    for (source, name) in [
        ("path = 'src/greet'", "greet"),
        ("path = 'src/greet/'", "greet"),
        ("path = '/abs/olute.c'", "olute.c"),
        ("path = '.'", "key"),
        ("path = '..'", "key"),
        ("path = 'a/..'", "key"),
        ("path = '/'", "key"),
        ("path = 'x', name = 'y-1.0'", "y-1.0"),
    ] {
        let recipe =
            recipe(&format!("[source]\nkey = {{ {source} }}\n[derivation.x]\nbuilder = '${{source.key}}'\n"));
        let mut store = PretendStore::default();
        instantiate(&recipe, &recipe.default_targets(), &mut store).unwrap();
        assert_eq!(store.derivations[0].input_sources.first().unwrap().name(), name, "{source}");
    }
}

#[test]
fn what_shows_only_in_hashing_points_to_the_derivation() {
    let recipe = recipe(
        "[derivation.x]\nbuilder = 'x'\noutputHash = 'sha1-9XLTlvrpIGYocU+yzgD3LpTyJY8='\noutputHashMode = 'text'\n",
    );
    let error = instantiate(&recipe, &recipe.default_targets(), &mut PretendStore::default()).unwrap_err();
    assert!(matches!(error.problem(), Problem::Derivation { .. }), "{error}");
    assert_eq!(error.position().unwrap().to_string(), "3:1", "{error}");

    let long = "x".repeat(211);
    let recipe = self::recipe(&format!("[derivation.x]\nbuilder = 'x'\nname = '{long}'\n"));
    let error = instantiate(&recipe, &recipe.default_targets(), &mut PretendStore::default()).unwrap_err();
    assert_eq!(error.position().unwrap().to_string(), "1:13", "{error}");
}
