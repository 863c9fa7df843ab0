//! Buckets of S3, and of servers that speak like it, as servers of HTTP whose requests are signed.
//!
//! A [`S3Signer`] puts the signature (Signature Version 4) into the query of a request's URL, so that headers stay as they
//! are. Each try is signed anew, and messages have the URL without the signature. Only what is below the bucket's own URL is
//! signed: where a server redirects to, nobody learns anything.

mod credentials;

pub use credentials::{AwsEnvironment, S3Credentials, S3CredentialsError};

use std::borrow::Cow;
use std::time::Duration;

use hyper::Method;
use percent_encoding::percent_decode_str;
use rusty_s3::{Bucket, BucketError, S3Action as _, UrlStyle};
use thiserror::Error;
use url::Url;

/// For how long a signature counts: a request that waits for its turn on a busy server still has to be in time.
const VALIDITY: Duration = Duration::from_secs(900);

/// A bucket at a server.
#[derive(Clone, Debug)]
pub struct S3Bucket(Bucket);

/// Why there can be no such bucket.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{endpoint}' is no server of S3: {reason}")]
pub struct S3BucketError {
    /// The server.
    pub endpoint: String,
    /// What is wrong with it.
    pub reason: String,
}

impl S3Bucket {
    /// The bucket of a name in a region, reached by `scheme`: at Amazon's servers, where its name is part of the host's, or
    /// at `endpoint` (a host with or without a port, or a URL), where it is the first part of the path.
    ///
    /// # Errors
    /// The endpoint makes no URL of HTTP.
    pub fn new(
        name: &str,
        region: &str,
        scheme: &str,
        endpoint: Option<&str>,
    ) -> Result<Self, S3BucketError> {
        let server = match endpoint {
            None => format!("{scheme}://s3.{region}.amazonaws.com"),
            Some(url) if url.contains("://") => url.to_owned(),
            Some(host) => format!("{scheme}://{host}"),
        };
        // No certificate is for names with more dots than the server's own.
        let is_in_host = endpoint.is_none() && !name.contains('.');
        let style = if is_in_host { UrlStyle::VirtualHost } else { UrlStyle::Path };
        let failed =
            |reason: String| S3BucketError { endpoint: kiln_events::quoted(server.as_bytes()), reason };
        let url = Url::parse(&server).map_err(|error| failed(error.to_string()))?;
        let bucket = Bucket::new(url, style, name.to_owned(), region.to_owned());
        bucket.map(Self).map_err(|error: BucketError| failed(error.to_string()))
    }

    /// Where its files are: a URL with a slash at its end.
    #[must_use]
    pub fn url(&self) -> &Url {
        self.0.base_url()
    }
}

/// Signs requests to a bucket.
#[derive(Clone)]
pub struct S3Signer {
    bucket: Bucket,
    credentials: rusty_s3::Credentials,
}

impl S3Signer {
    /// Signs requests to `bucket` with these credentials.
    #[must_use]
    pub fn new(bucket: &S3Bucket, credentials: &S3Credentials) -> Self {
        Self { bucket: bucket.0.clone(), credentials: credentials.to_signing() }
    }

    /// The URL with a signature; nothing if the request isn't one for a file of the bucket.
    pub(crate) fn sign(&self, method: &Method, url: &Url) -> Option<Url> {
        let key = self.key(url)?;
        let credentials = Some(&self.credentials);
        match *method {
            Method::GET => Some(self.bucket.get_object(credentials, &key).sign(VALIDITY)),
            Method::HEAD => Some(self.bucket.head_object(credentials, &key).sign(VALIDITY)),
            Method::PUT => Some(self.bucket.put_object(credentials, &key).sign(VALIDITY)),
            _ => None,
        }
    }

    /// The URL of one step of sending a file in parts, with a signature; nothing if it isn't a file of the bucket.
    pub(crate) fn sign_step(&self, step: Step<'_>, url: &Url) -> Option<Url> {
        let key = self.key(url)?;
        let (bucket, credentials) = (&self.bucket, Some(&self.credentials));
        Some(match step {
            Step::Create => bucket.create_multipart_upload(credentials, &key).sign(VALIDITY),
            Step::Part { upload, number } => {
                bucket.upload_part(credentials, &key, number, upload).sign(VALIDITY)
            }
            Step::Complete { upload } => {
                bucket.complete_multipart_upload(credentials, &key, upload, std::iter::empty()).sign(VALIDITY)
            }
            Step::Abort { upload } => bucket.abort_multipart_upload(credentials, &key, upload).sign(VALIDITY),
        })
    }

    /// What says of which parts a file consists, in their order, by what the server calls them.
    pub(crate) fn completion<'a>(&'a self, tags: impl Iterator<Item = &'a str>) -> String {
        self.bucket.complete_multipart_upload(None, "", "", tags).body()
    }

    /// What a file is called in the bucket; nothing if the URL is not that of a file there.
    fn key<'a>(&self, url: &'a Url) -> Option<Cow<'a, str>> {
        let base = self.bucket.base_url();
        if url.origin() != base.origin() || url.query().is_some() {
            return None;
        }
        let key = url.path().strip_prefix(base.path())?;
        percent_decode_str(key).decode_utf8().ok()
    }
}

/// A step of sending a file in parts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<'a> {
    /// The server gives the upload a name.
    Create,
    /// A part arrives; they are numbered from 1.
    Part { upload: &'a str, number: u16 },
    /// The parts become the file.
    Complete { upload: &'a str },
    /// The parts are thrown away.
    Abort { upload: &'a str },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(name: &str, endpoint: Option<&str>) -> Result<S3Bucket, S3BucketError> {
        S3Bucket::new(name, "eu-west-1", "https", endpoint)
    }

    #[test]
    fn places_of_buckets() {
        for (name, endpoint, url) in [
            ("b", None, "https://b.s3.eu-west-1.amazonaws.com/"),
            ("b.c", None, "https://s3.eu-west-1.amazonaws.com/b.c/"),
            ("b", Some("host:9000"), "https://host:9000/b/"),
            ("b", Some("http://[::1]:9000"), "http://[::1]:9000/b/"),
        ] {
            assert_eq!(bucket(name, endpoint).unwrap().url().as_str(), url);
        }
        for endpoint in ["", "ftp://host", "http://", "a b"] {
            let error = bucket("b", Some(endpoint)).unwrap_err().to_string();
            assert!(error.contains("is no server of S3"), "{error}");
        }
    }

    #[test]
    fn only_files_of_the_bucket_are_signed() {
        let bucket = bucket("b", Some("host")).unwrap();
        let signer = S3Signer::new(&bucket, &S3Credentials::new("key", "secret", Some("token".into())));
        let sign = |method: Method, url: &str| signer.sign(&method, &Url::parse(url).unwrap());
        let url = "https://host/b/realisations/sha256:00!out.doi";
        let signed = sign(Method::GET, url).unwrap();
        let query: Vec<String> = signed.query_pairs().map(|(name, _)| name.into_owned()).collect();
        assert!(query.contains(&"X-Amz-Signature".to_owned()), "{signed}");
        assert!(query.contains(&"X-Amz-Security-Token".to_owned()), "{signed}");
        assert!(!signed.as_str().contains("secret"), "{signed}");
        assert_ne!(sign(Method::PUT, url), Some(signed), "a signature is for one method");
        for (method, other) in [
            (Method::GET, "https://other/b/x"),
            (Method::GET, "http://host/b/x"),
            (Method::GET, "https://host/c/x"),
            (Method::GET, "https://host/b/x?acl"),
            (Method::DELETE, url),
        ] {
            assert_eq!(sign(method, other), None, "{other}");
        }
    }
}
