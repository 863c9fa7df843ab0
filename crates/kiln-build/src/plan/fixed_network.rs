//! The network of fixed-output builds in a sandbox (X2): one of their own if possible, else the machine's.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use kiln_sandbox::{ByteString, Network};
use kiln_settings::{FodNetwork, Settings};

use super::build_plan::bytes;

/// The program that connects a build's own network with the world.
const PROGRAM: &str = "pasta";

/// What network a fixed-output build gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FixedNetwork {
    /// One of its own, connected by this program.
    Isolated(PathBuf),
    /// The machine's. With a reason if one of its own was wanted.
    Host(Option<String>),
}

impl FixedNetwork {
    /// What the settings want of a machine whose programs are looked for in the directories of `search_path`, in the form
    /// of `PATH`. Blocks for a moment.
    ///
    /// # Errors
    /// One of its own is demanded, and there is no program for it.
    pub(crate) fn choose(settings: &Settings, search_path: &[u8]) -> Result<Self, String> {
        let program = match (settings.fod_network, &settings.pasta_path) {
            (FodNetwork::Host, _) => return Ok(Self::Host(None)),
            (_, Some(program)) => Some(PathBuf::from(program)),
            (_, None) => find(search_path),
        };
        match program {
            Some(program) => Ok(Self::Isolated(program)),
            None if settings.fod_network == FodNetwork::Isolated => Err(missing()),
            None => Ok(Self::Host(Some(missing()))),
        }
    }

    /// As a sandbox has it.
    pub(super) fn of_sandbox(&self) -> (Network, Option<ByteString>) {
        match self {
            Self::Isolated(program) => (Network::Isolated, Some(bytes(program))),
            Self::Host(_) => (Network::Host, None),
        }
    }
}

fn missing() -> String {
    format!(
        "the program '{PROGRAM}', which would connect it, is not in 'PATH': install it (Debian's package 'passt'), or name \
         it in the setting 'pasta-path'"
    )
}

/// The program that gives builds of fixed outputs a network of their own, where it is executable: what `PATH` has, if the
/// settings name none. `None` if they want none.
///
/// # Errors
/// There is none.
pub fn network_program(settings: &Settings, search_path: &[u8]) -> Result<Option<PathBuf>, String> {
    match FixedNetwork::choose(settings, search_path)? {
        FixedNetwork::Isolated(program) => Ok(Some(program)),
        FixedNetwork::Host(None) => Ok(None),
        FixedNetwork::Host(Some(reason)) => Err(reason),
    }
}

/// The program, where it is executable.
fn find(search_path: &[u8]) -> Option<PathBuf> {
    let directories = search_path.split(|byte| *byte == b':').filter(|directory| directory.starts_with(b"/"));
    let mut programs = directories.map(|directory| Path::new(OsStr::from_bytes(directory)).join(PROGRAM));
    programs.find(|program| rustix::fs::access(program, rustix::fs::Access::EXEC_OK).is_ok())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use kiln_settings::Machine;

    use super::*;

    #[test]
    fn x2_the_setting_decides_and_the_program_is_found_in_path() {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = Settings::defaults(&Machine::plain("x86_64-linux"));
        let path = format!("relative:/does/not/exist:{}", directory.path().display());
        let choose = |settings: &Settings| FixedNetwork::choose(settings, path.as_bytes());
        let Ok(FixedNetwork::Host(Some(reason))) = choose(&settings) else { panic!() };
        assert!(reason.contains("'passt'") && reason.contains("'pasta-path'"), "{reason}");
        settings.fod_network = FodNetwork::Isolated;
        assert_eq!(choose(&settings), Err(reason));
        let program = directory.path().join("pasta");
        std::fs::write(&program, "").unwrap();
        assert!(choose(&settings).is_err(), "it cannot be executed");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(choose(&settings), Ok(FixedNetwork::Isolated(program)));
        settings.pasta_path = Some("/opt/pasta".to_owned());
        assert_eq!(choose(&settings), Ok(FixedNetwork::Isolated("/opt/pasta".into())));
        settings.fod_network = FodNetwork::Host;
        assert_eq!(choose(&settings), Ok(FixedNetwork::Host(None)));
    }
}
