//! Asking one substituter: once for all who want to know the same at the same time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use kiln_store_path::{StoreDir, StorePath};
use tokio::sync::oneshot;

use crate::error::{Error, LookupFault};
use crate::source::{Offer, Properties, Substituter};

/// What a substituter says about a path; nothing if it doesn't have it.
pub(crate) type Answer = Result<Option<Offer>, Arc<Error>>;

type SharedAnswer = Shared<BoxFuture<'static, Answer>>;

/// A substituter and the questions to it that are under way.
pub(crate) struct Source {
    pub(crate) substituter: Box<dyn Substituter>,
    store_dir: StoreDir,
    /// What it said about itself.
    properties: OnceLock<Properties>,
    questions: Mutex<HashMap<StorePath, SharedAnswer>>,
}

impl Source {
    pub(crate) fn new(substituter: Box<dyn Substituter>, store_dir: StoreDir) -> Arc<Self> {
        let (properties, questions) = (OnceLock::new(), Mutex::default());
        Arc::new(Self { substituter, store_dir, properties, questions })
    }

    /// A full path as text.
    pub(crate) fn print(&self, path: &StorePath) -> String {
        self.store_dir.print(path)
    }

    /// What the substituter says about itself, if it was asked before.
    pub(crate) fn properties(&self) -> Option<Properties> {
        self.properties.get().copied()
    }

    /// Asks about a path. The question goes on when nobody waits for the answer any more: that a substituter is slow or
    /// gone is found out even if those who asked have gone on with another one. Must be called within the runtime.
    pub(crate) fn ask(self: &Arc<Self>, path: &StorePath) -> SharedAnswer {
        let mut questions = self.questions();
        if let Some(answer) = questions.get(path) {
            return answer.clone();
        }
        let (sender, receiver) = oneshot::channel();
        let path_text = self.store_dir.print(path);
        let given_up = Arc::new(Error::lookup(self.substituter.name(), path_text, LookupFault::GivenUp));
        let answer = receiver.map(|answer| answer.unwrap_or(Err(given_up))).boxed().shared();
        questions.insert(path.clone(), answer.clone());
        drop(questions);
        let question = Question { source: Arc::clone(self), path: path.clone() };
        tokio::spawn(async move {
            let answer = question.source.ask_now(&question.path).await.map_err(Arc::new);
            drop(question);
            // Whoever asked may have gone on.
            let _ = sender.send(answer);
        });
        answer
    }

    async fn ask_now(&self, path: &StorePath) -> Result<Option<Offer>, Error> {
        self.learn_properties().await?;
        self.substituter.path_info(path).await
    }

    /// Has the substituter say what it is, before anything else is asked.
    pub(crate) async fn learn_properties(&self) -> Result<(), Error> {
        let properties = self.substituter.properties().await?;
        self.properties.get_or_init(|| properties);
        Ok(())
    }

    fn questions(&self) -> MutexGuard<'_, HashMap<StorePath, SharedAnswer>> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A question under way; from its end on, the substituter is asked anew.
struct Question {
    source: Arc<Source>,
    path: StorePath,
}

impl Drop for Question {
    fn drop(&mut self) {
        self.source.questions().remove(&self.path);
    }
}
