//! What real tools make, twice, at other times or in other places.

use super::findings;
use kiln_testing::missing;
use std::path::Path;
use std::process::Command;

/// Runs a script for the shell in a scratch directory, once with `TIME` and `PLACE` of A and once with those of B, and says
/// what is found in the file that it made. Nothing if a tool is missing.
fn made(tools: &[&str], file: &str, script: &str) -> Option<Vec<String>> {
    for tool in tools {
        let found = Command::new("sh").args(["-c", "command -v \"$0\" >/dev/null", tool]).status().unwrap();
        if !found.success() {
            missing(tool);
            return None;
        }
    }
    let scratch = tempfile::tempdir().unwrap();
    let make = |place: &str, time: &str| {
        let place = scratch.path().join(place);
        std::fs::create_dir(&place).unwrap();
        run(script, &place, time);
        std::fs::read(place.join(file)).unwrap()
    };
    let (a, b) = (make("one", "2024-01-01T10:00:00"), make("two", "2025-02-02T20:20:20"));
    Some(findings(file, &a, &b))
}

fn run(script: &str, place: &Path, time: &str) {
    let output = Command::new("sh")
        .args(["-euc", script])
        .current_dir(place)
        .env("TIME", time)
        .env("PLACE", place)
        .env("TZ", "UTC")
        .env_remove("SOURCE_DATE_EPOCH")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

const SOURCE: &str = "echo 'int f(void) { return 1; }' > f.c; echo 'int g(void) { return 2; }' > g.c; ";

#[test]
fn ar_with_dates() {
    let script =
        format!("{SOURCE} gcc -c f.c g.c; touch -d $TIME g.o; touch -d 2024-01-01 f.o; ar rcU x.a f.o g.o");
    let Some(told) = made(&["gcc", "ar"], "x.a", &script) else { return };
    let of_member: Vec<&String> = told.iter().filter(|told| told.contains("g.o")).collect();
    assert_eq!(
        of_member,
        [
            "ar member g.o: modification time 2024-01-01T10:00:00Z in A, 2025-02-02T20:20:20Z in B; same contents"
        ]
    );
    assert!(!told.iter().any(|told| told.contains("f.o")), "{told:?}");
}

#[test]
fn gcc_with_debug_information() {
    let script = format!("{SOURCE} gcc -g -c \"$PLACE/f.c\" -o f.o");
    let Some(told) = made(&["gcc"], "f.o", &script) else { return };
    assert!(told.iter().any(|told| told.starts_with("ELF section .debug_")), "{told:?}");
    assert!(told.iter().any(|told| told.contains(": build path '/")), "{told:?}");
}

#[test]
fn gcc_with_build_ids() {
    let script = "echo 'int f(void) { return TWO; }' > f.c; \
                  case $TIME in 2024*) two=1;; *) two=2;; esac; \
                  gcc -shared -fPIC -nostdlib -Wl,--build-id -DTWO=$two f.c -o f.so";
    let Some(told) = made(&["gcc"], "f.so", script) else { return };
    let id = told.iter().find(|told| told.starts_with("ELF section .note.gnu.build-id: build id ")).unwrap();
    let digits = id.split_whitespace().filter(|word| word.len() == 40).count();
    assert_eq!(digits, 2, "{id}");
    assert!(told.iter().any(|told| told.starts_with("ELF section .text: contents differ")), "{told:?}");
}

#[test]
fn gcc_with_dates() {
    let script = "echo 'const char *date = __DATE__ \" \" __TIME__;' > f.c; \
                  SOURCE_DATE_EPOCH=$(date -d $TIME +%s) gcc -c f.c";
    let Some(told) = made(&["gcc"], "f.o", script) else { return };
    assert!(
        told.contains(&".rodata: time 'Jan  1 2024 10:00:00' in A, 'Feb  2 2025 20:20:20' in B".to_owned())
            || told.contains(
                &".rodata.str1.1: time 'Jan  1 2024 10:00:00' in A, 'Feb  2 2025 20:20:20' in B".to_owned()
            ),
        "{told:?}"
    );
}

#[test]
fn gzip_with_dates() {
    let Some(told) = made(&["gzip"], "x.gz", "echo text > x; touch -d $TIME x; gzip x") else { return };
    assert_eq!(
        told,
        ["gzip file: modification time 2024-01-01T10:00:00Z in A, 2025-02-02T20:20:20Z in B; same contents"]
    );
    let Some(told) = made(
        &["gzip"],
        "x.gz",
        "yes text | head -c 10000 > x; case $TIME in 2024*) l=1;; *) l=9;; esac; gzip -n$l x",
    ) else {
        return;
    };
    assert!(!told[0].contains("crc"), "the same was compressed: {told:?}");
}

#[test]
fn zip_with_dates() {
    let script = "mkdir d; echo text > d/x; echo other > d/y; touch -d 2024-01-01 d/y d; touch -d $TIME d/x; \
                  zip -q x.zip d/x d/y";
    let Some(told) = made(&["zip"], "x.zip", script) else { return };
    let of_entry: Vec<&String> = told.iter().filter(|told| told.contains("modification time 2")).collect();
    assert_eq!(of_entry.len(), 1, "{told:?}");
    assert!(of_entry[0].starts_with("zip entry d/x: "), "{told:?}");
    for part in [
        "modification time 2024-01-01T10:00:00 in A, 2025-02-02T20:20:20 in B; ",
        "modification time utc 2024-01-01T10:00:00Z in A, 2025-02-02T20:20:20Z in B; ",
        "same contents",
    ] {
        assert!(of_entry[0].contains(part), "{told:?}");
    }
}

#[test]
fn tar_with_dates() {
    for format in ["gnu", "posix", "ustar"] {
        let script = format!(
            "long=$(printf 'n%.0s' $(seq 90)); mkdir -p $long; echo text > $long/$long; echo other > y; \
             touch -d $TIME $long/$long; touch -d 2024-01-01 y $long; \
             tar --format={format} --pax-option=delete=atime,delete=ctime -cf x.tar $long/$long y"
        );
        let script = if format == "posix" {
            script
        } else {
            script.replace("--pax-option=delete=atime,delete=ctime", "")
        };
        let Some(told) = made(&["tar"], "x.tar", &script) else { return };
        let long = "n".repeat(90);
        assert_eq!(
            told,
            [format!(
                "tar entry {long}/{long}: modification time 2024-01-01T10:00:00Z in A, 2025-02-02T20:20:20Z in B; \
             same contents"
            )],
            "{format}"
        );
    }
}

#[test]
fn python_with_dates() {
    let script = "echo 'x = 1' > m.py; touch -d $TIME m.py; \
                  python3 -c 'import py_compile; py_compile.compile(\"m.py\", \"m.pyc\", dfile=\"m.py\")'";
    let Some(told) = made(&["python3"], "m.pyc", script) else { return };
    assert_eq!(
        told,
        [
            "Python bytecode file: source modification time 2024-01-01T10:00:00Z in A, 2025-02-02T20:20:20Z in B; \
         same contents"
        ]
    );
}
