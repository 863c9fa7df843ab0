//! How a cache is written: what the parameters of its URL say (binary-cache specification, section 9).

use std::fs::File;
use std::io::Read as _;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use kiln_events::quoted;
use kiln_http::LEAST_PART;
use kiln_narinfo::{Compression, SecretKey};
use kiln_settings::BinaryCacheUrl;

use crate::error::{Error, KeyFault, Result};

/// Far more than any key file has, in bytes.
const LARGEST_KEY: u64 = 64 << 10;

/// Files that are sent to buckets in parts have more bytes than this, and parts have so many, as in Nix. A file of more than 5 GiB
/// could not be sent otherwise.
const LARGE: u64 = 100 << 20;
const PART: u64 = 16 << 20;

/// Parameters that are Nix's own business, or that say how a cache is read.
const OTHERS: [&str; 8] = [
    "local-nar-cache",
    "path-info-cache-size",
    "system-features",
    "narinfo-compression",
    "ls-compression",
    "log-compression",
    "index-debug-info",
    "buffer-size",
];

/// How paths are added to a binary cache.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// `compression`: how archives are compressed.
    pub compression: Compression,
    /// `compression-level`: how hard, in the compressor's own terms; nothing for its default.
    pub level: Option<u32>,
    /// `parallel-compression`: whether one archive is compressed by several threads, where the compressor can, and in parts
    /// that several can decompress.
    pub parallel: bool,
    /// `secret-key`, `secret-keys`: what narinfos are signed with.
    pub secret_keys: Vec<SecretKey>,
    /// `write-nar-listing`: whether there is a listing of the files for each path.
    pub writes_listings: bool,
    /// `multipart-upload`, `multipart-threshold`, `multipart-chunk-size`: which files are sent to buckets in parts; none if they
    /// never are.
    pub parts: Option<PartSizes>,
    /// Whether files are brought to the disk before a narinfo names them.
    pub syncs: bool,
}

/// Which files are sent in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartSizes {
    /// Those of more bytes than this.
    pub threshold: u64,
    /// Bytes of a part.
    pub part: u64,
}

impl Default for PartSizes {
    fn default() -> Self {
        Self { threshold: LARGE, part: PART }
    }
}

impl Default for WriteOptions {
    /// Nix's defaults, but for parts.
    fn default() -> Self {
        Self {
            compression: Compression::Xz,
            level: None,
            parallel: false,
            secret_keys: Vec::new(),
            writes_listings: false,
            parts: Some(PartSizes::default()),
            syncs: false,
        }
    }
}

impl WriteOptions {
    /// Reads the parameters of a cache's URL, and the secret keys that they name. Blocks. Besides the options, there come
    /// the names of parameters that mean nothing here.
    ///
    /// # Errors
    /// A value that makes no sense, or a key that can't be read.
    pub fn from_url(cache: &str, url: &BinaryCacheUrl) -> Result<(Self, Vec<String>)> {
        let mut options = Self::default();
        let mut unknown = Vec::new();
        let mut keys: Vec<PathBuf> = Vec::new();
        let (mut in_parts, mut sizes) = (true, PartSizes::default());
        for (name, value) in &url.other {
            let text = value.to_string_lossy();
            let expected = |parameter: &'static str, expected: &str| Error::Parameter {
                cache: cache.to_owned(),
                parameter,
                expected: format!("{expected}, not '{}'", quoted(text.as_bytes())),
            };
            let truth =
                |parameter| kiln_settings::truth(&text).ok_or_else(|| expected(parameter, "true or false"));
            match name.as_str() {
                "compression" => {
                    options.compression = writable(&text).ok_or_else(|| {
                        expected("compression", "one of none, xz, zstd, bzip2, gzip and br")
                    })?;
                }
                "compression-level" => {
                    options.level = level(&text).ok_or_else(|| expected("compression-level", "a number"))?;
                }
                "parallel-compression" => options.parallel = truth("parallel-compression")?,
                "write-nar-listing" => options.writes_listings = truth("write-nar-listing")?,
                "multipart-upload" => in_parts = truth("multipart-upload")?,
                "multipart-threshold" => {
                    sizes.threshold =
                        text.parse().map_err(|_| expected("multipart-threshold", "a number of bytes"))?;
                }
                "multipart-chunk-size" => {
                    let size = text.parse().ok().filter(|size| *size >= LEAST_PART);
                    sizes.part =
                        size.ok_or_else(|| expected("multipart-chunk-size", "5242880 bytes or more"))?;
                }
                "secret-key" => keys.push(value.into()),
                "secret-keys" => keys.extend(text.split(',').filter(|file| !file.is_empty()).map(Into::into)),
                other if OTHERS.contains(&other) => {}
                _ => unknown.push(name.clone()),
            }
        }
        if let (Some(level), Some(range)) = (options.level, levels(&options.compression))
            && !range.contains(&level)
        {
            return Err(Error::Parameter {
                cache: cache.to_owned(),
                parameter: "compression-level",
                expected: format!("{} to {} for {}", range.start(), range.end(), options.compression),
            });
        }
        options.parts = in_parts.then_some(sizes);
        keys.retain(|file| !file.as_os_str().is_empty());
        options.secret_keys = keys.iter().map(|file| read_secret_key(file)).collect::<Result<_>>()?;
        Ok((options, unknown))
    }
}

/// Reads a file with a secret key, `NAME:BASE64`. Blocks.
///
/// # Errors
/// There is none in it.
pub fn read_secret_key(file: &Path) -> Result<SecretKey> {
    let read = || -> Result<SecretKey, KeyFault> {
        let mut text = Vec::new();
        File::open(file)?.take(LARGEST_KEY).read_to_end(&mut text)?;
        let text = std::str::from_utf8(&text).map_err(|_| KeyFault::NotAKey)?;
        Ok(text.parse()?)
    };
    read().map_err(|reason| Error::SecretKey { file: file.to_owned(), reason })
}

fn writable(name: &str) -> Option<Compression> {
    let compression = Compression::from_name(name);
    let is_writable =
        !name.is_empty() && (compression == Compression::None || levels(&compression).is_some());
    is_writable.then_some(compression)
}

/// The levels that a compressor knows; nothing for those that can't be written.
fn levels(compression: &Compression) -> Option<RangeInclusive<u32>> {
    match compression {
        Compression::Xz => Some(0..=9),
        Compression::Zstd => Some(1..=22),
        Compression::Bzip2 | Compression::Gzip => Some(1..=9),
        Compression::Brotli => Some(0..=11),
        Compression::None | Compression::Lzip | Compression::Lz4 | Compression::Other(_) => None,
    }
}

/// A level; -1 stands for the default.
fn level(text: &str) -> Option<Option<u32>> {
    if text == "-1" { Some(None) } else { text.parse().ok().map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(parameters: &str) -> Result<(WriteOptions, Vec<String>)> {
        let url = BinaryCacheUrl::parse(&format!("file:///c?{parameters}")).unwrap().unwrap();
        WriteOptions::from_url("file:///c", &url)
    }

    #[test]
    fn parameters_are_those_of_nix() {
        let (plain, unknown) = options("").unwrap();
        assert_eq!((plain.compression, plain.level, plain.parallel), (Compression::Xz, None, false));
        assert!(unknown.is_empty() && !plain.writes_listings);
        let (all, unknown) = options(
            "compression=zstd&compression-level=19&parallel-compression=true&write-nar-listing=1&colour=red&\
             index-debug-info=1&secret-keys=",
        )
        .unwrap();
        assert_eq!((all.compression, all.level, all.parallel), (Compression::Zstd, Some(19), true));
        assert!(all.writes_listings);
        assert_eq!(unknown, ["colour"]);
        assert_eq!(options("compression-level=-1").unwrap().0.level, None);
    }

    #[test]
    fn errors_say_what_was_expected() {
        for (parameters, message) in [
            ("compression=rar", "one of none, xz, zstd, bzip2, gzip and br, not 'rar'"),
            ("compression=", "one of none"),
            ("compression=lzip", "one of none"),
            ("compression-level=12", "expected 0 to 9 for xz"),
            ("compression-level=high", "a number, not 'high'"),
            ("write-nar-listing=maybe", "true or false"),
            ("secret-key=/nowhere", "cannot read the secret key in '/nowhere'"),
            ("secret-key=/dev/null", "secret key is corrupt"),
        ] {
            let error = options(parameters).unwrap_err().to_string();
            assert!(error.contains(message), "{parameters}: {error}");
        }
    }
}
