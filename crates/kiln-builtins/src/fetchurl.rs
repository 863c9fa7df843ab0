//! `builtin:fetchurl`: a file from the network.
//!
//! `url` is where it is; with `unpack = 1` it is a Nix archive that becomes a tree, compressed by xz if the URL ends in
//! `.xz`; with `executable = 1` the file may be executed. Whether it is the right file is for the caller to check, who
//! knows the hash of a fixed output. If that is the hash of the file itself, the mirrors of the setting `hashed-mirrors` are
//! asked first.
//!
//! Beside HTTP there are `file` URLs. A builtin sees what every builder sees, so there is nothing in them that a program
//! couldn't read too; a server can't redirect to them.

mod destination;
mod download;

use crate::attributes::{Attributes, invalid, path};
use crate::builtin::Inputs;
use crate::error::{BuiltinError, During as _};
use crate::log::Log;
use destination::Destination;
use download::Downloader;
use kiln_hash::{Algorithm, Hash};
use kiln_http::{Authorities, Netrc};
use percent_encoding::percent_decode_str;
use std::fs::{self, File, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;

/// Makes the output.
pub(crate) fn run(
    attributes: Attributes<'_>,
    inputs: &Inputs,
    log: &mut Log<'_>,
) -> Result<(), BuiltinError> {
    let (directory, name) = attributes.out_place()?;
    if attributes.find("outputHash").is_none_or(<[u8]>::is_empty) && !attributes.flag("__impure") {
        return Err(BuiltinError::NotFixed);
    }
    let url = attributes.text("url")?;
    let unpack = attributes.flag("unpack");

    let netrc = inputs.netrc.as_deref().map(Netrc::parse).unwrap_or_default();
    let authorities = Authorities::load(inputs.certificates.as_deref());
    let downloader = Downloader { settings: &inputs.transfers, netrc, authorities };
    let mut destination = if unpack {
        Destination::tree(&directory, &name, url.ends_with(".xz"))
    } else {
        Destination::file(&directory, &name)
    };
    let fetched = mirrors(attributes, &inputs.hashed_mirrors)?.iter().any(|mirror| {
        let result = fetch(&downloader, mirror, &mut destination, log);
        if let Err(error) = &result {
            log.warn(&error.to_string());
        }
        result.is_ok()
    });
    if !fetched {
        fetch(&downloader, url, &mut destination, log)?;
    }

    if attributes.flag("executable") {
        let out = attributes.out()?;
        fs::set_permissions(&out, Permissions::from_mode(0o755)).during("make executable", &out)?;
    }
    Ok(())
}

/// The URLs at which mirrors have the file, if it is known by its own hash.
fn mirrors(attributes: Attributes<'_>, mirrors: &[String]) -> Result<Vec<String>, BuiltinError> {
    let is_flat = attributes.find("outputHashMode").is_none_or(|mode| matches!(mode, b"" | b"flat"));
    if mirrors.is_empty() || !is_flat || attributes.find("outputHash").is_none() {
        return Ok(Vec::new());
    }
    let text = attributes.text("outputHash")?;
    let algorithm = match attributes.find("outputHashAlgo") {
        None | Some(b"") => None,
        Some(_) => Some(
            attributes
                .text("outputHashAlgo")?
                .parse::<Algorithm>()
                .map_err(|error| invalid("outputHash", text.as_bytes(), &error.to_string()))?,
        ),
    };
    let hash = Hash::parse_any(text, algorithm)
        .map_err(|error| invalid("outputHash", text.as_bytes(), &error.to_string()))?;
    let place = format!("{}/{}", hash.algorithm(), hash.base16());
    Ok(mirrors.iter().map(|mirror| format!("{}/{place}", mirror.trim_end_matches('/'))).collect())
}

fn fetch(
    downloader: &Downloader<'_>,
    url: &str,
    destination: &mut Destination<'_>,
    log: &mut Log<'_>,
) -> Result<(), BuiltinError> {
    match url.strip_prefix("file://") {
        Some(file) => copy(file, destination)?,
        None => downloader.download(url, destination, log)?,
    }
    destination.finish()
}

/// Takes the file of a `file` URL.
fn copy(url_path: &str, destination: &mut Destination<'_>) -> Result<(), BuiltinError> {
    let file_path = path(&percent_decode_str(url_path).collect::<Vec<u8>>());
    let wrong = |reason| Err(io::Error::other(reason)).during("read", &file_path);
    if !file_path.is_absolute() {
        return wrong("it is not absolute, and other machines can't be asked for files");
    }
    let mut file = File::open(&file_path).during("open", &file_path)?;
    if !file.metadata().during("look at", &file_path)?.is_file() {
        return wrong("it is not a regular file");
    }
    destination.restart()?;
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let length = file.read(&mut chunk).during("read", &file_path)?;
        match chunk.get(..length) {
            None | Some([]) => return Ok(()),
            Some(bytes) => destination.write(bytes)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn mirrors_of(attributes: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let environment: BTreeMap<Vec<u8>, Vec<u8>> = attributes
            .iter()
            .map(|(name, value)| (name.as_bytes().into(), value.as_bytes().into()))
            .collect();
        let urls = ["http://a".to_owned(), "http://b/c/".to_owned()];
        mirrors(Attributes::new(&environment), &urls).map_err(|error| error.to_string())
    }

    #[test]
    fn b11_mirrors_have_files_by_hash() {
        let expected = vec![format!("http://a/sha256/{SHA256}"), format!("http://b/c/sha256/{SHA256}")];
        let sri = "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
        for attributes in [
            &[("outputHash", SHA256), ("outputHashAlgo", "sha256"), ("outputHashMode", "flat")][..],
            &[("outputHash", SHA256), ("outputHashAlgo", "sha256")],
            &[("outputHash", sri), ("outputHashAlgo", "")],
            &[("outputHash", sri)],
        ] {
            assert_eq!(mirrors_of(attributes), Ok(expected.clone()), "{attributes:?}");
        }
    }

    #[test]
    fn b11_mirrors_do_not_have_trees() {
        let recursive =
            [("outputHash", SHA256), ("outputHashAlgo", "sha256"), ("outputHashMode", "recursive")];
        assert_eq!(mirrors_of(&recursive), Ok(vec![]));
        assert_eq!(mirrors_of(&[]), Ok(vec![]));
        assert!(mirrors_of(&[("outputHash", "abc"), ("outputHashAlgo", "sha256")]).is_err());
        assert!(mirrors_of(&[("outputHash", SHA256), ("outputHashAlgo", "crc")]).is_err());
    }
}
