//! How the program is called.

use crate::both::Both;

#[test]
fn by_a_link_and_as_a_command() {
    let Some(both) = Both::built() else { return };
    let hash = both.kiln("-q --hash $top");
    for line in [&["nix-store", "-q", "--hash"][..], &["-v", "nix-store", "-q", "--hash"]] {
        let ran = both.store.kiln(line.iter().copied().chain([both.named("top")]));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), hash.as_str()), "{}", ran.stderr);
    }
    let version = both.kiln("--version");
    assert!(version.starts_with("nix-store (Nix) 2."), "{version}");
    assert_eq!(version.split(' ').count(), 3);
    let help = both.kiln("--help");
    assert!(help.contains("--print-fixed-path") && help.contains("Exit codes"), "{help}");
}

#[test]
fn what_is_missing_is_said_plainly() {
    let Some(both) = Both::built() else { return };
    for (line, told) in [
        ("--store daemon --gc", "works only on local stores"),
        ("--store daemon -q --hash $top", "cannot connect to the daemon"),
        ("--store ftp://elsewhere -r $top", "only with local stores"),
    ] {
        let outcome = both.run(crate::both::Whose::Kiln, line);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{line}");
        assert!(outcome.stderr.contains(told), "{line}: {}", outcome.stderr);
    }
}
