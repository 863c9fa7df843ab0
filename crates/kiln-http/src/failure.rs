//! What can go wrong with a transfer, and what of it is worth another try.

use hyper::StatusCode;
use hyper_util::client::legacy;
use std::error::Error;
use std::time::Duration;
use thiserror::Error;

/// A download failed for good.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unable to download '{url}': {failure}")]
pub struct DownloadError {
    /// What was to be downloaded, without a password.
    pub url: String,
    /// What happened the last time that it was tried.
    pub failure: Failure,
}

/// What went wrong with one try.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Failure {
    /// It is no URL.
    #[error("it is not a valid URL: {0}")]
    InvalidUrl(String),
    /// It is a URL, but not of HTTP.
    #[error("the scheme '{0}' is not supported")]
    UnsupportedScheme(String),
    /// The server answered, but with something other than the file.
    #[error("HTTP error {}{}", .0.as_u16(), .0.canonical_reason().map(|reason| format!(" ({reason})")).unwrap_or_default())]
    Status(StatusCode),
    /// Servers sent each other the request.
    #[error("there were more than {0} redirects")]
    TooManyRedirects(usize),
    /// A server sent the request to where it can't go.
    #[error("the server redirects to '{location}', which can't be followed: {reason}")]
    Redirect {
        /// Where to, as the server said it.
        location: String,
        /// Why not.
        reason: String,
    },
    /// The server's certificate isn't one that can be trusted, or there is nobody to trust.
    #[error("TLS: {0}")]
    Trust(String),
    /// Who asks could not be said.
    #[error("{0}")]
    Credentials(String),
    /// There was no connection.
    #[error("couldn't connect to the server: {0}")]
    Connect(String),
    /// The connection broke, or what came over it wasn't HTTP.
    #[error("the transfer failed: {0}")]
    Transfer(String),
    /// Too little came.
    #[error("the transfer stalled: less than {} a second for {} s", bytes(*.slowest), .limit.as_secs_f32())]
    Stalled {
        /// In how much time.
        limit: Duration,
        /// Bytes a second that there should have been.
        slowest: u64,
    },
    /// The whole file did not come in the time that there was for it, other tries included.
    #[error("there was no whole answer within {} s", .0.as_secs_f32())]
    Overdue(Duration),
    /// There is more than anybody would want.
    #[error("there are more than {0} bytes")]
    TooLarge(u64),
    /// The transfer ended before everything had come.
    #[error("the transfer ended after {received} of {expected} bytes")]
    Incomplete {
        /// How much came.
        received: u64,
        /// How much should have.
        expected: u64,
    },
    /// Asked for the rest of a file, the server sent another part, or the rest of another file.
    #[error("the server does not go on where the transfer ended")]
    NotResumed,
    /// What was used of the file already can't be taken back, and the server has another one by now.
    #[error("the file has changed while it was downloaded")]
    Changed,
}

fn bytes(count: u64) -> String {
    if count == 1 { "a byte".to_owned() } else { format!("{count} bytes") }
}

/// When to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// It would end the same.
    Never,
    /// Soon, and later and later.
    Soon,
    /// Not before the server has had a rest.
    WhenRested,
}

impl DownloadError {
    /// The status of an answer that was something other than the file.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self.failure {
            Failure::Status(status) => Some(status.as_u16()),
            _ => None,
        }
    }

    /// Whether the server did not answer at all, so that it is no use to ask it for anything else either.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self.failure,
            Failure::Trust(_) | Failure::Connect(_) | Failure::Stalled { .. } | Failure::Overdue(_)
        )
    }
}

impl Failure {
    /// Whether another try may end better.
    pub(crate) fn retry(&self) -> Retry {
        match self {
            Self::InvalidUrl(_)
            | Self::UnsupportedScheme(_)
            | Self::TooManyRedirects(_)
            | Self::Redirect { .. }
            | Self::Trust(_)
            | Self::Credentials(_)
            | Self::Overdue(_)
            | Self::TooLarge(_)
            | Self::Changed => Retry::Never,
            Self::Status(StatusCode::TOO_MANY_REQUESTS) => Retry::WhenRested,
            Self::Status(StatusCode::REQUEST_TIMEOUT) => Retry::Soon,
            Self::Status(
                StatusCode::NOT_IMPLEMENTED
                | StatusCode::HTTP_VERSION_NOT_SUPPORTED
                | StatusCode::NETWORK_AUTHENTICATION_REQUIRED,
            ) => Retry::Never,
            Self::Status(status) if status.is_server_error() => Retry::Soon,
            Self::Status(_) => Retry::Never,
            Self::Connect(_)
            | Self::Transfer(_)
            | Self::Stalled { .. }
            | Self::Incomplete { .. }
            | Self::NotResumed => Retry::Soon,
        }
    }

    /// What the client says when it gets no answer.
    pub(crate) fn of_client(error: &legacy::Error) -> Self {
        if let Some(distrust) = distrust(error) {
            return Self::Trust(distrust);
        }
        let causes = causes(error.source());
        if error.is_connect() { Self::Connect(causes) } else { Self::Transfer(causes) }
    }

    /// What the body says when it ends early.
    pub(crate) fn of_body(error: &hyper::Error) -> Self {
        Self::Transfer(causes(Some(error)))
    }
}

/// What TLS has against the server, or why there is no TLS at all; nothing if something else is the cause.
fn distrust(error: &legacy::Error) -> Option<String> {
    chain(error.source()).find_map(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        let cause = io.and_then(std::io::Error::get_ref).map_or(cause, |inner| inner);
        match cause.downcast_ref::<rustls::Error>() {
            Some(error @ rustls::Error::InvalidCertificate(_)) => Some(error.to_string()),
            _ => cause.downcast_ref::<crate::tls::NoTls>().map(ToString::to_string),
        }
    })
}

/// An error and what caused it, in one line; what only repeats the cause is left out.
fn causes(error: Option<&(dyn Error + 'static)>) -> String {
    let mut texts: Vec<String> = Vec::new();
    for cause in chain(error) {
        let text = cause.to_string();
        if let Some(last) = texts.last_mut()
            && last.ends_with(&text)
        {
            continue;
        }
        texts.push(text);
    }
    texts.join(": ")
}

fn chain<'a>(error: Option<&'a (dyn Error + 'static)>) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error, |&error| error.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b11_what_is_worth_another_try() {
        let of_status = |code| Failure::Status(StatusCode::from_u16(code).unwrap()).retry();
        for code in [400, 401, 403, 404, 405, 407, 410, 418, 304, 501, 505, 511] {
            assert_eq!(of_status(code), Retry::Never, "{code}");
        }
        for code in [408, 500, 502, 503, 504, 599] {
            assert_eq!(of_status(code), Retry::Soon, "{code}");
        }
        assert_eq!(of_status(429), Retry::WhenRested);
    }

    #[test]
    fn messages_are_one_line() {
        let error =
            DownloadError { url: "http://a/".into(), failure: Failure::Status(StatusCode::NOT_FOUND) };
        assert_eq!(error.to_string(), "unable to download 'http://a/': HTTP error 404 (Not Found)");
        let unnamed = Failure::Status(StatusCode::from_u16(599).unwrap());
        assert_eq!(unnamed.to_string(), "HTTP error 599");
        let stalled = Failure::Stalled { limit: Duration::from_millis(1500), slowest: 1 };
        assert_eq!(stalled.to_string(), "the transfer stalled: less than a byte a second for 1.5 s");
    }
}
