//! The server as a whole: accepts clients and ends in good order.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kiln_events::EventSender;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};

use crate::connection::{self, Site};
use crate::limits::Limits;
use crate::listener::Listener;

/// How long to wait before accepting again when it failed, for a descriptor for instance.
const RETRY: Duration = Duration::from_millis(100);

/// Serves clients until `end` is there. Then nobody is accepted any more; what is being answered is answered, for as
/// long as the limits say. What goes wrong is told to `events`.
pub async fn serve<S: Site>(
    site: Arc<S>,
    limits: &Limits,
    listener: Listener,
    events: &EventSender,
    end: impl Future<Output = ()>,
) {
    let note = |ended: Result<(), JoinError>| {
        if ended.is_err_and(|error| error.is_panic()) {
            events.warn("a connection ended because of a bug in Kiln");
        }
    };
    let room = Arc::new(Semaphore::new(limits.room_for_connections()));
    let (closing, is_closing) = watch::channel(false);
    let mut connections = JoinSet::new();
    tokio::pin!(end);
    loop {
        let next = async {
            // The semaphore is never closed.
            let place = Arc::clone(&room).acquire_owned().await.ok();
            listener.accept().await.map(|client| (client, place))
        };
        tokio::select! {
            biased;
            () = &mut end => break,
            Some(ended) = connections.join_next() => note(ended),
            accepted = next => match accepted {
                Ok((client, place)) => {
                    let serving = connection::serve(Arc::clone(&site), limits.clone(), client, is_closing.clone());
                    connections.spawn(async move {
                        serving.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    events.warn(format!("cannot accept a connection: {error}"));
                    tokio::time::sleep(RETRY).await;
                }
            },
        }
    }
    drop(listener);
    // If nobody listens, there are no connections.
    let _ = closing.send(true);
    let all_ended = async {
        while let Some(ended) = connections.join_next().await {
            note(ended);
        }
    };
    if tokio::time::timeout(limits.closing, all_ended).await.is_err() {
        connections.shutdown().await;
    }
}
