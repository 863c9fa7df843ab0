//! The plan of a request, as it is told before the work begins.

use kiln_build::Missing;
use kiln_events::Verbosity;
use kiln_store_path::{StoreDir, StorePath};
use serde_json::{Value, json};

use crate::any_store::StoreView;
use crate::session::Session;
use crate::units::mebibytes;

/// Says what will be done, one message for each sort of work that there is.
pub(crate) fn tell<S: StoreView>(missing: &Missing, session: &Session<S>) {
    for message in messages(missing, session.store_dir()) {
        session.events.message(Verbosity::Info, message);
    }
}

/// What will be done, for programs.
pub(super) fn json(missing: &Missing, store_dir: &StoreDir) -> Value {
    let paths = |paths: &[StorePath]| paths.iter().map(|path| store_dir.print(path)).collect::<Vec<String>>();
    json!({
        "willBuild": paths(&missing.will_build),
        "willSubstitute": paths(&missing.will_substitute),
        "unknown": paths(&missing.unknown),
        "downloadSize": missing.download_size,
        "narSize": missing.nar_size,
    })
}

fn messages(missing: &Missing, store_dir: &StoreDir) -> Vec<String> {
    let built = match missing.will_build.len() {
        1 => "this derivation will be built:".to_owned(),
        count => format!("these {count} derivations will be built:"),
    };
    let sizes =
        format!("({} download, {} unpacked)", mebibytes(missing.download_size), mebibytes(missing.nar_size));
    let fetched = match missing.will_substitute.len() {
        1 => format!("this path will be fetched {sizes}:"),
        count => format!("these {count} paths will be fetched {sizes}:"),
    };
    let unknown = "don't know how to build these paths:".to_owned();
    [(built, &missing.will_build), (fetched, &missing.will_substitute), (unknown, &missing.unknown)]
        .into_iter()
        .filter(|(_, paths)| !paths.is_empty())
        .map(|(heading, paths)| {
            let lines = paths.iter().map(|path| format!("\n  {}", store_dir.display(path)));
            heading + &lines.collect::<String>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_reads_as_nix_prints_it() {
        let path = |name: &str| {
            StorePath::from_base_name(format!("4gd87ivd2zhmmqkslb944cwpzpz256w1-{name}")).unwrap()
        };
        let (a, b) = (path("a.drv"), path("b.drv"));
        let missing = Missing {
            will_build: vec![a.clone(), b.clone()],
            will_substitute: vec![a],
            unknown: Vec::new(),
            download_size: 1 << 19,
            nar_size: 3 << 20,
        };
        let dir = "/nix/store/4gd87ivd2zhmmqkslb944cwpzpz256w1";
        assert_eq!(
            messages(&missing, &StoreDir::default()),
            [
                format!("these 2 derivations will be built:\n  {dir}-a.drv\n  {dir}-b.drv"),
                format!("this path will be fetched (0.50 MiB download, 3.00 MiB unpacked):\n  {dir}-a.drv"),
            ]
        );
        let one = Missing { unknown: vec![b], ..Missing::default() };
        assert_eq!(
            messages(&one, &StoreDir::default()),
            [format!("don't know how to build these paths:\n  {dir}-b.drv")]
        );
    }
}
