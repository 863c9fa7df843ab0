//! The database as text: `--dump-db`, `--load-db`, `--register-validity`; and `--check-validity`.

use std::io::Read as _;

use kiln_hash::Sha256;
use kiln_narinfo::PathInfo;
use kiln_narinfo::registration::{Entry, Form, Reader, write};
use kiln_store::AdoptedFiles;

use super::paths::{store_path, store_paths};
use super::work::Work;
use crate::failure::{Failure, While};
use crate::session::Session;

/// Bytes that are read at once.
const PIECE: usize = 64 << 10;

pub(super) fn dump(work: &Work<'_>) -> Result<u8, Failure> {
    work.line.no_flags("unknown flag")?;
    let session = work.session()?;
    let paths = if work.line.arguments.is_empty() {
        session.wait(session.store.all_paths())?.into_iter().collect()
    } else {
        store_paths(&session, &work.line.arguments)?
    };
    for path in paths {
        let info = session.path_info(&path)?;
        let mut text = String::new();
        write(session.store_dir(), &Entry::of(&info, Form::WithHashes, true), &mut text);
        work.print(text)?;
    }
    Ok(0)
}

pub(super) fn load(work: &Work<'_>) -> Result<u8, Failure> {
    work.line.no_flags("unknown flag")?;
    work.line.no_arguments()?;
    adopt(&work.session()?, Form::WithHashes, true, AdoptedFiles::AsTheyAre)
}

pub(super) fn register(work: &Work<'_>) -> Result<u8, Failure> {
    let [reregister, hash_given] = work.line.known_flags(["--reregister", "--hash-given"])?;
    work.line.no_arguments()?;
    let form = if hash_given { Form::WithHashes } else { Form::WithoutHashes };
    adopt(&work.session()?, form, reregister, AdoptedFiles::MadeCanonical)
}

/// Makes the paths valid that standard input tells of; those that are valid already only if `again`.
fn adopt(session: &Session, form: Form, again: bool, files: AdoptedFiles) -> Result<u8, Failure> {
    let mut infos: Vec<PathInfo> = read(session, form)?.into_iter().map(info).collect();
    if !again {
        let paths = infos.iter().map(|info| info.path.clone()).collect();
        let valid = session.wait(session.store.valid_among(paths))?;
        infos.retain(|info| !valid.contains(&info.path));
    }
    // Of several entries of a path, the last one counts.
    infos.reverse();
    infos.sort_by(|a, b| a.path.cmp(&b.path));
    infos.dedup_by(|a, b| a.path == b.path);
    session.wait(session.store.adopt(infos, files))?;
    Ok(0)
}

fn read(session: &Session, form: Form) -> Result<Vec<Entry>, Failure> {
    let mut reader = Reader::new(session.store_dir().clone(), form);
    let mut entries = Vec::new();
    let mut input = std::io::stdin().lock();
    let mut piece = vec![0; PIECE];
    loop {
        let length = input.read(&mut piece).doing(|| "reading standard input")?;
        if length == 0 {
            reader.finish()?;
            return Ok(entries);
        }
        reader.push(piece.get(..length).unwrap_or_default(), &mut entries)?;
    }
}

fn info(entry: Entry) -> PathInfo {
    let (hash, size) = entry.nar.unwrap_or((Sha256::UNKNOWN, 0));
    let mut info = PathInfo::new(entry.path, hash, size);
    info.deriver = entry.deriver;
    info.references = entry.references;
    info
}

pub(super) fn check(work: &Work<'_>) -> Result<u8, Failure> {
    let [print_invalid] = work.line.known_flags(["--print-invalid"])?;
    let session = work.session()?;
    for argument in &work.line.arguments {
        let path = store_path(&session, argument)?;
        if session.wait(session.store.is_valid(&path))? {
            continue;
        }
        let shown = session.print(&path);
        if !print_invalid {
            return Err(Failure::input(format!("path '{shown}' is not valid")));
        }
        work.print(shown + "\n")?;
    }
    Ok(0)
}
