//! Reading `nix.conf`: syntax, includes, order, origins. What is accepted and refused is what Nix 2.8.0 does, unless a
//! test says otherwise.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use kiln_settings::{
    Configuration, Machine, MaxJobs, Origin, SandboxMode, SettingsError, SourceError, TABLE, find_setting,
};
use proptest::prelude::*;

type Files = BTreeMap<PathBuf, Vec<u8>>;

fn files(files: &[(&str, &str)]) -> Files {
    files.iter().map(|(path, contents)| (PathBuf::from(path), contents.as_bytes().to_vec())).collect()
}

fn read(files: &Files) -> impl Fn(&Path) -> Result<Option<Vec<u8>>, SourceError> {
    |path| Ok(files.get(path).cloned())
}

/// The defaults with a text applied.
fn apply(text: &[u8]) -> Result<Configuration, SettingsError> {
    let mut configuration = Configuration::new(&Machine { cpus: 2, ..Machine::plain("x86_64-linux") });
    configuration.apply(
        text.to_vec(),
        Path::new("/etc/nix/nix.conf"),
        Origin::SystemFile,
        &read(&Files::new()),
    )?;
    Ok(configuration)
}

fn value(text: &str, name: &str) -> Result<String, String> {
    let configuration = apply(text.as_bytes()).map_err(|error| error.to_string())?;
    let setting = find_setting(name).ok_or_else(|| format!("no setting '{name}'"))?;
    Ok(setting.show(configuration.settings()))
}

#[test]
fn lines_as_nix_reads_them() {
    for (text, name, expected) in [
        ("fallback = true # x", "fallback", "true"),
        ("fallback = yes", "fallback", "true"),
        ("  fallback\t=\t1  ", "fallback", "true"),
        ("substituters = a\t b   c\r\nextra-substituters = d e", "substituters", "a b c d e"),
        ("extra-binary-caches = zz", "substituters", "https://cache.nixos.org/ zz"),
        ("builders = ssh://a  x ; b", "builders", "ssh://a x ; b"),
        ("build-use-sandbox = relaxed", "sandbox", "relaxed"),
        ("system-features = b a b", "system-features", "a b"),
        ("extra-platforms = a\nextra-extra-platforms = b", "extra-platforms", "a b"),
        ("sandbox-paths = /a /b=/c?", "sandbox-paths", "/a /b=/c?"),
        ("substituters =", "substituters", ""),
        ("secret-key-files = /a\nsecret-key-files = /b", "secret-key-files", "/b"),
        ("timeout = 1\n\n#\n  # timeout = 2\n", "timeout", "1"),
        ("!include /nonexistent", "timeout", "0"),
        ("max-jobs = auto", "max-jobs", "auto"),
        // Nix 2.8 refuses units, newer Nix takes them.
        ("min-free = 1G", "min-free", "1073741824"),
        ("# not UTF-8: \u{e9}", "timeout", "0"),
    ] {
        assert_eq!(value(text, name), Ok(expected.to_owned()), "{text:?}");
    }
}

#[test]
fn what_nix_refuses_is_refused_with_its_place() {
    for (text, message) in [
        ("fallback=true", "/etc/nix/nix.conf:1:14: illegal configuration line 'fallback=true'"),
        ("\n\n  fallback =true", "/etc/nix/nix.conf:3:12: illegal configuration line 'fallback =true'"),
        ("fallback", "/etc/nix/nix.conf:1:9: illegal configuration line 'fallback'"),
        ("= true", "/etc/nix/nix.conf:1:3: illegal configuration line '= true'"),
        ("include /a b", "/etc/nix/nix.conf:1:12: illegal configuration line 'include /a b'"),
        ("\ninclude a.conf", "/etc/nix/nix.conf:2:1: included file '/etc/nix/a.conf' not found"),
        (
            "fallback = TRUE",
            "/etc/nix/nix.conf:1:1: setting 'fallback' has invalid value 'TRUE': expected true or false",
        ),
        ("build-fallback = on", "/etc/nix/nix.conf:1:1: setting 'fallback' has invalid value 'on'"),
        (" sandbox = yes", "/etc/nix/nix.conf:1:2: setting 'sandbox' has invalid value 'yes'"),
        ("max-jobs = -1", "setting 'max-jobs' has invalid value '-1': expected 'auto' or a number"),
        ("cores = auto", "setting 'cores' has invalid value 'auto': expected a number"),
        ("min-free = 0x10", "setting 'min-free' has invalid value '0x10'"),
        ("min-free = 18446744073709551616", "setting 'min-free' has invalid value"),
        ("min-free =", "setting 'min-free' has invalid value ''"),
    ] {
        let error = value(text, "timeout").unwrap_err();
        assert!(error.contains(message), "{text:?}: {error}");
    }
    let error = apply(b"timeout = 1\nnetrc-file = /\xff").unwrap_err().to_string();
    assert!(error.contains("nix.conf:2:15: illegal configuration line"), "{error}");
    assert!(apply(b"# caf\xe9\ntimeout = 1").is_ok());
}

#[test]
fn unknown_names_are_no_errors() {
    let text = "foo = 1\nextra-max-jobs = 4\nextra-builders = x\nFallback = true\nmax-job = 3\npure-eval = true\n\
                extra-access-tokens = x\nplugin-files = /p\nfoo = 2";
    let configuration = apply(text.as_bytes()).unwrap();
    let warnings: Vec<String> = configuration.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "unknown setting 'foo'",
            "unknown setting 'extra-max-jobs'",
            "unknown setting 'extra-builders'",
            "unknown setting 'Fallback'; did you mean 'fallback'?",
            "unknown setting 'max-job'; did you mean 'max-jobs'?",
            "setting 'plugin-files' has no effect in Kiln",
        ]
    );
    assert_eq!(configuration.settings().max_jobs, MaxJobs::Count(1));
    assert!(TABLE.iter().all(|setting| configuration.origins(setting).is_empty()));
}

#[test]
fn files_are_read_in_order_and_later_ones_win() {
    let files = files(&[
        (
            "/etc/nix/nix.conf",
            "timeout = 1\nmax-silent-time = 1\nsubstituters = a\ninclude more/one.conf\ncores = 4",
        ),
        ("/etc/nix/more/one.conf", "cores = 3\n!include two.conf\n!include missing.conf"),
        ("/etc/nix/more/two.conf", "log-lines = 7"),
        ("/h/.config/nix/nix.conf", "timeout = 2\nextra-substituters = b"),
    ]);
    let variables = BTreeMap::from([("HOME", "/h"), ("NIX_CONFIG", "\nmax-silent-time = 3")]);
    let environment = |name: &str| variables.get(name).map(OsString::from);
    let machine = Machine::plain("x86_64-linux");
    let mut configuration = Configuration::load(&machine, &environment, &read(&files)).unwrap();
    configuration.set("sandbox", "relaxed", Origin::CommandLine).unwrap();

    let settings = configuration.settings();
    assert_eq!(
        (settings.timeout, settings.max_silent_time, settings.cores, settings.log_lines),
        (2, 3, 4, 7)
    );
    assert_eq!(settings.substituters, ["a", "b"]);
    assert_eq!(settings.sandbox, SandboxMode::Relaxed);

    let origins = |name: &str| {
        let origins = configuration.origins(find_setting(name).unwrap());
        origins.iter().map(ToString::to_string).collect::<Vec<String>>().join(", ")
    };
    assert_eq!(origins("timeout"), "/h/.config/nix/nix.conf:1");
    assert_eq!(origins("cores"), "/etc/nix/nix.conf:5");
    assert_eq!(origins("log-lines"), "/etc/nix/more/two.conf:1");
    assert_eq!(origins("substituters"), "/etc/nix/nix.conf:3, /h/.config/nix/nix.conf:2");
    assert_eq!(origins("max-silent-time"), "NIX_CONFIG:2");
    assert_eq!(origins("sandbox"), "command line");
    assert_eq!(origins("repeat"), "");

    // The daemon has read the machine's file itself, and hears of some settings in another way.
    let overrides: Vec<(&str, String)> = configuration.overrides();
    let expected = [("sandbox", "relaxed"), ("substituters", "a b"), ("timeout", "2")];
    assert_eq!(overrides, expected.map(|(name, value)| (name, value.to_owned())));

    let json = configuration.to_json();
    assert_eq!(json["timeout"]["value"], 2);
    assert_eq!(json["timeout"]["defaultValue"], 0);
    assert_eq!(json["timeout"]["aliases"][0], "build-timeout");
    assert_eq!(json["substituters"]["origin"][1], "/h/.config/nix/nix.conf:2");
    assert!(configuration.show().contains("\nsubstituters = a b\n"));
}

#[test]
fn values_make_no_lines() {
    let mut configuration = apply(b"").unwrap();
    configuration.set("builders", "a\ntrusted-users = *", Origin::Client).unwrap();
    assert!(configuration.show().contains("\nbuilders = a trusted-users = *\n"));
}

#[test]
fn includes_end() {
    let own = files(&[("/etc/nix/nix.conf", "include nix.conf\ninclude nix.conf")]);
    let environment = |_: &str| None;
    let machine = Machine::plain("x86_64-linux");
    let error = Configuration::load(&machine, &environment, &read(&own)).unwrap_err();
    assert!(matches!(error, SettingsError::IncludeTooDeep { limit: 32, .. }), "{error}");
    assert!(
        error
            .to_string()
            .starts_with("/etc/nix/nix.conf:1:1: including '/etc/nix/nix.conf' here is too deep")
    );

    // Not deep, but doubling with each level.
    let mut doubling = files(&[("/etc/nix/nix.conf", "include 1\n")]);
    for level in 1..31 {
        doubling.insert(
            format!("/etc/nix/{level}").into(),
            format!("include {0}\ninclude {0}\n", level + 1).into(),
        );
    }
    doubling.insert("/etc/nix/31".into(), Vec::new());
    let error = Configuration::load(&machine, &environment, &read(&doubling)).unwrap_err();
    assert!(matches!(error, SettingsError::TooLarge { .. }), "{error}");

    let refused = |path: &Path| Err(SourceError(format!("no {}", path.display())));
    let error = Configuration::load(&machine, &environment, &refused).unwrap_err().to_string();
    assert_eq!(error, "cannot read configuration file '/etc/nix/nix.conf': no /etc/nix/nix.conf");
}

proptest! {
    /// No text makes trouble, and what was accepted can be shown and read again.
    #[test]
    fn any_text_is_read_or_refused(text in prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        "((extra-)?(timeout|substituters|sandbox|sandbox-paths|store|include|x) ?[=# ]{0,3}[a-z0-9/=?% .:-]{0,12}\n){0,6}"
            .prop_map(String::into_bytes),
    ]) {
        if let Ok(configuration) = apply(&text) {
            let again = apply(configuration.show().as_bytes()).unwrap();
            prop_assert_eq!(again.settings(), configuration.settings());
        }
    }
}
