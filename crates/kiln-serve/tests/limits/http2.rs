//! HTTP/2 without encryption, by a client that knows beforehand that it is spoken.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kiln_serve::Limits;
use tokio::net::TcpStream;

use crate::cache::Cache;
use crate::{MOMENT, wide};

type Sender = SendRequest<Empty<Bytes>>;

async fn connect(cache: &Cache) -> Sender {
    let stream = TcpStream::connect(cache.address()).await.unwrap();
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn get(sender: &Sender, target: &str) -> hyper::Result<Response<hyper::body::Incoming>> {
    let request = Request::get(format!("http://cache{target}")).body(Empty::<Bytes>::new());
    sender.clone().send_request(request.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_share_a_connection() {
    let cache = Cache::with(wide());
    let sender = connect(&cache).await;
    let target = cache.archive();
    let archives = (0..4).map(|_| async {
        let answer = get(&sender, &target).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.into_body().collect().await.unwrap().to_bytes().len() as u64
    });
    assert_eq!(join_all(archives).await, [cache.size(); 4]);
    let small = (0..200).map(|_| async { get(&sender, "/nix-cache-info").await.unwrap().status() });
    assert!(join_all(small).await.iter().all(|status| *status == StatusCode::OK));
    assert!(cache.get("/metrics").contains("kiln_serve_connections_total 2\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_off_does_not_look_whole() {
    let cache = Cache::with(wide());
    let sender = connect(&cache).await;
    let target = cache.archive();
    cache.damage();
    for target in [target.clone(), format!("{target}.zst")] {
        let answer = get(&sender, &target).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(answer.into_body().collect().await.is_err());
    }
    assert_eq!(get(&sender, "/health").await.unwrap().status(), StatusCode::OK, "the others go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_nobody_reads_gives_back_its_place() {
    let cache = Cache::with(Limits { streams: 1, stalled: MOMENT, ..wide() });
    let (slow, sender) = (connect(&cache).await, connect(&cache).await);
    let target = cache.archive();
    let held = get(&slow, &target).await.unwrap();
    let whole = get(&sender, &target).await.unwrap().into_body().collect();
    let whole = tokio::time::timeout(Duration::from_secs(60), whole).await.unwrap().unwrap();
    assert_eq!(whole.to_bytes().len() as u64, cache.size());
    assert!(held.into_body().collect().await.is_err(), "it was cut off");
}
