//! What streams beside the messages: archives, logs, exports. Each reader takes what belongs to it from the front of the
//! input, hands through the payload's own bytes, and leaves what follows.
//!
//! What is inside of the export streams of ImportPaths and ExportPaths is [`kiln_nar::export`]'s.

mod export;
mod framed;
mod multiple_paths;
mod nar;
mod pulled;
mod sized;

pub use export::ExportStreamReader;
pub use framed::{FrameReader, put_end, put_frame};
pub use multiple_paths::{MultiplePathsEvent, MultiplePathsReader};
pub use nar::NarReader;
pub use pulled::{PulledReader, put_pulled};
pub use sized::SizedReader;
