//! `--realise`, and making paths valid for queries with `--force-realise`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use kiln_build::{BuildAnswer, BuildMode, BuildRequest};
use kiln_store_path::{DerivedPath, OutputName, OutputsSpec, StorePath};

use super::paths::{store_path, wanted};
use super::work::Work;
use crate::any_store::{AnyStore, StoreView as _};
use crate::builder::Builder;
use crate::commands::build::{missing, report};
use crate::failure::{Failure, While};
use crate::interrupt::or_interrupted;
use crate::session::Session;

pub(super) fn realise(work: &Work<'_>) -> Result<u8, Failure> {
    let flags = ["--dry-run", "--repair", "--check", "--ignore-unknown"];
    let [dry_run, repair, check, ignore_unknown] = work.line.known_flags(flags)?;
    let session = work.any_session()?;
    let targets = work.line.arguments.iter().map(|argument| wanted(&session, argument));
    let mut targets: Vec<DerivedPath> = targets.collect::<Result<_, _>>()?;
    let builder = work.builder(&session)?;
    let building = async {
        let mut missing = builder.query_missing(&targets).await?;
        if ignore_unknown {
            targets.retain(|target| !missing.unknown.contains(path_of(target)));
            missing.unknown.clear();
        }
        // Nix tells them in the order of their references and names.
        let ordered = std::mem::take(&mut missing.will_build).into_iter().collect();
        missing.will_build = session.store.references_first(ordered).await?;
        if session.settings.print_missing {
            missing::tell(&missing, &session);
        }
        if dry_run || targets.is_empty() {
            return Ok(None);
        }
        let mode = match (check, repair) {
            (true, _) => BuildMode::Check,
            (_, true) => BuildMode::Repair,
            _ => BuildMode::Normal,
        };
        let request = BuildRequest { targets, mode, keep_going: session.settings.keep_going };
        let answer = builder.build(request).await?;
        builder.idle().await;
        Ok(Some(answer))
    };
    let Some(answer) = session.wait(or_interrupted(building, builder.idle()))? else { return Ok(0) };
    if answer.exit_status != 0 {
        report::errors(&answer, &session, work.terminal);
    } else if !ignore_unknown {
        let mut results = Results::new(work, &session);
        let lines = results.of(&answer)?.concat();
        if !work.line.no_output {
            work.print_at_last(lines)?;
        }
    }
    Ok(answer.exit_status)
}

fn path_of(target: &DerivedPath) -> &StorePath {
    match target {
        DerivedPath::Opaque(path) => path,
        DerivedPath::Built { derivation, .. } => &derivation.path,
    }
}

/// What was realised, with the links that keep it.
struct Results<'a> {
    work: &'a Work<'a>,
    session: &'a Session<AnyStore>,
    /// How many targets there were up to now.
    targets: usize,
    warned: bool,
}

impl<'a> Results<'a> {
    fn new(work: &'a Work<'a>, session: &'a Session<AnyStore>) -> Self {
        Self { work, session, targets: 0, warned: false }
    }

    /// The lines to print for the targets of a request that went well.
    fn of(&mut self, answer: &BuildAnswer) -> Result<Vec<String>, Failure> {
        let mut lines = Vec::new();
        for result in &answer.results {
            self.targets += 1;
            let mut printed: Vec<String> = match &result.target {
                DerivedPath::Opaque(path) => vec![self.line(path, None)?],
                DerivedPath::Built { .. } => {
                    let outputs = result.outputs.iter();
                    outputs.map(|(name, path)| self.line(path, Some(name))).collect::<Result<_, _>>()?
                }
            };
            printed.sort();
            lines.extend(printed);
        }
        Ok(lines)
    }

    /// The path, or the link that was left to it if there was to be one.
    fn line(&mut self, path: &StorePath, output: Option<&OutputName>) -> Result<String, Failure> {
        let Some(root) = &self.work.line.root else {
            if !self.work.line.no_root_warning && !std::mem::replace(&mut self.warned, true) {
                self.session.events.warn(
                    "you did not specify '--add-root'; the result might be removed by the garbage collector",
                );
            }
            return Ok(self.session.print(path) + "\n");
        };
        let link = link(root, self.targets, output);
        self.leave(&link, path)?;
        Ok(format!("{}\n", link.display()))
    }

    fn leave(&self, link: &Path, path: &StorePath) -> Result<(), Failure> {
        if link.starts_with(self.session.store_dir().as_str()) {
            return Err(Failure::input(format!(
                "creating a garbage collector root ({}) in the Nix store is forbidden",
                link.display()
            )));
        }
        if let Some(parent) = link.parent() {
            std::fs::create_dir_all(parent).doing(|| format!("creating directory '{}'", parent.display()))?;
        }
        self.session.wait(self.session.store.add_out_link(link, path))
    }
}

/// The link to an output of the target with this number, from 1: `ROOT`, `ROOT-2`, …, with `-OUTPUT` unless that is `out`.
fn link(root: &Path, number: usize, output: Option<&OutputName>) -> PathBuf {
    let mut name: OsString = root.as_os_str().to_owned();
    if number > 1 {
        name.push(format!("-{number}"));
    }
    if let Some(output) = output.filter(|output| !output.is_out()) {
        name.push(format!("-{output}"));
    }
    PathBuf::from(name)
}

/// Paths of queries, each made valid first if that is asked for.
pub(super) struct Realised<'a> {
    work: &'a Work<'a>,
    session: &'a Session<AnyStore>,
    /// Not there if nothing is to be made.
    builder: Option<Builder>,
    results: Results<'a>,
}

impl<'a> Realised<'a> {
    pub(super) fn new(
        work: &'a Work<'a>,
        session: &'a Session<AnyStore>,
        force: bool,
    ) -> Result<Self, Failure> {
        let builder = if force { Some(work.builder(session)?) } else { None };
        Ok(Self { work, session, builder, results: Results::new(work, session) })
    }

    /// The path that an argument means.
    pub(super) fn path(&mut self, argument: &OsString) -> Result<StorePath, Failure> {
        let path = store_path(self.session, argument)?;
        let Some(builder) = &self.builder else { return Ok(path) };
        let target = match path.is_derivation() {
            true => DerivedPath::Built { derivation: path.clone().into(), outputs: OutputsSpec::All },
            false => DerivedPath::Opaque(path.clone()),
        };
        let keep_going = self.session.settings.keep_going;
        let request = BuildRequest { targets: vec![target], mode: BuildMode::Normal, keep_going };
        let building = async {
            let answer = builder.build(request).await?;
            builder.idle().await;
            Ok(answer)
        };
        let answer = self.session.wait(or_interrupted(building, builder.idle()))?;
        if answer.exit_status != 0 {
            report::errors(&answer, self.session, self.work.terminal);
            return Err(Failure::already_told(answer.exit_status));
        }
        self.results.of(&answer)?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_numbered_from_two() {
        let dev = OutputName::new("dev").unwrap();
        let root = Path::new("/r");
        assert_eq!(link(root, 1, Some(&OutputName::out())), root);
        assert_eq!(link(root, 1, None), root);
        assert_eq!(link(root, 1, Some(&dev)), Path::new("/r-dev"));
        assert_eq!(link(root, 2, Some(&dev)), Path::new("/r-2-dev"));
        assert_eq!(link(root, 3, None), Path::new("/r-3"));
    }
}
