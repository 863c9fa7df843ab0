//! Commands of all kinds, one after the other: they print the same, end with the same code and say the same.

use kiln_testing::{Ran, Server};

use super::{daemon_with, each_release};

/// Scripts whose every effect is the same with both daemons.
const SCRIPTS: &[&str] = &[
    // Evaluation, which adds to the store.
    "nix-instantiate -A b",
    "nix-instantiate more.nix -A of-sources --add-root links/drv --indirect && readlink links/drv",
    "nix eval -f more.nix imported.outPath",
    "nix eval -f more.nix read.drvPath",
    "nix-instantiate --eval more.nix -A failing-import",
    "nix-build --dry-run -A big 2>&1 | sort",
    "nix build --dry-run -f . b",
    // Builds.
    "nix-build -A b -o result && readlink result result-dev",
    "nix-build -A b -o result",
    "nix-build -A big --no-out-link -j3 >/dev/null 2>&1; nix-build -A big --no-out-link",
    "nix-build more.nix -A imported -A read -A of-sources --no-out-link",
    "nix-build more.nix -A structured -A graph -A passed --no-out-link | xargs cat",
    "nix-build more.nix -A odd-lines --no-out-link | xargs nix-store --read-log",
    "nix build -f more.nix user --no-link --print-out-paths",
    "nix build -f more.nix three^lib,doc user --no-link --json | tr , '\\n' | grep -v -e Time -e cpu -e start -e stop",
    "nix build -f more.nix three^* -o links/three && readlink links/three*",
    "nix build \"$(nix-instantiate more.nix -A three)^out\" --no-link --print-out-paths",
    "nix build \"$(nix-instantiate -A a)\" --no-link --print-out-paths",
    "nix-store -r $(nix-instantiate more.nix -A three) --add-root links/r && readlink links/r*",
    "nix-store -r $(nix-instantiate more.nix -A three)!lib",
    "nix build -f . fod --no-link -L",
    "nix shell -f more.nix three -c echo in the shell",
    "nix-build -A a --check --no-out-link",
    "nix build -f . a --rebuild --no-link",
    // Failures.
    "nix-build -A fail --no-out-link",
    "nix-build -A depfail --no-out-link",
    "nix-build -A badfod --no-out-link",
    "nix-build -A missingsys --no-out-link",
    "nix-build -A timeout --timeout 1 --no-out-link",
    "nix-build -A silent --max-silent-time 1 --no-out-link",
    "nix build -f . fail --no-link",
    "nix build -f . depfail --no-link",
    "nix build -f . depfail --no-link -L",
    "nix build -f . badfod --no-link",
    "nix build -f . timeout --timeout 1 --no-link",
    "nix build -f . depfail a --keep-going --no-link",
    "nix-build more.nix -A no-output --no-out-link",
    "nix-build more.nix -A no-second --no-out-link",
    "nix-build more.nix -A forbidden --no-out-link",
    "nix-build more.nix -A not-allowed --no-out-link",
    "nix-build more.nix -A no-builder --no-out-link",
    "nix-build more.nix -A long-failure --no-out-link",
    "nix build -f more.nix long-failure --no-link",
    "nix build -f more.nix silent-failure --no-link",
    "nix-build more.nix -A needs-two -k --no-out-link",
    "nix-build more.nix -A bad-hash --no-out-link",
    "nix-build more.nix -A feature --no-out-link",
    "nix build -f more.nix feature --no-link",
    "nix-build -A nondet --no-out-link >/dev/null; nix-build -A nondet --check --no-out-link; nix-store --delete $(nix-store -r $(nix-instantiate -A nondet)) >/dev/null 2>&1",
    "nix-store -r $NIX_STORE_DIR/00000000000000000000000000000000-nothing",
    "nix-store -r /nix/store/00000000000000000000000000000000-nothing",
    "nix build $NIX_STORE_DIR/00000000000000000000000000000000-nothing",
    "nix-store -r $NIX_STORE_DIR/00000000000000000000000000000000-nothing.drv",
    // Questions.
    "nix-store -q --references result",
    "nix-store -q --requisites $(nix-store -q --deriver result) | sort",
    "nix-store -q --requisites --include-outputs $(nix-store -q --deriver result) | sort",
    "nix-store -q --referrers $(nix-store -q --references result) | sort",
    "nix-store -q --referrers-closure $(nix-instantiate -A a) | sort",
    "nix-store -q --deriver result",
    "nix-store -q --valid-derivers result",
    "nix-store -q --outputs $(nix-store -q --deriver result)",
    "nix-store -q --binding builder $(nix-store -q --deriver result)",
    "nix-store -q --hash --size result",
    "nix-store -q --size result",
    "nix-store -q --tree result",
    "nix-store -q --graph result",
    "nix-store -q --roots result | sort",
    "nix-store -q --resolve result",
    "nix-store --check-validity $(readlink result) $NIX_STORE_DIR/00000000000000000000000000000000-nothing",
    "nix-store -q --references $NIX_STORE_DIR/00000000000000000000000000000000-nothing",
    "nix-store --verify-path $(readlink result)",
    "nix-store --print-env $(nix-store -q --deriver result)",
    "nix-store --read-log result",
    "nix-store --dump result | sha256sum",
    "nix log -f . b",
    "nix log $NIX_STORE_DIR/00000000000000000000000000000000-nothing",
    "nix path-info -rsSh ./result",
    "nix path-info --json ./result | sed 's/\"registrationTime\":[0-9]*//g'",
    "nix path-info --all --json | sed 's/\"registrationTime\":[0-9]*//g'",
    "nix path-info -f . missingsys",
    "nix path-info --derivation -r -f . b | sort",
    "nix derivation show -f . b",
    "nix derivation show -r ./result | sha256sum",
    "nix why-depends -f more.nix graph user; nix why-depends $(nix-instantiate -A b) $(nix-instantiate -A a)",
    "nix store path-from-hash-part --store $NIX_REMOTE $(basename $(readlink result) | cut -c1-32)",
    "nix store path-from-hash-part abc",
    "nix store ls -lR ./result-dev",
    "nix store ls --json -R ./result-dev",
    "nix store cat ./result",
    "nix store dump-path ./result | sha256sum",
    "nix store diff-closures ./result ./result-dev",
    "nix store verify --all --no-trust",
    "nix store verify --no-contents ./result",
    "nix store verify -r ./result --sigs-needed 1",
    // Adding.
    "nix-store --add default.nix tree",
    "nix-store --add-fixed sha256 default.nix",
    "nix-store --add-fixed --recursive sha1 tree",
    "nix-store --add-fixed md5 default.nix",
    "nix-store --add nothing",
    "nix store add-file default.nix",
    "nix store add-path tree",
    "nix store add --mode flat --hash-algo sha512 default.nix",
    "nix store add --mode text --hash-algo sha256 default.nix",
    "nix store add --mode text --hash-algo sha512 default.nix",
    "nix store add --mode git --hash-algo sha1 default.nix",
    "nix store add --name 'not a name' default.nix",
    "nix store prefetch-file --json file://$PWD/default.nix",
    "nix-prefetch-url file://$PWD/more.nix",
    "nix derivation show -f . lines | sed 's/lines-1/other-1/g' > shown.json; nix derivation show -f . lines > /dev/null && echo shown",
    "nix-store --export $(nix-store -qR result) > exported; sha256sum < exported",
    "nix-store --import < exported",
    "head -c 1000 exported | nix-store --import",
    "nix store make-content-addressed ./result",
    "nix store make-content-addressed --json ./result-dev",
    // Copies and signatures.
    "nix copy --to file://$PWD/cache ./result && ls cache | wc -l",
    "nix copy --to $PWD/other ./result --no-check-sigs && nix path-info --store $PWD/other --all | wc -l",
    "nix-store --generate-binary-cache-key key-1 key key.pub; nix store sign -r -k key ./result && nix path-info --sigs ./result | wc -w",
    "nix copy --to file://$PWD/signed ./result && nix store copy-sigs -s file://$PWD/signed ./result",
    "rm -f result result-dev; rm -f links/*; nix-collect-garbage 2>&1 | tail -n 1 | grep -c freed",
    "nix path-info -f . b",
    "nix copy --from file://$PWD/cache $(nix-instantiate --eval -A b.outPath --json | tr -d '\"')",
    "nix copy --no-check-sigs --from file://$PWD/cache $(nix-instantiate --eval -A b.outPath --json | tr -d '\"')",
    "nix-build -A b --no-out-link",
    "nix store copy-log --from local?root=$PWD/nowhere ./default.nix",
    // Roots and collections.
    "nix-build -A b -o kept",
    "nix-store --gc --print-roots | sort",
    "nix-store --gc --print-live | sort",
    "nix-store --gc --print-dead | sort",
    "nix-store --delete $(readlink kept)",
    "nix store delete ./kept",
    "nix-store --delete $(nix-store --add tree)",
    "nix store delete $(nix-store --add tree)",
    "nix store gc --dry-run",
    "nix-env -f . -iA a -p $PWD/profile && readlink profile",
    "nix-env -f . -iA b -p $PWD/profile && nix-env -p $PWD/profile -q",
    "nix-env -p $PWD/profile --list-generations | awk '{print $1, $4}'",
    "nix-env -p $PWD/profile --rollback; nix-env -p $PWD/profile -q",
    "nix-env -p $PWD/profile --delete-generations +1",
    "nix-env -p $PWD/profile -e '.*'",
    "nix profile install --profile $PWD/profile2 -f . a && nix profile list --profile $PWD/profile2 --json",
    "nix-env --set -p $PWD/profile3 $(readlink kept) && readlink profile3-1-link",
    "rm -f kept profile*; nix-collect-garbage -d >/dev/null 2>&1; nix path-info --all | wc -l",
    "nix store gc 2>&1 | tail -n 1",
    // Upkeep.
    "nix-build -A b --no-out-link >/dev/null 2>&1; nix-store --verify --check-contents",
    "nix-store --verify --repair",
    "nix-store --optimise",
    "nix store optimise",
    "nix-store --repair-path $(nix-build -A a --no-out-link)",
    "nix store repair $(nix-build -A a --no-out-link)",
    "nix-store --dump-db | grep -c /",
    "nix store info 2>&1 | sed 's/^Version: .*//; s,^Store URL: .*,,'",
    // Settings and users' errors.
    "nix-build -A a --no-out-link --option nonsense 1",
    "nix-build -A a --no-out-link --option max-jobs many",
    "nix-build -A a --no-out-link --option timeout soon",
    "nix-build -A a --no-out-link --option builders 'nonsense nonsense nonsense -'",
    "nix-build -A nothing",
    "nix-build --nonsense",
    "nix-build -E 'throw \"thrown\"'",
    "nix-build more.nix -A floating --no-out-link",
    "nix store ping --json | sed 's/\"version\":\"[^\"]*\"//'",
    "nix doctor 2>&1 | grep -i -e pass -e fail",
];

/// The same where derivations may be content-addressed.
const CONTENT_ADDRESSED: &[&str] = &[
    "nix-build more.nix -A floating --no-out-link",
    "nix-build more.nix -A on-floating --no-out-link",
    "nix build -f more.nix on-floating floating --no-link --print-out-paths",
    "nix-store -q --outputs $(nix-instantiate more.nix -A floating)",
    "nix-store -r $(nix-instantiate more.nix -A on-floating)",
    "nix path-info -f more.nix on-floating",
    "nix realisation info --json -f more.nix floating",
    "nix realisation info --json -f . a",
    "nix copy --to file://$PWD/realised -f . b && ls realised realised/realisations | wc -l",
    "nix copy --to file://$PWD/realised -f more.nix on-floating && ls realised/realisations | wc -l",
    "nix build -f more.nix floating --rebuild --no-link",
    "nix-build more.nix -A floating-failure --no-out-link",
];

/// Beginnings of lines that only Nix says: of processes that Kiln does not have, and of steps that it does not take one by one.
const OF_NIX: [&str; 7] = [
    "resolved derivation: ",
    "removing stale ",
    "deleting unused links...",
    "note: currently hard linking saves ",
    "note: hard linking is currently saving ",
    "reading the Nix store...",
    "checking ",
];

/// What is said, in the order of the alphabet, since what does not depend on each other has no other; without errors, whose
/// words are Kiln's own.
fn said(ran: &Ran) -> Vec<String> {
    let is_compared = |line: &&str| {
        let is_of_nix =
            OF_NIX.iter().any(|beginning| line.starts_with(beginning)) && !line.contains("outputs of");
        !is_of_nix
            && !line.starts_with("       ")
            && !line.contains("error:")
            && !line.contains("executing '")
    };
    let mut lines: Vec<String> = ran.stderr.lines().filter(is_compared).map(alike).collect();
    lines.sort();
    lines
}

/// A line without the units of sizes and the kind of quotation marks, which differ between releases.
fn alike(line: &str) -> String {
    let line = line.split_once("iB freed").map_or(line, |(_, rest)| rest);
    line.replace('"', "'")
}

/// How a run ended, what it printed, what it said, and how many errors it told of.
fn essence(ran: &Ran) -> (Option<i32>, &str, Vec<String>, usize) {
    (ran.code, &ran.stdout, said(ran), errors(ran))
}

fn errors(ran: &Ran) -> usize {
    ran.stderr.lines().filter(|line| line.contains("error:") && !line.contains("error: executing '")).count()
}

fn shown(ran: &Ran) -> String {
    format!("{:?}\n{}{}", ran.code, ran.stdout, ran.stderr)
}

/// Runs scripts one after the other with both daemons of each release; Kiln's is started with more arguments.
pub(super) fn compare(settings: &str, arguments: &[&str], scripts: &[&str]) {
    each_release(|nix| {
        let Some(daemon) = daemon_with(settings, arguments) else { return };
        let _own = nix.start_daemon(&daemon);
        let mut differences = Vec::new();
        for script in scripts {
            let [kiln, own] = [Server::Kiln, Server::Own].map(|server| nix.script(&daemon, server, script));
            if essence(&kiln) != essence(&own) {
                let difference = format!(
                    "## {}: {script}\n# Kiln: {}\n# Nix: {}",
                    nix.release(),
                    shown(&kiln),
                    shown(&own)
                );
                differences.push(difference);
            }
        }
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    });
}

#[test]
fn newer_clients_get_the_answers_of_their_own_daemon() {
    compare("", &[], SCRIPTS);
}

#[test]
fn newer_clients_build_content_addressed_derivations() {
    compare("extra-experimental-features = ca-derivations\n", &[], CONTENT_ADDRESSED);
}
