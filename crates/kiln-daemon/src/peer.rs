//! Who is at the other end of a connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_build::UserId;
use kiln_settings::Settings;
use kiln_settings::client::Trust;
use kiln_store::blocking;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use crate::limits::{UPLOADS_OF_USER, connections_of_user};
use crate::trust::{Account, TrustRule};

/// A client that may use the daemon.
#[derive(Debug)]
pub(crate) struct Peer {
    /// How far it is trusted.
    pub(crate) trust: Trust,
    /// Whose it is.
    pub(crate) user: UserId,
    /// The name of its user.
    pub(crate) name: String,
    /// Its process, if that is known.
    pub(crate) pid: Option<i32>,
    /// What logs call it.
    pub(crate) description: String,
    /// What it shares with the other connections of its user.
    pub(crate) share: Share,
}

/// Why a connection is closed without a word.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("user '{0}' is not allowed to connect to the Nix daemon")]
    NotAllowed(String),
    #[error("user '{0}' has too many connections")]
    TooMany(String),
    #[error("it is not known who connects: {0}")]
    Unknown(std::io::Error),
}

/// The connections of each user.
#[derive(Debug)]
pub(crate) struct Users {
    connections: usize,
    own_uid: u32,
    known: Mutex<HashMap<u32, User>>,
}

#[derive(Debug)]
struct User {
    connections: usize,
    uploads: Arc<Semaphore>,
}

/// One of a user's connections.
#[derive(Debug)]
pub(crate) struct Share {
    /// Permits for what takes a thread each.
    pub(crate) uploads: Arc<Semaphore>,
    /// Whose connections it counts among, if they are counted.
    counted: Option<(Arc<Users>, u32)>,
}

impl Peer {
    /// Finds out who has connected.
    ///
    /// # Errors
    /// They may not.
    pub(crate) async fn identify(
        stream: &UnixStream,
        settings: &Arc<Settings>,
        rule: TrustRule,
        users: &Arc<Users>,
    ) -> Result<Self, Refusal> {
        let credentials = stream.peer_cred().map_err(Refusal::Unknown)?;
        let (uid, gid) = (credentials.uid(), credentials.gid());
        let settings = Arc::clone(settings);
        // Name services may ask other machines.
        let (account, trust) = blocking(move || {
            let account = Account::look_up(uid, gid)?;
            let trust = account.trust(&settings)?;
            Ok((account, trust))
        })
        .await
        .map_err(|errno: rustix::io::Errno| Refusal::Unknown(errno.into()))?;
        let trust = match (trust, rule) {
            (None, _) => return Err(Refusal::NotAllowed(account.name)),
            // Who runs the daemon can do all that it can, and has the store.
            (Some(_), TrustRule::Settings) if uid == users.own_uid => Trust::Trusted,
            (Some(trust), TrustRule::Settings) => trust,
            (Some(_), TrustRule::Everybody) => Trust::Trusted,
            (Some(_), TrustRule::Nobody) => Trust::Untrusted,
        };
        let Some(share) = users.connect(account.uid) else { return Err(Refusal::TooMany(account.name)) };
        let pid = credentials.pid();
        let shown_pid = pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
        let shown = if trust == Trust::Trusted { " (trusted)" } else { "" };
        let description = format!("pid {shown_pid}, user {}{shown}", account.name);
        Ok(Self { trust, user: UserId(uid.into()), name: account.name, pid, description, share })
    }

    /// Whoever has started this process, at its standard input and output.
    pub(crate) fn on_stdio(rule: TrustRule) -> Self {
        let trust = if rule == TrustRule::Nobody { Trust::Untrusted } else { Trust::Trusted };
        let user = UserId(rustix::process::getuid().as_raw().into());
        let share = Share { uploads: Arc::new(Semaphore::new(UPLOADS_OF_USER)), counted: None };
        let (name, description) = (user.0.to_string(), "standard input".to_owned());
        Self { trust, user, name, pid: None, description, share }
    }
}

impl Users {
    pub(crate) fn new() -> Arc<Self> {
        let own_uid = rustix::process::geteuid().as_raw();
        Arc::new(Self { connections: connections_of_user(), own_uid, known: Mutex::default() })
    }

    /// Counts a connection; `None` if the user has as many as they may.
    fn connect(self: &Arc<Self>, uid: u32) -> Option<Share> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let user = known
            .entry(uid)
            .or_insert_with(|| User { connections: 0, uploads: Arc::new(Semaphore::new(UPLOADS_OF_USER)) });
        // Who could end the daemon anyway is never locked out.
        if user.connections >= self.connections && uid != self.own_uid {
            return None;
        }
        user.connections += 1;
        Some(Share { uploads: Arc::clone(&user.uploads), counted: Some((Arc::clone(self), uid)) })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let Some((users, uid)) = &self.counted else { return };
        let mut known = users.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(user) = known.get_mut(uid) {
            user.connections -= 1;
            if user.connections == 0 {
                known.remove(uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_only_so_many_connections() {
        let users = Arc::new(Users { connections: 2, own_uid: 7, known: Mutex::default() });
        let (first, second) = (users.connect(1), users.connect(1));
        assert!(first.is_some() && second.is_some() && users.connect(1).is_none());
        assert!(users.connect(2).is_some(), "others have theirs");
        drop(first);
        assert!(users.connect(1).is_some());
        let own: Vec<_> = (0..5).map(|_| users.connect(7)).collect();
        assert!(own.iter().all(Option::is_some));
        drop((second, own));
        assert!(users.known.lock().unwrap().is_empty());
    }
}
