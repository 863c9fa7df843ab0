//! Times and sizes as people read them.

use std::time::Duration;

/// `5s`, `1m03s`, `2h05m`, `3d04h`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// Bytes in MiB with one decimal place, without the unit.
#[must_use]
pub fn mebibytes(bytes: u64) -> String {
    let tenths = u128::from(bytes) * 10 / (1 << 20);
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m00s"),
            (3599, "59m59s"),
            (3600, "1h00m"),
            (86_399, "23h59m"),
            (97_200, "1d03h"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0.0"),
            (104_857, "0.0"),
            (104_858, "0.1"),
            (10 << 20, "10.0"),
            (u64::MAX, "17592186044415.9"),
        ] {
            assert_eq!(mebibytes(bytes), text);
        }
    }
}
