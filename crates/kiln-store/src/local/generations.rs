//! Generations of profiles: the links `<profile>-<N>-link`, one of which the link `<profile>` leads to.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kiln_fs::{Component, Directory, Kind, PathLocks};

use crate::cancel::{Cancel, cancellable};
use crate::error::Result;
use crate::local::LocalStore;

/// How deep directories of profiles may be nested.
const MAX_DEPTH: usize = 64;

/// Which generations are old. The one that a profile leads to never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldGenerations {
    /// All others.
    All,
    /// Those that were not in use any more at this time before now: the newest that was made before it is kept, too.
    OlderThan(Duration),
}

/// A generation of a profile.
#[derive(Clone, Debug)]
struct Generation {
    number: u64,
    link: Component,
    /// Seconds since 1970.
    made: i64,
}

impl LocalStore {
    /// Deletes old generations of all profiles in the state directory, so that they keep nothing any more; with `only_tell` it
    /// only says which. Returns their links.
    ///
    /// # Errors
    /// The directories of profiles cannot be read, or a link cannot be deleted.
    pub async fn delete_generations(&self, old: OldGenerations, only_tell: bool) -> Result<Vec<PathBuf>> {
        let store = self.clone();
        cancellable(move |cancel| {
            if !only_tell {
                store.refuse_if_read_only()?;
            }
            store.delete_generations_blocking(old, only_tell, cancel)
        })
        .await
    }

    fn delete_generations_blocking(
        &self,
        old: OldGenerations,
        only_tell: bool,
        cancel: &Cancel,
    ) -> Result<Vec<PathBuf>> {
        let state = Directory::open(&self.config().locations.state_dir)?;
        let mut deleted = Vec::new();
        let profiles = Component::new("profiles").map_err(kiln_fs::Error::from)?;
        let mut directories = match state.subdirectory(&profiles) {
            Err(error) if error.is_not_found() => Vec::new(),
            directory => vec![(directory?, 0)],
        };
        while let Some((directory, depth)) = directories.pop() {
            cancel.check()?;
            for name in directory.names()? {
                match directory.status(&name)?.map(|status| status.kind) {
                    Some(Kind::Directory) if depth < MAX_DEPTH => {
                        directories.push((directory.subdirectory(&name)?, depth + 1));
                    }
                    // A profile leads to one of its generations, not right into the store.
                    Some(Kind::Symlink) if is_profile(&directory, &name)? => {
                        deleted.append(&mut delete_old(&directory, &name, old, only_tell)?);
                    }
                    _ => {}
                }
            }
        }
        deleted.sort();
        Ok(deleted)
    }
}

fn is_profile(directory: &Directory, name: &Component) -> Result<bool> {
    let target = directory.read_link(name)?;
    let last = target.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    Ok(number_of(last, name).is_some())
}

/// The number of a generation of a profile.
fn number_of(link: &[u8], profile: &Component) -> Option<u64> {
    let number = link.strip_prefix(profile.as_bytes())?.strip_prefix(b"-")?.strip_suffix(b"-link")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

fn delete_old(
    directory: &Directory,
    profile: &Component,
    old: OldGenerations,
    only_tell: bool,
) -> Result<Vec<PathBuf>> {
    // As whoever switches the profile does.
    let mut lock = match only_tell {
        true => None,
        false => Some(PathLocks::acquire(directory, [profile.clone()], &mut |_| {})?),
    };
    if let Some(lock) = &mut lock {
        lock.delete_on_release(true);
    }
    let target = directory.read_link(profile)?;
    let current = number_of(target.rsplit(|&byte| byte == b'/').next().unwrap_or_default(), profile);
    let mut generations = Vec::new();
    for link in directory.names()? {
        let Some(number) = number_of(link.as_bytes(), profile) else { continue };
        if let Some(status) = directory.status(&link)?.filter(|status| status.kind == Kind::Symlink) {
            generations.push(Generation { number, link, made: status.modified.0 });
        }
    }
    let mut deleted = Vec::new();
    for generation in choose(generations, current, old, now()) {
        if !only_tell {
            directory.remove_file(&generation.link)?;
        }
        deleted.push(directory.path_of(&generation.link));
    }
    Ok(deleted)
}

/// The generations that are old, of which `current` is in use.
fn choose(
    mut generations: Vec<Generation>,
    current: Option<u64>,
    old: OldGenerations,
    now: i64,
) -> Vec<Generation> {
    generations.sort_by_key(|generation| std::cmp::Reverse(generation.number));
    if let OldGenerations::OlderThan(age) = old {
        let time = now.saturating_sub(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        // The first one before that time was in use at it.
        let first = generations.iter().position(|generation| generation.made < time);
        generations = first.map_or_else(Vec::new, |first| generations.split_off(first + 1));
    }
    generations.retain(|generation| Some(generation.number) != current);
    generations
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_generations() {
        let profile = Component::new("system").unwrap();
        assert_eq!(number_of(b"system-42-link", &profile), Some(42));
        for other in
            ["system", "system-42", "system--link", "system-x-link", "other-1-link", "system-1-2-link"]
        {
            assert_eq!(number_of(other.as_bytes(), &profile), None, "{other}");
        }
    }

    #[test]
    fn what_was_in_use_at_the_time_is_kept() {
        let day = 24 * 3600;
        let generations: Vec<Generation> = [(1, 0), (2, 10), (3, 20), (4, 30)]
            .map(|(number, made)| Generation {
                number,
                link: Component::new("link").unwrap(),
                made: made * day,
            })
            .to_vec();
        let chosen = |current, old| -> Vec<u64> {
            let chosen = choose(generations.clone(), current, old, 31 * day);
            chosen.iter().map(|generation| generation.number).collect()
        };
        let older = |days| OldGenerations::OlderThan(Duration::from_secs(days * day as u64));
        assert_eq!(chosen(Some(4), OldGenerations::All), [3, 2, 1]);
        assert_eq!(chosen(Some(2), OldGenerations::All), [4, 3, 1]);
        assert_eq!(chosen(Some(4), older(15)), [1], "15 days ago it was the second");
        assert_eq!(chosen(Some(1), older(0)), [3, 2]);
        assert_eq!(chosen(Some(4), older(100)), [0; 0]);
    }
}
