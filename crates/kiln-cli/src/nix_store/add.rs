//! `--add`, `--add-fixed`, `--print-fixed-path`.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::Path;

use kiln_hash::{Algorithm, Hash};
use kiln_store::{NewObject, absolute_path, written_by};
use kiln_store_path::{ContentAddress, ContentAddressMethod, References, StorePathName};

use super::paths::lines;
use super::usage;
use super::work::Work;
use crate::any_store::{AnyStore, StoreView as _, of_daemon};
use crate::failure::{Failure, While};
use crate::session::Session;
use crate::{daemon_store, store_config};

pub(super) fn add(work: &Work<'_>) -> Result<u8, Failure> {
    work.line.no_flags("unknown flag")?;
    let session = work.any_session()?;
    add_all(work, &session, &work.line.arguments, ContentAddressMethod::Nar, Algorithm::Sha256)
}

pub(super) fn add_fixed(work: &Work<'_>) -> Result<u8, Failure> {
    let method = method(work)?;
    let Some((algorithm, paths)) = work.line.arguments.split_first() else {
        return Err(usage("first argument must be hash algorithm"));
    };
    let algorithm = self::algorithm(algorithm)?;
    let session = work.any_session()?;
    add_all(work, &session, paths, method, algorithm)
}

fn add_all(
    work: &Work<'_>,
    session: &Session<AnyStore>,
    paths: &[OsString],
    method: ContentAddressMethod,
    algorithm: Algorithm,
) -> Result<u8, Failure> {
    for path in paths {
        let name = StorePathName::new(base_name(path.as_encoded_bytes()))
            .doing(|| format!("adding '{}'", path.display()))?;
        // A link stays a link, also with a slash after it.
        let source = absolute_path(Path::new(path))?;
        let status =
            source.symlink_metadata().doing(|| format!("getting status of '{}'", source.display()))?;
        let object = NewObject { name, method, algorithm, references: BTreeSet::new() };
        // What is hashed is the contents alone, whatever the permissions.
        let is_file = method == ContentAddressMethod::Flat && status.is_file();
        let adding = async {
            match &session.store {
                AnyStore::Local(store) if is_file => Ok(store.add_file(object, &source).await?.path.clone()),
                AnyStore::Daemon(daemon) if is_file => {
                    let mut file = File::open(&source).doing(|| format!("opening '{}'", source.display()))?;
                    let mut contents = written_by(move |out| std::io::copy(&mut file, out).map(drop));
                    Ok(daemon.add_object(of_daemon(object), &mut contents).await?)
                }
                AnyStore::Daemon(_) if method == ContentAddressMethod::Flat => {
                    Err(Failure::input(format!("'{}' is not a regular file", source.display())))
                }
                store => store.add_tree(object, &source, None).await,
            }
        };
        let added = session.wait(adding).doing(|| format!("adding '{}' to the store", path.display()))?;
        work.print(lines(session, [&added]))?;
    }
    Ok(0)
}

/// The last part of a path as it is written.
fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').find(|part| !part.is_empty()).unwrap_or_default()
}

pub(super) fn print_fixed_path(work: &Work<'_>) -> Result<u8, Failure> {
    let method = method(work)?;
    let [algorithm, hash, name] = work.line.exactly("'--print-fixed-path' requires three arguments")?;
    let hash = Hash::parse_any(&hash.to_string_lossy(), Some(self::algorithm(algorithm)?))?;
    let name = StorePathName::new(name.as_encoded_bytes())?;
    let settings = work.invocation().settings()?;
    let environment = work.invocation().environment;
    let store_dir = match daemon_store::address(&settings.store, environment)? {
        Some(address) => address.store_dir,
        None => store_config::from_settings(&settings, environment)?.locations.store_dir,
    };
    let address = ContentAddress { method, hash };
    let references = References { others: BTreeSet::new(), to_self: false };
    let path = store_dir.make_content_addressed_path(&name, &address, &references)?;
    work.print(store_dir.print(&path) + "\n")?;
    Ok(0)
}

/// How the content is hashed.
fn method(work: &Work<'_>) -> Result<ContentAddressMethod, Failure> {
    let [recursive] = work.line.known_flags(["--recursive"])?;
    Ok(if recursive { ContentAddressMethod::Nar } else { ContentAddressMethod::Flat })
}

fn algorithm(name: &OsStr) -> Result<Algorithm, Failure> {
    let name = name.to_string_lossy();
    name.parse().map_err(|_| usage(format!("unknown hash algorithm '{name}'")))
}
