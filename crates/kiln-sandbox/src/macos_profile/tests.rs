use proptest::prelude::*;

use super::*;

fn there(path: &str, kind: MacosPathKind) -> MacosPath {
    MacosPath { target: path.into(), source: path.into(), kind, optional: false }
}

fn sandbox() -> MacosSandbox {
    MacosSandbox {
        fixed_output: false,
        log_violations: false,
        store_directory: "/nix/store".into(),
        missing_outputs: vec!["/nix/store/out".into()],
        redirected_outputs: Vec::new(),
        inputs: Vec::new(),
        paths: Vec::new(),
        additional_profile: ByteString::default(),
        additional_profile_allowed: false,
    }
}

fn plan(confinement: MacosConfinement) -> MacosPlan {
    MacosPlan {
        derivation: "/nix/store/hello.drv".into(),
        confinement,
        build_directory: "/private/tmp/nix-build".into(),
        builder: "/nix/store/bash/bin/bash".into(),
        arguments: vec!["-e".into(), "x \"y\"".into()],
        environment: vec![("out".into(), "/nix/store/out".into())],
        global_temporary_directory: "/private/var/folders/T/".into(),
        data_directory: "/usr/share".into(),
        allow_local_networking: false,
        no_sandbox_exec: false,
    }
}

fn in_sandbox(change: impl FnOnce(&mut MacosSandbox)) -> MacosPlan {
    let mut sandbox = sandbox();
    change(&mut sandbox);
    plan(MacosConfinement::Sandbox(Box::new(sandbox)))
}

/// The profile of a sandbox that isn't quite the usual one.
fn profile(change: impl FnOnce(&mut MacosSandbox)) -> Result<String, MacosProfileError> {
    in_sandbox(change).profile().map(|text| String::from_utf8(text).unwrap())
}

#[test]
fn m1_the_whole_profile() {
    let text = profile(|sandbox| {
        sandbox.missing_outputs = vec!["/nix/store/out".into(), "/nix/store/dev".into()];
        sandbox.redirected_outputs = vec!["/nix/store/man2".into()];
        sandbox.inputs = vec![
            there("/nix/store/bash", MacosPathKind::Directory),
            there("/nix/store/a.patch", MacosPathKind::Other),
        ];
        sandbox.paths = vec![
            there("/System/Library", MacosPathKind::Directory),
            there("/bin/sh", MacosPathKind::Other),
            MacosPath { optional: true, ..there("/opt/not/there", MacosPathKind::Absent) },
        ];
    });
    let expected = r#"(version 1)
(deny default (with no-log))
(import "sandbox-defaults.sb")
(allow file-read* file-write* process-exec
	(subpath "/nix/store/dev")
	(subpath "/nix/store/man2")
	(subpath "/nix/store/out")
)
(allow file-read* file-write* process-exec
	(subpath "/System/Library")
	(literal "/bin/sh")
	(literal "/nix/store/a.patch")
	(subpath "/nix/store/bash")
	(subpath "/private/tmp/nix-build")
)
(allow file-read*
	(literal "/")
	(literal "/System")
	(literal "/bin")
	(literal "/nix")
	(literal "/nix/store")
	(literal "/opt")
	(literal "/opt/not")
	(literal "/private")
	(literal "/private/tmp")
)
"#;
    assert_eq!(text.unwrap(), expected);
}

#[test]
fn m1_violations_are_logged_if_wanted() {
    let text = profile(|sandbox| sandbox.log_violations = true).unwrap();
    assert!(
        text.starts_with("(version 1)\n(deny default)\n(import \"sandbox-defaults.sb\")\n(allow "),
        "{text}"
    );
}

#[test]
fn m1_fixed_outputs_have_the_network() {
    let text = profile(|sandbox| sandbox.fixed_output = true).unwrap();
    assert!(
        text.contains("(import \"sandbox-defaults.sb\")\n(import \"sandbox-network.sb\")\n(allow "),
        "{text}"
    );
}

#[test]
fn m1_no_sandbox_is_the_least_profile() {
    let text = plan(MacosConfinement::Minimal).profile().unwrap();
    assert_eq!(text, b"(version 1)\n(import \"sandbox-minimal.sb\")\n");
}

#[test]
fn m1_sources_and_targets_are_the_same() {
    let mapped = |target: &str, source: &str| {
        let mut path = there(target, MacosPathKind::Directory);
        path.source = source.into();
        profile(|sandbox| sandbox.paths = vec![path])
    };
    assert_eq!(
        mapped("/bin/sh", "/nix/store/bash").unwrap_err().to_string(),
        "can't map '/bin/sh' to '/nix/store/bash': mismatched impure paths not supported on Darwin"
    );
    assert!(mapped("/usr//lib/", "/usr/lib").unwrap().contains("\t(subpath \"/usr/lib\")\n"));
}

#[test]
fn m1_only_optional_paths_may_be_absent() {
    let error = profile(|sandbox| sandbox.paths = vec![there("/gone", MacosPathKind::Absent)]).unwrap_err();
    assert_eq!(error.to_string(), "getting attributes of path '/gone': No such file or directory");
    let error = profile(|sandbox| sandbox.inputs = vec![there("/nix/store/x", MacosPathKind::Absent)]);
    assert_eq!(error, Err(MacosProfileError::Absent("/nix/store/x".into())));
    // A path that is an input must be there, whatever the settings say of it.
    let error = profile(|sandbox| {
        let path = there("/nix/store/x", MacosPathKind::Absent);
        sandbox.paths = vec![MacosPath { optional: true, ..path.clone() }];
        sandbox.inputs = vec![path];
    });
    assert_eq!(error, Err(MacosProfileError::Absent("/nix/store/x".into())));
}

#[test]
fn m1_rules_of_the_derivation_come_last_if_they_may() {
    let rules = "(allow mach-lookup (global-name \"x\"))";
    let text = profile(|sandbox| {
        sandbox.additional_profile = rules.into();
        sandbox.additional_profile_allowed = true;
    });
    assert_eq!(text.unwrap().strip_suffix(rules), Some(profile(|_| {}).unwrap().as_str()));
    let error = profile(|sandbox| sandbox.additional_profile = rules.into()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "derivation '/nix/store/hello.drv' specifies a sandbox profile, but this is only allowed when 'sandbox' is 'relaxed'"
    );
}

/// An empty rule allows everything.
#[test]
fn m1_no_outputs_are_no_rule() {
    let text = profile(|sandbox| sandbox.missing_outputs.clear()).unwrap();
    assert_eq!(text.matches("(allow file-read* file-write* process-exec\n").count(), 1, "{text}");
    assert!(!text.contains("process-exec\n)"), "{text}");
}

#[test]
fn m1_what_is_no_path_is_refused() {
    let long = format!("/{}", "a/".repeat(MAX_PATH / 2 + 1));
    for bad in ["", "relative", "/a\0b", &long] {
        let invalid = Err(MacosProfileError::InvalidPath(bad.into()));
        assert_eq!(profile(|sandbox| sandbox.missing_outputs = vec![bad.into()]), invalid);
        assert_eq!(profile(|sandbox| sandbox.redirected_outputs = vec![bad.into()]), invalid);
        assert_eq!(profile(|sandbox| sandbox.store_directory = bad.into()), invalid);
        assert_eq!(profile(|sandbox| sandbox.paths = vec![there(bad, MacosPathKind::Other)]), invalid);
        assert_eq!(profile(|sandbox| sandbox.inputs = vec![there(bad, MacosPathKind::Other)]), invalid);
    }
}

#[test]
fn m2_the_command() {
    let mut plan = in_sandbox(|_| {});
    let text = |strings: &[ByteString]| strings.iter().map(ToString::to_string).collect::<Vec<_>>();
    let command = plan.command().unwrap().unwrap();
    assert_eq!(command.program, "/usr/bin/sandbox-exec".into());
    let expected = [
        "sandbox-exec",
        "-f",
        "/private/tmp/nix-build/.sandbox.sb",
        "-D",
        "_GLOBAL_TMP_DIR=/private/var/folders/T",
        "-D",
        "IMPORT_DIR=/usr/share/nix/sandbox/",
        "/nix/store/bash/bin/bash",
        "-e",
        "x \"y\"",
    ];
    assert_eq!(text(&command.arguments), expected);
    assert_eq!(command.environment, plan.environment);
    let contents = plan.profile().unwrap().into();
    assert_eq!(command.profile, PlacedFile { name: ".sandbox.sb".into(), contents, mode: 0o644 });

    plan.allow_local_networking = true;
    let command = plan.command().unwrap().unwrap();
    let expected = [&expected[..7], &["-D", "_ALLOW_LOCAL_NETWORKING=1"], &expected[7..]].concat();
    assert_eq!(text(&command.arguments), expected);
}

#[test]
fn m2_builtins_and_tests_go_without() {
    let mut builtin = in_sandbox(|_| {});
    builtin.builder = "builtin:fetchurl".into();
    assert_eq!(builtin.command(), Ok(None));
    let mut test = in_sandbox(|_| {});
    test.no_sandbox_exec = true;
    assert_eq!(test.command(), Ok(None));
    assert!(plan(MacosConfinement::Minimal).command().unwrap().is_some());
}

/// An expression of a profile.
#[derive(Debug, PartialEq, Eq)]
enum Expression {
    Word(Vec<u8>),
    Text(Vec<u8>),
    List(Vec<Expression>),
}

/// Reads a profile as Scheme does: in string literals a backslash takes the next character's meaning away, elsewhere a
/// semicolon begins a comment.
fn read(text: &[u8]) -> Vec<Expression> {
    let mut open = vec![Vec::new()];
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let read = match byte {
            b'(' => {
                open.push(Vec::new());
                continue;
            }
            b')' => Expression::List(open.pop().unwrap()),
            b'"' => {
                let mut literal = Vec::new();
                loop {
                    match bytes.next().expect("the end of a string") {
                        b'"' => break Expression::Text(literal),
                        b'\\' => {
                            let escaped = bytes.next().unwrap();
                            assert!(matches!(escaped, b'"' | b'\\'), "an escape with a meaning of its own");
                            literal.push(escaped);
                        }
                        byte => literal.push(byte),
                    }
                }
            }
            byte if byte.is_ascii_whitespace() => continue,
            b';' => panic!("a comment"),
            byte => {
                let mut word = vec![byte];
                while let Some(byte) =
                    bytes.next_if(|byte| !byte.is_ascii_whitespace() && !b"()\";".contains(byte))
                {
                    word.push(byte);
                }
                Expression::Word(word)
            }
        };
        open.last_mut().expect("an open list").push(read);
    }
    assert_eq!(open.len(), 1, "a list isn't closed");
    open.remove(0)
}

fn rule(words: &str, filters: impl IntoIterator<Item = (&'static str, Vec<u8>)>) -> Expression {
    let words = words.split(' ').map(|word| Expression::Word(word.into()));
    let filters = filters.into_iter().map(|(filter, path)| {
        Expression::List(vec![Expression::Word(filter.into()), Expression::Text(path)])
    });
    Expression::List(words.chain(filters).collect())
}

/// What means something in a profile.
const HOSTILE: &[&[u8]] =
    &[b"\"", b"\\", b"\\\"", b"\")", b"(allow default)", b"\n", b";", b"#\"", b"\\x22", b"\xff", b" "];

/// One component of a path: anything that a file system takes, often what is hostile.
fn component() -> impl Strategy<Value = Vec<u8>> {
    let hostile = prop::sample::select(HOSTILE);
    let piece = prop_oneof![hostile.prop_map(<[u8]>::to_vec), prop::collection::vec(any::<u8>(), 1..4)];
    prop::collection::vec(piece, 1..6).prop_map(|pieces| {
        pieces.concat().into_iter().map(|byte| if matches!(byte, 0 | b'/') { b'_' } else { byte }).collect()
    })
}

proptest! {
    #[test]
    fn m1_no_path_breaks_out_of_its_literal(output in component(), input in component(), path in component()) {
        let at = |directory: &str, name: &[u8]| [directory.as_bytes(), b"/", name].concat();
        let (output, input, path) = (at("/nix/store", &output), at("/nix/store", &input), at("/usr", &path));
        let plan = in_sandbox(|sandbox| {
            let there = |path: &[u8], kind| MacosPath { target: path.into(), source: path.into(), kind, optional: false };
            sandbox.missing_outputs = vec![output.clone().into()];
            sandbox.inputs = vec![there(&input, MacosPathKind::Other)];
            sandbox.paths = vec![there(&path, MacosPathKind::Directory)];
        });
        let import = Expression::List(vec![
            Expression::Word(b"import".into()), Expression::Text(b"sandbox-defaults.sb".into()),
        ]);
        let ancestors = ["/", "/nix", "/nix/store", "/private", "/private/tmp", "/usr"];
        prop_assert_eq!(read(&plan.profile().unwrap()), [
            rule("version 1", []),
            Expression::List(vec![
                Expression::Word(b"deny".into()), Expression::Word(b"default".into()), rule("with no-log", []),
            ]),
            import,
            rule(&format!("allow {ALL_ACCESS}"), [("subpath", output)]),
            rule(&format!("allow {ALL_ACCESS}"), [
                ("literal", input), ("subpath", b"/private/tmp/nix-build".to_vec()), ("subpath", path),
            ]),
            rule("allow file-read*", ancestors.map(|path| ("literal", path.into()))),
        ]);
    }

    #[test]
    fn m1_paths_are_cleaned(components in prop::collection::vec((component(), 1..4_usize), 0..6), end in 0..3_usize) {
        let mut messy: Vec<u8> = components.iter().flat_map(|(name, slashes)| [vec![b'/'; *slashes], name.clone()]).flatten().collect();
        messy.resize(messy.len() + end.max(usize::from(messy.is_empty())), b'/');
        prop_assume!(messy.len() <= MAX_PATH);
        let cleaned = clean(&messy.into()).unwrap();
        let names: Vec<_> = components.iter().map(|(name, _)| name.as_slice()).collect();
        prop_assert_eq!(&cleaned, &[b"/", names.join(&b'/').as_slice()].concat());
        prop_assert_eq!(above(&cleaned).count(), components.len());
    }
}
