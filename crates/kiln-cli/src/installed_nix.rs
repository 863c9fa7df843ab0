//! The build hook of an installed Nix, which is used as long as nobody names another.
//!
//! Until version 2.8 the hook was `libexec/nix/build-remote`, Nix's program under another name; that is still installed by
//! later ones. From 2.9 on it is also the program itself with the argument `__build-remote`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Where Nix is installed that is not in `PATH`, as happens to services.
const PROFILES: [&str; 2] = ["/run/current-system/sw/bin", "/nix/var/nix/profiles/default/bin"];

/// The command of the hook, as words; none if there is no Nix.
pub(crate) fn build_hook(path: Option<&OsStr>) -> Vec<String> {
    let directories = std::env::split_paths(path.unwrap_or_default()).filter(|path| path.is_absolute());
    in_directories(directories.chain(PROFILES.map(PathBuf::from)))
}

fn in_directories(directories: impl Iterator<Item = PathBuf>) -> Vec<String> {
    let mut programs = directories.map(|directory| directory.join("nix"));
    let Some(program) = programs.find(|program| program.is_file()) else { return Vec::new() };
    let real = program.canonicalize().unwrap_or_else(|_| program.clone());
    let below_prefix =
        real.parent().and_then(Path::parent).map(|prefix| prefix.join("libexec/nix/build-remote"));
    let words = match below_prefix.filter(|hook| hook.is_file()) {
        Some(hook) => vec![hook],
        None => vec![program, "__build-remote".into()],
    };
    // The setting is text, words between blanks; what is not can only be named otherwise.
    let word = |word: PathBuf| {
        word.into_os_string().into_string().ok().filter(|word| !word.contains(char::is_whitespace))
    };
    words.into_iter().map(word).collect::<Option<_>>().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn h5_the_hook_of_an_installed_nix_is_found() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().canonicalize().unwrap();
        let text = |path: &str| root.join(path).to_str().unwrap().to_owned();
        let found = |directory: &str| in_directories([root.join("empty"), root.join(directory)].into_iter());
        for directory in ["old/bin", "old/libexec/nix", "new/bin", "profile", "of blanks"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        for file in ["old/bin/nix", "old/libexec/nix/build-remote", "new/bin/nix", "of blanks/nix"] {
            fs::write(root.join(file), "").unwrap();
        }
        symlink(root.join("old/bin/nix"), root.join("profile/nix")).unwrap();
        assert_eq!(found("old/bin"), [text("old/libexec/nix/build-remote")]);
        assert_eq!(found("profile"), [text("old/libexec/nix/build-remote")], "links are followed");
        assert_eq!(found("new/bin"), [text("new/bin/nix"), "__build-remote".to_owned()]);
        assert!(found("old/libexec").is_empty() && found("of blanks").is_empty());
    }
}
