//! What is in the store directory besides valid paths: the pool of hard links, what processes are working on, and leftovers.

use kiln_database::Graph;
use kiln_fs::{Component, Directory, Trash};
use kiln_store_path::StorePath;

use crate::error::Result;

/// The pool of hard links, whose entries go in another way.
const POOL: &[u8] = b".links";

/// Something in the store directory that is no valid path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leftover {
    pub(super) name: Component,
    /// What it is called, if that could be a store path: perhaps one that is being made, or a lock, or a scratch directory. Trash
    /// is none: whether anybody uses it is known by its lock.
    pub(super) path: Option<StorePath>,
}

impl Leftover {
    pub(super) fn new(name: Component) -> Self {
        let is_trash = Trash::is_name(name.as_bytes());
        let path = (!is_trash).then(|| StorePath::from_base_name(name.as_bytes()).ok()).flatten();
        Self { name, path }
    }
}

/// What may be a leftover in the store directory, given what is valid.
pub(super) fn leftovers(store: &Directory, graph: &Graph) -> Result<Vec<Leftover>> {
    let names = store.names()?.into_iter().filter(|name| name.as_bytes() != POOL);
    let entries = names.map(Leftover::new);
    Ok(entries
        .filter(|entry| entry.path.as_ref().is_none_or(|path| graph.node(path).is_none()))
        .filter(|entry| !is_of_living_process(entry.name.as_bytes()))
        .collect())
}

/// Whether a name is one that Nix gives to what it is working on (`add-PID-N`, `tmp-PID-N`, `.tmp-link-PID-N`), and the
/// process is still there. Some versions don't lock it.
fn is_of_living_process(name: &[u8]) -> bool {
    let prefix =
        [&b"add-"[..], b"tmp-", b"nix-", b".tmp-link-"].into_iter().find(|prefix| name.starts_with(prefix));
    let rest = prefix.and_then(|prefix| name.strip_prefix(prefix)).unwrap_or_default();
    let mut numbers =
        rest.split(|&byte| byte == b'-').map(|number| std::str::from_utf8(number).ok()?.parse().ok());
    match (numbers.next().flatten(), numbers.next().flatten(), numbers.next()) {
        (Some(process), Some::<i32>(_), None) => {
            rustix::process::Pid::from_raw(process).is_some_and(|process| {
                rustix::process::test_kill_process(process) != Err(rustix::io::Errno::SRCH)
            })
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_the_number_of_a_living_process_are_told_apart() {
        let own = std::process::id();
        for prefix in ["add", "tmp", "nix", ".tmp-link"] {
            assert!(is_of_living_process(format!("{prefix}-{own}-0").as_bytes()));
            assert!(!is_of_living_process(format!("{prefix}-2147483647-0").as_bytes()));
        }
        for other in ["add", "add-", "tmp-0-1", "tmp--1-1", "junk", "add-1-2-3", "add-x-1", "\u{e9}-1-1"] {
            assert!(!is_of_living_process(other.as_bytes()), "{other}");
        }
        assert!(!is_of_living_process(format!("other-{own}-0").as_bytes()));
    }
}
