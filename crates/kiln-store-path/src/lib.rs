//! Store directories, store paths, content addresses, and how the one is computed from the other.
//!
//! A [`StorePath`] is the base name of an object in a store: 32 digits of a digest, a dash and a [`StorePathName`]. Which
//! directory it is in is the [`StoreDir`]'s affair, since paths are compared, hashed and kept far more often than printed.
//! The directory takes part in every digest all the same, so the functions that compute paths ([`StoreDir::make_path`]
//! and its users) are its methods. [`DerivedPath`] and [`OutputsSpec`] say what is wanted of a derivation, and
//! [`Placeholder`] stands for a path that is not known yet.

mod content_address;
mod make_path;
mod name;
mod placeholder;
mod selector;
mod store_dir;
mod store_path;

pub use content_address::{ContentAddress, ContentAddressMethod, ParseContentAddressError};
pub use make_path::{MakePathError, References};
pub use name::{InvalidName, MAX_NAME_LENGTH, OutputName, StorePathName};
pub use placeholder::Placeholder;
pub use selector::{DerivedPath, OutputsSpec, ParseSelectorError, SingleDerivedPath};
pub use store_dir::{InvalidStoreDir, StoreDir};
pub use store_path::{DIGEST_LENGTH, InvalidStorePath, StorePath};
