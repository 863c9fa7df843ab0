//! The server as a whole: the site, and the listener through which clients reach it.

use std::future::Future;
use std::sync::Arc;

use kiln_events::EventSender;
use kiln_store::LocalStore;
use kiln_web::Listener;

use crate::site::{ServeConfig, Site};

/// A binary cache that offers one store.
pub struct Server {
    site: Arc<Site>,
}

impl Server {
    /// A server that logs to `events`.
    pub fn new(store: LocalStore, config: ServeConfig, events: EventSender) -> Self {
        Self { site: Site::new(store, config, events) }
    }

    /// Serves clients until `end` is there. Then nobody is accepted any more; what is being answered is answered, for as
    /// long as the limits say.
    pub async fn serve(&self, listener: Listener, end: impl Future<Output = ()>) {
        let limits = self.site.config.limits.of_connections();
        kiln_web::serve(Arc::clone(&self.site), &limits, listener, &self.site.events, end).await;
    }
}
