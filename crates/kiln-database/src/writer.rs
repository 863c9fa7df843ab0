//! The one writer: a thread that commits what waits for it in groups. Who waits for a change, and finds nobody writing, is
//! the writer for the moment.
//!
//! Whoever wants a change hands it over and goes on, or waits; nobody holds a lock. Whatever has gathered while the last
//! transaction ran goes into the next one together, each change in a savepoint of its own, so that the failure of one
//! undoes that one alone. A busy store therefore pays for few commits, an idle one never waits for company.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use kiln_store_path::StoreDir;
use rusqlite::Connection;

use crate::connection::Opener;
use crate::error::{Error, Result};
use crate::write::WriteTransaction;

/// Most changes in one transaction.
const LARGEST_GROUP: usize = 256;

/// Changes that may wait before those who bring more have to.
const QUEUE_LENGTH: usize = 1024;

/// A change, waiting or done.
trait Job: Send {
    /// Makes the change; may be called again after a rollback. True if it went well.
    fn run(&mut self, transaction: &WriteTransaction<'_>) -> bool;
    /// Hands the result to whoever asked, once its transaction is committed or lost.
    fn finish(self: Box<Self>, committed: std::result::Result<(), Arc<Error>>);
}

struct Change<T, Run, Done> {
    run: Run,
    done: Done,
    result: Option<Result<T>>,
}

impl<T, Run, Done> Job for Change<T, Run, Done>
where
    T: Send,
    Run: FnMut(&WriteTransaction<'_>) -> Result<T> + Send,
    Done: FnOnce(Result<T>) + Send,
{
    fn run(&mut self, transaction: &WriteTransaction<'_>) -> bool {
        let result = (self.run)(transaction);
        let went_well = result.is_ok();
        self.result = Some(result);
        went_well
    }

    fn finish(self: Box<Self>, committed: std::result::Result<(), Arc<Error>>) {
        let result = match (committed, self.result) {
            (_, Some(Err(error))) => Err(error),
            (Ok(()), Some(Ok(value))) => Ok(value),
            (Ok(()), None) => Err(Error::Closed),
            (Err(error), _) => Err(Error::Commit(error)),
        };
        (self.done)(result);
    }
}

/// Access to the writer's thread, which ends when this is dropped and all that waited is done.
pub(crate) struct Writer {
    queue: Option<Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
    state: Arc<WriterState>,
}

impl Writer {
    pub(crate) fn start(state: WriterState) -> Result<Self> {
        let (sender, receiver) = bounded(QUEUE_LENGTH);
        let path = state.opener.path.clone();
        let state = Arc::new(state);
        let serving = state.clone();
        let thread = thread::Builder::new()
            .name("store database".to_owned())
            .spawn(move || serving.serve(&receiver))
            .map_err(|error| Error::Io { doing: "starting the thread that writes to", path, error })?;
        Ok(Self { queue: Some(sender), thread: Some(thread), state })
    }

    /// A number that changes when another process has changed the database; `None` if that cannot be told at once.
    pub(crate) fn foreign_version(&self) -> Option<i64> {
        // Without the log, looking could mean waiting for another process.
        if !self.state.opener.options.write_ahead_log {
            return None;
        }
        let connection = self.state.connection.try_lock().ok()?;
        // The number stays the same when this very connection changes the database, and nothing else here does.
        connection.prepare_cached("pragma data_version").ok()?.query_row([], |row| row.get(0)).ok()
    }

    /// Hands over a change. `done` is called with its result, on the writer's thread, after the commit.
    pub(crate) fn submit<T, Run, Done>(&self, run: Run, done: Done)
    where
        T: Send + 'static,
        Run: FnMut(&WriteTransaction<'_>) -> Result<T> + Send + 'static,
        Done: FnOnce(Result<T>) + Send + 'static,
    {
        self.hand_over(Box::new(Change { run, done, result: None }));
    }

    /// As [`Writer::submit`], for those who wait for the result anyway: if nobody else is writing, the change is made on
    /// this thread, which saves the ways to the writer's and back.
    pub(crate) fn submit_and_help<T, Run, Done>(&self, run: Run, done: Done)
    where
        T: Send + 'static,
        Run: FnMut(&WriteTransaction<'_>) -> Result<T> + Send + 'static,
        Done: FnOnce(Result<T>) + Send + 'static,
    {
        let job: Box<dyn Job> = Box::new(Change { run, done, result: None });
        let nobody_waits = self.queue.as_ref().is_some_and(Sender::is_empty);
        match self.state.connection.try_lock().ok().filter(|_| nobody_waits) {
            Some(connection) => self.state.commit_group(connection, vec![job]),
            None => self.hand_over(job),
        }
    }

    fn hand_over(&self, job: Box<dyn Job>) {
        let refused = match &self.queue {
            Some(queue) => queue.send(job).err().map(|error| error.0),
            None => Some(job),
        };
        if let Some(job) = refused {
            job.finish(Ok(()));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // If the thread panicked, there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

/// What the writer's thread works with.
pub(crate) struct WriterState {
    /// Locked while a group is written, and for moments in between.
    pub(crate) connection: Mutex<Connection>,
    pub(crate) opener: Opener,
    pub(crate) store_dir: StoreDir,
    pub(crate) has_realisations: bool,
}

impl WriterState {
    fn serve(&self, queue: &Receiver<Box<dyn Job>>) {
        while let Ok(first) = queue.recv() {
            let mut group = vec![first];
            group.extend(queue.try_iter().take(LARGEST_GROUP - 1));
            self.commit_group(self.lock(), group);
        }
    }

    fn commit_group(&self, connection: MutexGuard<'_, Connection>, mut group: Vec<Box<dyn Job>>) {
        match self.attempt(connection, &mut group) {
            Ok(()) => group.into_iter().for_each(|job| job.finish(Ok(()))),
            // What spoilt the transaction may be the doing of one change only (the disk is too full for it): each on its own.
            Err(_) if group.len() > 1 => {
                group.into_iter().for_each(|job| self.commit_group(self.lock(), vec![job]));
            }
            Err(error) => {
                let error = Arc::new(error);
                group.into_iter().for_each(|job| job.finish(Err(error.clone())));
            }
        }
    }

    /// Runs all changes in one transaction. An error means that nothing of it was committed.
    fn attempt(&self, connection: MutexGuard<'_, Connection>, group: &mut [Box<dyn Job>]) -> Result<()> {
        let connection = &*connection;
        // Taking the write lock at the start means that nothing later can find the database busy.
        self.execute(connection, "starting a transaction", "begin immediate")?;
        let result = self
            .run_all(connection, group)
            .and_then(|()| self.execute(connection, "committing a transaction", "commit"));
        if result.is_err() && !connection.is_autocommit() {
            // If even this fails, the next transaction does too and says so.
            let _ = connection.execute_batch("rollback");
        }
        result
    }

    fn run_all(&self, connection: &Connection, group: &mut [Box<dyn Job>]) -> Result<()> {
        let transaction = WriteTransaction {
            connection,
            opener: &self.opener,
            store_dir: &self.store_dir,
            has_realisations: self.has_realisations,
        };
        // The savepoint of a change that is alone is the transaction itself.
        let is_alone = group.len() == 1;
        for job in group {
            if !is_alone {
                self.execute(connection, "starting a change", "savepoint change")?;
            }
            let went_well = job.run(&transaction);
            if connection.is_autocommit() {
                // SQLite rolls all back by itself when the disk is full or fails.
                let path = self.opener.path.clone();
                let error = std::io::Error::other("the transaction was rolled back by a failure of the disk");
                return Err(Error::Io { doing: "writing to", path, error });
            }
            let end = match (is_alone, went_well) {
                (true, true) => continue,
                // The commit that follows wants a transaction, if an empty one.
                (true, false) => "rollback; begin",
                (false, true) => "release change",
                (false, false) => "rollback to change; release change",
            };
            self.execute(connection, "ending a change", end)?;
        }
        Ok(())
    }

    fn execute(&self, connection: &Connection, doing: &'static str, sql: &str) -> Result<()> {
        self.opener.retry(doing, || connection.execute_batch(sql))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic within a change leaves a transaction open, which fails the next one with a clear message.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
