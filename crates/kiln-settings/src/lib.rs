//! What a user can choose, in one table.
//!
//! Each setting stands once, in the table of [`Settings`]: its name and older names, its type, its default (which may
//! depend on the [`Machine`]), who may set it ([`Scope`]) and its help text. Everything else is made from that table:
//! the typed value that the engine gets ([`Settings`]), the reader of `nix.conf` ([`Configuration`]), the flags of the
//! command line ([`command_line_flag`]), what a client of the daemon may change ([`client`]), listings and help.
//!
//! The crate reads no file and no environment variable. Its caller says what the machine is like, hands in the
//! environment as a function and the files as a [`Source`], and gets a [`Configuration`]: the settings, and for each
//! one where its value comes from ([`Origin`]). The rules are Nix's: the system's file first, then the user's files,
//! then `NIX_CONFIG`, then the command line; later ones win, and `extra-NAME` adds to lists.
//!
//! [`StoreUrl`], [`BinaryCacheUrl`] and [`parse_machines`] are here too, since the values of `store`, `substituters` and
//! `builders` are such.

mod binary_cache_url;
pub mod client;
mod conf_files;
mod configuration;
mod flags;
mod job_limit;
mod machine;
mod machines;
mod nix_conf;
mod sandbox_values;
mod settings_error;
mod ssh_url;
mod store_url;
mod table;
mod unused;
mod value;

pub use binary_cache_url::{BinaryCacheUrl, CachePlace, S3Place};
pub use conf_files::{ConfFile, ConfFileOwner, conf_files, system_conf_dir};
pub use configuration::{Configuration, Origin};
pub use flags::{CommandLineFlag, command_line_flag};
pub use job_limit::MaxJobs;
pub use machine::Machine;
pub use machines::{MachinesError, RemoteMachine, parse_machines};
pub use nix_conf::{Source, SourceError};
pub use sandbox_values::{FodNetwork, SandboxMode, SandboxPath};
pub use settings_error::{Position, SettingsError, Warning};
pub use ssh_url::{SshProtocol, SshUrl};
pub use store_url::{LocalStoreUrl, StoreUrl, StoreUrlError};
pub use table::{DEFAULT_SUBSTITUTER, Scope, Setting, Settings, TABLE, find_setting};
pub use unused::is_evaluator_setting;
pub use value::{Kind, ValueError, truth};
