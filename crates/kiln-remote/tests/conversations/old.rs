//! Daemons of other versions.

use std::sync::{Arc, Mutex};

use kiln_hash::Sha256;
use kiln_narinfo::PathInfo;
use kiln_protocol::value::{Acknowledged, BuildMode};
use kiln_protocol::worker::{LogError, LogMessage, Operation, Request};
use kiln_remote::{Built, Error};
use kiln_store_path::DerivedPath;

use crate::made_up::{MadeUp, archive, path};

/// Archives go bare, as they are asked for, and in frames.
#[tokio::test]
async fn archives_go_in_the_framing_of_the_version() {
    for minor in [18, 20, 21, 22, 23, 34, 38] {
        let got = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&got);
        let daemon = MadeUp::new(minor, move |conversation, request| {
            assert!(matches!(request, Request::AddToStoreNar(_)));
            *taken.lock().unwrap() = conversation.payload(Operation::AddToStoreNar);
            conversation.say(&LogMessage::Last);
            true
        });
        let archive = archive(&[b'z'; 100_001]);
        let info = PathInfo::new(path("a"), Sha256::UNKNOWN, archive.len() as u64);
        for _ in 0..2 {
            let mut source = &archive[..];
            daemon.store.add_nar(info.clone(), &mut source, true).await.unwrap();
            assert!(*got.lock().unwrap() == archive, "{minor}");
        }
        assert_eq!(daemon.connections(), 1, "{minor}");
    }
}

#[tokio::test]
async fn a_source_that_fails_is_never_a_whole_archive() {
    let daemon = MadeUp::new(34, |conversation, _| {
        // Panics, in its thread, when the payload breaks off.
        conversation.payload(Operation::AddToStoreNar);
        conversation.say(&LogMessage::Last);
        true
    });
    let archive = archive(b"x");
    let info = PathInfo::new(path("a"), Sha256::UNKNOWN, archive.len() as u64);
    let mut source = failing_after(&archive[..40]);
    let error = daemon.store.add_nar(info, &mut source, true).await.unwrap_err();
    assert!(matches!(error, Error::Source(_)), "{error}");
}

/// A reader that fails after these bytes.
fn failing_after(bytes: &[u8]) -> impl tokio::io::AsyncRead + Send + Unpin {
    struct Failing;
    impl tokio::io::AsyncRead for Failing {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::task::Poll::Ready(Err(std::io::Error::other("the disk is gone")))
        }
    }
    tokio::io::AsyncReadExt::chain(std::io::Cursor::new(bytes.to_vec()), Failing)
}

#[tokio::test]
async fn old_daemons_are_told_to_be_too_old() {
    let daemon = MadeUp::new(17, |_, _| panic!("nothing was to be sent"));
    for error in [
        daemon.store.nar(&path("a"), 1).await.map(drop).unwrap_err(),
        daemon.store.output_map(&path("a.drv")).await.map(drop).unwrap_err(),
        daemon.store.missing(&[]).await.map(drop).unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(matches!(error, Error::TooOld { .. }) && text.contains("1.17"), "{text}");
    }
    assert_eq!(daemon.connections(), 1);
}

#[tokio::test]
async fn daemons_without_results_say_yes_or_no() {
    let daemon = MadeUp::new(33, |conversation, request| {
        let Request::BuildPaths(request) = request else { panic!("{request:?}") };
        if request.paths == [DerivedPath::Opaque(path("a"))] {
            conversation.say(&LogMessage::Last);
            conversation.say(&Acknowledged);
        } else {
            conversation.say(&LogMessage::Error(LogError::new("build failed", 1)));
        }
        true
    });
    let build = |name| daemon.store.build(vec![DerivedPath::Opaque(path(name))], BuildMode::Normal);
    assert_eq!(build("a").await.unwrap(), Built::All);
    assert_eq!(build("b").await.unwrap_err().to_string(), "build failed");
}

#[tokio::test]
async fn errors_before_1_26_lose_their_prefix() {
    let daemon = MadeUp::new(21, |conversation, _| {
        conversation.say(&LogMessage::Error(LogError::new("\u{1b}[31;1merror:\u{1b}[0m it is so", 102)));
        true
    });
    let error = daemon.store.is_valid(&path("a")).await.unwrap_err();
    let refusal = error.refusal().unwrap();
    assert_eq!((refusal.message.as_str(), refusal.exit_status), ("it is so", 102));
}
