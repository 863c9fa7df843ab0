//! Text: which line, what is known to change, and other orders.

use super::{compared, compared_within, findings};
use kiln_diff::{Limits, Observation, Trace};

#[test]
fn the_line_that_differs() {
    assert_eq!(
        findings("x", b"one\ntwo\nthree\n", b"one\n2\nthree\n"),
        ["line 2 in A: two\n                line 2 in B: 2"]
    );
    assert_eq!(findings("x", b"one\n", b"one\ntwo"), ["line 2 in A: \n                line 2 in B: two"]);
    let many = "line\n".repeat(100_000);
    let told = findings("x", (many.clone() + "a").as_bytes(), (many + "b").as_bytes());
    assert_eq!(told, ["line 100001 in A: a\n                line 100001 in B: b"]);
}

#[test]
fn long_lines_are_shortened() {
    let line = |middle: &str| format!("{}{middle}{}", "ä".repeat(1000), "ö".repeat(1000));
    let difference = compared("x", line("1").as_bytes(), line("2").as_bytes());
    let Observation::Line { number: 1, lines } = &difference.findings[0].observation else { panic!() };
    let a = std::str::from_utf8(lines.a.as_bytes()).expect("whole characters");
    assert_eq!(a, format!("…{}1{}…", "ä".repeat(30), "ö".repeat(59)));
}

#[test]
fn other_orders() {
    assert_eq!(findings("x", b"b\na\nc\n", b"a\nb\nc\n")[1], "the same 3 lines in another order");
    // Longer than a window, and without an end of the last line.
    let lines: Vec<String> = (0..1000).map(|number| format!("{number} {}", "x".repeat(number))).collect();
    let (forth, back) = (lines.join("\n"), lines.iter().rev().cloned().collect::<Vec<_>>().join("\n"));
    let told = findings("x", forth.as_bytes(), back.as_bytes());
    assert_eq!(told[1], "the same 1000 lines in another order");
    let long = |first: char, second: char| {
        format!("{}\n{}\n", first.to_string().repeat(100_000), second.to_string().repeat(100_000))
    };
    let told = findings("x", long('a', 'b').as_bytes(), long('b', 'a').as_bytes());
    assert_eq!(told[1], "the same 2 lines in another order");
    assert_eq!(findings("x", b"b\na\n", b"a\na\n").len(), 1, "not the same lines");
    assert_eq!(findings("x", b"b\na\na\n", b"a\nb\nb\n").len(), 1, "not as often");
    assert_eq!(findings("x", b"b\na\nc\n", b"a\nb\n").len(), 1, "not as many");
}

#[test]
fn what_is_known_to_change() {
    let trace = |a: &str, b: &str| {
        compared("x", a.as_bytes(), b.as_bytes()).findings.into_iter().find_map(|finding| {
            match finding.observation {
                Observation::Trace { trace, values } => {
                    Some((trace, values.a.to_string(), values.b.to_string()))
                }
                _ => None,
            }
        })
    };
    let expected = |trace, a: &str, b: &str| Some((trace, a.to_owned(), b.to_owned()));
    assert_eq!(
        trace("a\nSOURCE: /build/x/y.c\n", "a\nSOURCE: /build/z/y.c\n"),
        expected(Trace::BuildPath, "/build/x/y.c", "/build/z/y.c")
    );
    assert_eq!(
        trace("\nBuilt Mon Jan  1 10:00:00 UTC 2024.\n", "\nBuilt Mon Jan  1 10:00:59 UTC 2024.\n"),
        expected(Trace::Timestamp, "Mon Jan  1 10:00:00 UTC 2024", "Mon Jan  1 10:00:59 UTC 2024")
    );
    let far = "x".repeat(10_000);
    assert_eq!(
        trace(&format!("{far} t=1704067200;{far}"), &format!("{far} t=1704067999;{far}")),
        expected(Trace::Timestamp, "1704067200", "1704067999")
    );
    assert_eq!(trace("a word\n", "a ward\n"), None);
}

/// What is told of text is in the middle of other bytes, too.
#[test]
fn words_in_other_bytes() {
    let a = b"\0\x01\x02 built 2024-01-01 \0\0";
    let b = b"\0\x01\x02 built 2024-05-05 \0\0";
    assert_eq!(findings("x", a, b), ["time '2024-01-01' in A, '2024-05-05' in B"]);
    assert_eq!(findings("x", b"\0\x01a\0", b"\0\x01b\0"), Vec::<String>::new());
}

#[test]
fn limits_are_said() {
    let limits = Limits { bytes_examined: 10, bytes_after_difference: 4, ..Limits::default() };
    let difference = compared_within("x", b"0123456789abc_efghi", b"0123456789abc-xxxxx", &limits);
    assert_eq!((difference.first_difference, difference.compared, difference.not_compared), (13, 17, 2));
    assert_eq!(difference.differing_bytes, 4);
    assert_eq!(difference.findings.len(), 1);
    assert_eq!(difference.findings[0].observation, Observation::NotExamined);
    let text = difference.to_string();
    assert!(text.contains("; the last 2 bytes not compared\n"), "{text}");

    let none = Limits { findings: 0, ..Limits::default() };
    let difference = compared_within("x", b"a", b"b", &none);
    assert_eq!((difference.findings.len(), difference.findings_omitted), (0, 0));
    let one = Limits { findings: 1, ..Limits::default() };
    let difference = compared_within("x", b"/build/a", b"/build/b", &one);
    assert_eq!((difference.findings.len(), difference.findings_omitted), (1, 1));
}
