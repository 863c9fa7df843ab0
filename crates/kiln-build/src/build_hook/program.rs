//! Which program the hook is, how it is called, and whether there is anybody that it could send builds to.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use kiln_events::Verbosity;
use kiln_settings::{Settings, SourceError, TABLE, parse_machines};

use super::wire::HookInput;

/// The argument by which the program of Nix is told to be its hook.
const NIX_ARGUMENT: &str = "__build-remote";
/// The name by which it was called for that before.
const NIX_NAME: &str = "build-remote";

/// The hook of the setting `build-hook`, and what it is given.
#[derive(Debug)]
pub(super) struct HookProgram {
    words: Vec<String>,
    environment: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What it is told first.
    pub(super) preamble: Vec<u8>,
    /// There are machines in the setting `builders`.
    pub(super) has_machines: bool,
}

/// A hook that can be started.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) program: CString,
    pub(super) arguments: Vec<CString>,
    pub(super) environment: Vec<CString>,
}

impl HookProgram {
    /// The hook of these settings; `None` if there is none. Reads the files of machines that `builders` names, and says by
    /// `warn` what is wrong with them.
    pub(super) fn of(
        settings: &Settings,
        environment: &BTreeMap<Vec<u8>, Vec<u8>>,
        warn: impl FnOnce(String),
    ) -> Option<Self> {
        if settings.build_hook.is_empty() {
            return None;
        }
        let machines = parse_machines(&settings.builders, &settings.system, &read);
        let has_machines = match machines {
            Ok(machines) => !machines.is_empty(),
            Err(error) => {
                warn(format!("no builds are sent to other machines: {error}"));
                false
            }
        };
        let preamble =
            HookInput::settings(TABLE.iter().map(|setting| (setting.name, setting.show(settings))));
        Some(Self {
            words: settings.build_hook.clone(),
            environment: environment.clone(),
            preamble,
            has_machines,
        })
    }

    /// Whether it makes sense to start it. Nix's own hook does nothing without machines; what others do nobody knows.
    pub(super) fn can_accept(&self) -> bool {
        let program = self.words.first().map(Path::new);
        let is_of_nix = self.words.last().is_some_and(|word| word == NIX_ARGUMENT)
            || program.and_then(Path::file_name).is_some_and(|name| name == NIX_NAME);
        self.has_machines || !is_of_nix
    }

    /// What it is called in messages.
    pub(super) fn name(&self) -> String {
        self.words.join(" ")
    }

    /// How it is started; it tells what is of this verbosity. Looks for the program in `PATH`. Blocks.
    ///
    /// # Errors
    /// There is no such program.
    pub(super) fn command(&self, verbosity: Verbosity) -> std::io::Result<Command> {
        let [program, arguments @ ..] = self.words.as_slice() else { return Err(ErrorKind::NotFound.into()) };
        let file = self.find(program)?;
        let name = Path::new(program).file_name().unwrap_or(OsStr::new(program)).as_bytes().to_vec();
        let words = arguments.iter().map(|word| word.clone().into_bytes());
        let verbosity = verbosity.number().to_string().into_bytes();
        let variables = self.environment.iter().map(|(name, value)| [name.as_slice(), b"=", value].concat());
        Ok(Command {
            program: CString::new(file.as_os_str().as_bytes())?,
            arguments: c_strings([name].into_iter().chain(words).chain([verbosity]))?,
            environment: c_strings(variables)?,
        })
    }

    fn find(&self, program: &str) -> std::io::Result<PathBuf> {
        if program.contains('/') {
            return Ok(program.into());
        }
        let path = self.environment.get(&b"PATH"[..]).map(Vec::as_slice).unwrap_or_default();
        let is_executable = |file: &PathBuf| {
            file.is_absolute()
                && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
                && file.is_file()
        };
        std::env::split_paths(OsStr::from_bytes(path))
            .map(|directory| directory.join(program))
            .find(is_executable)
            .ok_or_else(|| std::io::Error::new(ErrorKind::NotFound, "it is not in PATH"))
    }
}

fn c_strings(strings: impl Iterator<Item = Vec<u8>>) -> std::io::Result<Vec<CString>> {
    strings.map(|string| Ok(CString::new(string)?)).collect()
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, SourceError> {
    match std::fs::read(path) {
        Ok(contents) => Ok(Some(contents)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(SourceError(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_settings::Machine;

    fn program(hook: &[&str], builders: &str) -> Option<HookProgram> {
        let mut settings = Settings::defaults(&Machine::plain("x86_64-linux"));
        settings.build_hook = hook.iter().map(|word| (*word).to_owned()).collect();
        settings.builders = builders.to_owned();
        let environment = [("PATH", "relative:/nowhere:/bin"), ("A", "b=c")];
        let environment =
            environment.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        HookProgram::of(&settings, &environment.into(), |_| {})
    }

    #[test]
    fn h1_nothing_is_started_that_could_not_accept() {
        assert!(program(&[], "ssh://host").is_none());
        for hook in [
            &["nix", NIX_ARGUMENT][..],
            &["/x/nix", "--verbose", NIX_ARGUMENT],
            &["/usr/libexec/nix/build-remote"],
        ] {
            assert!(!program(hook, "").unwrap().can_accept());
            assert!(!program(hook, "@/does/not/exist").unwrap().can_accept());
            assert!(!program(hook, "host - - many").unwrap().can_accept(), "nobody knows what that is");
            assert!(program(hook, "host").unwrap().can_accept());
        }
        assert!(program(&["/my/hook"], "").unwrap().can_accept(), "who knows what it does");
    }

    #[test]
    fn h1_it_is_called_as_nix_does() {
        let command = program(&["sh", "-e"], "").unwrap().command(Verbosity::Chatty).unwrap();
        assert_eq!(command.program.as_c_str(), c"/bin/sh");
        assert_eq!(command.arguments, [c"sh", c"-e", c"5"].map(CString::from));
        assert_eq!(command.environment, [c"A=b=c", c"PATH=relative:/nowhere:/bin"].map(CString::from));
        let command = program(&["/some where/hook"], "").unwrap().command(Verbosity::Info).unwrap();
        assert_eq!(command.program.as_c_str(), c"/some where/hook");
        assert_eq!(command.arguments, [c"hook", c"3"].map(CString::from));
        assert!(program(&["no-such-hook"], "").unwrap().command(Verbosity::Info).is_err());
    }
}
