//! What derivations say, and what their builders said: `--print-env`, `--read-log`.

use kiln_derivation::Derivation;

use super::paths::store_path;
use super::usage;
use super::work::Work;
use crate::failure::Failure;
use crate::output;

pub(super) fn print_environment(work: &Work<'_>) -> Result<u8, Failure> {
    work.line.no_flags("unknown flag")?;
    let [path] = work.line.exactly("'--print-env' requires one derivation store path")?;
    let session = work.session()?;
    let path = store_path(&session, path)?;
    if !path.is_derivation() {
        return Err(usage(format!("'{}' is not a derivation", session.print(&path))));
    }
    let derivation = session.wait(session.store.read_derivation(&path))?;
    work.print(exports(&derivation))?;
    Ok(0)
}

/// The environment of the builder, and its arguments as `_args`, for a shell.
fn exports(derivation: &Derivation) -> Vec<u8> {
    let mut text = Vec::new();
    for (name, value) in derivation.written_environment() {
        let line: [&[u8]; 6] = [b"export ", name, b"; ", name, b"=", &quoted(value)];
        text.extend_from_slice(&line.concat());
        text.push(b'\n');
    }
    // Quoted once more without regard to the quotes in it, as Nix does.
    let arguments: Vec<Vec<u8>> = derivation.arguments.iter().map(|argument| quoted(argument)).collect();
    text.extend_from_slice(&[b"export _args; _args='", &*arguments.join(&b' '), b"'\n"].concat());
    text
}

/// A string as one word of a shell.
fn quoted(value: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = value.split(|byte| *byte == b'\'').collect();
    [b"'", &*parts.join(&b"'\\''"[..]), b"'"].concat()
}

pub(super) fn read_log(work: &Work<'_>) -> Result<u8, Failure> {
    work.line.no_flags("unknown flag")?;
    let session = work.session()?;
    for argument in &work.line.arguments {
        let path = store_path(&session, argument)?;
        let derivation = match path.is_derivation() {
            true => Some(path.clone()),
            false => session.wait(session.store.path_info(&path))?.and_then(|info| info.deriver.clone()),
        };
        let log = match &derivation {
            Some(derivation) => session.wait(session.store.read_log(derivation))?,
            None => None,
        };
        let Some(log) = log else {
            return Err(Failure::input(format!(
                "build log of derivation '{}' is not available",
                session.print(&path)
            )));
        };
        output::copy(&session, log)?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_shell() {
        assert_eq!(quoted(b"it's"), b"'it'\\''s'");
        assert_eq!(quoted(b"''"), b"''\\'''\\'''");
        assert_eq!(quoted(b"a b\xff$x"), b"'a b\xff$x'");
        assert_eq!(quoted(b""), b"''");
    }
}
