//! The store's database: whether it opens, is current and whole.

use std::io::ErrorKind;
use std::time::Duration;

use kiln_store::{DatabaseError, Integrity};

use super::{Facts, Finding};
use crate::units::mebibytes;

const AREA: &str = "Database";

/// How long looking it over may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A log of more bytes is worth mentioning: SQLite copies it into the database at 160 MiB.
const LARGE_LOG: u64 = 512 << 20;

/// Looks over the database.
pub(super) fn examine(facts: &Facts<'_>) -> Vec<Finding> {
    let directory = facts.locations.state_dir.join("db");
    match std::fs::metadata(&directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return vec![Finding::note(AREA, format!("there is none at '{}' yet", directory.display()))];
        }
        _ => {}
    }
    let found = match kiln_store::examine_database(&directory, PATIENCE) {
        Ok(found) => found,
        // Whoever sees that it is damaged can read it.
        Err(error) if !facts.is_root && !matches!(error, DatabaseError::Corrupt { .. }) => {
            return vec![
                Finding::note(AREA, format!("this user cannot read it: {error}"))
                    .advise("run 'kiln doctor' as root to look it over"),
            ];
        }
        Err(error) => return vec![Finding::problem(AREA, error.to_string())],
    };
    let (size, log) = (mebibytes(found.size), mebibytes(found.log_size));
    let paths = found.valid_paths;
    let mut findings = vec![match found.integrity {
        Integrity::Whole => Finding::ok(AREA, format!("schema {}, {paths} valid paths, {size}, whole", found.schema)),
        Integrity::Unknown => {
            let seconds = PATIENCE.as_secs();
            Finding::note(AREA, format!("schema {}, {paths} valid paths, {size}; whether it is whole takes more than {seconds} s to find out", found.schema))
        }
        Integrity::Damaged(faults) => Finding::problem(AREA, format!("it is damaged: {}", faults.join("; ")))
            .advise("stop the daemon, keep a copy of the database, and restore it from a backup, or have 'sqlite3 db.sqlite .recover' save what can be saved"),
    }];
    if found.log_size > LARGE_LOG {
        findings.push(
            Finding::warning(
                AREA,
                format!("its write-ahead log has {log}: something has kept it from being worked in"),
            )
            .advise("look for processes that have had the database open for long"),
        );
    }
    findings
}
