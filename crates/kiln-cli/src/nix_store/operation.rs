//! The table of operations.

use super::work::Work;
use super::{add, archive, collect, derivation, key, query, realise, registration, transfer, upkeep};
use crate::failure::Failure;

/// One operation.
pub(super) struct Operation {
    /// The words that mean it.
    names: &'static [&'static str],
    /// Does it, and returns the exit code.
    pub(super) run: fn(&Work<'_>) -> Result<u8, Failure>,
    /// Somebody else's program reads what is told.
    pub(super) tells_only_errors: bool,
}

impl Operation {
    /// The operation that a word means.
    pub(super) fn find(word: &str) -> Option<&'static Self> {
        OPERATIONS.iter().find(|operation| operation.names.contains(&word))
    }

    /// Whether this is the same operation.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.names == other.names
    }
}

const fn operation(names: &'static [&'static str], run: fn(&Work<'_>) -> Result<u8, Failure>) -> Operation {
    Operation { names, run, tells_only_errors: false }
}

static OPERATIONS: [Operation; 26] = [
    operation(&["--realise", "--realize", "-r"], realise::realise),
    operation(&["--query", "-q"], query::query),
    operation(&["--add", "-A"], add::add),
    operation(&["--add-fixed"], add::add_fixed),
    operation(&["--print-fixed-path"], add::print_fixed_path),
    operation(&["--delete"], collect::delete),
    operation(&["--gc"], collect::collect_garbage),
    operation(&["--dump"], archive::dump),
    operation(&["--restore"], archive::restore),
    operation(&["--export"], transfer::export),
    operation(&["--import"], transfer::import),
    operation(&["--init"], upkeep::init),
    operation(&["--verify"], upkeep::verify),
    operation(&["--verify-path"], upkeep::verify_path),
    operation(&["--repair-path"], upkeep::repair_path),
    operation(&["--optimise", "--optimize"], upkeep::optimise),
    operation(&["--read-log", "-l"], derivation::read_log),
    operation(&["--print-env"], derivation::print_environment),
    operation(&["--dump-db"], registration::dump),
    operation(&["--load-db"], registration::load),
    operation(&["--register-validity"], registration::register),
    operation(&["--check-validity"], registration::check),
    operation(&["--generate-binary-cache-key"], key::generate),
    Operation { names: &["--serve"], run: transfer::serve, tells_only_errors: true },
    operation(&["--version"], |work| work.version()),
    operation(&["--help"], |work| work.help()),
];
