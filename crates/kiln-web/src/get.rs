//! One request to a server at a socket of the file system.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// Nobody listens there, or not to this user.
    #[error("cannot connect to '{}': {source}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is no answer, or breaks off, or is too long.
    #[error("the answer of '{}' cannot be read: {reason}", socket.display())]
    Answer {
        /// The socket.
        socket: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It takes too long.
    #[error("'{}' has not answered within {} s", socket.display(), patience.as_secs())]
    Slow {
        /// The socket.
        socket: PathBuf,
        /// How long it was waited for.
        patience: Duration,
    },
}

/// Gets what a server has under `target`, a path such as `/status`, of at most `limit` bytes.
///
/// # Errors
/// There is no whole answer within `patience`. Whether it is a good one says its status.
pub async fn get(
    socket: &Path,
    target: &str,
    limit: usize,
    patience: Duration,
) -> Result<(StatusCode, Bytes), GetError> {
    let slow = |_| GetError::Slow { socket: socket.to_owned(), patience };
    tokio::time::timeout(patience, answer(socket, target, limit)).await.map_err(slow)?
}

async fn answer(socket: &Path, target: &str, limit: usize) -> Result<(StatusCode, Bytes), GetError> {
    let wrong = |reason: String| GetError::Answer { socket: socket.to_owned(), reason };
    let connecting = |source| GetError::Connect { socket: socket.to_owned(), source };
    let stream = UnixStream::connect(socket).await.map_err(connecting)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| wrong(error.to_string()))?;
    let request = Request::get(target).header(HOST, "localhost").body(Empty::<Bytes>::new());
    let request = request.map_err(|error| wrong(error.to_string()))?;
    let answering = async {
        let response = sender.send_request(request).await.map_err(|error| wrong(error.to_string()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), limit).collect().await;
        Ok((status, body.map_err(|error| wrong(error.to_string()))?.to_bytes()))
    };
    driven(connection, answering).await
}

/// What `answering` gives while the connection is driven, which only then sends and receives.
async fn driven<T>(connection: impl Future, answering: impl Future<Output = T>) -> T {
    let (mut connection, mut answering) = (std::pin::pin!(connection), std::pin::pin!(answering));
    tokio::select! {
        biased;
        answer = &mut answering => return answer,
        _ = &mut connection => {}
    }
    // What had arrived before the connection ended is still there, or the error is.
    answering.await
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// What is got from a server that sends this and closes.
    async fn got(sent: &'static [u8]) -> Result<(StatusCode, Bytes), GetError> {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            let read = stream.read(&mut head).await.unwrap();
            assert!(head[..read].starts_with(b"GET /status HTTP/1.1\r\n"));
            let _ = stream.write_all(sent).await;
        });
        let answer = get(&path, "/status", 10, PATIENCE).await;
        serving.await.unwrap();
        answer
    }

    #[tokio::test]
    async fn whole_answers_are_taken_and_others_are_errors() {
        let (status, body) = got(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nlong").await.unwrap();
        assert_eq!((status, &body[..]), (StatusCode::SERVICE_UNAVAILABLE, &b"long"[..]));
        for (sent, reason) in [
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlo"[..], "cannot be read"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n12345678901", "length limit exceeded"),
            (b"nonsense\r\n\r\n", "cannot be read"),
            (b"", "cannot be read"),
        ] {
            let error = got(sent).await.unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[tokio::test]
    async fn who_is_not_there_or_does_not_answer_is_not_waited_for() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("socket");
        assert!(matches!(get(&path, "/", 10, PATIENCE).await, Err(GetError::Connect { .. })));
        let _listener = UnixListener::bind(&path).unwrap();
        let short = Duration::from_millis(50);
        assert!(matches!(get(&path, "/", 10, short).await, Err(GetError::Slow { .. })));
    }
}
