//! `--query`: one question about each of the arguments, or about all of them together.

mod graph;
mod question;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use kiln_narinfo::PathInfo;
use kiln_store::Follow;
use kiln_store_path::StorePath;

use self::question::{Asked, Question};
use super::paths::{deriver, lines, store_path};
use super::realise::Realised;
use super::usage;
use super::work::Work;
use crate::any_store::{AnyStore, StoreView as _};
use crate::failure::Failure;
use crate::session::Session;

pub(super) fn query(work: &Work<'_>) -> Result<u8, Failure> {
    let asked = Asked::read(work.line)?;
    let session = work.any_session()?;
    let query = Query { work, session: &session, asked: &asked };
    match &asked.question {
        Question::Outputs => query.each_path(true, |path| Ok(lines(&session, [path]))),
        Question::Hash => query.each_info(|info| format!("sha256:{}\n", info.nar_hash.nix32())),
        Question::Size => query.each_info(|info| format!("{}\n", info.nar_size)),
        Question::Deriver => query.each_argument(|path| {
            let known = session.path_info(&path)?.deriver.as_ref().map(|deriver| session.print(deriver));
            Ok((known.as_deref().unwrap_or("unknown-deriver").to_owned() + "\n").into_bytes())
        }),
        Question::ValidDerivers => query.each_argument(|path| {
            session.path_info(&path)?;
            Ok(lines(&session, &session.wait(session.store.valid_derivers(&path))?).into_bytes())
        }),
        Question::Binding(name) => query.each_argument(|path| binding(&session, path, name)),
        Question::Resolve => query.each_argument(|path| Ok(lines(&session, [&path]).into_bytes())),
        Question::Requisites | Question::References | Question::Referrers | Question::ReferrersClosure => {
            query.related()
        }
        Question::Roots => query.roots(),
        Question::Tree => query.tree(),
        Question::Graph => query.graph(graph::dot),
        Question::GraphMl => query.graph(graph::graphml),
    }?;
    Ok(0)
}

/// A question and those who have to do with the answer.
struct Query<'a> {
    work: &'a Work<'a>,
    session: &'a Session<AnyStore>,
    asked: &'a Asked,
}

impl Query<'_> {
    /// Answers for each argument as it is.
    fn each_argument(&self, answer: impl Fn(StorePath) -> Result<Vec<u8>, Failure>) -> Result<(), Failure> {
        for argument in &self.asked.arguments {
            self.work.print(answer(store_path(self.session, argument)?)?)?;
        }
        Ok(())
    }

    /// Answers for each path that the arguments stand for; with `use_outputs`, derivations stand for their outputs.
    fn each_path(
        &self,
        use_outputs: bool,
        answer: impl Fn(&StorePath) -> Result<String, Failure>,
    ) -> Result<(), Failure> {
        let mut realised = Realised::new(self.work, self.session, self.asked.force_realise)?;
        for argument in &self.asked.arguments {
            let path = realised.path(argument)?;
            for path in self.outputs_or_itself(path, use_outputs)? {
                self.work.print(answer(&path)?)?;
            }
        }
        Ok(())
    }

    fn each_info(&self, answer: impl Fn(&PathInfo) -> String) -> Result<(), Failure> {
        self.each_path(self.asked.use_output, |path| Ok(answer(&*self.session.path_info(path)?)))
    }

    /// The outputs of a derivation, if they are meant; else the path itself.
    fn outputs_or_itself(&self, path: StorePath, use_outputs: bool) -> Result<BTreeSet<StorePath>, Failure> {
        if !use_outputs || !path.is_derivation() {
            return Ok(BTreeSet::from([path]));
        }
        needed(self.session, &path)?;
        let (outputs, is_all) = self.session.wait(self.session.store.outputs(&path))?;
        if is_all {
            return Ok(outputs);
        }
        if outputs.is_empty() {
            return Err(usage(
                "Cannot use output path of floating content-addressing derivation until we know what it is (e.g. by building it)",
            ));
        }
        Ok(outputs)
    }

    /// All paths that the arguments stand for, in their order.
    fn paths(&self) -> Result<Vec<StorePath>, Failure> {
        self.examined_paths(|_| Ok(()))
    }

    /// The same. What is wrong with one argument is told before the next one is looked at.
    fn examined_paths(
        &self,
        examine: impl Fn(&StorePath) -> Result<(), Failure>,
    ) -> Result<Vec<StorePath>, Failure> {
        let mut realised = Realised::new(self.work, self.session, self.asked.force_realise)?;
        let mut paths = Vec::new();
        for argument in &self.asked.arguments {
            let path = realised.path(argument)?;
            let meant = self.outputs_or_itself(path, self.asked.use_output)?;
            meant.iter().try_for_each(&examine)?;
            paths.extend(meant);
        }
        Ok(paths)
    }

    /// Prints what the paths are related to, referenced paths first.
    fn related(&self) -> Result<(), Failure> {
        let (store, session) = (&self.session.store, self.session);
        let must_be_valid = matches!(self.asked.question, Question::Requisites | Question::References);
        let start = self.examined_paths(|path| match must_be_valid {
            true => session.path_info(path).map(drop),
            false => Ok(()),
        })?;
        let include_outputs = self.asked.include_outputs;
        let mut related = BTreeSet::new();
        match self.asked.question {
            Question::Requisites => {
                related = match include_outputs {
                    false => session.wait(store.closure(start))?,
                    true => {
                        let follow = Follow { outputs: true, ..Follow::REFERENCES };
                        session.wait(store.local("'--include-outputs'")?.closure(start, follow))?
                    }
                };
            }
            Question::ReferrersClosure => {
                // A path that is not valid has no referrers.
                let valid = session.wait(store.valid_among(start.clone()))?.into_iter().collect();
                related = session.wait(store.referrers_closure(valid))?;
                related.extend(start);
            }
            Question::Referrers => {
                for path in &start {
                    related.extend(session.wait(store.referrers(path))?);
                }
            }
            _ => {
                for path in &start {
                    related.extend(session.path_info(path)?.references.iter().cloned());
                }
            }
        }
        let sorted = session.wait(store.references_first(related))?;
        self.work.print(lines(session, &sorted))
    }

    /// Prints the roots that keep the paths.
    fn roots(&self) -> Result<(), Failure> {
        let session = self.session;
        let paths = self.paths()?;
        let retention = crate::commands::gc::retention(&session.settings);
        if retention.derivations {
            // The outputs that may keep a derivation are known only of a valid one.
            paths
                .iter()
                .filter(|path| path.is_derivation())
                .try_for_each(|path| session.path_info(path).map(drop))?;
        }
        let store = session.store.local("'--roots'")?;
        let reasons = session.wait(store.why_alive(paths, retention, session.events.clone()))?;
        let roots: BTreeSet<String> = reasons
            .into_iter()
            .flatten()
            .filter_map(|reason| {
                Some(format!("{} -> {}\n", reason.holder, session.print(reason.way.first()?)))
            })
            .collect();
        self.work.print(roots.into_iter().collect::<String>())
    }

    fn tree(&self) -> Result<(), Failure> {
        let mut tree = tree::Tree::default();
        for argument in &self.asked.arguments {
            let path = store_path(self.session, argument)?;
            let infos = self.closure(std::slice::from_ref(&path));
            let known = infos.as_ref().ok();
            self.work.print(tree.draw(&path, known.unwrap_or(&Infos::new()), self.session.store_dir()))?;
            infos?;
        }
        Ok(())
    }

    fn graph(&self, draw: fn(&BTreeSet<StorePath>, &Infos) -> String) -> Result<(), Failure> {
        let paths: BTreeSet<StorePath> = self.paths()?.into_iter().collect();
        let start: Vec<StorePath> = paths.iter().cloned().collect();
        let infos = self.closure(&start)?;
        self.work.print(draw(&paths, &infos))
    }

    fn closure(&self, start: &[StorePath]) -> Result<Infos, Failure> {
        self.session.wait(self.session.store.closure_infos(start.to_vec()))
    }
}

/// What is known of all paths of a closure.
type Infos = BTreeMap<StorePath, PathInfo>;

/// Fails, as real Nix does that would substitute it, where a derivation that has to be read is not valid.
fn needed(session: &Session<AnyStore>, derivation: &StorePath) -> Result<(), Failure> {
    if session.wait(session.store.valid_among(vec![derivation.clone()]))?.is_empty() {
        let shown = session.print(derivation);
        return Err(Failure::input(format!("path '{shown}' does not exist and cannot be created")));
    }
    Ok(())
}

/// The value that a derivation gives to a variable of its builder's environment.
fn binding(session: &Session<AnyStore>, path: StorePath, name: &[u8]) -> Result<Vec<u8>, Failure> {
    let path = deriver(session, path)?;
    needed(session, &path)?;
    let store = session.store.local("'--binding'")?;
    let derivation = session.wait(store.read_derivation(&path))?;
    match derivation.written_environment().find(|(variable, _)| *variable == name) {
        Some((_, value)) => Ok([value, b"\n"].concat()),
        None => Err(Failure::input(format!(
            "derivation '{}' has no environment binding named '{}'",
            session.print(&path),
            String::from_utf8_lossy(name)
        ))),
    }
}
