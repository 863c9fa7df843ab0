//! Builds that clients ask for: results, logs, failures, exit codes.

use std::fs;

use super::daemon;

#[test]
fn a_graph_is_built_and_linked() {
    let Some(daemon) = daemon() else { return };
    let ran = daemon.run("nix-build", ["-A", "b", "-o", "result"]);
    let out = ran.line();
    assert_eq!(fs::read_to_string(out).unwrap(), "hi\n");
    assert_eq!(fs::read_link(daemon.path("result")).unwrap().to_str(), Some(out));
    for said in ["these 2 derivations will be built", "building a\n", "done b\n"] {
        assert!(ran.stderr.contains(said), "{said}: {}", ran.stderr);
    }
    let auto = fs::read_dir(daemon.nix().state_dir().join("gcroots/auto")).unwrap();
    assert_eq!(auto.count(), 1, "the link is a root");
    let again = daemon.run("nix-build", ["-A", "b", "--no-out-link"]);
    assert_eq!((again.line(), again.stderr.as_str()), (out, ""));
    assert_eq!(daemon.build(&["big"]).len(), 1);
}

#[test]
fn what_is_built_is_what_nix_says_it_is() {
    let Some(daemon) = daemon() else { return };
    daemon.build(&["b", "fod", "source"]);
    // Real Nix on the same store, without the daemon.
    daemon.nix().run("nix-store", ["--verify", "--check-contents"]);
    let ran = daemon.run("nix", ["store", "verify", "--all", "--no-trust"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn new_commands_build_too() {
    let Some(daemon) = daemon() else { return };
    let ran = daemon.run("nix", ["build", "-f", ".", "b", "fod", "--no-link", "--json", "-L"]);
    let results: serde_json::Value = serde_json::from_str(ran.line()).unwrap();
    let outputs: Vec<&str> =
        results.as_array().unwrap().iter().map(|built| built["outputs"]["out"].as_str().unwrap()).collect();
    assert_eq!(fs::read_to_string(outputs[0]).unwrap(), "hi\n");
    assert_eq!(fs::read_to_string(outputs[1]).unwrap(), "x\n");
    assert!(ran.stderr.contains("a> building a"), "{}", ran.stderr);
    let log = daemon.run("nix", ["log", "-f", ".", "a"]);
    assert_eq!(log.stdout, "building a\n");
    let log = daemon.run("nix-store", ["--read-log", outputs[0]]);
    assert_eq!(log.stdout, "done b\n");
}

/// Exit codes through a daemon are 1, whatever failed; the messages tell.
#[test]
fn failures_are_told() {
    let Some(daemon) = daemon() else { return };
    let build = |arguments: &[&str]| daemon.run("nix-build", ["--no-out-link"].iter().chain(arguments));
    let failed = build(&["-A", "fail"]);
    let said = failed.failed(1);
    assert!(
        said.contains("' failed with exit code 3;\n       last 2 log lines:\n       > line1\n       > line2"),
        "{said}"
    );
    assert!(said.contains("For full logs, run"), "{said}");
    let failed = build(&["-A", "depfail"]);
    let said = failed.failed(1);
    assert!(said.contains("fail-1.drv' failed with exit code 3"), "the cause: {said}");
    assert!(said.contains("1 dependencies couldn't be built"), "{said}");
    let failed = build(&["-A", "badfod"]);
    let said = failed.failed(1);
    assert!(said.contains("got:    sha256-c8s4WKaHqElMozIwUwFigvPa051Cz2LKTnndoqrH2aw="), "{said}");
    let failed = build(&["-A", "timeout", "--timeout", "1"]);
    assert!(failed.failed(1).contains("timed out after 1 seconds"), "{}", failed.stderr);
    let failed = build(&["-A", "silent", "--max-silent-time", "1"]);
    assert!(failed.failed(1).contains("timed out after 1 seconds of silence"), "{}", failed.stderr);
    let failed = build(&["-A", "missingsys"]);
    assert!(failed.failed(1).contains("riscv64-linux"), "{}", failed.stderr);
    // The same connection goes on after a failure.
    assert_eq!(build(&["-A", "a"]).code, Some(0));
}

#[test]
fn keep_going_goes_on() {
    let Some(daemon) = daemon() else { return };
    let ran = daemon.run("nix-build", ["-A", "depfail", "-A", "badfod", "-A", "b", "-k", "--no-out-link"]);
    let said = ran.failed(1);
    for part in ["failed with exit code 3", "hash mismatch", "done b", "error: build of '"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let ran = daemon.run("nix", ["build", "-f", ".", "fail", "a", "--no-link"]);
    assert!(ran.failed(1).contains("failed with exit code 3"), "{}", ran.stderr);
}

#[test]
fn a_failed_build_is_kept_for_who_asks() {
    let Some(daemon) = daemon() else { return };
    let ran = daemon.run("nix-build", ["-A", "fail", "-K", "--no-out-link"]);
    let said = ran.failed(1);
    let kept = said.split("keeping build directory '").nth(1).and_then(|rest| rest.split('\'').next());
    let kept = std::path::PathBuf::from(kept.unwrap_or_else(|| panic!("{said}")));
    assert!(kept.is_dir(), "{}", kept.display());
    fs::remove_dir_all(kept).unwrap();
}

#[test]
fn what_differs_is_found_by_building_again() {
    let Some(daemon) = daemon() else { return };
    daemon.build(&["nondet", "a"]);
    let check = |attribute| daemon.run("nix-build", ["-A", attribute, "--check", "--no-out-link"]);
    assert!(check("nondet").failed(1).contains("may not be deterministic: output '"));
    assert_eq!(check("a").code, Some(0));
}

#[test]
fn what_is_damaged_is_built_again() {
    let Some(daemon) = daemon() else { return };
    let out = daemon.build(&["a"]).remove(0);
    let status = std::process::Command::new("sh")
        .args(["-ec", "chmod u+w \"$1\"; echo bad > \"$1\"; chmod 444 \"$1\"", "sh", &out])
        .status();
    assert!(status.unwrap().success());
    let ran = daemon.run("nix-build", ["-A", "a", "--repair", "--no-out-link"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(out).unwrap(), "hi\n");
}

#[test]
fn a_derivation_is_realised_by_its_path() {
    let Some(daemon) = daemon() else { return };
    let derivation = daemon.instantiate("b");
    let dry = daemon.run("nix-store", ["-r", &derivation, "--dry-run"]);
    assert!(dry.stderr.contains("these 2 derivations will be built"), "{}", dry.stderr);
    let outputs = daemon.run("nix-store", ["-r", &derivation]);
    assert_eq!(outputs.lines().len(), 2);
    let nothing = daemon.run("nix-store", ["-r", "/nix/store/00000000000000000000000000000000-nothing"]);
    assert_eq!(nothing.code, Some(1));
    let missing = daemon.nix().store_dir().join("00000000000000000000000000000000-nothing");
    let ran = daemon.run("nix-store", ["-r", missing.to_str().unwrap()]);
    assert!(ran.failed(1).contains("does not exist and cannot be created"), "{}", ran.stderr);
}
