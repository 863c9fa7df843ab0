use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::peer;
use crate::scratch::{Outcome, Scratch};

const RECIPE: &str = r#"
default = ["hello", "multi"]

[derivation.hello]
builder = "/bin/sh"
args = ["-c", "echo building hello; echo hello > $out"]

[derivation.multi]
builder = "/bin/sh"
args = ["-c", "echo out > $out; echo dev > $dev"]
outputs = ["out", "dev"]

[derivation.bad]
builder = "/bin/sh"
args = ["-c", "echo oh no; exit 3"]

[derivation.needs-bad]
builder = "/bin/sh"
args = ["-c", "cat ${bad} > $out"]

[derivation.slow]
builder = "/bin/sh"
args = ["-c", "echo sleeping; exec /bin/sleep 600"]

[derivation.elsewhere]
system = "riscv64-linux"
builder = "/bin/sh"

[derivation.mismatch]
builder = "/bin/sh"
args = ["-c", "echo hello > $out"]
outputHash = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
"#;

fn scratch() -> Scratch {
    let scratch = Scratch::new();
    scratch.configure_builds();
    scratch.write("kiln.toml", RECIPE);
    scratch
}

#[test]
fn outputs_are_printed_and_linked() {
    let scratch = scratch();
    let outcome = scratch.kiln("build");
    let paths = outcome.success();
    let paths: Vec<&str> = paths.lines().collect();
    assert!(outcome.stderr.starts_with("these 2 derivations will be built:\n"), "{}", outcome.stderr);
    let mut links = Vec::new();
    for name in ["result", "result-1-dev", "result-1"] {
        let target = fs::read_link(scratch.path(name)).unwrap();
        assert!(target.exists(), "{name}");
        links.push(target.to_str().unwrap().to_owned());
    }
    assert_eq!(paths, links);
    let roots = fs::read_dir(scratch.state().join("gcroots/auto")).unwrap().map(|root| root.unwrap().path());
    let mut roots: Vec<_> = roots.map(|root| fs::read_link(root).unwrap()).collect();
    roots.sort();
    assert_eq!(roots, ["result", "result-1", "result-1-dev"].map(|name| scratch.path(name)));
    let again = scratch.kiln("build");
    assert_eq!(again.quiet_success().lines().collect::<Vec<_>>(), paths);
}

#[test]
fn links_are_named_and_left_out() {
    let scratch = scratch();
    scratch.kiln("build :hello --no-link").success();
    assert!(!scratch.path("result").exists());
    scratch.kiln("build :multi.dev -o out/of").failure(1);
    fs::create_dir(scratch.path("out")).unwrap();
    scratch.kiln("build :multi.dev -o out/of").success();
    assert_eq!(fs::read_dir(scratch.path("out")).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(scratch.path("out/of-dev")).unwrap(), "dev\n");
    scratch.write("result", "mine");
    let outcome = scratch.kiln("build :hello");
    assert!(outcome.failure(1).contains("already exists"), "{}", outcome.stderr);
    assert_eq!(fs::read_to_string(scratch.path("result")).unwrap(), "mine");
}

#[test]
fn json_and_dry_runs() {
    let scratch = scratch();
    let dry = scratch.kiln("build :hello --dry-run");
    assert_eq!(dry.success(), "");
    assert!(dry.stderr.starts_with("this derivation will be built:\n"), "{}", dry.stderr);
    let dry: serde_json::Value =
        serde_json::from_str(&scratch.kiln("build :hello --dry-run --json").success()).unwrap();
    assert!(!scratch.path("result").exists());
    let built: serde_json::Value =
        serde_json::from_str(&scratch.kiln("build :hello --json").success()).unwrap();
    assert_eq!(dry["willBuild"][0], built[0]["drvPath"]);
    let output = built[0]["outputs"]["out"].as_str().unwrap();
    assert_eq!(fs::read_to_string(output).unwrap(), "hello\n");
    let plain: serde_json::Value =
        serde_json::from_str(&scratch.kiln(&format!("build {output} --json --no-link")).success()).unwrap();
    assert_eq!(plain[0]["path"], output);
    assert_eq!(plain[0]["status"], "AlreadyValid");
}

#[test]
fn logs_are_kept_and_shown() {
    let scratch = scratch();
    let outcome = scratch.kiln("build :hello -L");
    outcome.success();
    assert!(outcome.stderr.contains("hello> building hello\n"), "{}", outcome.stderr);
    for target in [":hello", "result", "./result"] {
        assert_eq!(scratch.kiln(&format!("log {target}")).quiet_success(), "building hello\n");
    }
    assert!(scratch.kiln("log :multi").failure(1).contains("there is no log of"));
    let source = scratch.kiln("store add kiln.toml").quiet_success();
    assert!(scratch.kiln(&format!("log {source}")).failure(1).contains("not known which derivation made"));
}

#[test]
fn failures_are_reported_at_the_end() {
    let scratch = scratch();
    let outcome = scratch.kiln("build :needs-bad");
    let error = outcome.failure(100);
    assert!(
        error.contains("error: bad: ") && error.contains("> oh no") && error.contains("kiln log "),
        "{error}"
    );
    assert!(error.contains("could not be built because of them: 1 derivation\n  needs-bad"), "{error}");
    assert_eq!(error.matches("> oh no").count(), 1, "{error}");
    assert_eq!(scratch.kiln("log :bad").quiet_success(), "oh no\n");
}

#[test]
fn going_on_after_a_failure() {
    let scratch = scratch();
    let outcome = scratch.kiln("build :needs-bad :hello :mismatch --keep-going");
    assert_eq!(outcome.exit_code, 102, "{}", outcome.stderr);
    let built = String::from_utf8_lossy(&outcome.stdout);
    assert!(built.ends_with("-hello\n") && built.lines().count() == 1, "{built}");
    assert!(scratch.path("result-1").exists() && !scratch.path("result").exists());
    assert!(
        outcome.stderr.contains("hash mismatch") && outcome.stderr.contains("> oh no"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn s13_exit_codes() {
    let scratch = scratch();
    for (arguments, exit_code) in [
        (":bad", 100),
        (":slow --timeout 5", 101),
        (":slow --max-silent-time 1", 101),
        (":mismatch", 102),
        (":slow :mismatch -k --timeout 5 -j2", 103),
        (":elsewhere", 100),
        (":hello --max-jobs 0", 1),
        (":nothing", 1),
    ] {
        scratch.kiln(&format!("build --quiet {arguments}")).failure(exit_code);
    }
}

#[test]
fn records_for_programs() {
    let scratch = scratch();
    let outcome = scratch.kiln("build :bad --log-format internal-json --option json-log-path log.json");
    assert_eq!((outcome.exit_code, outcome.stdout.len()), (100, 0));
    for line in outcome.stderr.lines() {
        let record = line.strip_prefix("@nix ").unwrap_or_else(|| panic!("{line}"));
        serde_json::from_str::<serde_json::Value>(record).unwrap();
    }
    let logged = fs::read_to_string(scratch.path("log.json")).unwrap();
    for part in ["\"type\":105", "\"fields\":[\"oh no\"]", "\"level\":0,"] {
        assert!(outcome.stderr.contains(part) && logged.contains(part), "{part} in {}", outcome.stderr);
    }
    let error = scratch.kiln("hash file nowhere --log-format internal-json").stderr;
    assert!(error.starts_with("@nix {") && error.contains("nowhere"), "{error}");
}

#[test]
fn s12_an_interrupt_ends_the_builder() {
    let scratch = scratch();
    let mut command = scratch.command("build :slow -L");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "slow> sleeping"));
    let began = Instant::now();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{rest:?}");
    assert!(rest.iter().any(|line| line == "error: interrupted by the user"), "{rest:?}");
    assert!(began.elapsed() < Duration::from_secs(60), "the builder was not waited for to its end");
    let left: Vec<_> =
        fs::read_dir(scratch.store()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let left: Vec<_> =
        left.iter().filter_map(|name| name.to_str()).filter(|name| name.contains("-slow")).collect();
    // Lock files stay, as after an interrupt of Nix.
    assert!(left.iter().all(|name| name.ends_with("-slow.drv") || name.ends_with("-slow.lock")), "{left:?}");
}

#[test]
fn builds_in_a_sandbox_of_a_store_elsewhere() {
    let scratch = scratch();
    let mut command = scratch.command("build :hello --sandbox --store ./own");
    let outcome = Outcome::of(command.env_remove("NIX_STORE_DIR").output().unwrap());
    let path = outcome.success();
    let file = scratch.path("own").join(&path.trim_end()[1..]);
    assert_eq!(fs::read_to_string(file).unwrap(), "hello\n");
    assert_eq!(fs::read_link(scratch.path("result")).unwrap(), Path::new(path.trim_end()));
}

#[test]
fn real_nix_takes_over_what_was_built() {
    let Some(nix_store) = peer::find("nix-store") else { return };
    let scratch = scratch();
    let built: serde_json::Value =
        serde_json::from_str(&scratch.kiln("build :hello --json").success()).unwrap();
    let (derivation, output) =
        (built[0]["drvPath"].as_str().unwrap(), built[0]["outputs"]["out"].as_str().unwrap());
    let nix = |arguments: &[&str]| {
        Outcome::of(peer::command(&scratch, &nix_store).args(arguments).output().unwrap()).success()
    };
    assert_eq!(nix(&["--realise", derivation]).trim_end(), output);
    assert_eq!(nix(&["--query", "--deriver", output]).trim_end(), derivation);
    assert_eq!(nix(&["--read-log", derivation]), "building hello\n");
    assert!(nix(&["--gc", "--print-roots"]).contains("/result -> "));
    nix(&["--verify", "--check-contents"]);
}
