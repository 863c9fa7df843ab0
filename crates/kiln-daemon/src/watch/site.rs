//! What those get over HTTP who watch: `/metrics`, `/healthz` and `/status`.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::MapErr};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Request, Response, StatusCode};
use kiln_metrics::Exposition;
use kiln_web::{Busy, Limits, Origin};

use super::{Watch, WatchListener};
use crate::daemon::Shared;

const PLAIN: &str = "text/plain; charset=utf-8";

/// What those who watch may cost. They are few.
const LIMITS: Limits = Limits {
    connections: 64,
    head: Duration::from_secs(10),
    idle: Duration::from_secs(60),
    closing: Duration::from_secs(2),
};

/// Answers those who watch, until `end` is there.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    watch: Arc<Watch>,
    listener: WatchListener,
    end: impl Future<Output = ()>,
) {
    let events = shared.events.clone();
    kiln_web::serve(Arc::new(Site { shared, watch }), &LIMITS, listener.0, &events, end).await;
}

struct Site {
    shared: Arc<Shared>,
    watch: Arc<Watch>,
}

type Body = MapErr<Full<Bytes>, fn(std::convert::Infallible) -> io::Error>;

impl kiln_web::Site for Site {
    type Body = Body;

    async fn answer(&self, request: Request<Incoming>, busy: Busy) -> Response<Body> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = answer(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "this is only read from\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/healthz" => self.health().await,
            "/metrics" => self.metrics().await,
            "/status" if busy.origin() == Origin::Socket => self.status().await,
            "/status" => {
                let text = "who does what is only told at a Unix socket (kiln-metrics-listen = unix:PATH)\n";
                answer(StatusCode::FORBIDDEN, PLAIN, text)
            }
            _ => answer(StatusCode::NOT_FOUND, PLAIN, "there are /healthz, /metrics and /status\n"),
        }
    }
}

impl Site {
    async fn health(&self) -> Response<Body> {
        let troubles = self.watch.troubles(&self.shared.store).await;
        if troubles.is_empty() {
            return answer(StatusCode::OK, PLAIN, "ok\n");
        }
        let lines: String = troubles.iter().map(|trouble| format!("{trouble}\n")).collect();
        answer(StatusCode::SERVICE_UNAVAILABLE, PLAIN, lines)
    }

    async fn metrics(&self) -> Response<Body> {
        match self.shared.store.engine().await {
            Ok(engine) => {
                answer(StatusCode::OK, Exposition::MEDIA_TYPE, self.watch.exposition(&engine).await)
            }
            Err(error) => unavailable(&error),
        }
    }

    async fn status(&self) -> Response<Body> {
        match self.shared.store.engine().await {
            Ok(engine) => match serde_json::to_string(&self.watch.status(&engine)) {
                Ok(json) => answer(StatusCode::OK, "application/json", json + "\n"),
                Err(error) => unavailable(&error),
            },
            Err(error) => unavailable(&error),
        }
    }
}

fn unavailable(error: &dyn std::fmt::Display) -> Response<Body> {
    answer(StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{error}\n"))
}

/// An answer, which for `HEAD` the connection leaves the body out of.
fn answer(status: StatusCode, media_type: &'static str, text: impl Into<Bytes>) -> Response<Body> {
    let never: fn(std::convert::Infallible) -> io::Error = |never| match never {};
    let mut response = Response::new(Full::new(text.into()).map_err(never));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
