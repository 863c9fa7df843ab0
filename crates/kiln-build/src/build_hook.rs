//! The build hook: another program, trusted, that finds a machine for a build and has it done there (H1–H4).
//!
//! A hook that waits is kept ([`BuildHook`]), and asked about each derivation that could be built elsewhere, one at a time
//! and in the order of builds. What comes of that:
//!
//! * it *accepts*: the process now belongs to that build ([`Accepted`]), and somebody else gets a new one. It copies the
//!   inputs to the machine and the outputs back, and registers them itself while the engine holds the locks on them;
//! * it *declines*: the build is done here;
//! * it *declines for good*: nobody is asked any more until all requests have been answered;
//! * it *postpones*: there is a machine for such builds, but not now. The build waits ([`Postponed`]) without holding
//!   anything until something ends, or for `build-poll-interval` seconds, and is offered again;
//! * it dies or falls silent: that is said, and the build is done here.
//!
//! ```text
//!            0  settings, "try" …, then inputs and outputs        4 ─► the builder's output
//!  engine ─────────────────────────────────────────────► hook ─┤
//!            2  "# accept" …, `@nix` records            ◄──────┘    5 ◄─ the same, for the hook to read errors of ssh
//! ```
//!
//! | module | what |
//! | --- | --- |
//! | `program` | which program it is, how it is called, and whether there is anybody that it could send builds to |
//! | `wire` | what it is told, as bytes |
//! | `process` | the process with its pipes: a process group that is killed and collected |
//! | `conversation` | asking, and understanding the answer |
//! | `asking` | who asks when; how many have died |
//! | `postponed` | builds that wait for a machine |
//! | `following` | a build that was accepted, to its end |

mod asking;
mod conversation;
mod following;
mod postponed;
mod process;
mod program;
mod wire;

pub(crate) use asking::{Answer, BuildHook, Offer};
pub(crate) use conversation::Accepted;
pub(crate) use following::{Followed, hook_failure};
pub(crate) use postponed::Kind;
