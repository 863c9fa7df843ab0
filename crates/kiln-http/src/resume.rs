//! Going on where a transfer ended.

use crate::failure::Failure;
use hyper::StatusCode;
use hyper::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE,
    LAST_MODIFIED, RANGE,
};

/// How far a download is, over all its tries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// How many bytes have come.
    pub(crate) received: u64,
    /// How many there are in all, if the server said that.
    pub(crate) total: Option<u64>,
    /// What tells this version of the file from others.
    validator: Option<HeaderValue>,
    /// Whether the server sends parts of the file.
    resumable: bool,
    /// Whether what has come can't be taken back, so that only the very same file can go on.
    kept: bool,
    /// Whether the file comes in some coding, which may differ from time to time.
    is_coded: bool,
    /// How many of the next bytes have come before.
    pub(crate) repeated: u64,
}

/// What the head of an answer means for what has come so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// The file comes from its start.
    FromStart,
    /// The rest of the file comes.
    Rest,
}

impl Progress {
    /// The start of a download, of which nothing can be taken back when it is `kept`.
    pub(crate) fn new(kept: bool) -> Self {
        Self { kept, ..Self::default() }
    }

    /// Forgets that there was anything to go on with: the whole file is asked for next.
    pub(crate) fn start_over(&mut self) {
        if self.kept {
            self.resumable = false;
        } else {
            *self = Self::default();
        }
    }

    /// Takes note of bytes that have come, and says how many of them have come before.
    pub(crate) fn take(&mut self, length: u64) -> u64 {
        let repeated = length.min(self.repeated);
        self.repeated -= repeated;
        self.received = self.received.saturating_add(length - repeated);
        repeated
    }

    /// Whether the rest of the file can be asked for.
    pub(crate) fn can_go_on(&self) -> bool {
        self.received > 0 && self.resumable
    }

    /// The headers that ask for what is missing: none if that is everything.
    pub(crate) fn request_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if self.can_go_on()
            && let Ok(range) = HeaderValue::from_str(&format!("bytes={}-", self.received))
        {
            headers.insert(RANGE, range);
            if let Some(validator) = &self.validator {
                headers.insert(IF_RANGE, validator.clone());
            }
        }
        headers
    }

    /// Takes note of a good answer to a request with [these headers](Self::request_headers).
    ///
    /// # Errors
    /// If the answer is another part than was asked for, or none at all.
    pub(crate) fn answered(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<Head, Failure> {
        let is_coded = headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity");
        let validator = strong_tag(headers).or(headers.get(LAST_MODIFIED)).cloned();
        let head = match status {
            StatusCode::PARTIAL_CONTENT if self.can_go_on() => {
                self.goes_on(headers)?;
                Head::Rest
            }
            StatusCode::RANGE_NOT_SATISFIABLE if self.can_go_on() => return Err(Failure::NotResumed),
            status if status.is_success() && status != StatusCode::PARTIAL_CONTENT => {
                let length = number(headers.get(CONTENT_LENGTH));
                if self.kept && self.received > 0 {
                    let other_length = matches!((self.total, length), (Some(old), Some(new)) if old != new);
                    let other_file =
                        matches!((&self.validator, &validator), (Some(old), Some(new)) if old != new);
                    if self.is_coded || is_coded || other_length || other_file {
                        return Err(Failure::Changed);
                    }
                    self.repeated = self.received;
                    Head::Rest
                } else {
                    *self = Self { total: length, ..Self::new(self.kept) };
                    Head::FromStart
                }
            }
            status => return Err(Failure::Status(status)),
        };
        let has_parts = headers
            .get(ACCEPT_RANGES)
            .is_some_and(|units| units.as_bytes().trim_ascii().eq_ignore_ascii_case(b"bytes"));
        self.resumable = !is_coded && (has_parts || status == StatusCode::PARTIAL_CONTENT);
        self.is_coded = is_coded;
        self.validator = validator;
        Ok(head)
    }

    /// Checks that a part is the rest that is missing.
    fn goes_on(&mut self, headers: &HeaderMap) -> Result<(), Failure> {
        let (start, total) = headers.get(CONTENT_RANGE).and_then(content_range).ok_or(Failure::NotResumed)?;
        let other_total = matches!((self.total, total), (Some(old), Some(new)) if old != new);
        if start != self.received || other_total {
            return Err(Failure::NotResumed);
        }
        self.total = self.total.or(total);
        self.repeated = 0;
        Ok(())
    }
}

/// An `ETag` that stands for the very bytes.
fn strong_tag(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\""))
}

/// Start and whole length of `bytes START-END/LENGTH`; the length may be `*`.
fn content_range(value: &HeaderValue) -> Option<(u64, Option<u64>)> {
    let (range, length) = value.to_str().ok()?.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.trim().split_once('-')?;
    let (start, end): (u64, u64) = (start.parse().ok()?, end.parse().ok()?);
    let length = if length == "*" { None } else { Some(length.parse().ok()?) };
    (start <= end && length.is_none_or(|length| end < length)).then_some((start, length))
}

fn number(value: Option<&HeaderValue>) -> Option<u64> {
    value?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    /// After a first answer with these headers and some bytes.
    fn started(lines: &[(&'static str, &'static str)]) -> Progress {
        let mut progress = Progress::default();
        assert!(progress.request_headers().is_empty());
        assert_eq!(progress.answered(StatusCode::OK, &headers(lines)), Ok(Head::FromStart));
        progress.received = 10;
        progress
    }

    #[test]
    fn b11_the_rest_is_asked_for_where_the_server_has_parts() {
        let progress = started(&[("accept-ranges", "bytes"), ("etag", "\"a\""), ("content-length", "20")]);
        assert_eq!(progress.request_headers(), headers(&[("range", "bytes=10-"), ("if-range", "\"a\"")]));
        let weak = started(&[("accept-ranges", "Bytes"), ("etag", "W/\"a\""), ("last-modified", "then")]);
        assert_eq!(weak.request_headers(), headers(&[("range", "bytes=10-"), ("if-range", "then")]));
        let bare = started(&[("accept-ranges", "bytes"), ("content-encoding", "identity")]);
        assert_eq!(bare.request_headers(), headers(&[("range", "bytes=10-")]));
        for whole in [
            &[("accept-ranges", "none")][..],
            &[],
            &[("accept-ranges", "bytes"), ("content-encoding", "gzip")],
        ] {
            assert!(started(whole).request_headers().is_empty());
        }
    }

    #[test]
    fn b11_only_the_very_rest_is_taken() {
        let progress = started(&[("accept-ranges", "bytes"), ("content-length", "20")]);
        let answer = |status: u16, range: &'static str| {
            let mut progress = progress.clone();
            let headers = headers(&[("content-range", range)]);
            let head = progress.answered(StatusCode::from_u16(status).unwrap(), &headers)?;
            Ok((head, progress.received, progress.total))
        };
        assert_eq!(answer(206, "bytes 10-19/20"), Ok((Head::Rest, 10, Some(20))));
        assert_eq!(answer(206, "bytes 10-19/*"), Ok((Head::Rest, 10, Some(20))));
        assert_eq!(answer(200, ""), Ok((Head::FromStart, 0, None)));
        for wrong in ["", "bytes 9-19/20", "bytes 10-20/21", "bytes 10-9/20", "bytes */20", "items 10-19/20"]
        {
            assert_eq!(answer(206, wrong), Err(Failure::NotResumed), "{wrong}");
        }
        assert_eq!(answer(416, "bytes */20"), Err(Failure::NotResumed));
        assert_eq!(answer(404, ""), Err(Failure::Status(StatusCode::NOT_FOUND)));
    }

    #[test]
    fn what_was_used_is_passed_over_when_the_same_file_comes_again() {
        let start = [("etag", "\"a\""), ("content-length", "20")];
        let mut progress = Progress::new(true);
        assert_eq!(progress.answered(StatusCode::OK, &headers(&start)), Ok(Head::FromStart));
        assert_eq!(progress.take(10), 0);
        let again = |pairs: &[(&'static str, &'static str)]| {
            let mut progress = progress.clone();
            let head = progress.answered(StatusCode::OK, &headers(pairs));
            head.map(|head| (head, progress.take(4), progress.take(16), progress.received))
        };
        assert_eq!(again(&start), Ok((Head::Rest, 4, 6, 20)));
        assert_eq!(again(&[]), Ok((Head::Rest, 4, 6, 20)));
        for other in [("etag", "\"b\""), ("content-length", "21"), ("content-encoding", "gzip")] {
            assert_eq!(again(&[other]), Err(Failure::Changed), "{other:?}");
        }
        let mut parted = progress.clone();
        parted.start_over();
        assert!(parted.request_headers().is_empty() && parted.received == 10);
    }

    #[test]
    fn b11_a_part_that_nobody_asked_for_is_an_error() {
        let headers = headers(&[("content-range", "bytes 0-9/20")]);
        let failure = Progress::default().answered(StatusCode::PARTIAL_CONTENT, &headers);
        assert_eq!(failure, Err(Failure::Status(StatusCode::PARTIAL_CONTENT)));
    }
}
