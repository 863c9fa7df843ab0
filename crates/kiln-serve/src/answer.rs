//! Answers: status, head and content, and what is answered when there is nothing to give.

use std::io;

use bytes::Bytes;
use hyper::header::{
    ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};

use crate::body::Content;

/// Text that people read.
pub(crate) const PLAIN: &str = "text/plain; charset=utf-8";

/// An answer without what the connection adds.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) content: Content,
}

/// Why there is nothing to give.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// There is nothing of that name.
    NotFound,
    /// Only `GET` and `HEAD` are understood.
    Method,
    /// So much is being sent that there is no place for more.
    Busy,
    /// In HTTP/1.0 nobody could tell the end of the answer from a broken connection.
    TooOld,
    /// The store does not do as it should.
    Store(kiln_store::Error),
    /// The files of the store cannot be read.
    Files(io::Error),
}

impl From<kiln_store::Error> for Refusal {
    fn from(error: kiln_store::Error) -> Self {
        Self::Store(error)
    }
}

impl Answer {
    /// Everything is well.
    pub(crate) fn new(media_type: &'static str, content: Content) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Self { status: StatusCode::OK, headers, content }
    }

    /// A text of this type.
    pub(crate) fn text(media_type: &'static str, text: impl Into<Bytes>) -> Self {
        Self::new(media_type, Content::Whole(text.into()))
    }

    /// Adds a line to the head. What cannot be one is left out.
    pub(crate) fn with(mut self, name: HeaderName, value: impl AsRef<str>) -> Self {
        if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
            self.headers.insert(name, value);
        }
        self
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// As the connection sends it.
    pub(crate) fn into_response(self) -> Response<Content> {
        let length = self.content.length();
        let mut response = Response::new(self.content);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        if let Some(length) = length {
            response.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        response
    }
}

impl Refusal {
    /// What a client is told; what is wrong with the store is not among it.
    pub(crate) fn answer(&self) -> Answer {
        let (status, text) = match self {
            Self::NotFound => (StatusCode::NOT_FOUND, "there is nothing of that name\n"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "this cache is only read from\n"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "too much is being sent; try again later\n"),
            Self::TooOld => (
                StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                "HTTP/1.1 is needed here; a proxy may have to be told (nginx: proxy_http_version 1.1)\n",
            ),
            Self::Store(_) | Self::Files(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "the store cannot be read; its owner can find out more\n")
            }
        };
        let answer = Answer::text(PLAIN, text).with_status(status);
        match self {
            Self::Method => answer.with(ALLOW, "GET, HEAD"),
            Self::Busy => answer.with(RETRY_AFTER, "1"),
            _ => answer,
        }
    }
}
