//! Where the files of a cache are.

use std::sync::Arc;

use kiln_store::{blocking, waiting};

use crate::directory::CacheDirectory;
use crate::error::Result;
use crate::server::Server;
use crate::spool::Spool;

/// What kind of file it is, for servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// `nix-cache-info`.
    CacheInfo,
    /// A narinfo.
    NarInfo,
    /// A compressed archive.
    Nar,
    /// A listing, or a realisation.
    Json,
    /// A build log.
    Log,
}

impl FileKind {
    /// The media type (binary-cache specification, section 1).
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::CacheInfo => "text/x-nix-cache-info",
            Self::NarInfo => "text/x-nix-narinfo",
            Self::Nar => "application/x-nix-nar",
            Self::Json => "application/json",
            Self::Log => "text/plain; charset=utf-8",
        }
    }
}

/// A directory or a server.
pub(crate) enum Place {
    Directory(Arc<CacheDirectory>),
    Server(Box<Server>),
}

impl Place {
    /// Its URL without parameters and passwords.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Directory(directory) => directory.name(),
            Self::Server(server) => server.name(),
        }
    }

    /// Whether there is a file.
    pub(crate) async fn exists(&self, name: &str) -> Result<bool> {
        match self {
            Self::Directory(directory) => {
                let (directory, name) = (Arc::clone(directory), name.to_owned());
                blocking(move || directory.exists(&name)).await
            }
            Self::Server(server) => server.exists(name).await,
        }
    }

    /// A file that gets its name later. Blocks.
    pub(crate) fn spool_maker(&self) -> impl FnOnce() -> Result<Spool> + Send + use<> {
        let directory = match self {
            Self::Directory(directory) => Some(Arc::clone(directory)),
            Self::Server(_) => None,
        };
        move || match directory {
            Some(directory) => directory.spool(),
            None => Spool::nameless(),
        }
    }

    /// Puts a file of `size` bytes there.
    pub(crate) async fn put_spool(&self, spool: Spool, size: u64, name: &str, kind: FileKind) -> Result<()> {
        match self {
            Self::Directory(directory) => {
                let (directory, name) = (Arc::clone(directory), name.to_owned());
                // Bringing much to the disk takes long.
                waiting(move || directory.name_spool(spool, &name)).await
            }
            Self::Server(server) => server.put_file(spool, size, name, kind).await,
        }
    }

    /// Puts a small file there.
    pub(crate) async fn put(&self, contents: Vec<u8>, name: &str, kind: FileKind) -> Result<()> {
        match self {
            Self::Directory(directory) => {
                let (directory, name) = (Arc::clone(directory), name.to_owned());
                blocking(move || directory.write(&name, &contents)).await
            }
            Self::Server(server) => server.put(contents, name, kind).await,
        }
    }
}
