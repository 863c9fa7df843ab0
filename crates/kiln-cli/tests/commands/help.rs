use crate::scratch::Scratch;

/// The names below "Commands:".
fn commands(help: &str) -> Vec<String> {
    let listed =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names =
        listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|name| !name.is_empty()));
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn every_command_has_description_examples_and_exit_codes() {
    let scratch = Scratch::new();
    let mut lines = vec![String::new()];
    let mut seen = 0;
    while let Some(line) = lines.pop() {
        let help = scratch.kiln(&format!("{line} --help")).quiet_success();
        let inner = commands(&help);
        if inner.is_empty() {
            for part in ["Usage: kiln ", "Examples:\n  $ ", "Exit codes:\n  0 "] {
                assert!(help.contains(part), "'kiln{line} --help' lacks {part:?}:\n{help}");
            }
            assert_eq!(scratch.kiln(&format!("help {line}")).quiet_success(), help);
            seen += 1;
        }
        lines.extend(inner.into_iter().map(|name| format!("{line} {name}")));
    }
    assert!(seen >= 4, "only {seen} commands were found in the help");
}

#[test]
fn wrong_usage_says_where_help_is() {
    let scratch = Scratch::new();
    for (line, message, program) in [
        ("hash file --tpye md5 x", "unexpected argument '--tpye'", "kiln hash file"),
        ("hash fiel", "unrecognized subcommand 'fiel'", "kiln hash"),
        ("--wat", "unexpected argument '--wat'", "kiln"),
        ("hash file", "required arguments were not provided", "kiln hash file"),
        ("--log-format colourful hash file x", "invalid value 'colourful' for '--log-format", "kiln"),
    ] {
        let outcome = scratch.kiln(line);
        let error = outcome.failure(1);
        assert!(error.contains(message), "{line}: {error}");
        assert!(error.contains(&format!("Try '{program} --help' for more information.")), "{line}: {error}");
    }
    let nothing = scratch.kiln("");
    assert_eq!((nothing.exit_code, nothing.stdout.len()), (1, 0));
    assert!(nothing.stderr.contains("Usage: kiln"));
}

#[test]
fn the_version_is_kilns_own() {
    let version = Scratch::new().kiln("--version").quiet_success();
    assert_eq!(version, format!("kiln {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn packagers_get_completions_and_manual_pages() {
    let scratch = Scratch::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(scratch.kiln(&format!("completions {shell}")).quiet_success().contains("convert"), "{shell}");
    }
    assert_eq!(scratch.kiln("manual man1").quiet_success(), "");
    let page = std::fs::read_to_string(scratch.path("man1/kiln-hash-file.1")).unwrap();
    assert!(page.contains("Hash the contents of files"));
}
