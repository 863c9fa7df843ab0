//! Requests, one connection for each.

use crate::connector::Connector;
use crate::credentials::basic;
use crate::failure::Failure;
use crate::netrc::Netrc;
use crate::s3::S3Signer;
use crate::settings::{Patience, Proxies, TransferSettings};
use crate::tls::Authorities;
use crate::upload_body::UploadBody;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use hyper::{Method, Request, Response, Uri};
use hyper_util::client::legacy;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// How long a connection that nobody uses is kept: less than what servers usually have patience for.
const IDLE: Duration = Duration::from_secs(30);

/// With HTTP/2 all downloads share a connection. Each may run so many bytes ahead of whoever uses it, ...
const STREAM_WINDOW: u32 = 1 << 20;
/// ... and all of them together so many, that those which nobody reads at the moment don't stop the others.
const CONNECTION_WINDOW: u32 = 64 << 20;

/// A connection of HTTP/2 on which nothing comes is asked for a sign of life after so long ...
const PING_AFTER: Duration = Duration::from_secs(20);
/// ... and is dead without one after so long again.
const PING_WITHIN: Duration = Duration::from_secs(10);

/// Begins downloads, and keeps connections for the next ones. Cheap to clone; clones share the connections.
#[derive(Clone)]
pub struct Client {
    inner: legacy::Client<Connector, UploadBody>,
    proxies: Arc<Matcher>,
    user_agent: HeaderValue,
    pub(crate) netrc: Arc<Netrc>,
    pub(crate) patience: Patience,
    pub(crate) signer: Option<Arc<S3Signer>>,
}

impl Client {
    /// A client for the event loop that this is called in, which keeps so many connections for each server when they
    /// are idle.
    #[must_use]
    pub fn new(settings: &TransferSettings, netrc: Netrc, authorities: &Authorities, kept: usize) -> Self {
        let proxies = Arc::new(matcher(&settings.proxies));
        let connector = Connector::new(settings, authorities.0.clone(), Arc::clone(&proxies));
        let inner = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(kept)
            .pool_idle_timeout(IDLE)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(PING_AFTER)
            .http2_keep_alive_timeout(PING_WITHIN)
            .build(connector);
        Self {
            inner,
            proxies,
            user_agent: user_agent(&settings.user_agent_suffix),
            netrc: Arc::new(netrc),
            patience: Patience::of(settings),
            signer: None,
        }
    }

    /// Signs what is asked of a bucket.
    #[must_use]
    pub fn signing(mut self, signer: S3Signer) -> Self {
        self.signer = Some(Arc::new(signer));
        self
    }

    /// Sends a request and returns the answer as soon as its head is there, whatever it is.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: &HeaderMap,
        credentials: Option<(String, String)>,
        body: UploadBody,
    ) -> Result<Response<Incoming>, Failure> {
        let mut plain = url.clone();
        // They are sent as a header; no URL that has a host can't do without.
        let _ = plain.set_username("").and_then(|()| plain.set_password(None));
        // Who signs says thereby who asks: a server takes one way or the other.
        let signed = self.signer.as_ref().and_then(|signer| signer.sign(&method, &plain));
        let credentials = credentials.filter(|_| signed.is_none());
        let plain = signed.unwrap_or(plain);
        let uri: Uri = plain.as_str().parse().map_err(|error| Failure::InvalidUrl(format!("{error}")))?;

        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.headers_mut() = headers.clone();
        request.headers_mut().insert(USER_AGENT, self.user_agent.clone());
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("*/*"));
        if let Some((login, password)) = credentials {
            request.headers_mut().insert(AUTHORIZATION, basic(&login, &password));
        }
        // A tunnel has been told already when it was made; without one, the proxy reads the request itself.
        if uri.scheme_str() == Some("http")
            && let Some(proxy) = self.proxies.intercept(&uri)
            && let Some(authorization) = proxy.basic_auth()
        {
            request.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
        }
        *request.uri_mut() = uri;
        self.inner.request(request).await.map_err(|error| Failure::of_client(&error))
    }
}

/// What decides which proxy a request goes through.
fn matcher(proxies: &Proxies) -> Matcher {
    // The matcher itself takes the star for all names, but not for all addresses.
    if proxies.none.split(',').any(|host| host.trim() == "*") {
        return Matcher::builder().build();
    }
    let Proxies { http, https, all, none } = proxies.clone();
    Matcher::builder().http(http).https(https).all(all).no(none).build()
}

/// The name by which servers know the program, and the suffix if it can be sent.
fn user_agent(suffix: &str) -> HeaderValue {
    const NAME: &str = concat!("kiln/", env!("CARGO_PKG_VERSION"));
    HeaderValue::from_str(format!("{NAME} {suffix}").trim()).unwrap_or(HeaderValue::from_static(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_agent_is_one_line() {
        let name = concat!("kiln/", env!("CARGO_PKG_VERSION"));
        assert_eq!(user_agent(""), name);
        assert_eq!(user_agent("of me"), format!("{name} of me"));
        assert_eq!(user_agent("of\r\nHost: me"), name);
    }
}
