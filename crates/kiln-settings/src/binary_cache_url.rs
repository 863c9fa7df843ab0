//! URLs of binary caches (binary-cache specification, section 9).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::store_url::{StoreUrlError, check_text, decode, parse_query};
use crate::value::{SettingValue, ValueError};

/// Where a binary cache is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CachePlace {
    /// At a server: a URL of `http` or `https` without parameters and without a slash at its end.
    Http(String),
    /// In a directory: `file://PATH`.
    File(PathBuf),
    /// In a bucket of S3, or of a server that speaks like it: `s3://BUCKET`.
    S3(S3Place),
}

/// A bucket, and how its server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Place {
    /// Its name.
    pub bucket: String,
    /// `region`: where it is.
    pub region: String,
    /// `endpoint`: host and perhaps port, or a whole URL, of a server that isn't Amazon's.
    pub endpoint: Option<String>,
    /// `scheme`: `https` or `http`.
    pub scheme: String,
    /// `profile`: whose credentials are used, by the section of the file that has them.
    pub profile: Option<String>,
}

/// The region of buckets whose URL has none.
const USUAL_REGION: &str = "us-east-1";

/// A binary cache, and how it is used as a substituter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinaryCacheUrl {
    /// Where it is.
    pub place: CachePlace,
    /// The lower, the earlier it is asked, if not as the cache says itself.
    pub priority: Option<i64>,
    /// Whether it may be asked about many paths at once, if not as the cache says itself.
    pub want_mass_query: Option<bool>,
    /// Its paths need no signatures.
    pub trusted: bool,
    /// The store directory of its paths, if it isn't the usual one.
    pub store: Option<OsString>,
    /// Other parameters; decoded, not interpreted.
    pub other: BTreeMap<String, OsString>,
}

impl BinaryCacheUrl {
    /// The binary cache that a text names; none if it is a store of another kind.
    ///
    /// # Errors
    /// It is one, but its parameters make no sense.
    pub fn parse(url: &str) -> Result<Option<Self>, StoreUrlError> {
        check_text(url)?;
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let place = match base.split_once("://") {
            Some(("http" | "https", _)) => CachePlace::Http(base.trim_end_matches('/').to_owned()),
            Some(("file", path)) => {
                let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
                CachePlace::File(decode(url, path, "file://".len())?.into())
            }
            Some(("s3", bucket)) if !bucket.is_empty() => CachePlace::S3(S3Place::of(bucket)),
            _ => return Ok(None),
        };
        let mut parameters = parse_query(url, query)?;
        let place = match place {
            CachePlace::S3(bucket) => CachePlace::S3(bucket.with(url, &mut parameters)?),
            place => place,
        };
        let mut value = |name: &str| parameters.remove(name).map(|text| text.to_string_lossy().into_owned());
        let (priority, want, trusted) = (value("priority"), value("want-mass-query"), value("trusted"));
        let located = |name: &str| {
            let parameter = name.to_owned();
            move |reason| StoreUrlError::Value { url: url.to_owned(), parameter, reason }
        };
        let truth = |text: String| bool::parse(&text);
        Ok(Some(Self {
            place,
            priority: priority.map(|text| number(&text)).transpose().map_err(located("priority"))?,
            want_mass_query: want.map(truth).transpose().map_err(located("want-mass-query"))?,
            trusted: trusted.map(truth).transpose().map_err(located("trusted"))?.unwrap_or(false),
            store: parameters.remove("store").filter(|store| !store.is_empty()),
            other: parameters,
        }))
    }
}

impl S3Place {
    fn of(bucket: &str) -> Self {
        Self {
            bucket: bucket.trim_end_matches('/').to_owned(),
            region: USUAL_REGION.to_owned(),
            endpoint: None,
            scheme: "https".to_owned(),
            profile: None,
        }
    }

    /// Takes its own parameters. An empty one is as good as none.
    fn with(mut self, url: &str, parameters: &mut BTreeMap<String, OsString>) -> Result<Self, StoreUrlError> {
        let invalid = |parameter: &str, expected: &str| StoreUrlError::Value {
            url: url.to_owned(),
            parameter: parameter.to_owned(),
            reason: ValueError::expected(expected),
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if self.bucket.is_empty() || !self.bucket.bytes().all(is_name) {
            return Err(StoreUrlError::Unknown(url.to_owned()));
        }
        let mut value = |name: &str| {
            let text = parameters.remove(name)?.to_string_lossy().into_owned();
            Some(text).filter(|text| !text.is_empty())
        };
        self.region = value("region").unwrap_or(self.region);
        if !self.region.bytes().all(is_name) {
            return Err(invalid("region", "the name of a region"));
        }
        self.scheme = value("scheme").unwrap_or(self.scheme);
        if !matches!(self.scheme.as_str(), "http" | "https") {
            return Err(invalid("scheme", "http or https"));
        }
        (self.endpoint, self.profile) = (value("endpoint"), value("profile"));
        Ok(self)
    }
}

fn number(text: &str) -> Result<i64, ValueError> {
    text.parse().map_err(|_| ValueError::expected("a number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cache(url: &str) -> BinaryCacheUrl {
        BinaryCacheUrl::parse(url).unwrap().unwrap()
    }

    #[test]
    fn places() {
        for (url, place) in [
            ("https://cache.example.org/", CachePlace::Http("https://cache.example.org".into())),
            ("http://me:x@host:8/a//?priority=1", CachePlace::Http("http://me:x@host:8/a".into())),
            ("file:///tmp/a%20b/", CachePlace::File("/tmp/a b".into())),
            ("file:///", CachePlace::File("/".into())),
        ] {
            assert_eq!(cache(url).place, place, "{url}");
        }
        for other in ["s3://", "/tmp/x", "local?root=/x", "daemon", "ssh://host", ""] {
            assert_eq!(BinaryCacheUrl::parse(other), Ok(None), "{other}");
        }
    }

    #[test]
    fn buckets() {
        let place = |url: &str| match cache(url).place {
            CachePlace::S3(place) => place,
            other => panic!("{other:?}"),
        };
        let plain = place("s3://my-bucket/");
        assert_eq!((plain.bucket.as_str(), plain.region.as_str()), ("my-bucket", "us-east-1"));
        assert_eq!((plain.scheme.as_str(), plain.endpoint, plain.profile), ("https", None, None));
        let url = "s3://b?region=eu-west-1&endpoint=host:9000&scheme=http&profile=me&compression=zstd";
        let all = place(url);
        assert_eq!((all.region.as_str(), all.scheme.as_str()), ("eu-west-1", "http"));
        assert_eq!((all.endpoint.as_deref(), all.profile.as_deref()), (Some("host:9000"), Some("me")));
        assert_eq!(cache(url).other.into_keys().collect::<Vec<_>>(), ["compression"]);
        for (url, message) in [
            ("s3://a/b", "is no store"),
            ("s3://a%20b", "is no store"),
            ("s3://b?scheme=ftp", "parameter 'scheme' has an invalid value: expected http or https"),
            ("s3://b?region=a/b", "parameter 'region' has an invalid value"),
        ] {
            let error = BinaryCacheUrl::parse(url).unwrap_err().to_string();
            assert!(error.contains(message), "{url}: {error}");
        }
    }

    #[test]
    fn parameters() {
        let plain = cache("https://host");
        assert_eq!((plain.priority, plain.want_mass_query, plain.trusted), (None, None, false));
        let all =
            cache("https://host?priority=-3&want-mass-query=1&trusted=yes&store=/gnu/store&compression=xz");
        assert_eq!((all.priority, all.want_mass_query, all.trusted), (Some(-3), Some(true), true));
        assert_eq!(all.store, Some("/gnu/store".into()));
        assert_eq!(all.other.into_keys().collect::<Vec<_>>(), ["compression"]);
    }

    #[test]
    fn errors_say_what_and_where() {
        for (url, message) in [
            ("https://host?priority=high", "parameter 'priority' has an invalid value: expected a number"),
            ("https://host?trusted=maybe", "parameter 'trusted' has an invalid value"),
            ("https://host?x", "parameter 'x' has no value"),
            ("file:///%zz", "invalid '%' at byte 8"),
            ("https://host\0", "NUL at byte 12"),
        ] {
            let error = BinaryCacheUrl::parse(url).unwrap_err().to_string();
            assert!(error.contains(message), "{url}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(url in "((https?|file|s3)://)?.{0,20}(\\?.{0,20})?") {
            let _ = BinaryCacheUrl::parse(&url);
        }
    }
}
