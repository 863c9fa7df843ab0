//! What looks after the store as a whole: collection, verification, sharing of equal files.

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use kiln_events::{Event, EventSender, EventSink, Verbosity};
use kiln_protocol::worker::request::{CollectGarbage, GarbageAction, VerifyStore};
use kiln_protocol::worker::response::CollectedGarbage;
use kiln_store::{CollectOptions, Finding, Holder, Repair, Retention};
use kiln_store_path::StorePath;

use super::Session;
use super::failure::Failure;

/// What a client is told of a root that is another user's affair.
const CENSORED: &[u8] = b"{censored}";

impl Session {
    /// All roots. Whoever is not trusted is not told what others are doing.
    pub(super) async fn find_roots(&self) -> Result<Vec<(Vec<u8>, StorePath)>, Failure> {
        let mut roots: Vec<(Vec<u8>, StorePath)> = Vec::new();
        for root in self.store().roots(&self.events).await? {
            let holder = match &root.holder {
                Holder::Temporary(_) | Holder::Running(_) if !self.is_trusted() => CENSORED.to_vec(),
                Holder::Temporary(_) => root.holder.to_string().into_bytes(),
                Holder::Direct(file) | Holder::Indirect { link: file, .. } | Holder::Running(file) => {
                    file.as_os_str().as_bytes().to_vec()
                }
            };
            roots.push((holder, root.path));
        }
        roots.dedup();
        Ok(roots)
    }

    /// An error that does not tell those who may not know it which processes use what, as `find_roots` does not.
    fn without_holder(&self, error: kiln_store::Error) -> kiln_store::Error {
        match error {
            kiln_store::Error::StillAlive { path, .. } if !self.is_trusted() => {
                let reason = "to find out why, use: nix-store --query --roots".to_owned();
                kiln_store::Error::StillAlive { path, reason }
            }
            error => error,
        }
    }

    pub(super) async fn collect_garbage(&self, request: CollectGarbage) -> Result<CollectedGarbage, Failure> {
        if request.ignore_liveness {
            return Err(Failure::new("you are not allowed to ignore liveness"));
        }
        let retention =
            Retention { outputs: self.settings.keep_outputs, derivations: self.settings.keep_derivations };
        self.say("finding garbage collector roots...");
        if request.action != GarbageAction::DeleteSpecific {
            self.say("determining live/dead paths...");
        }
        let events = self.events.with_sink(Arc::new(Aloud(self.events.clone())));
        let full = |path: &StorePath| self.store().print(path).into_bytes();
        let leftover = |name: &std::ffi::OsString| {
            [self.store().store_dir().as_str().as_bytes(), b"/", name.as_bytes()].concat()
        };
        let collected = match request.action {
            GarbageAction::ReturnLive => {
                let garbage = self.store().find_garbage(retention, events).await?;
                return Ok(told(garbage.alive.iter().map(full).collect()));
            }
            GarbageAction::ReturnDead => {
                let garbage = self.store().find_garbage(retention, events).await?;
                let paths = garbage.dead.iter().map(full).chain(garbage.leftovers.iter().map(leftover));
                return Ok(told(paths.collect()));
            }
            GarbageAction::DeleteDead => {
                let max_freed = (request.max_freed != u64::MAX).then_some(request.max_freed);
                self.store().collect_garbage(CollectOptions { retention, max_freed }, events).await?
            }
            GarbageAction::DeleteSpecific => {
                let deleted = self.store().delete_paths(request.paths, false, retention, events).await;
                deleted.map_err(|error| self.without_holder(error))?
            }
        };
        for failure in &collected.failures {
            self.events.warn(failure.as_str());
        }
        let paths =
            collected.paths.iter().map(full).chain(collected.leftovers.iter().map(leftover)).collect();
        Ok(CollectedGarbage { bytes_freed: collected.freed, ..told(paths) })
    }

    /// Whether errors are left.
    pub(super) async fn verify_store(&self, request: VerifyStore) -> Result<bool, Failure> {
        if request.repair {
            self.require_trust("you are not privileged to repair paths")?;
        }
        let repair: Option<&dyn Repair> = if request.repair { Some(&self.engine) } else { None };
        let verified = self.store().verify(request.check_contents, repair, self.events.clone()).await?;
        for finding in &verified.findings {
            self.events.warn(self.complaint(finding));
        }
        Ok(verified.findings.iter().any(Finding::is_error))
    }

    pub(super) async fn optimise_store(&self) -> Result<(), Failure> {
        let optimised = self.store().optimise(self.events.clone()).await?;
        for failure in &optimised.failures {
            self.events.warn(failure.as_str());
        }
        // As Nix says it: in KiB, to one place.
        let tenths = optimised.bytes.saturating_mul(10).saturating_add(512) / 1024;
        self.say(&format!(
            "{}.{} KiB freed by hard-linking {} files",
            tenths / 10,
            tenths % 10,
            optimised.files
        ));
        Ok(())
    }

    /// Tells the client something that its users are used to read.
    fn say(&self, text: &str) {
        self.events.message(Verbosity::Info, text);
    }

    fn complaint(&self, finding: &Finding) -> String {
        let shown = |path: &StorePath| self.store().print(path);
        match finding {
            Finding::Disappeared(path) => {
                format!("path '{}' disappeared, removing from database...", shown(path))
            }
            Finding::Missing { path, .. } => {
                format!("path '{}' disappeared, but it still has valid referrers!", shown(path))
            }
            Finding::Modified { path, expected, found } => format!(
                "path '{}' was modified! expected hash 'sha256:{}', got 'sha256:{}'",
                shown(path),
                expected.nix32(),
                found.nix32()
            ),
            Finding::Unreadable { path, reason } => {
                format!("path '{}' cannot be read: {reason}", shown(path))
            }
            Finding::CorruptLink { entry } => format!("link '{}' was modified!", entry.display()),
        }
    }
}

/// Names of paths, and nothing freed.
fn told(paths: Vec<Vec<u8>>) -> CollectedGarbage {
    CollectedGarbage { paths, bytes_freed: 0, obsolete: 0 }
}

/// Tells clients by name of what is deleted: users of Nix are used to see it.
struct Aloud(EventSender);

impl EventSink for Aloud {
    fn emit(&self, event: Event) {
        self.0.emit(match event {
            Event::Message { level: Verbosity::Talkative, message } => {
                Event::Message { level: Verbosity::Info, message }
            }
            event => event,
        });
    }
}
