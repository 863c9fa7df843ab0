//! The pre-build hook.

use std::path::Path;

use kiln_settings::SandboxPath;
use kiln_store_path::StorePath;

use super::run::{Read, command, run};
use crate::core::Core;
use crate::error::Failure;

/// As many bytes may a hook print.
const LIMIT: usize = 1 << 20;

/// Runs the pre-build hook, if there is one, for a sandboxed build of a derivation in the store (D17): `chroot` is the build's
/// directory beside the store. What it prints adds to what the sandbox shows.
///
/// # Errors
/// It can't be run, fails, or prints something else.
pub(crate) async fn pre_build_hook(
    core: &Core,
    derivation: &StorePath,
    chroot: &Path,
) -> Result<Vec<SandboxPath>, Failure> {
    let Some(hook) = &core.settings.pre_build_hook else { return Ok(Vec::new()) };
    let derivation = core.store_dir().print(derivation);
    let failed =
        |reason: String| Failure::misc(format!("pre-build hook '{hook}' of '{derivation}' {reason}"));
    let mut command = command(core, hook);
    command.arg(&derivation).arg(chroot);
    let mut printed = Vec::new();
    let mut size = 0;
    let ended = run(command, Read::Output, |line| {
        size += line.len() + 1;
        if size <= LIMIT {
            printed.push(String::from_utf8_lossy(line).into_owned());
        }
    });
    let ended = ended.await.map_err(|error| failed(format!("cannot be run: {error}")))?;
    if !ended.success() {
        return Err(failed(format!("has failed: {ended}\n{}", printed.join("\n")).trim_end().to_owned()));
    }
    if size > LIMIT {
        return Err(failed(format!("prints more than {LIMIT} bytes")));
    }
    parse(&printed).map_err(failed)
}

/// Reads what a hook prints: commands, each followed by its arguments, one in a line, and an empty line.
fn parse(lines: &[String]) -> Result<Vec<SandboxPath>, String> {
    let mut paths = Vec::new();
    let mut in_paths = false;
    for line in lines {
        match line.as_str() {
            "" => in_paths = false,
            line if in_paths => {
                let (target, source) = line.split_once('=').unwrap_or((line, line));
                paths.push(SandboxPath { target: target.into(), source: source.into(), optional: false });
            }
            "extra-sandbox-paths" | "extra-chroot-dirs" => in_paths = true,
            command => return Err(format!("is not understood: unknown pre-build hook command '{command}'")),
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<(String, String)>, String> {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        Ok(parse(&lines)?.into_iter().map(|path| (path.target, path.source)).collect())
    }

    #[test]
    fn d17_paths_are_read_until_an_empty_line() {
        let pair = |target: &str, source: &str| (target.to_owned(), source.to_owned());
        let text = "extra-sandbox-paths\n/a\n/b=/c=d\n\nextra-chroot-dirs\n/e?\n";
        assert_eq!(parsed(text).unwrap(), [pair("/a", "/a"), pair("/b", "/c=d"), pair("/e?", "/e?")]);
        assert_eq!(parsed("").unwrap(), []);
        assert!(
            parsed("extra-sandbox-paths\n/a\n\n/b")
                .unwrap_err()
                .contains("unknown pre-build hook command '/b'")
        );
    }
}
