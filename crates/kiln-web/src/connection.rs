//! One connection: HTTP/1.1 or HTTP/2, whichever the client begins to speak, for as long as it has requests.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use crate::limits::{HEAD_BYTES, HEAD_LINES, Limits, REQUESTS_AT_ONCE, SEND_BUFFER};
use crate::listener::{Client, Origin};

/// What requests are answered from.
pub trait Site: Send + Sync + 'static {
    /// What answers consist of.
    type Body: Body<Data = Bytes, Error = io::Error> + Send + 'static;

    /// Answers a request. The connection is busy for as long as `busy` is there, which should go with the answer's body.
    fn answer(
        &self,
        request: Request<Incoming>,
        busy: Busy,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// A client has connected.
    fn connected(&self) {}

    /// The connection of a client has ended.
    fn disconnected(&self) {}
}

/// What goes on on a connection.
#[derive(Debug)]
pub struct Activity {
    origin: Origin,
    state: Mutex<State>,
    aborted: Notify,
}

#[derive(Debug)]
struct State {
    /// Requests that are being answered.
    busy: usize,
    /// When the connection, or the last answer, began to have no request.
    idle_since: Instant,
}

/// A request that is being answered, from its head on to the end of its answer.
#[derive(Debug)]
pub struct Busy(Arc<Activity>);

impl Activity {
    /// That of a new connection, which has no request yet.
    #[must_use]
    pub fn new(origin: Origin) -> Arc<Self> {
        let state = State { busy: 0, idle_since: Instant::now() };
        Arc::new(Self { origin, state: Mutex::new(state), aborted: Notify::new() })
    }

    /// A request has come.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.state().busy += 1;
        Busy(Arc::clone(self))
    }

    /// Has the connection ended, whatever else is going on on it.
    pub fn abort(&self) {
        self.aborted.notify_one();
    }

    /// Waits until somebody has the connection ended.
    pub async fn aborted(&self) {
        self.aborted.notified().await;
    }

    /// Waits until there has been no request for so long.
    async fn idle(&self, time: Duration) {
        loop {
            let (busy, since) = {
                let state = self.state();
                (state.busy > 0, state.idle_since)
            };
            let deadline = if busy { Instant::now() } else { since } + time;
            if deadline <= Instant::now() {
                return;
            }
            sleep_until(deadline).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Busy {
    /// That of the connection.
    #[must_use]
    pub fn activity(&self) -> &Arc<Activity> {
        &self.0
    }

    /// How the client has come.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.0.origin
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.busy = state.busy.saturating_sub(1);
        state.idle_since = Instant::now();
    }
}

/// Counts a connection for as long as it is there.
struct Counted<S: Site>(Arc<S>);

impl<S: Site> Drop for Counted<S> {
    fn drop(&mut self) {
        self.0.disconnected();
    }
}

/// Answers a client until it has no more requests, or does not behave. Once `closing` is true, what is being answered is
/// answered, and no more.
pub(crate) async fn serve<S: Site>(
    site: Arc<S>,
    limits: Limits,
    client: Client,
    mut closing: watch::Receiver<bool>,
) {
    site.connected();
    let _counted = Counted(Arc::clone(&site));
    let activity = Activity::new(client.origin());
    let answering = (Arc::clone(&site), Arc::clone(&activity));
    let service = service_fn(move |request| {
        let (site, busy) = (Arc::clone(&answering.0), answering.1.begin());
        async move { Ok::<_, Infallible>(site.answer(request, busy).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_LINES)
        // Who has asked may say that there is nothing more to come.
        .half_close(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(REQUESTS_AT_ONCE)
        .max_header_list_size(u32::try_from(HEAD_BYTES).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BUFFER);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(client), service));
    let mut is_closing = false;
    loop {
        tokio::select! {
            // What a client does wrong is its own affair.
            _ = connection.as_mut() => return,
            () = activity.idle(limits.idle) => return,
            () = activity.aborted() => return,
            _ = closing.wait_for(|closing| *closing), if !is_closing => {
                is_closing = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn idle_is_who_has_had_no_request_for_long() {
        let long = Duration::from_millis(100);
        let activity = Activity::new(Origin::Network);
        let begin = Instant::now();
        activity.idle(long).await;
        assert!(begin.elapsed() >= long);
        let busy = activity.begin();
        let waiting = tokio::spawn({
            let activity = Arc::clone(&activity);
            async move { activity.idle(long).await }
        });
        tokio::time::sleep(5 * long).await;
        assert!(!waiting.is_finished());
        let begin = Instant::now();
        drop(busy);
        waiting.await.unwrap();
        assert!(begin.elapsed() >= long);
    }
}
