use std::fs;

use crate::scratch::Scratch;

fn value(scratch: &Scratch, arguments: &str) -> String {
    scratch.kiln(&format!("config show {arguments}")).quiet_success().trim_end().to_owned()
}

#[test]
fn later_sources_win() {
    let scratch = Scratch::new();
    assert_eq!(value(&scratch, "max-jobs"), "1");
    fs::write(scratch.etc().join("nix.conf"), "max-jobs = 2\ncores = 7\nsystem-features = a\n").unwrap();
    assert_eq!(value(&scratch, "max-jobs"), "2");
    let user = scratch.write("user.conf", "build-max-jobs = 3 # an older name\nextra-system-features = b\n");
    let with_user = |arguments: &str, config: Option<&str>| {
        let mut command = scratch.command(&format!("config show {arguments}"));
        command.env("NIX_USER_CONF_FILES", &user);
        if let Some(config) = config {
            command.env("NIX_CONFIG", config);
        }
        String::from_utf8(command.output().unwrap().stdout).unwrap().trim_end().to_owned()
    };
    assert_eq!(with_user("max-jobs", None), "3");
    assert_eq!(with_user("system-features", None), "a b");
    assert_eq!(with_user("max-jobs", Some("max-jobs = 4")), "4");
    assert_eq!(with_user("max-jobs --option max-jobs 5", Some("max-jobs = 4")), "5");
    assert_eq!(with_user("max-jobs --option max-jobs 5 -j 6", None), "6");
    assert_eq!(with_user("max-jobs -j 6 --option max-jobs 5", None), "5");
    assert_eq!(with_user("cores", None), "7");
}

#[test]
fn origins_are_shown() {
    let scratch = Scratch::new();
    let file = scratch.etc().join("nix.conf");
    fs::write(&file, "# comment\nmax-jobs = 2\n").unwrap();
    let shown = scratch.kiln("config show --changed --no-sandbox --store /somewhere").quiet_success();
    assert_eq!(
        shown,
        format!(
            "max-jobs = 2 # {}:2\nsandbox = false # command line\nstore = local?root=/somewhere # command line\n",
            file.display()
        )
    );
    let all = scratch.kiln("config show").quiet_success();
    assert!(all.lines().count() > 50 && all.contains("\ntimeout = 0\n"));
    let json = scratch.kiln("config show --json max-jobs").quiet_success();
    for part in [&format!("\"{}:2\"", file.display()), "\"value\": 2", "\"defaultValue\": 1"] {
        assert!(json.contains(part), "{json}");
    }
    let changed = scratch.kiln("config show --json --changed").quiet_success();
    assert!(changed.contains("\"max-jobs\"") && !changed.contains("\"cores\""));
}

#[test]
fn what_is_shown_can_be_read_again() {
    let scratch = Scratch::new();
    let shown = scratch.kiln("config show --cores 3 --relaxed-sandbox").quiet_success();
    fs::write(scratch.etc().join("nix.conf"), &shown).unwrap();
    let strip =
        |text: &str| text.lines().map(|line| line.split(" #").next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(strip(&scratch.kiln("config show").quiet_success()), strip(&shown));
}

#[test]
fn odd_names_warn_and_bad_values_fail() {
    let scratch = Scratch::new();
    let outcome = scratch.kiln("config show cores --option max-job 3");
    assert_eq!(outcome.success(), "0\n");
    assert!(
        outcome.stderr.contains("warning: ") && outcome.stderr.contains("max-jobs"),
        "{}",
        outcome.stderr
    );
    assert!(scratch.kiln("config show --cores many").failure(1).contains("'cores' has invalid value 'many'"));
    assert!(scratch.kiln("config show nonsense").failure(1).contains("there is no setting 'nonsense'"));
    fs::write(scratch.etc().join("nix.conf"), "cores = 1\ncores 2\n").unwrap();
    let outcome = scratch.kiln("config show");
    assert!(outcome.failure(1).contains("nix.conf:2:"), "{}", outcome.stderr);
}

#[test]
fn settings_are_explained() {
    let scratch = Scratch::new();
    let text = scratch.kiln("config describe build-use-sandbox").quiet_success();
    assert!(text.starts_with("sandbox\n") && text.contains("Value: one of"), "{text}");
    assert!(scratch.kiln("config describe").quiet_success().lines().count() > 200);
}
