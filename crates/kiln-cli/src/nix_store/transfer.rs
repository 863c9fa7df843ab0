//! `--export`, `--import` and `--serve`.

use kiln_daemon::{ServeWriter, ServedClient};
use kiln_store::CheckSignatures;

use super::paths::{lines, store_paths};
use super::work::Work;
use crate::failure::Failure;
use crate::interrupt::or_interrupted;
use crate::output;

pub(super) fn export(work: &Work<'_>) -> Result<u8, Failure> {
    work.line.known_flags([])?;
    let session = work.session()?;
    let paths = store_paths(&session, &work.line.arguments)?.into_iter().collect();
    output::copy(&session, session.wait(session.store.export(paths))?)?;
    Ok(0)
}

pub(super) fn import(work: &Work<'_>) -> Result<u8, Failure> {
    work.line.known_flags([])?;
    work.line.no_arguments()?;
    let session = work.session()?;
    let importing = async {
        // Whoever may write the store is trusted: the stream has no signatures.
        let imported = session.store.import(std::io::stdin(), CheckSignatures::No).await?;
        Ok(imported)
    };
    let imported = session.wait(or_interrupted(importing, std::future::ready(())))?;
    work.print(lines(&session, &imported))?;
    Ok(0)
}

/// For a client that may write, an engine builds; who only reads needs none.
pub(super) fn serve(work: &Work<'_>) -> Result<u8, Failure> {
    let [writes] = work.line.known_flags(["--write"])?;
    work.line.no_arguments()?;
    let session = work.session()?;
    let engine = if writes { Some(work.engine(&session)?) } else { None };
    let settings = session.settings.clone();
    let writer = engine.clone().map(|engine| ServeWriter { engine, settings });
    let client = ServedClient::new(session.store.clone(), writer);
    let idle = || async {
        if let Some(engine) = &engine {
            engine.idle().await;
        }
    };
    let serving = async {
        let served = client.serve_stdio().await;
        idle().await;
        Ok(served?)
    };
    session.wait(or_interrupted(serving, idle()))?;
    Ok(0)
}
