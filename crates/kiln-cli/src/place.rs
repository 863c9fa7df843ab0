//! Files and trees that the command line names.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{self, Path, PathBuf};

use kiln_fs::{Component, Directory};
use kiln_store::Locations;

use crate::failure::{Failure, While};

/// How many links a path may lead through.
const MAX_LINKS: usize = 64;

/// The path by the name that the thing has: what ends in `/`, `.` or `..` means what is there, whatever it is called.
pub(crate) fn named(path: &Path) -> Result<PathBuf, Failure> {
    if ends_like_a_directory(path) {
        path.canonicalize().doing(|| format!("looking for '{}'", path.display()))
    } else {
        Ok(path.to_owned())
    }
}

fn ends_like_a_directory(path: &Path) -> bool {
    matches!(path.as_os_str().as_bytes().rsplit(|byte| *byte == b'/').next(), Some(b"" | b"." | b".."))
}

/// The directory that `path` is in, opened, and its name there. What is at the path itself is not looked at, so that a
/// link stays a link; but it has to be there.
pub(crate) fn of(path: &Path) -> Result<(Directory, Component), Failure> {
    let (directory, name) = split(&named(path)?)?;
    match directory.status(&name)? {
        Some(_) => Ok((directory, name)),
        None => Err(Failure::input(format!("'{}' does not exist", path.display()))),
    }
}

/// The same for something that is to be made and must not be there yet.
pub(crate) fn for_new(path: &Path) -> Result<(Directory, Component), Failure> {
    let (directory, name) = split(path)?;
    match directory.status(&name)? {
        None => Ok((directory, name)),
        Some(_) => Err(Failure::input(format!("'{}' exists already", path.display()))),
    }
}

/// Where something in a store really is, that `path` names or leads to by links; `None` if it leads elsewhere.
///
/// Links are followed one by one and not by the system, since what they lead to may be a path of a store whose files
/// are elsewhere. What is in the store and itself a link is not followed, unless the path ends like one of a directory.
pub(crate) fn in_store(path: &Path, locations: &Locations) -> Option<PathBuf> {
    let store = Path::new(locations.store_dir.as_str());
    let real = |path: &Path| path.strip_prefix(store).ok().map(|rest| locations.real_dir.join(rest));
    let follows_last = ends_like_a_directory(path);
    let mut whole = path::absolute(path).ok()?;
    'links: for _ in 0..MAX_LINKS {
        let mut reached = PathBuf::new();
        let mut components = whole.components();
        while let Some(component) = components.next() {
            // What was reached holds no link.
            if component == path::Component::ParentDir {
                reached.pop();
                continue;
            }
            let next = reached.join(component);
            let file = real(&next);
            let rest = components.as_path();
            let is_last = rest.as_os_str().is_empty();
            let follows = !store.starts_with(&next) && (!is_last || follows_last || file.is_none());
            if follows && let Ok(target) = file.as_deref().unwrap_or(&next).read_link() {
                whole = reached.join(target).join(rest);
                continue 'links;
            }
            reached = next;
        }
        return real(&reached);
    }
    None
}

fn split(path: &Path) -> Result<(Directory, Component), Failure> {
    let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
        return Err(Failure::input(format!(
            "'{}' is not a file or directory within another one",
            path.display()
        )));
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let directory = Directory::open(parent).doing(|| format!("looking for '{}'", path.display()))?;
    Ok((directory, Component::new(name.as_bytes())?))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use kiln_settings::StoreUrl;

    use super::*;

    const STORE: &str = "/nix/store";

    /// A store of its own below `root`.
    fn locations(root: &Path) -> Locations {
        let Ok(StoreUrl::Local(url)) = StoreUrl::parse(root.to_str().unwrap()) else { panic!("no store") };
        Locations::resolve(&url, &|_| None).unwrap()
    }

    #[test]
    fn what_is_in_a_store_is_found_where_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let locations = locations(&root);
        let real = |path: &str| root.join("nix/store").join(path);
        fs::create_dir_all(real("a-lib/lib")).unwrap();
        fs::create_dir_all(real("b-top/share")).unwrap();
        symlink(format!("{STORE}/a-lib/lib"), real("b-top/lib")).unwrap();
        symlink("../../a-lib/lib", real("b-top/share/up")).unwrap();
        symlink(format!("{STORE}/b-top"), root.join("result")).unwrap();
        symlink("result/share", root.join("second")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("elsewhere", root.join("away")).unwrap();
        let found = |path: &str| in_store(Path::new(path), &locations);
        let outside = |path: &str| found(&format!("{}/{path}", root.display()));
        assert_eq!(found("/nix/store/b-top"), Some(real("b-top")));
        assert_eq!(found("/nix/store/b-top/lib"), Some(real("b-top/lib")), "the link itself");
        for path in ["b-top/lib/", "b-top/lib/.", "b-top/share/up/", "b-top/share/../lib/../lib/."] {
            assert_eq!(found(&format!("{STORE}/{path}")), Some(real("a-lib/lib")), "{path}");
        }
        assert_eq!(found("/nix/store/b-top/lib/x"), Some(real("a-lib/lib/x")), "it need not be there");
        assert_eq!(outside("result"), Some(real("b-top")));
        assert_eq!(outside("result/lib/x"), Some(real("a-lib/lib/x")));
        assert_eq!(outside("second/up/x"), Some(real("a-lib/lib/x")));
        for path in ["", "loop", "loop/x", "away", "nowhere/x", "nix/store/a-lib"] {
            assert_eq!(outside(path), None, "{path}");
        }
        assert_eq!(found("/nix"), None);
    }
}
