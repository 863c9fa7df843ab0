//! Building.

use std::fs;

use crate::both::{Both, Whose};

/// Forgets what depends on the moment: the lines that a check adds on where outputs differ.
fn without_details(stderr: &str) -> String {
    stderr.lines().filter(|line| !line.starts_with("       ")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn outputs_and_logs_are_those_of_nix() {
    let Some(both) = Both::built() else { return };
    for line in ["-r $other", "--realize $other $lower", "-r $other -Q", "-r $output $other -j1"] {
        let by_kiln = both.same_change(line, b"");
        both.store.go_back();
        assert_eq!(by_kiln.stderr, both.run(Whose::Nix, line).stderr, "{line}");
        both.store.go_back();
    }
    // After this, Nix leaves what it has built.
    both.same_wholly("-r $lower --check");
    both.run(Whose::Nix, "--delete $output $bin $top");
    assert_eq!(both.same_change("-r $multi $multi", b"").stdout.lines().count(), 6);
}

#[test]
fn failures_end_with_the_codes_of_nix() {
    let Some(both) = Both::built() else { return };
    for (line, code) in [
        ("-r $bad", 100),
        ("-r $needs", 100),
        ("-r $slow --timeout 1", 101),
        ("-r $slow --option max-silent-time 1", 101),
        ("-r $hash", 102),
        ("-r $bad $hash -k", 102),
        ("-r $slow $hash --keep-going --timeout 1", 103),
        ("-q --force-realise --outputs $bad", 100),
        ("-r $other --check", 1),
        ("-r $other --option system-features x --option system none --option extra-platforms", 1),
        // The other one may be built by then.
        ("-r $bad $other", 100),
    ] {
        let (by_nix, by_kiln) = (both.run(Whose::Nix, line), both.run(Whose::Kiln, line));
        assert_eq!((by_nix.code, by_nix.stdout.as_str()), (Some(code), ""), "{line}: {}", by_nix.stderr);
        assert_eq!((by_kiln.code, by_kiln.stdout.as_str()), (Some(code), ""), "{line}: {}", by_kiln.stderr);
    }
    both.same_wholly("-r $bad");
    both.same_wholly("-r $hash");
    let told = both.run(Whose::Kiln, "-r $bad -Q").stderr;
    assert!(told.contains("last 1 log lines:\n       > oh\n"), "{told}");
}

#[test]
fn checks_tell_what_differs() {
    let Some(both) = Both::built() else { return };
    let path = both.kiln("-r $random").trim_end().to_owned();
    for whose in [Whose::Nix, Whose::Kiln] {
        let outcome = both.run(whose, "-r $random --check");
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(104), ""), "{whose:?}: {}", outcome.stderr);
        assert!(without_details(&outcome.stderr).contains("may not be deterministic"), "{}", outcome.stderr);
        assert!(!fs::exists(format!("{path}.check")).unwrap());
    }
    let outcome = both.run(Whose::Kiln, "-r $random --check -K");
    assert_eq!(outcome.code, Some(104));
    assert!(fs::exists(format!("{path}.check")).unwrap(), "{}", outcome.stderr);
}

#[test]
fn links_keep_what_was_realised() {
    let Some(both) = Both::built() else { return };
    for line in [
        "-r $multi $lower --add-root links/a --indirect",
        "-r $multi!dev,bin --add-root links/b",
        "-r $output --add-root links/c",
        "-r $output $self $lower --add-root links/d --no-output",
        "-q --force-realise --hash $lower $self --add-root links/e",
    ] {
        let mut links = Vec::new();
        for whose in [Whose::Nix, Whose::Kiln] {
            let outcome = both.run(whose, line);
            assert_eq!(outcome.code, Some(0), "{line}: {}", outcome.stderr);
            let mut left: Vec<(String, String)> = fs::read_dir(both.work().join("links"))
                .unwrap()
                .map(|entry| entry.unwrap())
                .map(|entry| {
                    let target = fs::read_link(entry.path()).unwrap().display().to_string();
                    (entry.file_name().into_string().unwrap(), target)
                })
                .collect();
            left.sort();
            let roots = both.run(Whose::Nix, "--gc --print-roots").stdout;
            assert!(left.iter().all(|(_, target)| roots.contains(target)), "{roots}");
            links.push((outcome.stdout, outcome.stderr, left, roots));
            fs::remove_dir_all(both.work().join("links")).unwrap();
        }
        assert_eq!(links[1], links[0], "{line}");
    }
    fs::write(both.work().join("occupied"), "").unwrap();
    assert_eq!(both.same("-r $output --add-root occupied").code, Some(1));
}
