//! What a builder finds: environment, arguments, files, terminal, user and state of its process (B1–B12).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::fs;
use std::os::unix::fs::MetadataExt;

use kiln_testing::{Kiln, Recipe};
use serde_json::{Value, json};

fn kiln() -> Kiln {
    Kiln::as_used(env!("CARGO_BIN_EXE_kiln"))
}

/// The text of the output of a script.
fn output(script: &str) -> String {
    let kiln = kiln();
    kiln.text(kiln.build(&Recipe::script(script), &[]).line())
}

/// What the builder `env` prints, which makes no output, so that its build fails.
fn environment(kiln: &Kiln, lines: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let recipe = format!("[derivation.it]\nbuilder = \"/usr/bin/env\"\n{lines}\n");
    kiln.write("kiln.toml", &recipe);
    let ran = kiln.command(["build", "--no-link"]).envs(variables.iter().copied()).output().unwrap();
    assert_eq!(ran.status.code(), Some(1), "{}", String::from_utf8_lossy(&ran.stderr));
    let log = kiln.run(["log", &kiln.instantiate(&recipe)]);
    log.lines().into_iter().map(str::to_owned).collect()
}

#[test]
fn b1_the_environment_is_made_from_nothing() {
    let kiln = kiln().option("cores", "3");
    let lines = "env = { TERM = \"mine\", NIX_STORE = \"mine\", x = \"1\" }\nsystem = \"x-y\"";
    let kiln = kiln.option("extra-platforms", "x-y");
    let mut found = environment(&kiln, lines, &[("HOST_VARIABLE", "secret")]);
    let out = found.iter().find_map(|line| line.strip_prefix("out=")).unwrap().to_owned();
    assert!(out.starts_with("/nix/store/") && out.ends_with("-it"), "{out}");
    found.sort();
    let out = format!("out={out}");
    let mut expected = vec![
        "HOME=/homeless-shelter",
        "NIX_BUILD_CORES=3",
        "NIX_BUILD_TOP=/build",
        "NIX_LOG_FD=2",
        "NIX_STORE=mine",
        "PATH=/path-not-set",
        "PWD=/build",
        "TEMP=/build",
        "TEMPDIR=/build",
        "TERM=xterm-256color",
        "TMP=/build",
        "TMPDIR=/build",
        "builder=/usr/bin/env",
        "name=it",
        &out,
        "system=x-y",
        "x=1",
    ];
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn b1_only_fixed_outputs_see_variables_of_the_host_and_only_those_they_name() {
    let kiln = kiln();
    let host = [("HOST_VARIABLE", "value"), ("OTHER", "secret")];
    let fixed = "outputHash = \"\"\noutputHashAlgo = \"sha256\"\nenv.impureEnvVars = \"HOST_VARIABLE UNSET\"";
    let found = environment(&kiln, fixed, &host);
    for line in ["NIX_OUTPUT_CHECKED=1", "HOST_VARIABLE=value", "UNSET="] {
        assert!(found.iter().any(|found| found == line), "{line}: {found:?}");
    }
    assert!(!found.iter().any(|line| line.contains("secret")), "{found:?}");
    let ordinary = environment(&kiln, "env.impureEnvVars = \"HOST_VARIABLE\"", &host);
    assert!(!ordinary.iter().any(|line| line.contains("value") || line.contains("CHECKED")), "{ordinary:?}");
}

#[test]
fn b2_placeholders_become_paths_in_variables_arguments_and_files() {
    let kiln = kiln();
    let recipe =
        Recipe::script("echo $out $dev ${placeholder.dev} $var $(cat $textPath) > $out; echo > $dev")
            .with("outputs = [\"out\", \"dev\"]\nenv.var = \"${placeholder.out}\"")
            .with("env.text = \"${placeholder.dev}\"\nenv.passAsFile = \"text\"");
    let ran = kiln.build(&recipe, &[]);
    let [dev, out] = ran.lines()[..] else { panic!("{}", ran.stdout) };
    assert_eq!(kiln.text(out), format!("{out} {dev} {dev} {out} {dev}\n"));
}

#[test]
fn b3_variables_pass_as_files() {
    let kiln = kiln();
    let recipe = Recipe::script("echo $blobPath $${blob-unset} > $out; cat $blobPath >> $out")
        .with("env.blob = \"a\\nb\"\nenv.passAsFile = [\"blob\"]");
    // The name is the digest of the variable's, as real Nix gives it.
    assert_eq!(
        kiln.text(kiln.build(&recipe, &[]).line()),
        "/build/.attr-1f5qqrmd9d3ljqpw97iyfb9rrirlk9bdydmpskpbnxl1yb28qb7s unset\na\nb"
    );
}

#[test]
fn b4_structured_attributes_come_as_json_and_as_shell() {
    let kiln = kiln();
    let script = ". $NIX_ATTRS_SH_FILE; out=$${outputs[out]}; mkdir $out; cp .attrs.json .attrs.sh $out; echo > $${outputs[dev]}
        test $NIX_ATTRS_SH_FILE = /build/.attrs.sh; test $NIX_ATTRS_JSON_FILE = /build/.attrs.json
        test \"$text\" = \"it's\"; test \"$${list[1]}\" = 3; ! env | grep ^text";
    let recipe = format!(
        "[derivation.it]\nbuilder = \"/bin/bash\"\nargs = [\"-ec\", '''{script}''']\nstructuredAttrs = true\n\
         outputs = [\"out\", \"dev\"]\n[derivation.it.env]\nPATH = \"/usr/bin:/bin\"\ntext = \"it's\"\nnumber = 3\nyes = true\n\
         list = [\"x\", 3, \"\"]\ntable = {{ a = \"v\" }}\nnested = [[1]]\n\"not-a-name\" = 1\n"
    );
    let ran = kiln.build(&recipe, &[]);
    let [dev, out] = ran.lines()[..] else { panic!("{}", ran.stdout) };
    let attributes: Value = serde_json::from_str(&kiln.text(&format!("{out}/.attrs.json"))).unwrap();
    assert_eq!(attributes["outputs"], json!({ "out": out, "dev": dev }));
    assert_eq!(attributes["list"], json!(["x", 3, ""]));
    assert_eq!(attributes["nested"], json!([[1]]));
    let shell = kiln.text(&format!("{out}/.attrs.sh"));
    for line in [
        "declare text='it'\\''s'",
        "declare number=3",
        "declare yes=1",
        "declare -a list=('x' 3 '' )",
        "declare -A table=(['a']='v' )",
    ] {
        assert!(shell.lines().any(|found| found == line), "{line}:\n{shell}");
    }
    assert!(!shell.contains("not-a-name") && !shell.contains("nested"), "{shell}");
}

#[test]
fn b5_references_graphs_are_registration_texts() {
    let kiln = kiln();
    let recipe = Recipe::default()
        .derivation("below", "echo below > $out")
        .derivation("above", "echo ${below} > $out")
        .derivation("it", "cp graph $out")
        .with("env.exportReferencesGraph = [\"graph\", \"${above}\"]");
    kiln.write("kiln.toml", recipe.text());
    let path = |name: &str| kiln.run(["build", "--no-link", &format!(":{name}")]).line().to_owned();
    let (above, below) = (path("above"), path("below"));
    let mut entries = [format!("{above}\n\n1\n{below}\n"), format!("{below}\n\n0\n")];
    entries.sort();
    assert_eq!(kiln.text(&path("it")), entries.concat());
}

#[test]
fn b5_references_graphs_in_structured_attributes_are_path_infos() {
    let kiln = kiln();
    let recipe = "[derivation.below]\nbuilder = \"/bin/sh\"\nargs = [\"-c\", \"echo below > $out\"]\n\
        [derivation.above]\nbuilder = \"/bin/sh\"\nargs = [\"-c\", \"echo ${below} > $out\"]\n\
        [derivation.it]\nbuilder = \"/bin/sh\"\nstructuredAttrs = true\nargs = [\"-c\", \"/bin/cp .attrs.json ${placeholder.out}\"]\n\
        [derivation.it.env.exportReferencesGraph]\ngraph = [\"${above}\"]\n";
    kiln.write("kiln.toml", recipe);
    let path = |name: &str| kiln.run(["build", "--no-link", &format!(":{name}")]).line().to_owned();
    let (above, below) = (path("above"), path("below"));
    let attributes: Value = serde_json::from_str(&kiln.text(&path("it"))).unwrap();
    let graph = attributes["graph"].as_array().unwrap();
    let entry = |path: &str| graph.iter().find(|entry| entry["path"] == path).unwrap();
    let size = |path: &str| kiln.info(path).unwrap()["narSize"].as_u64().unwrap();
    assert_eq!(graph.len(), 2);
    assert_eq!(entry(&above)["references"], json!([below]));
    assert_eq!(entry(&above)["narSize"], size(&above));
    assert_eq!(entry(&above)["closureSize"], size(&above) + size(&below));
    assert_eq!(entry(&below)["closureSize"], size(&below));
    assert!(entry(&below)["narHash"].as_str().unwrap().starts_with("sha256:"));
}

#[test]
fn b5_a_graph_of_what_is_no_input_is_refused() {
    let kiln = kiln();
    let nowhere = "/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-nowhere";
    for (value, message) in [
        (
            format!("graph {nowhere}"),
            format!(
                "cannot export references of path '{nowhere}' because it is not in the input closure of the derivation"
            ),
        ),
        ("graph".into(), "odd number of tokens 1 in 'exportReferencesGraph': 'graph'".into()),
        ("graph /etc".into(), "'exportReferencesGraph' contains a non-store path '/etc'".into()),
    ] {
        let recipe = Recipe::script("echo > $out").with(&format!("env.exportReferencesGraph = \"{value}\""));
        let ran = kiln.build(&recipe, &["--json"]);
        assert!(ran.failed(100).contains(&message), "{message}: {}", ran.stderr);
        assert!(ran.stdout.contains("InputRejected"), "{}", ran.stdout);
    }
}

#[test]
fn b6_the_build_directory_is_the_builders_alone() {
    let found = output("pwd > $out; stat -c '%a %u %g' . >> $out; ls -A | wc -l >> $out; touch here");
    assert_eq!(found, "/build\n700 1000 100\n0\n");
}

#[test]
fn b6_its_parent_lets_nobody_in() {
    let kiln = kiln();
    let recipe = Recipe::script("echo ready > ready; while ! test -e go; do sleep 0.05; done; echo > $out");
    let child = kiln.start_build(&recipe, &[]);
    let outer = kiln.root().join("nix/var/nix/builds/nix-build-it.drv-0");
    kiln.wait_for(&outer.join("build/ready"));
    let (outer_status, inner) = (fs::metadata(&outer).unwrap(), fs::metadata(outer.join("build")).unwrap());
    let own = fs::metadata("/proc/self").unwrap().uid();
    assert_eq!((outer_status.mode() & 0o777, outer_status.uid()), (0o700, own));
    assert_eq!(inner.mode() & 0o7777, 0o700);
    assert_eq!(inner.uid() == own, own != 0, "a build user's if there are any");
    fs::write(outer.join("build/go"), "").unwrap();
    kiln_testing::Ran::from(child).line();
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn b6_the_name_inside_can_be_set() {
    let kiln = kiln().option("sandbox-build-dir", "/work/here");
    let recipe = Recipe::script("echo $TMPDIR $(pwd) > $out");
    assert_eq!(kiln.text(kiln.build(&recipe, &[]).line()), "/work/here /work/here\n");
}

#[test]
fn b7_builds_at_the_same_time_run_as_different_users() {
    let Some(kiln) = Kiln::with_build_users(env!("CARGO_BIN_EXE_kiln")) else { return };
    let script = "echo > ready; while ! test -e go; do sleep 0.05; done; echo > $out";
    let recipe = Recipe::default().derivation("one", script).derivation("two", script);
    let child = kiln.start_build(&recipe, &["-j2"]);
    let builds = kiln.root().join("nix/var/nix/builds");
    let directories = ["one", "two"].map(|name| builds.join(format!("nix-build-{name}.drv-0/build")));
    let users = directories.each_ref().map(|directory| {
        kiln.wait_for(&directory.join("ready"));
        fs::metadata(directory).unwrap().uid()
    });
    assert_ne!(users[0], users[1]);
    assert!(users.iter().all(|uid| (61_701..=61_704).contains(uid)), "{users:?}");
    for directory in &directories {
        fs::write(directory.join("go"), "").unwrap();
    }
    kiln_testing::Ran::from(child).lines();
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn b7_builds_wait_for_a_free_user() {
    let Some(kiln) = Kiln::with_build_users(env!("CARGO_BIN_EXE_kiln")) else { return };
    let recipe = (0..7)
        .fold(Recipe::default(), |recipe, n| recipe.derivation(&format!("d{n}"), "sleep 0.2; echo > $out"));
    assert_eq!(kiln.build(&recipe, &["-j7"]).lines().len(), 7);
}

#[test]
fn b7_a_group_that_cannot_serve_is_named() {
    if Kiln::with_build_users(env!("CARGO_BIN_EXE_kiln")).is_none() {
        return;
    }
    let recipe = Recipe::script("echo > $out");
    for (group, message) in [
        ("no-such-group", "the group 'no-such-group' specified in 'build-users-group' does not exist"),
        ("nogroup", "the build users group 'nogroup' has no members"),
    ] {
        let kiln = Kiln::new(env!("CARGO_BIN_EXE_kiln")).option("build-users-group", group);
        assert!(kiln.build(&recipe, &[]).failed(1).contains(message), "{message}");
    }
}

#[test]
fn b8_output_is_a_raw_terminal_that_nobody_controls() {
    let kiln = kiln();
    let script = "test -t 1; test -t 2; readlink /proc/self/fd/0; echo one; stat -Lc %a /proc/self/fd/1\n\
                  set -- $(cat /proc/$$/stat); echo pid $1 session $6 terminal $7; echo > $out";
    let ran = kiln.build(&Recipe::script(script), &[]);
    let derivation = kiln.info(ran.line()).unwrap()["deriver"].as_str().unwrap().to_owned();
    let log = kiln.run(["log", &derivation]);
    assert_eq!(log.stdout, "/dev/null\none\n600\npid 1 session 1 terminal 0\n");
}

#[test]
fn b9_the_process_begins_clean() {
    let found = output(
        "{ ls /proc/self/fd; umask; ulimit -Sc; cat /proc/self/personality; grep -E '^Sig(Blk|Ign)' /proc/self/status\n\
         grep NoNewPrivs /proc/self/status; grep -E '^Cap(Eff|Bnd)' /proc/self/status; } > $out",
    );
    let lines: Vec<&str> = found.lines().collect();
    assert_eq!(&lines[..4], ["0", "1", "2", "3"], "the last is the directory that ls reads: {found}");
    assert_eq!(&lines[4..6], ["0022", "0"], "{found}");
    assert_eq!(u32::from_str_radix(lines[6], 16).unwrap() & 0x0004_0000, 0x0004_0000, "{found}");
    assert_eq!(&lines[7..9], ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"], "{found}");
    assert_eq!(lines[9], "NoNewPrivs:\t1");
    assert!(lines[10..].iter().all(|line| line.ends_with("\t0000000000000000")), "{found}");
}

#[test]
fn b10_the_builders_name_comes_before_its_arguments() {
    let kiln = kiln();
    let recipe = "[derivation.it]\nbuilder = \"/bin/sh\"\nargs = [\"-c\", 'echo \"$0\" > $out']\n";
    assert_eq!(kiln.text(kiln.build(recipe, &[]).line()), "sh\n");
}

#[test]
fn b10_what_cannot_be_executed_has_failed() {
    let kiln = kiln();
    for (builder, reason) in
        [("/nowhere/to/be/found", "No such file or directory"), ("/etc/passwd", "Permission denied")]
    {
        let ran = kiln.build(&format!("[derivation.it]\nbuilder = \"{builder}\"\n"), &["--json"]);
        let stderr = ran.failed(100);
        assert!(stderr.contains("failed with exit code 1"), "{stderr}");
        assert!(stderr.contains(&format!("> executing '{builder}': {reason}")), "{stderr}");
        assert!(ran.stdout.contains("PermanentFailure"), "{}", ran.stdout);
    }
}

#[test]
fn b12_a_world_that_cannot_be_set_up_is_told() {
    let kiln = kiln().option("extra-sandbox-paths", "/x=/nowhere/to/be/found");
    let ran = kiln.build(&Recipe::script("echo > $out"), &["--json"]);
    let stderr = ran.failed(1);
    assert!(stderr.contains("while setting up the build environment: "), "{stderr}");
    assert!(stderr.contains("/nowhere/to/be/found"), "{stderr}");
    assert!(ran.stdout.contains("MiscFailure"), "{}", ran.stdout);
    assert_eq!(kiln.remains(), [""; 0]);
}
