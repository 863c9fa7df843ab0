//! The build hook of our own (H5): the program that an engine, Kiln's or Nix's, asks for other machines.
//!
//! ```text
//!           settings, "try" …, inputs and outputs
//!  engine ────────────────────────────────────────► hook ──► a machine: inputs, the derivation
//!         ◄────────────────────────────────────────      ◄── its log, the outputs
//!           "# accept" …, `@nix` records, the log
//! ```
//!
//! What both say to each other is fixed by Nix (build-hook specification), and so are the files in `current-load` by which
//! hooks, Nix's among them, share the places that machines have for builds. A hook serves one build: from its acceptance on,
//! the process belongs to that.
//!
//! | module | what |
//! | --- | --- |
//! | [`Questions`] | what the engine asks |
//! | [`Voice`] | what it is told |
//! | `choice` | which machine is the best one |
//! | `slots` | which places are free |
//! | `machine` | how a machine is reached |
//! | `hook` | questions to their answers |
//! | `errand` | a build that was accepted, to its end |

mod choice;
mod errand;
mod error;
mod hook;
mod machine;
mod questions;
mod slots;
mod voice;

pub use error::{Error, Result};
pub use hook::{Here, Hook};
pub use machine::Reach;
pub use questions::Questions;
pub use voice::Voice;
