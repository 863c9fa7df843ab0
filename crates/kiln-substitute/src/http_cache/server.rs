//! Which server a cache is at, and what it is called.

use kiln_events::quoted;
use kiln_http::{DownloadError, Failure, S3Bucket, S3Credentials, S3Signer};
use kiln_settings::{S3Place, StoreUrlError};
use kiln_store::blocking;
use url::Url;

use super::network::Network;

/// The server of a cache, or the bucket at one.
#[derive(Clone, Debug)]
pub struct CacheServer {
    name: String,
    base: Url,
    bucket: Option<(S3Bucket, Option<String>)>,
}

impl CacheServer {
    /// The server of a URL of HTTP without parameters.
    ///
    /// # Errors
    /// The URL does not read.
    pub fn http(url: &str) -> Result<Self, StoreUrlError> {
        let unknown = |_| StoreUrlError::Unknown(quoted(url.as_bytes()));
        let base = Url::parse(&format!("{url}/")).map_err(unknown)?;
        let mut shown = base.clone();
        // Servers have URLs that can do without a password.
        let _ = shown.set_password(None);
        let name = quoted(shown.as_str().trim_end_matches('/').as_bytes());
        Ok(Self { name, base, bucket: None })
    }

    /// A bucket.
    ///
    /// # Errors
    /// Its server has no URL.
    pub fn s3(place: &S3Place) -> Result<Self, StoreUrlError> {
        let name = match &place.endpoint {
            None => format!("s3://{}", place.bucket),
            // Two servers may have buckets of one name.
            Some(endpoint) => format!("s3://{}?endpoint={}", place.bucket, quoted(endpoint.as_bytes())),
        };
        let (region, endpoint) = (&place.region, place.endpoint.as_deref());
        let bucket = S3Bucket::new(&place.bucket, region, &place.scheme, endpoint)
            .map_err(|error| StoreUrlError::Unknown(format!("{name} ({error})")))?;
        let base = bucket.url().clone();
        Ok(Self { name, base, bucket: Some((bucket, place.profile.clone())) })
    }

    /// Its URL without parameters and passwords, and without a slash at its end.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its files are: a URL of HTTP with a slash at its end.
    #[must_use]
    pub fn base(&self) -> &Url {
        &self.base
    }
}

impl Network {
    /// A client for a server, for the event loop that this is called in. Credentials for a bucket are looked for.
    ///
    /// # Errors
    /// Credentials that somebody has named aren't there.
    pub async fn client_for(&self, server: &CacheServer) -> Result<kiln_http::Client, DownloadError> {
        let client = self.client().await;
        let Some((bucket, profile)) = &server.bucket else { return Ok(client) };
        let (aws, profile) = (self.aws().clone(), profile.clone());
        let found = blocking(move || aws.credentials(profile.as_deref())).await;
        let found: Option<S3Credentials> = found.map_err(|error| DownloadError {
            url: server.name.clone(),
            failure: Failure::Credentials(error.to_string()),
        })?;
        Ok(match found {
            Some(credentials) => client.signing(S3Signer::new(bucket, &credentials)),
            // A bucket may be open to everybody.
            None => client,
        })
    }
}
