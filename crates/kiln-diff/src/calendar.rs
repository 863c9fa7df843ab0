//! Points in time as people write them.

use crate::byte_string::ByteString;

const DAY: u64 = 86_400;

/// Seconds since 1970 as ISO 8601 in UTC.
pub(crate) fn utc(seconds: u64) -> ByteString {
    let (days, second) = (seconds / DAY, seconds % DAY);
    // The calendar repeats every 400 years, counted here from 1 March of the year 0.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + next;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z").into()
}

/// The time that MS-DOS, and so zip, writes as `date` and `time`: local, of two seconds.
pub(crate) fn ms_dos(date: u16, time: u16) -> ByteString {
    let (year, month, day) = (1980 + (date >> 9), date >> 5 & 15, date & 31);
    let (hour, minute, second) = (time >> 11, time >> 5 & 63, (time & 31) * 2);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `date -u -d @…` writes them.
    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_704_067_199, "2023-12-31T23:59:59Z"),
            (1_709_251_200, "2024-03-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_800, "10000-01-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds).to_string(), text);
        }
        assert!(utc(u64::MAX).to_string().ends_with('Z'));
    }

    #[test]
    fn dates_of_ms_dos() {
        assert_eq!(ms_dos(0x0021, 0).to_string(), "1980-01-01T00:00:00");
        assert_eq!(ms_dos(0x5821, 0xbf7d).to_string(), "2024-01-01T23:59:58");
        assert_eq!(ms_dos(0xffff, 0xffff).to_string(), "2107-15-31T31:63:62");
    }
}
