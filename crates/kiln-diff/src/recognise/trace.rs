//! What changes from build to build and can be told by its look: times, build directories, hashes.

mod timestamp;

use crate::byte_string::ByteString;
use crate::pair::Pair;
use crate::report::content::Trace;
use kiln_hash::encoding::is_nix32_digit;
use std::ops::{Range, RangeInclusive};

/// Digits of the hash in a store path.
const STORE_HASH: usize = 32;

/// How many digits are taken for a hash or something random.
const HEXADECIMAL: RangeInclusive<usize> = 12..=128;

/// Directories that builds run in, or put what is temporary.
const BUILD_DIRECTORIES: &[&[u8]] =
    &[b"/build/", b"/tmp/", b"/private/tmp/", b"/var/tmp/", b"/var/folders/", b"/nix/var/nix/builds/"];

/// Finds the places of something in texts that are the same before a place and differ there.
type Find = fn(Pair<&[u8]>, usize) -> Option<Pair<Range<usize>>>;

/// What is recognised, the surest first.
const ALL: [(Trace, Find); 5] = [
    (Trace::StorePath, store_paths),
    (Trace::Uuid, uuids),
    (Trace::Timestamp, timestamp::timestamps),
    (Trace::BuildPath, build_paths),
    (Trace::Hexadecimal, hexadecimals),
];

/// What is recognised in two texts, without ends of lines, that are the same before `at` and differ there.
pub(super) fn trace(texts: Pair<&[u8]>, at: usize) -> Option<(Trace, Pair<ByteString>)> {
    ALL.iter().find_map(|(trace, find)| {
        let places = find(texts, at)?;
        let values = Pair::new(texts.a.get(places.a)?, texts.b.get(places.b)?);
        // What ends where the difference begins isn't it.
        (!values.are_equal()).then(|| (*trace, values.map(ByteString::from)))
    })
}

/// The stretch around `at` of bytes that are `wanted`.
fn stretch(text: &[u8], at: usize, wanted: impl Fn(u8) -> bool) -> Range<usize> {
    let (before, after) = text.split_at_checked(at).unwrap_or((text, b""));
    let start = before.iter().rposition(|byte| !wanted(*byte)).map_or(0, |place| place + 1);
    let end = after.iter().position(|byte| !wanted(*byte)).unwrap_or(after.len());
    start..before.len() + end
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_' | b'?' | b'=')
}

/// Paths in a store with the same name, where the difference is in the hash.
fn store_paths(texts: Pair<&[u8]>, at: usize) -> Option<Pair<Range<usize>>> {
    let hash = texts.map(|text| stretch(text, at, is_nix32_digit));
    if !hash.are_equal() || hash.a.len() != STORE_HASH {
        return None;
    }
    let (start, end) = (hash.a.start, hash.a.end);
    let name = texts.map(|text| stretch(text, end, is_of_name).end);
    let names = Pair::new(texts.a.get(end..name.a)?, texts.b.get(end..name.b)?);
    let is_path = texts.a.get(start.checked_sub(1)?) == Some(&b'/');
    if !is_path || !names.are_equal() || !names.a.starts_with(b"-") {
        return None;
    }
    let root =
        stretch(texts.a.get(..start)?, start, |byte| is_of_name(byte) && byte != b'=' || byte == b'/').start;
    Some(name.map(|end| root..end))
}

fn uuids(texts: Pair<&[u8]>, at: usize) -> Option<Pair<Range<usize>>> {
    let words = texts.map(|text| stretch(text, at, |byte| byte.is_ascii_hexdigit() || byte == b'-'));
    let is_uuid = |text: &[u8], word: Range<usize>| {
        let groups: Vec<usize> =
            text.get(word).unwrap_or_default().split(|byte| *byte == b'-').map(<[u8]>::len).collect();
        groups == [8, 4, 4, 4, 12]
    };
    (is_uuid(texts.a, words.a.clone()) && is_uuid(texts.b, words.b.clone())).then_some(words)
}

/// Paths at least one of which is in a directory where builds run.
fn build_paths(texts: Pair<&[u8]>, at: usize) -> Option<Pair<Range<usize>>> {
    let is_of_path =
        |byte: u8| !byte.is_ascii_whitespace() && !b"\"'`:;,=()<>[]{}|&".contains(&byte) && byte > 31;
    let words = texts.map(|text| stretch(text, at, is_of_path));
    let begin = |text: &[u8], word: Range<usize>| {
        let word_text = text.get(word.clone())?;
        let begins = |place: &usize| {
            let rest = word_text.get(*place..).unwrap_or_default();
            let begins_path = match word_text.get(..*place).unwrap_or_default() {
                // As in `-I/build/include`.
                [] | [b'-', _] => true,
                [.., before] => !is_of_name(*before) && *before != b'/',
            };
            begins_path && BUILD_DIRECTORIES.iter().any(|directory| rest.starts_with(directory))
        };
        // What begins after the difference doesn't explain it, except right there.
        (0..=at.saturating_sub(word.start)).find(begins).map(|place| word.start + place)
    };
    let begins = [begin(texts.a, words.a.clone()), begin(texts.b, words.b.clone())];
    let start = begins.into_iter().flatten().min()?;
    Some(words.map(|word| start..word.end))
}

fn hexadecimals(texts: Pair<&[u8]>, at: usize) -> Option<Pair<Range<usize>>> {
    let places = texts.map(|text| stretch(text, at, |byte| byte.is_ascii_hexdigit()));
    let words = Pair::new(texts.a.get(places.a.clone())?, texts.b.get(places.b.clone())?);
    let any = |word: &[u8], is_wanted: fn(&u8) -> bool| word.iter().any(is_wanted);
    let digits = words.map(|word| any(word, u8::is_ascii_digit));
    let letters = words.map(|word| any(word, u8::is_ascii_alphabetic));
    let is_hexadecimal = digits.a && digits.b && (letters.a || letters.b);
    (places.are_equal() && HEXADECIMAL.contains(&places.a.len()) && is_hexadecimal).then_some(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found in two texts, from where they differ.
    pub(super) fn found(a: &str, b: &str) -> Option<(Trace, String, String)> {
        let at = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
        let forth = trace(Pair::new(a.as_bytes(), b.as_bytes()), at);
        let back = trace(Pair::new(b.as_bytes(), a.as_bytes()), at);
        assert_eq!(forth.clone().map(|(trace, values)| (trace, values.mirrored())), back);
        forth.map(|(trace, values)| (trace, values.a.to_string(), values.b.to_string()))
    }

    fn check(a: &str, b: &str, trace: Trace, values: (&str, &str)) {
        assert_eq!(found(a, b), Some((trace, values.0.to_owned(), values.1.to_owned())), "{a} {b}");
    }

    #[test]
    fn store_paths_with_the_same_name() {
        let (one, other) = ("0c5b8vw40dy178xlpddw65q9gf1h2186", "g5nwy3rq40dwlzd8n3hj3nvbqs6zmdz7");
        let path = |hash: &str| format!("/nix/store/{hash}-hello-2.12");
        check(
            &format!("rpath={}/lib:x", path(one)),
            &format!("rpath={}/lib:x", path(other)),
            Trace::StorePath,
            (&path(one), &path(other)),
        );
        assert_eq!(found(&path(one), &format!("{}.1", path(other))), None, "another name");
        assert_eq!(found(&path(one), &path("0c5b")), None, "no hash");
    }

    #[test]
    fn random_looks() {
        let (one, other) = ("123e4567-e89b-12d3-a456-426614174000", "123e4567-e89b-42d3-a456-426614174000");
        check(&format!("id: {one}"), &format!("id: {other}"), Trace::Uuid, (one, other));
        check("v deadbeef0123 x", "v deadbeef0999 x", Trace::Hexadecimal, ("deadbeef0123", "deadbeef0999"));
        for (a, b) in [
            ("deadbeef01", "deadbeef02"),
            ("deadbeef01234", "deadbeef0123"),
            ("some words", "some wards"),
            ("123456789012345", "123456789012346"),
            ("deadbeef0123-a", "deadbeef0123-b"),
            ("aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"),
            ("123e4567-e89b-12d3-a456-426614174000 a", "123e4567-e89b-12d3-a456-426614174000 b"),
            ("", "x"),
        ] {
            assert_eq!(found(a, b), None, "{a} {b}");
        }
    }

    #[test]
    fn paths_of_builds() {
        check(
            "file '/build/source-1/x.c' line",
            "file '/build/source-2/x.c' line",
            Trace::BuildPath,
            ("/build/source-1/x.c", "/build/source-2/x.c"),
        );
        check(
            "-I/tmp/nix-build-a.drv-0/x",
            "-I/build/x",
            Trace::BuildPath,
            ("/tmp/nix-build-a.drv-0/x", "/build/x"),
        );
        check("/tmp/cc8f2Q.o", "/tmp/ccKw1z.o", Trace::BuildPath, ("/tmp/cc8f2Q.o", "/tmp/ccKw1z.o"));
        check("x=-L/build/a", "x=-L/home/a", Trace::BuildPath, ("/build/a", "/home/a"));
        assert_eq!(found("/usr/tmp/a", "/usr/tmp/b"), None);
        assert_eq!(found("/buildings/a", "/buildings/b"), None);
    }
}
