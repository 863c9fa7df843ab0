use crate::peer;
use crate::scratch::{Outcome, Scratch};

const RECIPE: &str = r#"
[derivation.greeting]
builder = "/bin/sh"
args = ["-c", "echo hello > $out; echo dev > $dev"]
outputs = ["out", "dev"]

[derivation.top]
builder = "/bin/sh"
args = ["-c", "cat ${greeting.dev} > $out"]
"#;

fn scratch() -> Scratch {
    let scratch = Scratch::new();
    scratch.configure_builds();
    scratch.write("kiln.toml", RECIPE);
    scratch
}

/// The JSON of one derivation, out of what `show` prints of it alone.
fn inner(json: &str) -> String {
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    json["derivations"].as_object().unwrap().values().next().unwrap().to_string()
}

#[test]
fn what_is_shown_can_be_added() {
    let scratch = scratch();
    let json = scratch.kiln("derivation show :top").quiet_success();
    let path = scratch.kiln_reading("derivation add", inner(&json).as_bytes()).quiet_success();
    assert!(path.ends_with("-top.drv\n"));
    assert_eq!(scratch.kiln(&format!("derivation show {path}")).quiet_success(), json);
    let all = scratch.kiln("derivation show -r :top").quiet_success();
    assert!(all.contains("-greeting.drv\": {") && all.len() > json.len());
}

#[test]
fn open_outputs_are_filled_in() {
    let scratch = scratch();
    let json = scratch.kiln("derivation show :top").quiet_success();
    let expected = scratch.kiln_reading("derivation add", inner(&json).as_bytes()).quiet_success();
    let mut open: serde_json::Value = serde_json::from_str(&inner(&json)).unwrap();
    open["outputs"]["out"] = serde_json::json!({});
    open["env"]["out"] = "".into();
    let path = scratch.kiln_reading("derivation add", open.to_string().as_bytes()).quiet_success();
    assert_eq!(path, expected);
}

#[test]
fn wrong_derivations_are_refused() {
    let scratch = scratch();
    let json = inner(&scratch.kiln("derivation show :top").quiet_success());
    let mut wrong: serde_json::Value = serde_json::from_str(&json).unwrap();
    wrong["args"] = serde_json::json!([]);
    for (text, reason) in [
        (wrong.to_string(), "has incorrect output"),
        ("{}".to_owned(), "version"),
        ("nonsense".to_owned(), "line 1"),
    ] {
        let outcome = scratch.kiln_reading("derivation add", text.as_bytes());
        assert!(outcome.failure(1).contains(reason), "{}", outcome.stderr);
    }
    let outcome = scratch.kiln_reading("derivation add --json-version 3", json.as_bytes());
    assert!(outcome.failure(1).contains("version"), "{}", outcome.stderr);
}

#[test]
fn the_plan_tells_what_would_run() {
    let scratch = scratch();
    let text = scratch.kiln("derivation plan :greeting").quiet_success();
    for part in
        ["builder     /bin/sh\n", "argument  -c\n", "variable  PATH=/path-not-set\n", "sandbox     none"]
    {
        assert!(text.contains(part), "{text}");
    }
    let json = scratch.kiln("derivation plan --json --timeout 17 :greeting").quiet_success();
    let plans: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(plans[0]["limits"]["timeout"], 17);
    assert!(plans[0]["outputs"]["dev"]["path"].as_str().unwrap().ends_with("-greeting-dev"));
}

#[test]
fn a_recipe_that_is_wrong_is_shown() {
    let scratch = scratch();
    let outcome = scratch.kiln("derivation show :greetings");
    assert!(
        outcome.failure(1).contains("kiln.toml") && outcome.stderr.contains("greeting"),
        "{}",
        outcome.stderr
    );
    scratch.write("other/kiln.toml", "[derivation.a]\nbuilders = 'x'\n");
    let outcome = scratch.kiln("derivation show other");
    assert!(outcome.failure(1).contains("other/kiln.toml:2:"), "{}", outcome.stderr);
    let outcome = scratch.kiln("derivation show greeting");
    assert!(
        outcome.failure(1).contains("hint: a derivation of ./kiln.toml is named with a colon: ':greeting'")
    );
}

#[test]
fn derivations_are_shown_as_real_nix_shows_them() {
    let Some(nix) = peer::find("nix") else { return };
    let scratch = scratch();
    let path = scratch.kiln_reading(
        "derivation add",
        inner(&scratch.kiln("derivation show :top").quiet_success()).as_bytes(),
    );
    let path = path.quiet_success();
    let show = ["show-derivation", path.trim_end()];
    let theirs = Outcome::of(peer::command(&scratch, &nix).args(show).output().unwrap()).success();
    let ours = scratch.kiln(&format!("derivation show --json-version 1 {path}")).quiet_success();
    assert_eq!(ours.trim_end(), theirs.trim_end());
}
