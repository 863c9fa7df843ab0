//! Where those connect who watch: the setting `kiln-metrics-listen`.

use std::path::Path;

use kiln_web::Listener;

use crate::error::Error;

/// The daemon's user, and its group: who may see what goes on.
const SOCKET_MODE: u32 = 0o660;

/// Sockets that those connect to who watch over a daemon.
#[derive(Debug)]
pub struct WatchListener(pub(super) Listener);

impl WatchListener {
    /// Listens at each of `places`, `unix:PATH` or `HOST:PORT`; `None` if there are none. Must be called within the runtime.
    ///
    /// # Errors
    /// One of them is neither, or cannot be listened on.
    pub async fn bind(places: &[String]) -> Result<Option<Self>, Error> {
        if places.is_empty() {
            return Ok(None);
        }
        let mut listener = Listener::new();
        for place in places {
            match place.strip_prefix("unix:") {
                Some(path) if path.starts_with('/') => listener.add_socket(Path::new(path), SOCKET_MODE)?,
                None if place.contains(':') => listener.add_address(place).await?,
                _ => return Err(Error::WatchPlace(place.clone())),
            }
        }
        Ok(Some(Self(listener)))
    }

    /// Where it listens: URLs, and sockets as `unix:PATH`.
    #[must_use]
    pub fn places(&self) -> &[String] {
        self.0.places()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[tokio::test]
    async fn only_absolute_paths_and_addresses_are_places() {
        assert!(WatchListener::bind(&[]).await.unwrap().is_none());
        for wrong in ["unix:relative", "unix:", "5000", ""] {
            let error = WatchListener::bind(&[wrong.to_owned()]).await.unwrap_err();
            assert!(matches!(error, Error::WatchPlace(_)), "{error}");
        }
        let scratch = tempfile::tempdir().unwrap();
        let socket = scratch.path().join("watch");
        let places = [format!("unix:{}", socket.display()), "127.0.0.1:0".to_owned()];
        let listener = WatchListener::bind(&places).await.unwrap().unwrap();
        assert_eq!(listener.places().len(), 2);
        assert_eq!(std::fs::metadata(&socket).unwrap().mode() & 0o777, SOCKET_MODE);
        drop(listener);
        assert!(!socket.exists());
    }
}
