//! How long to wait before trying again.

use crate::failure::Retry;
use hyper::header::{HeaderMap, RETRY_AFTER};
use std::time::{Duration, SystemTime};

/// The first wait after a failure, and the one after a server's word that it has had too many requests.
const SOON: f64 = 0.25;
const RESTED: f64 = 60.0;

/// The longest wait, whatever the server asks for.
const LONGEST: Duration = Duration::from_secs(600);

/// The wait after the try number `tried`, the first being 1; nothing if there is no use in another one. It doubles from
/// try to try and has some chance in it, so that clients who failed together don't come back together: `chance` is
/// between 0 and 1. `asked` is what the server asked for.
pub(crate) fn delay(tried: u32, retry: Retry, asked: Option<Duration>, chance: f64) -> Option<Duration> {
    let base = match (retry, asked) {
        (Retry::Never, _) => return None,
        (Retry::Soon, _) | (Retry::WhenRested, Some(_)) => SOON,
        (Retry::WhenRested, None) => RESTED,
    };
    let exponent = f64::from(tried.saturating_sub(1)) + chance.clamp(0.0, 1.0) / 2.0;
    let usual = Duration::try_from_secs_f64(base * exponent.exp2()).unwrap_or(LONGEST);
    Some(usual.max(asked.unwrap_or_default()).min(LONGEST))
}

/// How long a server asks its clients to stay away: a number of seconds, or a date.
pub(crate) fn asked_for(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default()),
    }
}

/// A number between 0 and 1 that nobody can tell beforehand.
pub(crate) fn chance() -> f64 {
    let mut random = [0_u8; 4];
    // Without chance, all goes well too, just more evenly.
    let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn b11_waits_double() {
        let ms =
            |tried, retry, asked, chance| delay(tried, retry, asked, chance).map(|delay| delay.as_millis());
        assert_eq!(ms(1, Retry::Never, Some(LONGEST), 0.5), None);
        assert_eq!(ms(1, Retry::Soon, None, 0.0), Some(250));
        assert_eq!(ms(2, Retry::Soon, None, 0.0), Some(500));
        assert_eq!(ms(4, Retry::Soon, None, 0.0), Some(2000));
        assert_eq!(ms(1, Retry::Soon, None, 1.0), Some(353));
        assert_eq!(ms(1, Retry::WhenRested, None, 0.0), Some(60_000));
        let asked = Some(Duration::from_secs(3));
        assert_eq!(ms(1, Retry::WhenRested, asked, 0.0), Some(3000));
        assert_eq!(ms(1, Retry::Soon, asked, 0.0), Some(3000));
        assert_eq!(ms(9, Retry::Soon, asked, 0.0), Some(64_000));
        assert_eq!(ms(1, Retry::Soon, Some(Duration::MAX), 0.0), Some(600_000));
        assert_eq!(ms(u32::MAX, Retry::Soon, None, 0.0), Some(600_000));
    }

    #[test]
    fn b11_servers_say_when_to_come_back() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let asked = |value: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
            asked_for(&headers, now).map(|asked| asked.as_secs())
        };
        assert_eq!(asked("120"), Some(120));
        assert_eq!(asked("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(asked("Sun, 06 Nov 1994 08:40:37 GMT"), Some(0));
        assert_eq!(asked("soon"), None);
        assert_eq!(asked("-1"), None);
        assert_eq!(asked_for(&HeaderMap::new(), now), None);
    }

    proptest! {
        #[test]
        fn no_wait_is_too_long(tried: u32, asked: Option<u64>, rest: bool) {
            let retry = if rest { Retry::WhenRested } else { Retry::Soon };
            let delay = delay(tried, retry, asked.map(Duration::from_secs), chance()).unwrap();
            prop_assert!(delay >= Duration::from_millis(250) && delay <= LONGEST);
        }
    }
}
