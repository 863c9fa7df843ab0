//! Sizes and times as people write and read them.

use std::time::Duration;

/// Bytes as MiB.
pub(crate) fn mebibytes(bytes: u64) -> String {
    // Exact to the hundredth that is shown for all but absurd sizes.
    #[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
    let size = bytes as f64 / f64::from(1 << 20);
    format!("{size:.2} MiB")
}

/// Reads a size: bytes, or with `K`, `M`, `G` or `T` after the number that many KiB, MiB, GiB or TiB.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    const UNITS: [(char, u32); 4] = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];
    let last = text.chars().next_back().map(|letter| letter.to_ascii_uppercase());
    let (number, shift) = match UNITS.into_iter().find(|(unit, _)| Some(*unit) == last) {
        Some((_, shift)) => (text.get(..text.len() - 1).unwrap_or_default(), shift),
        None => (text, 0),
    };
    let size = digits(number).and_then(|number| number.checked_mul(1 << shift));
    size.ok_or_else(|| "expected a number of bytes, possibly with K, M, G or T after it".to_owned())
}

/// Reads an age: a number with `h`, `d` or `w` after it for hours, days or weeks.
pub(crate) fn parse_age(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 3] = [("h", 3600), ("d", 24 * 3600), ("w", 7 * 24 * 3600)];
    let age =
        UNITS.into_iter().find_map(|(unit, seconds)| digits(text.strip_suffix(unit)?)?.checked_mul(seconds));
    age.map(Duration::from_secs).ok_or_else(|| "expected an age such as '30d', '2w' or '12h'".to_owned())
}

fn digits(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, size) in [
            ("0", 0),
            ("17", 17),
            ("2K", 2048),
            ("2k", 2048),
            ("3M", 3 << 20),
            ("1G", 1 << 30),
            ("1T", 1 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(size), "{text}");
        }
        for text in ["", "K", "-1", "+1", "1.5G", "1KB", "99999999999999999999", "99999999999T", "1é"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!(mebibytes(3 << 19), "1.50 MiB");
    }

    #[test]
    fn ages() {
        for (text, hours) in [("30d", 720), ("2w", 336), ("12h", 12), ("0d", 0)] {
            assert_eq!(parse_age(text), Ok(Duration::from_secs(hours * 3600)), "{text}");
        }
        for text in ["", "d", "30", "30m", "-1d", "1 d", "99999999999999999999d", "9999999999999999999w"] {
            assert!(parse_age(text).is_err(), "{text}");
        }
    }
}
