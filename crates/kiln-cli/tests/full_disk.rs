//! Disks that are full: when a builder fills one, and when there is little room left for what the engine does.
//!
//! The disks are small file systems in private mount namespaces, which only root can have.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use kiln_testing::{Kiln, Ran, Recipe, SharedStore, needs_root};
use serde_json::Value;

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|status| status.uid() == 0)
}

/// A shell script in a mount namespace of its own that finds a command as its arguments, with the command's environment.
fn inside(script: &str, command: &Command) -> Command {
    let mut inside = Command::new("unshare");
    inside.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
    inside.arg(command.get_program()).args(command.get_args()).env_clear();
    inside.current_dir(command.get_current_dir().unwrap());
    inside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    inside
}

#[test]
fn d11_a_full_disk_fails_the_build_and_nothing_else() {
    if !is_root() {
        return;
    }
    let kiln = Kiln::new(env!("CARGO_BIN_EXE_kiln"));
    fs::create_dir(kiln.root()).unwrap();
    kiln.write("kiln.toml", Recipe::script("head -c 100000000 /dev/zero > $out").text());
    let script = "mount -t tmpfs -o size=24m,mode=755 x \"$ROOT\"; \"$@\"; code=$?\n\
                  echo entries $(ls \"$ROOT/nix/store\" | grep -v 'drv$') $(ls \"$ROOT/nix/var/nix/builds\") >&2; exit $code";
    let command = kiln.command(["build", "--no-link", "--json"]);
    let ran = Ran::from(inside(script, &command).env("ROOT", kiln.root()).output().unwrap());
    let stderr = ran.failed(1);
    assert!(stderr.contains("may have been caused by lack of free disk space"), "{stderr}");
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json[0]["status"], "TransientFailure");
    assert!(stderr.trim_end().ends_with("\nentries"), "nothing is left: {stderr}");
}

/// For each number of KiB: fills the disk but for these, builds, tells how that ended and what is left of it, makes room,
/// has real Nix compare the store with its database, and builds again.
const WITH_LITTLE_ROOM: &str = r#"
    mount -t tmpfs -o size=24m,mode=755 x "$ROOT" || exit 99
    mkdir "$ROOT/etc" "$ROOT/home"
    "$@" --dry-run "$RECIPE" 2>&1 || exit 98
    for left in $LEFT; do
        free=$(stat -f -c %a "$ROOT")
        head -c $((free * 4096 - left * 1024)) /dev/zero >"$ROOT/filler"
        "$@" "$RECIPE:left-$left" >"$ERRORS-$left" 2>&1
        echo "$left ended $?"
        rm -f "$ROOT/filler"
        sqlite3 -readonly "$ROOT/state/db/db.sqlite" "select path from ValidPaths" | sort >"$ERRORS.valid"
        find "$ROOT/store" "$ROOT/state/builds" "$ROOT/state/temproots" -mindepth 1 -maxdepth 1 ! -name .links |
            sort | comm -13 "$ERRORS.valid" - | sed "s/^/$left left /"
        nix-store --verify --check-contents 2>&1 | grep -E "error|disappeared" | sed "s/^/$left store /"
        "$@" "$RECIPE:left-$left" >/dev/null 2>&1
        echo "$left again $?"
    done
"#;

#[test]
fn d11_little_room_fails_the_build_and_nothing_else() {
    let Some(store) = SharedStore::find(env!("CARGO_BIN_EXE_kiln")) else { return };
    if !is_root() {
        return needs_root("mount a small file system");
    }
    let rooms = [0, 8, 16, 24, 32, 64, 128, 512];
    let recipe = rooms.iter().fold(Recipe::default(), |recipe, left| {
        recipe
            .derivation(
                &format!("left-{left}"),
                "mkdir $out $dev; head -c 20000 /dev/zero >$out/file; echo $out >$dev/out; echo a line",
            )
            .with("outputs = [\"out\", \"dev\"]")
    });
    store.write("kiln.toml", recipe.text());
    let command = store.kiln_command(["build", "--no-link"]);
    let nix = store.nix().command("nix-store");
    let config = nix.get_envs().find(|(name, _)| *name == "NIX_CONFIG").and_then(|(_, value)| value).unwrap();
    let mut inside = inside(WITH_LITTLE_ROOM, &command);
    let left = rooms.map(|left| left.to_string()).join(" ");
    inside.env("ROOT", store.nix().store_dir().parent().unwrap()).env("LEFT", left).env("NIX_CONFIG", config);
    inside.env("RECIPE", ".").env("ERRORS", store.directory().join("errors"));
    let ran = Ran::from(inside.output().unwrap());
    let mut ends: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in ran.lines() {
        let Some((left, what)) = line.split_once(' ') else { continue };
        ends.entry(left).or_default().push(what);
    }
    let mut failures = 0;
    for left in rooms {
        let told = fs::read_to_string(store.directory().join(format!("errors-{left}"))).unwrap();
        let what = &ends[left.to_string().as_str()];
        let [ended, again] = what[..] else { panic!("{left} KiB: {what:?}, {told}") };
        assert_eq!(again, "again 0", "{left} KiB: {told}");
        if ended != "ended 0" {
            failures += 1;
            let is_told = told.contains("No space left") || told.contains("full");
            assert!(is_told && !told.contains("panicked"), "{left} KiB: {ended}: {told}");
        }
    }
    assert!(failures > 0 && failures < rooms.len(), "{ends:?}");
}
