//! Daemons that lie, talk without end, or break off.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kiln_events::{Event, Message};
use kiln_protocol::value::Acknowledged;
use kiln_protocol::worker::{LogError, LogMessage, Request};
use kiln_remote::Error;

use crate::made_up::{MadeUp, archive, path};

fn numbers(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

const NEXT: u64 = 0x6f6c_6d67;
const LAST: u64 = 0x616c_7473;
const READ: u64 = 0x6461_7461;
const WRITE: u64 = 0x6461_7416;

/// A daemon that answers everything with these bytes and falls silent.
fn saying(bytes: Vec<u8>) -> MadeUp {
    MadeUp::new(34, move |conversation, _| {
        conversation.send(&bytes);
        true
    })
}

#[tokio::test]
async fn what_makes_no_sense_is_an_error() {
    for (bytes, reason) in [
        (numbers(&[NEXT, u64::MAX]), "too long"),
        (numbers(&[12345]), "12345"),
        (numbers(&[READ, 10]), "not announced"),
        ([numbers(&[WRITE, 8]), b"12345678".to_vec()].concat(), "nobody has asked for"),
        ([numbers(&[LAST, 1, 0, 4]), b"hashxxxx".to_vec()].concat(), "padding"),
        (numbers(&[LAST, 1, 0, 0]), ""),
    ] {
        let daemon = saying([bytes, numbers(&[0; 32])].concat());
        let error = daemon.store.path_info(&path("a")).await.unwrap_err();
        assert!(matches!(error, Error::Nonsense { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("QueryPathInfo") && text.contains(reason), "{reason}: {text}");
        // What is left of the answer is not taken for that of the next request.
        let _ = daemon.store.is_valid(&path("a")).await;
        assert_eq!(daemon.connections(), 2);
    }
}

#[tokio::test]
async fn refusals_leave_the_connection_as_it_was() {
    let daemon = MadeUp::new(34, |conversation, _| {
        conversation.say(&LogMessage::Error(LogError::new("no \u{1b}]0;way\u{7}", 1)));
        true
    });
    for _ in 0..3 {
        let error = daemon.store.is_valid(&path("a")).await.unwrap_err();
        assert_eq!(error.refusal().unwrap().message, "no");
    }
    assert_eq!(daemon.connections(), 1);
}

#[tokio::test]
async fn what_breaks_off_is_lost_and_asked_anew() {
    let daemon = MadeUp::new(34, |conversation, _| {
        conversation.send(&numbers(&[LAST]));
        false
    });
    for count in 1..3 {
        let error = daemon.store.is_valid(&path("a")).await.unwrap_err();
        assert!(matches!(error, Error::Lost { operation: "IsValidPath", .. }), "{error}");
        assert_eq!(daemon.connections(), count);
    }
}

#[tokio::test]
async fn something_else_at_the_socket_is_said_to_be() {
    let web = MadeUp::accepting(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let error = web.store.greeting().await.unwrap_err().to_string();
    assert!(error.contains("HTTP/1.1"), "{error}");
    let gone = MadeUp::accepting(drop);
    let error = gone.store.greeting().await.unwrap_err();
    assert!(matches!(error, Error::Lost { operation: "the handshake", .. }), "{error}");
}

#[tokio::test]
async fn answers_about_something_else_are_refused() {
    let daemon = MadeUp::new(34, |conversation, request| {
        conversation.say(&LogMessage::Last);
        match request {
            Request::QueryValidPaths(_) => conversation.say(&BTreeSet::from([path("other")])),
            _ => conversation.say(&Some(path("other"))),
        }
        true
    });
    let error = daemon.store.valid_among(BTreeSet::from([path("a")]), false).await.unwrap_err();
    assert!(error.to_string().contains("not asked about"), "{error}");
    let error = daemon.store.path_by_digest("00000000000000000000000000000000").await.unwrap_err();
    assert!(error.to_string().contains("another digest"), "{error}");
}

#[tokio::test]
async fn activities_have_names_of_this_side_and_an_end() {
    let daemon = MadeUp::new(34, |conversation, _| {
        // Starts an activity and says something of it and of one that isn't there.
        let start = [&numbers(&[0x5354_5254, 5, 3, 0, 4])[..], b"work\0\0\0\0", &numbers(&[0, 0])].concat();
        conversation.send(&start);
        conversation.send(&numbers(&[0x5253_4c54, 77, 105, 4, 0, 1, 0, 2, 0, 0, 0, 0]));
        conversation.say(&LogMessage::Next("said\n".into()));
        conversation.say(&LogMessage::Last);
        conversation.say(&Acknowledged);
        true
    });
    daemon.store.ensure(path("a")).await.unwrap();
    let told = daemon.sink.take();
    let [
        Event::Start { id, text, .. },
        Event::Message { message: Message::Text(said), .. },
        Event::Stop { id: stopped },
    ] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!((text.as_bytes(), said.as_bytes(), id), (&b"work"[..], &b"said"[..], stopped));
}

/// Reads the archive of a path that should have so many bytes.
async fn read(daemon: &MadeUp, limit: u64) -> Result<Vec<u8>, Error> {
    let mut stream = daemon.store.nar(&path("a"), limit).await?;
    let mut read = Vec::new();
    while let Some(chunk) = stream.next().await? {
        read.extend_from_slice(&chunk);
    }
    Ok(read)
}

#[tokio::test]
async fn an_archive_ends_where_it_ends() {
    let whole = archive(&[b'x'; 100_000]);
    let length = whole.len() as u64;
    let sent = whole.clone();
    let good = saying([numbers(&[LAST]), sent].concat());
    for _ in 0..3 {
        assert!(read(&good, length).await.unwrap() == whole);
    }
    assert_eq!(good.connections(), 1);
    let error = read(&good, length - 1).await.unwrap_err().to_string();
    assert!(error.contains("more than the"), "{error}");

    let damaged = saying([numbers(&[LAST]), b"this is no archive at all".repeat(10)].concat());
    assert!(matches!(read(&damaged, 1000).await, Err(Error::Nonsense { .. })));

    let broken = MadeUp::new(34, move |conversation, _| {
        conversation.send(&[&numbers(&[LAST])[..], &whole[..5000]].concat());
        false
    });
    assert!(matches!(read(&broken, length).await, Err(Error::Lost { operation: "NarFromPath", .. })));

    // What follows the archive is nobody's answer.
    let trailing = saying([numbers(&[LAST]), archive(b"y"), numbers(&[LAST, 1])].concat());
    read(&trailing, 1000).await.unwrap();
    read(&trailing, 1000).await.unwrap();
    assert_eq!(trailing.connections(), 2);
}

#[tokio::test]
async fn roots_are_sent_many_at_a_time() {
    let asked = AtomicUsize::new(0);
    let daemon = MadeUp::new(34, move |conversation, request| {
        let Request::AddTempRoot(request) = request else { panic!("{request:?}") };
        // It answers two at a time.
        if asked.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
            for _ in 0..2 {
                if request.path == path("refused") {
                    conversation.say(&LogMessage::Error(LogError::new("no such thing", 1)));
                } else {
                    conversation.say(&LogMessage::Last);
                    conversation.say(&Acknowledged);
                }
            }
        }
        true
    });
    let add = async |names: Vec<String>| {
        let adding = daemon.store.add_temp_roots(names.iter().map(|name| path(name)));
        tokio::time::timeout(Duration::from_secs(60), adding).await.expect("an answer")
    };
    add((0..150).map(|number| format!("p{number}")).collect()).await.unwrap();
    assert_eq!(daemon.connections(), 1);
    let refused = add(vec!["a".to_owned(), "refused".to_owned()]).await.unwrap_err();
    assert_eq!(refused.to_string(), "no such thing");
    add(vec!["b".to_owned(), "c".to_owned()]).await.unwrap();
    assert_eq!(daemon.connections(), 2, "what was left over of the other is nobody's answer");
}
