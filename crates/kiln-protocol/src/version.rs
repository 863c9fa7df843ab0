//! Versions of the two protocols, and what both ends of a connection have agreed on.

use std::fmt;

use kiln_store_path::StoreDir;

/// Which of the two protocols is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// The worker protocol, major version 1: daemons, `--stdio`, `ssh-ng://`.
    Worker,
    /// The serve protocol, major version 2: `nix-store --serve`, `ssh://`.
    Serve,
}

impl Protocol {
    /// The major version.
    #[must_use]
    pub const fn major(self) -> u64 {
        match self {
            Self::Worker => 1,
            Self::Serve => 2,
        }
    }

    /// The newest minor version that this crate speaks.
    #[must_use]
    pub const fn newest_minor(self) -> u8 {
        match self {
            Self::Worker => 38,
            Self::Serve => 7,
        }
    }

    /// The oldest minor version that this crate speaks.
    #[must_use]
    pub const fn oldest_minor(self) -> u8 {
        match self {
            Self::Worker => 10,
            Self::Serve => 1,
        }
    }

    /// The newest version that this crate speaks.
    #[must_use]
    pub const fn newest(self) -> Version {
        Version { protocol: self, minor: self.newest_minor() }
    }
}

/// A protocol and its minor version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The protocol.
    pub protocol: Protocol,
    /// The minor version.
    pub minor: u8,
}

impl Version {
    /// A version of the worker protocol.
    #[must_use]
    pub const fn worker(minor: u8) -> Self {
        Self { protocol: Protocol::Worker, minor }
    }

    /// A version of the serve protocol.
    #[must_use]
    pub const fn serve(minor: u8) -> Self {
        Self { protocol: Protocol::Serve, minor }
    }

    /// The number in a handshake: `major << 8 | minor`.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.protocol.major() << 8 | self.minor as u64
    }

    /// Whether this is the worker protocol, and at least this minor version of it.
    #[must_use]
    pub const fn is_worker_since(self, minor: u8) -> bool {
        matches!(self.protocol, Protocol::Worker) && self.minor >= minor
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.protocol.major(), self.minor)
    }
}

/// The versions in which a field is sent: of each protocol, those from a first one to before an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    worker: (u8, u8),
    serve: (u8, u8),
}

impl Versions {
    /// Every version of both protocols.
    pub const ALL: Self = Self { worker: (0, u8::MAX), serve: (0, u8::MAX) };

    /// From a minor version of the worker protocol on; every one of the serve protocol.
    #[must_use]
    pub const fn worker_since(minor: u8) -> Self {
        Self { worker: (minor, u8::MAX), ..Self::ALL }
    }

    /// Before a minor version of the worker protocol; every one of the serve protocol.
    #[must_use]
    pub const fn worker_before(minor: u8) -> Self {
        Self { worker: (0, minor), ..Self::ALL }
    }

    /// From a minor version of the serve protocol on; of the worker protocol as it is.
    #[must_use]
    pub const fn serve_since(self, minor: u8) -> Self {
        Self { serve: (minor, u8::MAX), ..self }
    }

    /// Before a minor version of the serve protocol; of the worker protocol as it is.
    #[must_use]
    pub const fn serve_before(self, minor: u8) -> Self {
        Self { serve: (0, minor), ..self }
    }

    /// In no version of the serve protocol; of the worker protocol as it is.
    #[must_use]
    pub const fn never_serve(self) -> Self {
        Self { serve: (0, 0), ..self }
    }

    /// Whether `version` is one of them.
    #[must_use]
    pub const fn contains(self, version: Version) -> bool {
        let (first, end) = match version.protocol {
            Protocol::Worker => self.worker,
            Protocol::Serve => self.serve,
        };
        first <= version.minor && version.minor < end
    }
}

/// What both ends of a connection have agreed on, and without which no message can be read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// The lower of both ends' versions.
    pub version: Version,
    /// The store directory, which stands before every store path on the wire.
    pub store_dir: StoreDir,
}

impl Dialect {
    /// This version, for this store.
    #[must_use]
    pub const fn new(version: Version, store_dir: StoreDir) -> Self {
        Self { version, store_dir }
    }
}
