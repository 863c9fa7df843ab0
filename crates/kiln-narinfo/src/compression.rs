//! Names of compression methods in narinfo files.

use std::fmt;

/// How a NAR file in a binary cache is compressed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all: `none`.
    None,
    /// `xz`.
    Xz,
    /// `bzip2`, also what an absent field means.
    Bzip2,
    /// `gzip`.
    Gzip,
    /// `zstd`.
    Zstd,
    /// Brotli: `br`.
    Brotli,
    /// `lzip`.
    Lzip,
    /// `lz4`.
    Lz4,
    /// A name that this engine cannot decode; it matters only when the NAR is fetched.
    Other(Box<str>),
}

impl Compression {
    /// Reads a name; empty means bzip2.
    pub fn from_name(name: &str) -> Self {
        match name {
            "none" => Self::None,
            "xz" => Self::Xz,
            "" | "bzip2" => Self::Bzip2,
            "gzip" => Self::Gzip,
            "zstd" => Self::Zstd,
            "br" => Self::Brotli,
            "lzip" => Self::Lzip,
            "lz4" => Self::Lz4,
            other => Self::Other(other.into()),
        }
    }

    /// The name in narinfo files and store URLs.
    pub fn name(&self) -> &str {
        match self {
            Self::None => "none",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Lzip => "lzip",
            Self::Lz4 => "lz4",
            Self::Other(name) => name,
        }
    }

    /// What Nix appends to `.nar` in the name of such a file; nothing for gzip. Readers go by the narinfo's URL alone.
    pub fn file_extension(&self) -> &'static str {
        match self {
            Self::None | Self::Gzip | Self::Other(_) => "",
            Self::Xz => ".xz",
            Self::Bzip2 => ".bz2",
            Self::Zstd => ".zst",
            Self::Brotli => ".br",
            Self::Lzip => ".lzip",
            Self::Lz4 => ".lz4",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for name in ["none", "xz", "bzip2", "gzip", "zstd", "br", "lzip", "lz4", "lzma"] {
            assert_eq!(Compression::from_name(name).name(), name);
        }
        assert_eq!(Compression::from_name(""), Compression::Bzip2);
    }
}
