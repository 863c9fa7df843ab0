//! The sandbox of macOS: a profile in the language of `sandbox-exec`, and the command that runs a builder under it.
//!
//! macOS has no namespaces. There a builder sees the host's files under the host's names, and a profile, a list of rules in
//! a dialect of Scheme, says which of them it can reach. The profile is a pure function of a [`MacosPlan`]: it is
//! computed and tested on every platform, and used on macOS only.
//!
//! Of the rules that concern an operation the last one decides. So what is general (deny everything, then Nix's
//! `sandbox-defaults.sb`) comes first, and what a derivation adds comes last.
//!
//! Names are chosen by whoever made the files, so each path is written as a string literal from which no byte can break
//! out: `"` and `\` are escaped, all others stand for themselves, and NUL, which no path has, is refused. A rule without
//! any path would allow the operation everywhere; where there are no paths, there is no rule.

use std::collections::{BTreeMap, BTreeSet};

use crate::{ByteString, PlacedFile};

/// The program that puts a process under a profile.
const SANDBOX_EXEC: &str = "/usr/bin/sandbox-exec";

/// Name of the profile in the build directory.
const PROFILE_NAME: &str = ".sandbox.sb";

/// The longest path that macOS takes, in bytes (`PATH_MAX` less the NUL).
const MAX_PATH: usize = 1023;

/// Reading, writing and executing. Without the permission to write, `access` wrongly says that reading is denied; the
/// permissions of the files themselves keep a build user from writing to its inputs.
const ALL_ACCESS: &str = "file-read* file-write* process-exec";

/// Everything that the profile and the command of a build on macOS depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MacosPlan {
    /// Path of the derivation, for messages.
    pub derivation: ByteString,
    /// What the builder may reach.
    pub confinement: MacosConfinement,
    /// Where the builder starts. There is one name for it, inside and outside.
    pub build_directory: ByteString,
    /// The program to run, or the name of a builtin one (`builtin:…`).
    pub builder: ByteString,
    /// Its arguments after `argv[0]`.
    pub arguments: Vec<ByteString>,
    /// Its whole environment.
    pub environment: Vec<(ByteString, ByteString)>,
    /// Where programs that ignore the build directory put temporary files: `TMPDIR`, or `/tmp` where that isn't set, with
    /// all links resolved.
    pub global_temporary_directory: ByteString,
    /// The directory that `nix/sandbox/` with the imported profiles is in, such as `/usr/share`.
    pub data_directory: ByteString,
    /// May the builder use the loopback interface (`__darwinAllowLocalNetworking`)?
    pub allow_local_networking: bool,
    /// Is `_NIX_TEST_NO_SANDBOX` set in the engine's environment? Then not even the least profile is used.
    pub no_sandbox_exec: bool,
}

/// What a builder on macOS may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MacosConfinement {
    /// What any process of its user may, less what Nix's `sandbox-minimal.sb` denies.
    Minimal,
    /// What the plan names.
    Sandbox(Box<MacosSandbox>),
}

/// What a sandboxed builder on macOS may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MacosSandbox {
    /// Does the build have a fixed output, and so the network?
    pub fixed_output: bool,
    /// Does the system log what is denied (`darwin-log-sandbox-violations`)?
    pub log_violations: bool,
    /// The store directory.
    pub store_directory: ByteString,
    /// The outputs that the build is to make.
    pub missing_outputs: Vec<ByteString>,
    /// Where it makes those that are valid already.
    pub redirected_outputs: Vec<ByteString>,
    /// The input closure.
    pub inputs: Vec<MacosPath>,
    /// `sandbox-paths` with their closures, what the pre-build hook added, and `__impureHostDeps`. Of equal targets the
    /// last counts, and an input more than any.
    pub paths: Vec<MacosPath>,
    /// Rules of the derivation's own (`__sandboxProfile`), in the language of profiles. They can allow anything.
    pub additional_profile: ByteString,
    /// May a derivation add rules? Only with `sandbox = relaxed`.
    pub additional_profile_allowed: bool,
}

/// A path of the host that a builder on macOS may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MacosPath {
    /// What the builder is to call it.
    pub target: ByteString,
    /// What the host calls it. Here it must be the same.
    pub source: ByteString,
    /// What is there, without following a link.
    pub kind: MacosPathKind,
    /// May it be missing?
    pub optional: bool,
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacosPathKind {
    /// A directory, which is meant with everything in it.
    Directory,
    /// Anything else, links too.
    Other,
    /// Nothing.
    Absent,
}

/// The command that runs a builder under its profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MacosCommand {
    /// The program to execute.
    pub program: ByteString,
    /// All its arguments, `argv[0]` too.
    pub arguments: Vec<ByteString>,
    /// Its whole environment: the builder's.
    pub environment: Vec<(ByteString, ByteString)>,
    /// The profile, to be put into the build directory before.
    pub profile: PlacedFile,
}

/// There is no profile for a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MacosProfileError {
    /// The derivation brings rules of its own, which it must not.
    #[error(
        "derivation '{0}' specifies a sandbox profile, but this is only allowed when 'sandbox' is 'relaxed'"
    )]
    AdditionalProfile(ByteString),
    /// A path was to have another name for the builder than for the host.
    #[error("can't map '{target}' to '{source_path}': mismatched impure paths not supported on Darwin")]
    Mismatched {
        /// The name for the builder.
        target: ByteString,
        /// The name for the host.
        source_path: ByteString,
    },
    /// A path isn't there.
    #[error("getting attributes of path '{0}': No such file or directory")]
    Absent(ByteString),
    /// Something isn't an absolute path without NUL, or is longer than any path on macOS.
    #[error(
        "'{0}' cannot be in a sandbox profile: expected an absolute path of at most {MAX_PATH} bytes without NUL"
    )]
    InvalidPath(ByteString),
}

impl MacosPlan {
    /// The text of the profile.
    ///
    /// # Errors
    ///
    /// If a path of the plan isn't there or can't be expressed, or the derivation adds rules where it must not.
    pub fn profile(&self) -> Result<Vec<u8>, MacosProfileError> {
        let mut profile = Profile(b"(version 1)\n".to_vec());
        match &self.confinement {
            MacosConfinement::Minimal => profile.import("sandbox-minimal.sb"),
            MacosConfinement::Sandbox(sandbox) => self.sandboxed(sandbox, &mut profile)?,
        }
        Ok(profile.0)
    }

    /// The command to run. There is none for builtin builders, which are the engine's own code, and where
    /// `_NIX_TEST_NO_SANDBOX` is set: these run without `sandbox-exec`.
    ///
    /// # Errors
    ///
    /// If there is no [profile](Self::profile).
    pub fn command(&self) -> Result<Option<MacosCommand>, MacosProfileError> {
        if self.no_sandbox_exec || self.builder.as_bytes().starts_with(b"builtin:") {
            return Ok(None);
        }
        let contents = self.profile()?.into();
        let file = [&clean(&self.build_directory)?, b"/".as_slice(), PROFILE_NAME.as_bytes()].concat();
        let temporary = clean(&self.global_temporary_directory)?;
        let data = clean(&self.data_directory)?;
        let mut arguments: Vec<ByteString> = vec!["sandbox-exec".into(), "-f".into(), file.into()];
        let mut define = |definition: Vec<u8>| arguments.extend(["-D".into(), definition.into()]);
        define([b"_GLOBAL_TMP_DIR=", temporary.as_slice()].concat());
        define([b"IMPORT_DIR=", data.as_slice(), b"/nix/sandbox/"].concat());
        if self.allow_local_networking {
            define(b"_ALLOW_LOCAL_NETWORKING=1".to_vec());
        }
        arguments.push(self.builder.clone());
        arguments.extend_from_slice(&self.arguments);
        Ok(Some(MacosCommand {
            program: SANDBOX_EXEC.into(),
            arguments,
            environment: self.environment.clone(),
            profile: PlacedFile { name: PROFILE_NAME.into(), contents, mode: 0o644 },
        }))
    }

    fn sandboxed(&self, sandbox: &MacosSandbox, profile: &mut Profile) -> Result<(), MacosProfileError> {
        let additional = sandbox.additional_profile.as_bytes();
        if !additional.is_empty() && !sandbox.additional_profile_allowed {
            return Err(MacosProfileError::AdditionalProfile(self.derivation.clone()));
        }
        let outputs = sandbox.missing_outputs.iter().chain(&sandbox.redirected_outputs);
        let outputs = outputs.map(clean).collect::<Result<BTreeSet<_>, _>>()?;
        let (inputs, ancestors) = self.reachable(sandbox)?;

        profile.line(match sandbox.log_violations {
            true => "(deny default)",
            false => "(deny default (with no-log))",
        });
        profile.import("sandbox-defaults.sb");
        if sandbox.fixed_output {
            profile.import("sandbox-network.sb");
        }
        profile.allow(ALL_ACCESS, outputs.iter().map(|path| (Filter::Subpath, path)));
        profile.allow(ALL_ACCESS, inputs.iter().map(|(path, filter)| (*filter, path)));
        // `realpath` looks at every directory above.
        profile.allow("file-read*", ancestors.iter().map(|path| (Filter::Literal, path)));
        profile.0.extend_from_slice(additional);
        Ok(())
    }

    /// What is there for the builder beside its outputs, and all directories above it.
    fn reachable(&self, sandbox: &MacosSandbox) -> Result<(Inputs, BTreeSet<Vec<u8>>), MacosProfileError> {
        let own = MacosPath::directory(self.build_directory.clone());
        let mut paths: BTreeMap<Vec<u8>, &MacosPath> = BTreeMap::new();
        for path in sandbox.paths.iter().chain([&own]) {
            paths.insert(clean(&path.target)?, path);
        }
        let store = clean(&sandbox.store_directory)?;
        let mut ancestors: BTreeSet<Vec<u8>> = paths.keys().flat_map(|path| above(path)).collect();
        ancestors.extend(above(&store));
        ancestors.insert(store);
        // These are in the store.
        for path in &sandbox.inputs {
            paths.insert(clean(&path.target)?, path);
        }
        let mut inputs = Inputs::new();
        for (target, path) in paths {
            if let Some(filter) = path.filter(&target)? {
                inputs.insert(target, filter);
            }
        }
        Ok((inputs, ancestors))
    }
}

impl MacosPath {
    /// A directory that must be there.
    fn directory(path: ByteString) -> Self {
        Self { target: path.clone(), source: path, kind: MacosPathKind::Directory, optional: false }
    }

    /// How the rule for this path, whose clean target is `target`, is made, if there is one.
    fn filter(&self, target: &[u8]) -> Result<Option<Filter>, MacosProfileError> {
        if clean(&self.source)? != target {
            let (target, source_path) = (self.target.clone(), self.source.clone());
            return Err(MacosProfileError::Mismatched { target, source_path });
        }
        match self.kind {
            MacosPathKind::Directory => Ok(Some(Filter::Subpath)),
            MacosPathKind::Other => Ok(Some(Filter::Literal)),
            MacosPathKind::Absent if self.optional => Ok(None),
            MacosPathKind::Absent => Err(MacosProfileError::Absent(self.target.clone())),
        }
    }
}

type Inputs = BTreeMap<Vec<u8>, Filter>;

/// Which files a rule is about.
#[derive(Clone, Copy)]
enum Filter {
    /// The one of this name.
    Literal,
    /// That one and all below it.
    Subpath,
}

/// A profile that is being written.
struct Profile(Vec<u8>);

impl Profile {
    fn line(&mut self, line: &str) {
        self.0.extend_from_slice(line.as_bytes());
        self.0.push(b'\n');
    }

    /// Takes in a file of the directory `IMPORT_DIR`.
    fn import(&mut self, name: &str) {
        self.line(&format!("(import \"{name}\")"));
    }

    /// Allows `operations` on the files.
    fn allow<'a>(&mut self, operations: &str, files: impl Iterator<Item = (Filter, &'a Vec<u8>)>) {
        let mut files = files.peekable();
        if files.peek().is_none() {
            return;
        }
        self.line(&format!("(allow {operations}"));
        for (filter, path) in files {
            self.0.extend_from_slice(match filter {
                Filter::Literal => b"\t(literal ",
                Filter::Subpath => b"\t(subpath ",
            });
            self.quoted(path);
            self.line(")");
        }
        self.line(")");
    }

    /// Writes a string literal that stands for `text`.
    fn quoted(&mut self, text: &[u8]) {
        self.0.push(b'"');
        for &byte in text {
            if matches!(byte, b'"' | b'\\') {
                self.0.push(b'\\');
            }
            self.0.push(byte);
        }
        self.0.push(b'"');
    }
}

/// An absolute path with single slashes and none at the end, with which no `subpath` would match. The root is `/`.
fn clean(path: &ByteString) -> Result<Vec<u8>, MacosProfileError> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') || bytes.contains(&0) || bytes.len() > MAX_PATH {
        return Err(MacosProfileError::InvalidPath(path.clone()));
    }
    let mut cleaned = Vec::with_capacity(bytes.len());
    for component in bytes.split(|&byte| byte == b'/').filter(|component| !component.is_empty()) {
        cleaned.push(b'/');
        cleaned.extend_from_slice(component);
    }
    if cleaned.is_empty() {
        cleaned.push(b'/');
    }
    Ok(cleaned)
}

/// All directories above a clean path.
fn above(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    let parents = slashes.filter_map(|at| path.get(..at.max(1)).map(<[u8]>::to_vec));
    parents.filter(move |parent| parent != path)
}

#[cfg(test)]
mod tests;
