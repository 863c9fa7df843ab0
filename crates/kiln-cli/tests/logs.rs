//! The log of a builder: as it is stored, as it is shown, and what it may say (L1–L4).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::path::PathBuf;
use std::process::Command;

use kiln_testing::{Kiln, Recipe};
use serde_json::{Value, json};

fn kiln() -> Kiln {
    Kiln::as_used(env!("CARGO_BIN_EXE_kiln"))
}

/// Where the log of a derivation is stored, without a suffix.
fn log_file(kiln: &Kiln, derivation: &str) -> PathBuf {
    let name = derivation.strip_prefix("/nix/store/").unwrap();
    kiln.root().join("nix/var/log/nix/drvs").join(&name[..2]).join(&name[2..])
}

#[test]
fn l1_a_log_is_stored_as_bzip2_of_the_raw_bytes() {
    let kiln = kiln();
    let recipe = Recipe::script(
        "printf 'a\\rb\\n\\033[1mbold\\377\\n@nix {\"action\":\"setPhase\",\"phase\":\"x\"}\\nunended'; echo > $out",
    );
    kiln.build(&recipe, &[]).line();
    let derivation = kiln.instantiate(&recipe);
    let file = log_file(&kiln, &derivation).with_extension("drv.bz2");
    let raw = b"a\rb\n\x1b[1mbold\xff\n@nix {\"action\":\"setPhase\",\"phase\":\"x\"}\nunended";
    let unpacked = Command::new("bzip2").arg("-dc").arg(&file).output().unwrap();
    assert!(unpacked.status.success(), "{}", file.display());
    assert_eq!(unpacked.stdout, raw);
    assert_eq!(kiln.command(["log", &derivation]).output().unwrap().stdout, raw);
}

#[test]
fn l1_a_log_need_not_be_compressed_or_kept() {
    let recipe = Recipe::script("echo said; exit 1");
    let kiln = kiln().option("compress-build-log", "false");
    kiln.build(&recipe, &[]).failed(100);
    let derivation = kiln.instantiate(&recipe);
    assert_eq!(std::fs::read_to_string(log_file(&kiln, &derivation)).unwrap(), "said\n");
    assert_eq!(kiln.run(["log", &derivation]).line(), "said");
    let kiln = Kiln::as_used(env!("CARGO_BIN_EXE_kiln")).option("keep-build-log", "false");
    kiln.build(&recipe, &[]).failed(100);
    assert!(!log_file(&kiln, &derivation).with_extension("drv.bz2").exists());
    assert!(kiln.run(["log", &derivation]).failed(1).contains("there is no log of"));
}

#[test]
fn l1_each_build_begins_its_log_anew() {
    let kiln = kiln();
    let shared = kiln.directory().join("shared");
    std::fs::create_dir(&shared).unwrap();
    let kiln = kiln.option("extra-sandbox-paths", &format!("/shared={}", shared.display()));
    let recipe = Recipe::script("cat /shared/text; exit 1");
    for text in ["a longer text\n", "short\n"] {
        std::fs::write(shared.join("text"), text).unwrap();
        kiln.build(&recipe, &[]).failed(100);
        assert_eq!(kiln.run(["log", &kiln.instantiate(&recipe)]).stdout, text);
    }
}

#[test]
fn l1_each_round_begins_its_log_anew() {
    let kiln = kiln();
    let shared = kiln.directory().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::set_permissions(&shared, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let kiln =
        kiln.option("extra-sandbox-paths", &format!("/shared={}", shared.display())).option("repeat", "1");
    let recipe = Recipe::script(
        "if [ -e /shared/first ]; then echo second; else touch /shared/first; echo the first round; fi; echo > $out",
    );
    let ran = kiln.build(&recipe, &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(kiln.run(["log", &kiln.instantiate(&recipe)]).stdout, "second\n");
}

#[test]
fn l2_a_carriage_return_overwrites_and_the_last_line_counts() {
    let kiln = kiln();
    let ran =
        kiln.build(&Recipe::script("printf '10%%\\r20%%\\r100%%\\nlonger\\rabc\\nunended'; exit 1"), &[]);
    let lines: Vec<&str> =
        ran.failed(100).lines().filter_map(|line| line.trim_start().strip_prefix("> ")).collect();
    assert_eq!(lines, ["100%", "abcger", "unended"]);
}

#[test]
fn l2_logs_are_shown_live_with_the_name_of_the_build() {
    let kiln = kiln();
    let ran = kiln.build(&Recipe::script("echo out; echo err >&2; echo > $out"), &["-L"]);
    assert!(ran.stderr.contains("\nit> out\nit> err\n"), "{}", ran.stderr);
    assert_eq!(ran.lines().len(), 1, "standard output has only the result");
}

/// The records of a run with `--log-format internal-json`.
fn records(stderr: &str) -> Vec<Value> {
    let lines = stderr.lines().filter_map(|line| line.strip_prefix("@nix "));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn l3_records_of_a_builder_become_activities_if_they_are_harmless() {
    let kiln = kiln();
    let script = r#"
        echo '@nix {"action":"setPhase","phase":"buildPhase"}'
        echo '@nix {"action":"msg","level":0,"msg":"from the builder"}'
        echo '@nix {"action":"start","id":7,"level":3,"type":101,"text":"downloading","fields":["http://x"],"parent":0}'
        echo '@nix {"action":"result","id":7,"type":105,"fields":[1,2,0,0]}'
        echo '@nix {"action":"stop","id":7}'
        echo '@nix {"action":"start","id":8,"level":0,"type":105,"text":"I am the daemon","fields":["x","",1,1]}'
        echo '@nix {"action":"stop","id":99}'
        echo ordinary
        echo > $out
    "#;
    let ran = kiln.build(&Recipe::script(script), &["--log-format", "internal-json"]);
    let records = records(&ran.stderr);
    let has = |key: &str, value: Value| records.iter().any(|record| record[key] == value);
    assert!(records.iter().any(|record| record["type"] == 104 && record["fields"] == json!(["buildPhase"])));
    assert!(has("msg", json!("from the builder")));
    let download =
        records.iter().find(|record| record["type"] == 101 && record["action"] == "start").unwrap();
    let progress =
        records.iter().find(|record| record["id"] == download["id"] && record["action"] == "result");
    assert_eq!(progress.unwrap()["fields"], json!([1, 2, 0, 0]));
    assert!(!has("text", json!("I am the daemon")));
    let lines: Vec<&Value> =
        records.iter().filter(|record| record["type"] == 101 && record["action"] == "result").collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["fields"], json!(["ordinary"]));
    assert_eq!(ran.code, Some(0));
}

#[test]
fn l3_records_that_are_none_are_lines() {
    let kiln = kiln();
    let script = r#"
        printf '@nix {"action":"setPhase","phase":"'; head -c 200000 /dev/zero | tr '\0' x; echo '"}'
        echo '@nix null'
        echo '@nix {"action":"msg"}'
        echo '@nix {"action":'
        printf '@nix '; head -c 5000 /dev/zero | tr '\0' '['; echo
        echo end; exit 1
    "#;
    let ran = kiln.build(&Recipe::script(script), &[]);
    let stderr = ran.failed(100);
    assert!(stderr.contains("bad JSON log message"), "{}", &stderr[..2000]);
    for line in ["> @nix null", "> @nix {\"action\":\"msg\"}", "> @nix {\"action\":", "> end"] {
        assert!(stderr.contains(line), "{line}");
    }
    assert!(stderr.len() < 200_000, "a line is cut: {}", stderr.len());
}

#[test]
fn l4_what_controls_a_terminal_does_not_reach_it() {
    let kiln = kiln();
    let script = "printf '\\033]0;title\\007\\033[2Jcleared\\033]52;c;aGk=\\007\\033P+q\\033\\\\ \\010\\010end\\n'\n\
                  printf '@nix {\"action\":\"msg\",\"level\":0,\"msg\":\"\\\\u001b[2J\\\\u001b]0;t\\\\u0007said\"}\\n'; exit 1";
    for arguments in [&[][..], &["-L"]] {
        let ran = kiln.build(&Recipe::script(script), arguments);
        let stderr = ran.failed(100);
        assert!(stderr.contains("cleared") && stderr.contains("said"), "{stderr:?}");
        let is_control = |byte: u8| byte < b' ' && byte != b'\n' && byte != b'\t';
        assert!(!stderr.bytes().any(is_control), "{stderr:?}");
        assert!(!stderr.contains("title") && !stderr.contains("aGk="), "{stderr:?}");
    }
}
