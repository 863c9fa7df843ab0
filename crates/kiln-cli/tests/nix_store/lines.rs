//! Command lines that change nothing: a table of them, run by both.

use std::fs;
use std::os::unix::fs::symlink;

use crate::both::{Both, Whose};

/// All questions about all kinds of paths.
const QUESTIONS: [&str; 24] = [
    "",
    "--outputs",
    "--requisites",
    "-R",
    "-R --include-outputs",
    "--references",
    "--referrers",
    "--referers",
    "--referrers-closure",
    "--deriver",
    "-d",
    "--tree",
    "--graph",
    "--graphml",
    "--hash",
    "--size",
    "--resolve",
    "-u --references",
    "-u -R",
    "-u --size",
    "-u --hash",
    "-u --graph",
    "-u --referrers-closure",
    "-R --use-output --include-outputs",
];

/// Lines whose results are the same, and what is told too.
const SAME_WHOLLY: &[&str] = &[
    "-q -b quote $multi",
    "-q --binding lines $multi",
    "-q -b nope $multi",
    "-q -b",
    "-q -b quote $bin",
    "-q -b quote $source",
    "-q --hash $none",
    "-q --references $none",
    "-q --referrers $none",
    "-q --tree $none",
    "-q --referrers-closure $none",
    "-q -R $none",
    "-q --deriver $none",
    "-q --size $none $lower",
    "-q --outputs $none",
    "-q -f --hash $multi",
    "-q -f -u --hash $multi $top",
    "-q --outputs $other $output",
    "-q -u --hash $other",
    "-q --outputs $store",
    "-q .",
    "-q",
    "-q --hash link",
    "-q --hash second",
    "-q --hash $output/x/y",
    "-q --hash to-work",
    "-q --hash --size $lower",
    "-q --hash --hash $lower",
    "-q --foo",
    "-qx $top",
    "-qR$lowest",
    "-q -- --hash $lower",
    "-q -- --hash -- $lower",
    "-q --tree $top $multi $output $self",
    "-q --graph $output $multi",
    "-q --hash $lower --option cores 2 -j 1 -k -K -Q --fallback --no-keep-going --cores 2",
    "-q --hash -j",
    "-q --hash $lower --option",
    "-q --hash $lower --option cores",
    "",
    "--foo",
    "-q -r",
    "--version -q",
    "--init",
    "--init foo",
    "--init --foo",
    "--add",
    "--add --foo d",
    "--add-fixed",
    "--add-fixed sha256",
    "--add-fixed foo d",
    "--add-fixed --foo sha256 d",
    "--print-fixed-path sha1 x",
    "--print-fixed-path nope zz x",
    "--print-fixed-path sha256 0000000000000000000000000000000000000000000000000000 x",
    "--print-fixed-path --recursive sha256 0000000000000000000000000000000000000000000000000000 x",
    "--print-fixed-path --recursive sha1 da39a3ee5e6b4b0d3255bfef95601890afd80709 x",
    "--print-fixed-path sha256 sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= x",
    "--print-env $multi",
    "--print-env $top",
    "--print-env $multi $top",
    "--print-env",
    "--print-env --foo $multi",
    "--read-log $lower",
    "-l $lowest",
    "-l $multi",
    "-l $source",
    "-l $none",
    "-l",
    "-l --foo",
    "--dump-db",
    "--dump-db $lower $output",
    "--dump-db $lower $none",
    "--dump-db --foo",
    "--check-validity $lower",
    "--check-validity $none $lower",
    "--check-validity --print-invalid $none $lower",
    "--check-validity --foo",
    "--gc --print-roots",
    "--gc --max-freed",
    "--gc foo",
    "--gc --foo",
    "--gc --print-roots --print-live",
    "--gc --print-live --delete",
    "--delete --foo",
    "--dump",
    "--dump a b",
    "--dump --foo d",
    "--restore",
    "--restore a b",
    "--export --foo",
    "--import foo",
    "--import --foo",
    "--verify foo",
    "--verify --foo",
    "--verify",
    "--verify --check-contents",
    "--verify-path $lower $output",
    "--verify-path --foo",
    "--verify-path $none",
    "--repair-path $lowest",
    "--repair-path --foo",
    "--repair-path $none",
    "--optimise foo",
    "--optimise --foo",
    "--load-db foo",
    "--load-db --foo",
    "--register-validity foo",
    "--register-validity --foo",
    "--generate-binary-cache-key a b",
    "--generate-binary-cache-key --foo a b c",
    "--realise",
    "-r --foo",
    "-r $top",
    "-r $top $multi $output",
    "-r --dry-run $other $bad",
    "-r $top --no-output",
    "-r $top --no-gc-warning",
    "-r $top -v",
    "-r $top --quiet --quiet",
    "-r $top --readonly-mode",
    "-r $multi!dev,bin",
    "-r $multi!",
    "-r $multi!nope",
    "-r $top --ignore-unknown",
    "-r $none --ignore-unknown",
    "-r $lower --check",
    "-r $output --check",
    "-rj2 $top",
    "-r $top --add-root",
];

/// Lines whose results are the same, and reasons are told in other words.
const SAME: &[&str] = &[
    "-q --hash nowhere",
    "-q --hash link/x",
    "-q --outputs $none.drv",
    "-q --outputs $store/foo",
    "-q $multi!dev",
    "-q --hash -j x",
    "-r /nonexistent",
    "-r $none",
    "-r $output $none",
    "-r $multi^dev",
    "-r $other --check",
    "-r $lower --log-format foo",
    "-r $top --add-root d/file",
    "-r $top --add-root $store/x",
    "--add nowhere",
    "--add-fixed sha256 d",
    "--add-fixed md5 nowhere",
    "--print-fixed-path sha1 zz x",
    "--gc --max-freed x",
    "--gc --print-live",
    "--gc --print-dead",
    "--gc --print-live --print-dead",
    "--delete nowhere",
    "--delete $multi",
    "--delete $lowest",
    "--dump d",
    "--dump d/file",
    "--dump d/link",
    "--dump to-work",
    "--export",
    "--export $output",
    "--export $output $lowest $self $bin",
    "--export $top $source",
    "--export link",
    "--verify-path nowhere",
    "--store foo://bar -q --hash $lower",
    "--store daemon -q --hash $lower",
    "--restore d",
];

/// A store with files and links beside it.
fn stage() -> Option<Both> {
    let mut both = Both::built()?;
    let work = both.work();
    fs::create_dir(work.join("d")).unwrap();
    fs::write(work.join("d/file"), "contents").unwrap();
    symlink("file", work.join("d/link")).unwrap();
    symlink(both.named("self"), work.join("link")).unwrap();
    symlink("link", work.join("second")).unwrap();
    symlink(&work, work.join("to-work")).unwrap();
    both.run(Whose::Nix, "-r $bin $lower --add-root root");
    both.name("root", work.join("root").display().to_string());
    Some(both)
}

#[test]
fn all_questions_about_all_kinds_of_paths() {
    let Some(both) = stage() else { return };
    for question in QUESTIONS {
        for path in ["$top", "$output", "$multi $self", "link $bad"] {
            // What was never built has no size.
            if !(question.contains("-u") && path.contains("$bad")) {
                both.same_wholly(&format!("-q {question} {path}"));
            }
        }
    }
}

#[test]
fn the_same_lines_come_to_the_same() {
    let Some(both) = stage() else { return };
    for line in SAME_WHOLLY {
        both.same_wholly(line);
    }
    for line in SAME {
        let outcome = both.same(line);
        if outcome.code != Some(0) {
            assert!(outcome.stderr.contains("error: "), "{line}: {}", outcome.stderr);
        }
    }
}

#[test]
fn roots_of_paths() {
    let Some(both) = Both::built() else { return };
    both.run(Whose::Nix, "-r $output --add-root top");
    both.run(Whose::Nix, "-r $lower --add-root low/er");
    for path in ["$output", "$lowest", "$lower", "$source", "$top", "$none", "$self $bin"] {
        let line = format!("-q --roots {path}");
        let sorted = |whose| {
            let outcome = both.run(whose, &line);
            let mut lines: Vec<String> = outcome.stdout.lines().map(str::to_owned).collect();
            lines.sort();
            (outcome.code, lines)
        };
        assert_eq!(sorted(Whose::Kiln), sorted(Whose::Nix), "{line}");
    }
    assert_eq!(both.kiln("-q --roots $lowest").lines().count(), 2);
}

#[test]
fn what_later_versions_answer() {
    let Some(both) = Both::built() else { return };
    assert_eq!(both.kiln("-q --valid-derivers $self"), format!("{}\n", both.named("multi")));
    assert_eq!(both.kiln("-q --valid-derivers $source"), "");
}
