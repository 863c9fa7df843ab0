//! Where configuration files are.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfFileOwner {
    /// The machine's: a client doesn't tell the daemon what is in it, since the daemon has read it too.
    System,
    /// The user's.
    User,
}

/// A file that may hold settings; it needn't exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfFile {
    /// Where it is.
    pub path: PathBuf,
    /// Whose it is.
    pub owner: ConfFileOwner,
}

/// The directory of the machine's configuration: `NIX_CONF_DIR`, else `/etc/nix`.
#[must_use]
pub fn system_conf_dir(environment: &dyn Fn(&str) -> Option<OsString>) -> PathBuf {
    environment("NIX_CONF_DIR")
        .filter(|dir| !dir.is_empty())
        .map_or_else(|| PathBuf::from("/etc/nix"), PathBuf::from)
}

/// The files to read, in order: what later ones say wins.
///
/// First the machine's `nix.conf`. Then, if `NIX_USER_CONF_FILES` is set, its files, separated by `:`; otherwise those
/// of `XDG_CONFIG_DIRS` (default `/etc/xdg`) and of the user's own configuration directory (`NIX_CONFIG_HOME`, else
/// `nix` in `XDG_CONFIG_HOME`, else in `.config` in `HOME`). Of the user's files, those named first win, so they are
/// listed last.
#[must_use]
pub fn conf_files(environment: &dyn Fn(&str) -> Option<OsString>) -> Vec<ConfFile> {
    let user_files = match environment("NIX_USER_CONF_FILES") {
        Some(files) => split_path_list(&files),
        None => user_dirs(environment).into_iter().map(|dir| dir.join("nix.conf")).collect(),
    };
    let system =
        ConfFile { path: system_conf_dir(environment).join("nix.conf"), owner: ConfFileOwner::System };
    let users = user_files.into_iter().rev().map(|path| ConfFile { path, owner: ConfFileOwner::User });
    std::iter::once(system).chain(users).collect()
}

/// Directories of the user's configuration, the most important first.
fn user_dirs(environment: &dyn Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
    let own = variable("NIX_CONFIG_HOME").map(PathBuf::from).or_else(|| {
        let home = || variable("HOME").map(|home| Path::new(&home).join(".config"));
        let config = variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home)?;
        Some(config.join("nix"))
    });
    let shared = variable("XDG_CONFIG_DIRS").unwrap_or_else(|| OsString::from("/etc/xdg"));
    let shared = split_path_list(&shared).into_iter().map(|dir| dir.join("nix"));
    own.into_iter().chain(shared).collect()
}

/// The parts of a list that is separated by `:`, without empty ones.
fn split_path_list(list: &OsStr) -> Vec<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let parts = list.as_bytes().split(|&byte| byte == b':').filter(|part| !part.is_empty());
    parts.map(|part| PathBuf::from(OsStr::from_bytes(part))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(variables: &[(&str, &str)]) -> Vec<String> {
        let environment = |name: &str| {
            let found = variables.iter().find(|(candidate, _)| *candidate == name);
            found.map(|(_, value)| OsString::from(value))
        };
        conf_files(&environment).into_iter().map(|file| file.path.display().to_string()).collect()
    }

    #[test]
    fn the_order_is_that_of_nix() {
        assert_eq!(paths(&[]), ["/etc/nix/nix.conf", "/etc/xdg/nix/nix.conf"]);
        assert_eq!(
            paths(&[("HOME", "/h"), ("XDG_CONFIG_DIRS", "/x:/y")]),
            ["/etc/nix/nix.conf", "/y/nix/nix.conf", "/x/nix/nix.conf", "/h/.config/nix/nix.conf"]
        );
        assert_eq!(
            paths(&[
                ("HOME", "/h"),
                ("XDG_CONFIG_HOME", "/c"),
                ("NIX_CONF_DIR", "/n"),
                ("XDG_CONFIG_DIRS", "")
            ]),
            ["/n/nix.conf", "/etc/xdg/nix/nix.conf", "/c/nix/nix.conf"]
        );
        assert_eq!(
            paths(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/c"), ("NIX_CONFIG_HOME", "/k")]),
            ["/etc/nix/nix.conf", "/etc/xdg/nix/nix.conf", "/k/nix.conf"]
        );
    }

    #[test]
    fn the_files_of_the_variable_replace_the_directories() {
        assert_eq!(
            paths(&[("HOME", "/h"), ("NIX_USER_CONF_FILES", "/a::/b")]),
            ["/etc/nix/nix.conf", "/b", "/a"]
        );
        assert_eq!(paths(&[("HOME", "/h"), ("NIX_USER_CONF_FILES", "")]), ["/etc/nix/nix.conf"]);
    }

    #[test]
    fn only_the_first_is_the_machines() {
        let owners: Vec<ConfFileOwner> =
            conf_files(&|name| (name == "HOME").then(|| "/h".into())).iter().map(|file| file.owner).collect();
        assert_eq!(owners, [ConfFileOwner::System, ConfFileOwner::User, ConfFileOwner::User]);
    }
}
