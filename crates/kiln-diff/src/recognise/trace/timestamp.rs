//! Dates and times in the ways that tools write them.

use super::stretch;
use crate::pair::Pair;
use std::ops::Range;

/// How dates and times look. `0` is a digit, `Y` a year, `D` the day of a month in one or two digits or with a space,
/// `M` the name of a month and `W` that of a weekday in English, whole or three letters of it, `Z` a time zone in capitals.
const LOOKS: &[&str] = &[
    "Y-00-00",
    "Y-00-00T00:00",
    "Y-00-00T00:00:00",
    "Y-00-00 00:00",
    "Y-00-00 00:00:00",
    "Y/00/00",
    "Y/00/00 00:00:00",
    "00/00/Y",
    "00.00.Y",
    "00:00",
    "00:00:00",
    // What compilers put for __DATE__ and __TIMESTAMP__, the second also being that of ctime.
    "M D Y",
    "M D Y 00:00:00",
    "W M D 00:00:00 Y",
    // As `date` writes it, and mail.
    "W M D 00:00:00 Z Y",
    "W, D M Y 00:00:00",
    "D M Y",
    "D M Y 00:00:00",
    "D-M-Y",
    "M D, Y",
    // Without separators.
    "Y0000T000000",
    "Y0000000000",
    "Y0000",
];

const MONTHS: &[&str] = &[
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: &[&str] = &["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// The most bytes before the difference at which a time may begin.
const FARTHEST: usize = 40;

/// Seconds since 1970 that are taken for a time: those of ten digits before 2100, no further apart than ten years.
const SECONDS: Range<u64> = 1_000_000_000..4_102_444_800;
const FAR_APART: u64 = 10 * 31_557_600;

/// The dates or times in texts that are the same before `at` and differ there.
pub(super) fn timestamps(texts: Pair<&[u8]>, at: usize) -> Option<Pair<Range<usize>>> {
    (at.saturating_sub(FARTHEST)..=at)
        .find_map(|start| written(texts, start, at))
        .or_else(|| seconds(texts, at))
}

/// The longest date or time that begins at `start` in both texts and goes on after `at`.
fn written(texts: Pair<&[u8]>, start: usize, at: usize) -> Option<Pair<Range<usize>>> {
    let is_middle =
        start.checked_sub(1).and_then(|before| texts.a.get(before)).is_some_and(u8::is_ascii_alphanumeric);
    if is_middle {
        return None;
    }
    let ends = |look: &&str| {
        let end = |text: &[u8]| Some(start + matches(look, text.get(start..)?)?);
        let ends = Pair::new(end(texts.a)?, end(texts.b)?);
        (ends.a > at && ends.b > at).then_some(ends)
    };
    let ends = LOOKS.iter().filter_map(ends).max_by_key(|ends| ends.a.max(ends.b))?;
    Some(ends.map(|end| start..end))
}

/// Length of what is at the start of `text`, if it looks as wanted.
fn matches(look: &str, text: &[u8]) -> Option<usize> {
    let mut rest = text;
    for token in look.bytes() {
        rest = match token {
            b'0' => digits(rest, 1)?,
            b'Y' => digits(rest, 4).filter(|_| rest.starts_with(b"19") || rest.starts_with(b"20"))?,
            b'D' => digits(rest, 2)
                .or_else(|| digits(rest, 1))
                .or_else(|| rest.strip_prefix(b" ").and_then(|rest| digits(rest, 1)))?,
            b'M' => name(rest, MONTHS)?,
            b'W' => name(rest, WEEKDAYS)?,
            b'Z' => {
                let end = rest.iter().position(|byte| !byte.is_ascii_uppercase()).unwrap_or(rest.len());
                rest.get(end..).filter(|_| (1..=5).contains(&end))?
            }
            literal => rest.strip_prefix(&[literal])?,
        };
    }
    let length = text.len() - rest.len() + if look.contains("00:00") { fraction_and_zone(rest) } else { 0 };
    // More digits mean something else.
    (!text.get(length).is_some_and(u8::is_ascii_digit)).then_some(length)
}

fn digits(text: &[u8], count: usize) -> Option<&[u8]> {
    let (digits, rest) = text.split_at_checked(count)?;
    digits.iter().all(u8::is_ascii_digit).then_some(rest)
}

fn name<'t>(text: &'t [u8], names: &[&str]) -> Option<&'t [u8]> {
    let whole = names.iter().find_map(|name| text.strip_prefix(name.as_bytes()));
    whole.or_else(|| names.iter().find_map(|name| text.strip_prefix(name.as_bytes().get(..3)?)))
}

/// Length of what may follow a time: `.123456`, `Z`, ` UTC`, `+01:00`, ` -0800`.
fn fraction_and_zone(text: &[u8]) -> usize {
    let mut rest = text;
    if let Some(fraction) = rest.strip_prefix(b".").filter(|fraction| digits(fraction, 1).is_some()) {
        let end = fraction.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(fraction.len());
        rest = fraction.get(end..).unwrap_or_default();
    }
    let zone = rest.strip_prefix(b" ").unwrap_or(rest);
    let offset = || {
        let hours = zone.strip_prefix(b"+").or_else(|| zone.strip_prefix(b"-"))?;
        let minutes = digits(hours, 2)?;
        digits(minutes.strip_prefix(b":").unwrap_or(minutes), 2)
    };
    let named = || [&b"UTC"[..], b"GMT"].iter().find_map(|name| zone.strip_prefix(*name));
    let after = rest.strip_prefix(b"Z").or_else(named).or_else(offset).unwrap_or(rest);
    text.len() - after.len()
}

/// Seconds or milliseconds since 1970 that aren't far apart.
fn seconds(texts: Pair<&[u8]>, at: usize) -> Option<Pair<Range<usize>>> {
    let places = texts.map(|text| stretch(text, at, |byte| byte.is_ascii_digit()));
    let value = |text: &[u8], place: Range<usize>| {
        let before = place.start.checked_sub(1).and_then(|before| text.get(before));
        if before.is_some_and(u8::is_ascii_alphanumeric) {
            return None;
        }
        let value: u64 = std::str::from_utf8(text.get(place.clone())?).ok()?.parse().ok()?;
        let seconds = match place.len() {
            10 => value,
            13 => value / 1000,
            _ => return None,
        };
        SECONDS.contains(&seconds).then_some(seconds)
    };
    let (a, b) = (value(texts.a, places.a.clone())?, value(texts.b, places.b.clone())?);
    (a.abs_diff(b) <= FAR_APART).then_some(places)
}

#[cfg(test)]
mod tests {
    use super::super::tests::found;
    use crate::report::content::Trace;

    #[test]
    fn as_tools_write_them() {
        for (a, b) in [
            ("2024-01-01", "2024-01-02"),
            ("2024-01-01T10:00:00Z", "2024-01-01T10:00:07Z"),
            ("2024-01-01 10:00:00.123456 +0100", "2024-01-01 10:00:00.223456 +0100"),
            ("2024-01-01T10:00:00+01:00", "2023-12-31T10:00:00+01:00"),
            ("2024/01/01 10:00:00", "2024/01/01 10:00:01"),
            ("31/12/2023", "01/01/2024"),
            ("Jan  9 2024", "Jan 10 2024"),
            ("Jan  9 2024 10:00:00", "Jan  9 2024 10:00:01"),
            ("Mon Jan  1 10:00:00 2024", "Tue Jan  2 09:00:00 2024"),
            ("Mon Jan  1 10:00:00 UTC 2024", "Mon Jan  1 10:00:01 CEST 2024"),
            ("Mon, 01 Jan 2024 10:00:00 +0000", "Mon, 01 Jan 2024 10:00:01 +0000"),
            ("1 January 2024", "2 February 2024"),
            ("May 1, 2024", "May 12, 2024"),
            ("10:00:00", "10:00:01"),
            ("20240101", "20240102"),
            ("20240101T100000Z", "20240101T100001Z"),
            ("20240101100000", "20240101100001"),
            ("1704067200", "1704067260"),
            ("1704067200123", "1704067260123"),
        ] {
            for (before, after) in [("", ""), ("built on ", ", by us"), ("T=\"", "\"")] {
                let text = |time: &str| format!("{before}{time}{after}");
                let (trace, x, y) = found(&text(a), &text(b)).unwrap_or_else(|| panic!("{a} {b}"));
                assert_eq!(trace, Trace::Timestamp);
                let is_same = |x: &str, a: &str| x == a || format!("{x}Z") == a;
                assert!(is_same(&x, a) && is_same(&y, b), "{x} {y} in {a} {b}");
            }
        }
    }

    #[test]
    fn what_is_none() {
        for (a, b) in [
            ("1704067200", "4104067200"),
            ("170406720", "170406721"),
            ("17040672001", "17040672002"),
            ("2024-01-0", "2024-01-1"),
            ("v20240101x5", "v20240102x5"),
            ("31240101", "31240102"),
            ("2024-01-011", "2024-01-012"),
            ("Janus 1 2024", "Janus 2 2024"),
        ] {
            assert_eq!(found(a, b), None, "{a} {b}");
        }
        assert_eq!(found("2024-01-01 and 5", "2024-01-01 and 6"), None, "the time is the same");
    }
}
