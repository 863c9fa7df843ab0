//! Requests, one connection for each.

use super::connector::Connector;
use super::credentials::basic;
use super::failure::Failure;
use super::settings::{Proxies, TransferSettings};
use super::tls::NoTls;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use std::sync::Arc;
use url::Url;

/// Sends requests.
pub(super) struct Client {
    inner: legacy::Client<Connector, Empty<Bytes>>,
    proxies: Arc<Matcher>,
    user_agent: HeaderValue,
}

impl Client {
    /// A client for the event loop that this is called in.
    pub(super) fn new(settings: &TransferSettings, tls: Result<Arc<ClientConfig>, NoTls>) -> Self {
        let proxies = Arc::new(matcher(&settings.proxies));
        let connector = Connector::new(settings, tls, Arc::clone(&proxies));
        let inner = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            // A download is one request, mostly. A connection that a server closes while it is kept for another one
            // would look like a failure of that one.
            .pool_max_idle_per_host(0)
            .build(connector);
        Self { inner, proxies, user_agent: user_agent(&settings.user_agent_suffix) }
    }

    /// Sends a `GET` and returns the answer as soon as its head is there, whatever it is.
    pub(super) async fn get(
        &self,
        url: &Url,
        headers: &HeaderMap,
        credentials: Option<(String, String)>,
    ) -> Result<Response<Incoming>, Failure> {
        let mut plain = url.clone();
        // They are sent as a header; no URL that has a host can't do without.
        let _ = plain.set_username("").and_then(|()| plain.set_password(None));
        let uri: Uri = plain.as_str().parse().map_err(|error| Failure::InvalidUrl(format!("{error}")))?;

        let mut request = Request::new(Empty::new());
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
