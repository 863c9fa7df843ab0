//! Recorded sessions of real Nix programs are read wholly, on both sides, and written again byte for byte, however the bytes are
//! cut.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod serve;
mod sessions;
mod source;
mod worker;

use sessions::Session;

/// Sizes of pieces: everything at once, single bytes, and pieces that cut everything somewhere.
const PIECES: &[usize] = &[usize::MAX, 1, 13, 4096];

fn each_session(archive: &[u8], check: impl Fn(&Session, usize)) -> usize {
    let sessions = sessions::read(archive);
    for session in &sessions {
        for &piece in PIECES {
            check(session, piece);
        }
    }
    sessions.len()
}

#[test]
fn worker_sessions_on_a_socket() {
    assert_eq!(each_session(include_bytes!("../data/worker.nar"), worker::check), 144);
}

#[test]
fn worker_sessions_between_different_versions() {
    assert_eq!(each_session(include_bytes!("../data/worker-cross.nar"), worker::check), 18);
}

#[test]
fn worker_sessions_of_old_versions() {
    assert_eq!(each_session(include_bytes!("../data/worker-old.nar"), worker::check), 10);
}

#[test]
fn worker_sessions_over_standard_input() {
    assert_eq!(each_session(include_bytes!("../data/worker-stdio.nar"), worker::check), 22);
}

#[test]
fn worker_sessions_of_untrusted_clients() {
    assert_eq!(each_session(include_bytes!("../data/worker-untrusted.nar"), worker::check), 11);
}

#[test]
fn serve_sessions() {
    assert_eq!(each_session(include_bytes!("../data/serve.nar"), serve::check), 30);
}
