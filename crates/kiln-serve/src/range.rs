//! The parts of an archive that a client asks for (RFC 9110, section 14).

use std::ops::Range;

/// What a `Range` means for something of a known size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Everything: there is no range, or none that is understood, which is to be ignored.
    Whole,
    /// The bytes at these offsets, which are there.
    Part(Range<u64>),
    /// Bytes of which there are none.
    Nothing,
}

impl Wanted {
    /// Reads the value of `Range`. Several ranges at once are ignored, as a server may.
    pub(crate) fn parse(header: &str, size: u64) -> Self {
        let range = header.trim().strip_prefix("bytes=").and_then(|range| range.split_once('-'));
        let Some((first, last)) = range else { return Self::Whole };
        let (first, last) = (first.trim(), last.trim());
        let (start, end) = if first.is_empty() {
            // So many bytes at the end.
            let Some(length) = number(last) else { return Self::Whole };
            (if length == 0 { size } else { size.saturating_sub(length) }, size)
        } else {
            let Some(start) = number(first) else { return Self::Whole };
            let end =
                if last.is_empty() { Some(size) } else { number(last).map(|last| last.saturating_add(1)) };
            match end {
                Some(end) if start < end || start >= size => (start, end.min(size)),
                _ => return Self::Whole,
            }
        };
        if start < size { Self::Part(start..end) } else { Self::Nothing }
    }
}

/// Digits alone; a number that is too large counts as the largest.
fn number(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_mean_what_they_say() {
        for (header, wanted) in [
            ("bytes=0-", Wanted::Part(0..100)),
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=10-19", Wanted::Part(10..20)),
            (" bytes=99- ", Wanted::Part(99..100)),
            ("bytes=10-99999999999999999999999", Wanted::Part(10..100)),
            ("bytes=-1", Wanted::Part(99..100)),
            ("bytes=-1000", Wanted::Part(0..100)),
            ("bytes=100-", Wanted::Nothing),
            ("bytes=100-50", Wanted::Nothing),
            ("bytes=99999999999999999999999-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
        ] {
            assert_eq!(Wanted::parse(header, 100), wanted, "{header}");
        }
        for ignored in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-4",
            "bytes=0-1,5-6",
            "bytes=+1-",
            "bytes=0x1-",
            "lines=1-2",
        ] {
            assert_eq!(Wanted::parse(ignored, 100), Wanted::Whole, "{ignored}");
        }
    }

    proptest! {
        #[test]
        fn a_part_is_never_empty_and_always_there(header in "(bytes=)?[-0-9, ]{0,30}", size in 1_u64..1000) {
            if let Wanted::Part(part) = Wanted::parse(&header, size) {
                prop_assert!(part.start < part.end && part.end <= size);
            }
        }
    }
}
