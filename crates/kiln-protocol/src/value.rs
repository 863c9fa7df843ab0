//! How the values that messages carry are sent: Kiln's own types wherever it has them.

mod build_result;
mod collection;
mod derivation;
mod derived_path;
mod path_info;
mod realisation;
mod simple;
mod store_path;

pub use build_result::{KeyedBuildResult, RealisedBuildResult};
pub use derivation::DerivationToBuild;
pub use path_info::{SubstitutableInfo, SubstitutablePathInfo, UnkeyedPathInfo};
pub use simple::{Acknowledged, BuildMode, Trust};
pub use store_path::{AddressingMethod, BaseName};
