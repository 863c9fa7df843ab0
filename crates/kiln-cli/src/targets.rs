//! What a command line means by a target: something in the store, or something that a recipe describes.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use clap::Arg;
use kiln_store_path::{DerivedPath, OutputsSpec, StoreDir, StorePath};

use crate::any_store::StoreView;
use crate::failure::Failure;
use crate::recipes;
use crate::session::Session;

/// The name that a recipe has in its directory.
pub(crate) const RECIPE_FILE: &str = "kiln.toml";

/// How many links may lead to a store path.
const MAX_LINKS: usize = 64;

/// The help of arguments that are targets.
const HELP: &str = "\
What is meant: a recipe (a file, or a directory with a kiln.toml), possibly with the name of one of its derivations, \
RECIPE:NAME or :NAME for ./kiln.toml; a derivation in the store, possibly with some of its outputs, DRV^OUT,DEV; a \
store path; or a link to one";

/// The argument that is a target, or several.
pub(crate) fn argument() -> Arg {
    Arg::new("target").value_name("TARGET").help("What is meant; see --help").long_help(HELP)
}

/// What the arguments mean; the derivations of recipes are added to the store.
pub(crate) fn wanted<S: StoreView>(
    session: &Session<S>,
    arguments: &[String],
) -> Result<Vec<DerivedPath>, Failure> {
    let mut wanted = Vec::new();
    for argument in arguments {
        match Target::parse(argument, session.store_dir())? {
            Target::Stored(path) => wanted.push(path),
            Target::Recipe { file, name } => {
                wanted.extend(recipes::instantiate(session, &session.store, &file, name.as_deref())?);
            }
        }
    }
    Ok(wanted)
}

/// The derivations that the arguments mean; a store path means the one that made it.
pub(crate) fn derivations(session: &Session, arguments: &[String]) -> Result<Vec<StorePath>, Failure> {
    let derivation = |target: DerivedPath| match target {
        DerivedPath::Built { derivation, .. } if derivation.outputs.is_empty() => Ok(derivation.path),
        DerivedPath::Built { .. } => Err(Failure::input(format!(
            "'{}' is an output that has to be built before it can be looked at",
            target.print(session.store_dir())
        ))),
        DerivedPath::Opaque(path) => session.path_info(&path)?.deriver.clone().ok_or_else(|| {
            Failure::input(format!("it is not known which derivation made '{}'", session.print(&path)))
        }),
    };
    wanted(session, arguments)?.into_iter().map(derivation).collect()
}

/// What one argument means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A path, or outputs of a derivation.
    Stored(DerivedPath),
    /// Derivations of a recipe.
    Recipe {
        /// The recipe's file.
        file: PathBuf,
        /// The name in the recipe; without one, its default.
        name: Option<String>,
    },
}

impl Target {
    /// Finds out what `text` means. Relative paths are those of the working directory.
    ///
    /// A derivation without outputs stands for all of them.
    pub(crate) fn parse(text: &str, store_dir: &StoreDir) -> Result<Self, Failure> {
        let (place, outputs) = match text.rsplit_once('^') {
            Some((place, outputs)) => (place, Some(outputs)),
            None => (text, None),
        };
        let start = Path::new(place.split('^').next().unwrap_or(place));
        if let Some((path, _)) = stored(start, store_dir)? {
            let rest = place.split_once('^').map(|(_, rest)| format!("^{rest}")).unwrap_or_default();
            let outputs = outputs.map(|outputs| format!("^{outputs}")).unwrap_or_default();
            let parsed =
                DerivedPath::parse(store_dir, &format!("{}{rest}{outputs}", store_dir.print(&path)))?;
            return Ok(Self::Stored(all_outputs_of_derivations(parsed)));
        }
        let (file, name) = match text.rsplit_once(':') {
            Some((file, name)) if !Path::new(text).exists() => (file, Some(name.to_owned())),
            _ => (text, None),
        };
        let file = if file.is_empty() { Path::new(".") } else { Path::new(file) };
        let recipe = if file.is_dir() { file.join(RECIPE_FILE) } else { file.to_owned() };
        if recipe.is_file() {
            let recipe = recipe.strip_prefix("./").map(Path::to_owned).unwrap_or(recipe);
            return Ok(Self::Recipe { file: recipe, name });
        }
        let failure = Failure::input(format!("'{text}' is neither a recipe nor a store path"));
        Err(if file.is_dir() {
            failure.with_hint(format!("there is no {RECIPE_FILE} in '{}'", file.display()))
        } else if text.contains(['/', ':', '^']) {
            failure.with_hint(format!("'{}' does not exist", file.display()))
        } else {
            failure.with_hint(format!("a derivation of ./{RECIPE_FILE} is named with a colon: ':{text}'"))
        })
    }
}

/// The store path that a path is, is in, or leads to by links, and what follows it in the path; `None` if it has nothing to
/// do with the store.
///
/// Links are followed one by one and not by the system, since what they lead to may be a path of a store whose files
/// are elsewhere.
fn stored(path: &Path, store_dir: &StoreDir) -> Result<Option<(StorePath, Vec<u8>)>, Failure> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        if path.starts_with(store_dir.as_str()) && path != Path::new(store_dir.as_str()) {
            return Ok(Some(store_dir.split(path.as_os_str().as_bytes())?));
        }
        match follow_first_link(&path) {
            Some(followed) => path = followed,
            None => return Ok(None),
        }
    }
    Err(Failure::input(format!("'{}' leads through more than {MAX_LINKS} symbolic links", path.display())))
}

/// The path with the first link in it replaced by what it leads to; `None` if there is no link in it.
fn follow_first_link(path: &Path) -> Option<PathBuf> {
    let mut before = PathBuf::new();
    let mut components = path.components();
    while let Some(component) = components.next() {
        let link = before.join(component);
        if let Ok(target) = std::fs::read_link(&link) {
            let rest = components.as_path();
            let target = before.join(target);
            return Some(if rest.as_os_str().is_empty() { target } else { target.join(rest) });
        }
        before = link;
    }
    None
}

/// The store path that an argument names, which must be one.
pub(crate) fn store_path(path: &Path, store_dir: &StoreDir) -> Result<StorePath, Failure> {
    stored(path, store_dir)?.map(|(path, _)| path).ok_or_else(|| {
        Failure::input(format!(
            "'{}' is not a path in the store '{store_dir}', nor a link to one",
            path.display()
        ))
    })
}

/// The store path that a path is or leads to; `None` if it is something within one, or nothing of the store.
pub(crate) fn whole_store_path(path: &Path, store_dir: &StoreDir) -> Result<Option<StorePath>, Failure> {
    Ok(stored(path, store_dir)?.and_then(|(path, rest)| rest.is_empty().then_some(path)))
}

fn all_outputs_of_derivations(target: DerivedPath) -> DerivedPath {
    match target {
        DerivedPath::Opaque(path) if path.is_derivation() => {
            DerivedPath::Built { derivation: path.into(), outputs: OutputsSpec::All }
        }
        target => target,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const DRV: &str = "/nix/store/4gd87ivd2zhmmqkslb944cwpzpz256w1-simple.drv";
    const PLAIN: &str = "/nix/store/mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple";

    fn parse(text: &str) -> Result<Target, Failure> {
        Target::parse(text, &StoreDir::default())
    }

    fn stored_as(text: &str) -> String {
        match parse(text).unwrap() {
            Target::Stored(path) => path.print(&StoreDir::default()),
            Target::Recipe { .. } => panic!("{text} is taken for a recipe"),
        }
    }

    #[test]
    fn store_paths_and_links_to_them() {
        assert_eq!(stored_as(PLAIN), PLAIN);
        assert_eq!(stored_as(&format!("{PLAIN}/bin/x")), PLAIN);
        assert_eq!(stored_as(DRV), format!("{DRV}^*"));
        assert_eq!(stored_as(&format!("{DRV}^dev,out")), format!("{DRV}^dev,out"));
        assert_eq!(stored_as(&format!("{DRV}^out^bin")), format!("{DRV}^out^bin"));
        let dir = tempfile::tempdir().unwrap();
        let link = |name: &str| dir.path().join(name);
        symlink(PLAIN, link("result")).unwrap();
        symlink("result", link("second")).unwrap();
        symlink(DRV, link("drv")).unwrap();
        symlink("loop", link("loop")).unwrap();
        assert_eq!(stored_as(link("second").to_str().unwrap()), PLAIN);
        assert_eq!(stored_as(link("second/bin/../lib").to_str().unwrap()), PLAIN);
        assert_eq!(stored_as(&format!("{}^dev", link("drv").display())), format!("{DRV}^dev"));
        assert!(parse(link("loop").to_str().unwrap()).is_err());
        assert!(parse("/nix/store/nonsense").is_err());
        assert!(parse(&format!("{DRV}^")).is_err());
    }

    #[test]
    fn recipes_by_file_directory_and_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(RECIPE_FILE);
        fs::write(&file, "").unwrap();
        fs::create_dir(dir.path().join("empty")).unwrap();
        let recipe =
            |name: Option<&str>| Target::Recipe { file: file.clone(), name: name.map(str::to_owned) };
        let place = dir.path().display();
        assert_eq!(parse(&format!("{place}")).unwrap(), recipe(None));
        assert_eq!(parse(&format!("{place}:a.dev")).unwrap(), recipe(Some("a.dev")));
        assert_eq!(parse(&format!("{place}/kiln.toml:a")).unwrap(), recipe(Some("a")));
        for (text, hint) in [
            (format!("{place}/empty"), "there is no kiln.toml"),
            (format!("{place}/nowhere:a"), "does not exist"),
            ("hello".to_owned(), "':hello'"),
        ] {
            let report = parse(&text).unwrap_err().report().unwrap();
            assert!(report.hint.is_some_and(|given| given.contains(hint)), "{text}");
        }
    }
}
