//! The store of a description, on disk.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use kiln_derivation::{Derivation, DerivationOutput, HashModuloCache, InputOutputs, fill_in_outputs};
use kiln_hash::{Algorithm, Hash};
use kiln_store_path::{ContentAddress, ContentAddressMethod, OutputName, StoreDir, StorePath, StorePathName};

use super::description::{Deriver, Description, Kind, Object, Root, State, Target, Tree};
use crate::both::Both;

/// Digits that digests are made of.
const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// Names of files of temporary roots begin so, above all processes.
const NO_PROCESS: usize = 1 << 30;

/// A store that was made of a description.
pub(crate) struct Made<'a> {
    both: &'a Both,
    store_dir: StoreDir,
    derivations: BTreeMap<usize, (Derivation, Vec<u8>)>,
    hashes: HashModuloCache,
    paths: BTreeMap<usize, String>,
}

impl<'a> Made<'a> {
    /// Makes what is described, in an empty store.
    pub(crate) fn make(both: &'a Both, description: &Description) -> Result<Self, String> {
        let store_dir = StoreDir::new(both.store.nix().store_dir().to_str().unwrap()).unwrap();
        let hashes = HashModuloCache::new(store_dir.clone());
        let mut made = Self { both, store_dir, derivations: BTreeMap::new(), hashes, paths: BTreeMap::new() };
        made.add(description)?;
        for (number, object) in &description.objects {
            if object.kind != Kind::Added {
                let path = made.path_of(*number, object, description);
                made.paths.insert(*number, path);
            }
        }
        made.register(description)?;
        description.roots.iter().enumerate().for_each(|(index, root)| made.root(index, root));
        for leftover in &description.leftovers {
            let path = made.both.store.nix().store_dir().join(leftover.name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            write(&path, &leftover.tree);
        }
        Ok(made)
    }

    /// The path of an object, unless it was left out.
    pub(crate) fn path(&self, number: usize) -> Option<&str> {
        self.paths.get(&number).map(String::as_str)
    }

    /// The files of temporary roots that living processes hold.
    pub(crate) fn held(&self, description: &Description) -> impl Iterator<Item = PathBuf> {
        let held = description.roots.iter().enumerate().filter(|(_, root)| is_held(root));
        held.map(|(index, _)| self.temporary(index))
    }

    /// Holds them, as long as the value is kept.
    pub(crate) fn hold_roots(&self, description: &Description) -> Vec<File> {
        let open = |path: PathBuf| {
            let file = File::open(path).unwrap();
            file.lock().unwrap();
            file
        };
        self.held(description).map(open).collect()
    }

    /// Adds what has its path from that.
    fn add(&mut self, description: &Description) -> Result<(), String> {
        let added: Vec<usize> = description
            .objects
            .iter()
            .filter(|(_, object)| object.kind == Kind::Added)
            .map(|(number, _)| *number)
            .collect();
        let mut line = "--add".to_owned();
        for number in &added {
            let object = &description.objects[number];
            fs::create_dir(self.both.work().join(number.to_string())).unwrap();
            write(&self.both.work().join(number.to_string()).join(object.name), &object.tree);
            line += &format!(" ./{number}/{}", object.name);
        }
        if !added.is_empty() {
            let outcome = self.both.run(description.maker, &line);
            if outcome.code != Some(0) {
                return Err(format!("{:?}: {line}: {}", description.maker, outcome.stderr));
            }
            self.paths.extend(added.into_iter().zip(outcome.stdout.lines().map(str::to_owned)));
        }
        Ok(())
    }

    fn path_of(&mut self, number: usize, object: &Object, description: &Description) -> String {
        match &object.kind {
            Kind::Derivation { outputs, is_fixed } => {
                let name = StorePathName::new(object.name).unwrap();
                let outputs = outputs.iter().map(|output| OutputName::new(output).unwrap()).collect();
                let derivation = self.derivation(number, name, outputs, *is_fixed, object, description);
                let file = derivation.to_file(&self.store_dir).unwrap();
                self.hashes.insert(file.path.clone(), &derivation).unwrap();
                self.derivations.insert(number, (derivation, file.text));
                self.store_dir.print(&file.path)
            }
            Kind::Output(derivation, output) => {
                let output = OutputName::new(output).unwrap();
                let derivation = self.derivations.get(derivation).map(|(derivation, _)| derivation);
                let path = derivation.and_then(|derivation| derivation.outputs.get(&output)?.path());
                path.map_or_else(|| self.plain_path(number, object), |path| self.store_dir.print(path))
            }
            Kind::Plain | Kind::Added => self.plain_path(number, object),
        }
    }

    fn plain_path(&self, number: usize, object: &Object) -> String {
        let (first, second) = (char::from(DIGITS[object.digit % 32]), char::from(DIGITS[number % 32]));
        format!("{}/{first}{second}{}-{}", self.store_dir.as_str(), "0".repeat(30), object.name)
    }

    fn derivation(
        &self,
        number: usize,
        name: StorePathName,
        outputs: Vec<OutputName>,
        is_fixed: bool,
        object: &Object,
        description: &Description,
    ) -> Derivation {
        let mut derivation = Derivation {
            name,
            outputs: BTreeMap::new(),
            input_derivations: BTreeMap::new(),
            input_sources: std::collections::BTreeSet::new(),
            system: b"none".to_vec(),
            builder: b"/nonexistent".to_vec(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            structured_attrs: None,
        };
        for reference in self.references(number, object, description) {
            let path = self.store_path(self.path(reference).unwrap());
            match self.derivations.get(&reference) {
                Some((input, _)) => {
                    let output = input.outputs.keys().next().unwrap().clone();
                    derivation.input_derivations.insert(path, InputOutputs::new([output]));
                }
                None => drop(derivation.input_sources.insert(path)),
            }
        }
        let mut variables = vec![(&b"name"[..], object.name.to_owned()), (b"number", number.to_string())];
        variables.push((b"digit", object.digit.to_string()));
        let variables = variables.into_iter().map(|(name, value)| (name.to_vec(), value.into_bytes()));
        derivation.environment.extend(variables);
        if is_fixed {
            let hash = Hash::of(Algorithm::Sha256, object.digit.to_string());
            let address = ContentAddress { method: ContentAddressMethod::Nar, hash };
            let out = OutputName::out();
            let output = DerivationOutput::fixed(&self.store_dir, &derivation.name, &out, address).unwrap();
            let path = self.store_dir.print(output.path().unwrap());
            derivation.environment.insert(b"out".to_vec(), path.into_bytes());
            derivation.outputs.insert(out, output);
        } else {
            let deferred = outputs.into_iter().map(|output| (output, DerivationOutput::Deferred));
            derivation.outputs.extend(deferred);
            let empty = derivation.outputs.keys().map(|output| (output.as_str().into(), Vec::new()));
            derivation.environment.extend(empty.collect::<Vec<_>>());
            fill_in_outputs(&mut derivation, &self.hashes).unwrap();
        }
        derivation
    }

    fn store_path(&self, path: &str) -> StorePath {
        self.store_dir.parse(path).unwrap()
    }

    /// The derivation that something is an output of, or nothing.
    fn own_deriver(&self, object: &Object, path: &str) -> String {
        let Kind::Output(number, _) = &object.kind else { return String::new() };
        let Some((derivation, _)) = self.derivations.get(number) else { return String::new() };
        let is_output =
            derivation.known_output_paths().any(|(_, output)| self.store_dir.print(output) == path);
        if is_output { self.paths[number].clone() } else { String::new() }
    }

    /// The objects that something can refer to: what was registered before.
    fn references(&self, number: usize, object: &Object, description: &Description) -> Vec<usize> {
        let is_registered = |reference: &&usize| {
            description.objects.get(reference).is_some_and(|object| object.state != State::Unregistered)
                && **reference < number
        };
        object.references.iter().filter(is_registered).copied().collect()
    }

    /// Writes the objects that have not been added, registers them, and does to them what was not to be registered.
    fn register(&self, description: &Description) -> Result<(), String> {
        let (mut text, mut registered) = (String::new(), std::collections::BTreeSet::new());
        for (number, object) in &description.objects {
            let path = &self.paths[number];
            if object.kind == Kind::Added || !registered.insert(path.clone()) {
                continue;
            }
            match self.derivations.get(number) {
                Some((_, text)) => fs::write(path, text).unwrap(),
                None => write(Path::new(path), &object.tree),
            }
            if object.state == State::Unregistered {
                continue;
            }
            let deriver = match object.deriver {
                Some(Deriver::Own) => self.own_deriver(object, path),
                Some(Deriver::Gone) => format!("{}/{}-gone.drv", self.store_dir.as_str(), "z".repeat(32)),
                None => String::new(),
            };
            let references = self.references(*number, object, description);
            let mut references: Vec<&str> =
                references.iter().map(|reference| self.path(*reference).unwrap()).collect();
            // A derivation has its path from its text, which cannot hold it.
            if object.refers_to_itself && !self.derivations.contains_key(number) {
                references.push(path);
            }
            text += &format!("{path}\n{deriver}\n{}\n", references.len());
            references.iter().for_each(|reference| text += &format!("{reference}\n"));
        }
        let outcome = self.both.run_reading(description.maker, "--register-validity", text.as_bytes());
        if outcome.code != Some(0) {
            return Err(format!("{:?}: {text}: {}", description.maker, outcome.stderr));
        }
        for (number, object) in &description.objects {
            let path = Path::new(&self.paths[number]);
            if matches!(object.state, State::Missing | State::Damaged) {
                remove(path);
            }
            if object.state == State::Damaged {
                write(path, &Tree::File { text: "damaged", is_executable: false });
                fs::set_permissions(path, fs::Permissions::from_mode(0o444)).unwrap();
            }
        }
        Ok(())
    }

    fn root(&self, index: usize, root: &Root) {
        let state = self.both.store.nix().state_dir();
        let auto = state.join(format!("gcroots/auto/{index}"));
        let beside = |name: &str| self.both.work().join(format!("{name}{index}"));
        match root {
            Root::Direct(name, target) => {
                // Two roots may want the same place.
                link(&state.join(format!("gcroots/{index}{name}")), &self.target(target));
            }
            Root::Profile(last, before) => {
                let profile = format!("profile{index}");
                for (generation, target) in [(1, before), (2, last)] {
                    let name = format!("profiles/{profile}-{generation}-link");
                    link(&state.join(name), &self.target(target));
                }
                link(&state.join("profiles").join(&profile), Path::new(&format!("{profile}-2-link")));
            }
            Root::Indirect(target) => {
                link(&beside("result"), &self.target(target));
                link(&auto, &beside("result"));
            }
            Root::Chain(target) => {
                link(&beside("first"), &self.target(target));
                link(&beside("second"), &beside("first"));
                link(&auto, &beside("second"));
            }
            Root::Dangling => link(&auto, &beside("gone")),
            Root::File(number) => {
                if let Some(path) = self.path(*number) {
                    let name = path.rsplit_once('/').unwrap().1;
                    fs::create_dir_all(state.join("gcroots")).unwrap();
                    fs::write(state.join("gcroots").join(name), "").unwrap();
                }
            }
            Root::Temporary { of, .. } => {
                let paths: String =
                    of.iter().filter_map(|number| Some(format!("{}\0", self.path(*number)?))).collect();
                fs::create_dir_all(state.join("temproots")).unwrap();
                fs::write(self.temporary(index), paths).unwrap();
            }
        }
    }

    fn temporary(&self, index: usize) -> PathBuf {
        self.both.store.nix().state_dir().join(format!("temproots/{}", NO_PROCESS + index))
    }

    fn target(&self, target: &Target) -> PathBuf {
        let nothing = || format!("{}/{}-nothing", self.store_dir.as_str(), "y".repeat(32));
        let object = |number: &usize| self.path(*number).map_or_else(nothing, str::to_owned);
        match target {
            Target::Object(number) => object(number).into(),
            Target::Inside(number) => format!("{}/a/b", object(number)).into(),
            Target::Nothing => nothing().into(),
            Target::Elsewhere => self.both.work(),
        }
    }
}

fn is_held(root: &Root) -> bool {
    matches!(root, Root::Temporary { is_held: true, .. })
}

fn link(at: &Path, target: &Path) {
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    symlink(target, at).unwrap();
}

fn write(path: &Path, tree: &Tree) {
    match tree {
        Tree::File { text, is_executable } => {
            fs::write(path, text).unwrap();
            let mode = if *is_executable { 0o755 } else { 0o644 };
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        Tree::Link(target) => symlink(target, path).unwrap(),
        Tree::Directory(entries) => {
            fs::create_dir(path).unwrap();
            entries.iter().for_each(|(name, entry)| write(&path.join(name), entry));
        }
    }
}

fn remove(path: &Path) {
    let Ok(status) = fs::symlink_metadata(path) else { return };
    if status.is_dir() {
        make_writable(path);
        fs::remove_dir_all(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

fn make_writable(directory: &Path) {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            make_writable(&entry.path());
        }
    }
}
