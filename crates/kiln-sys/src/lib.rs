//! The one home of `unsafe` code in Kiln.
//!
//! Most system calls are reached through [`rustix`], whose functions are safe. What it lacks, or offers only as unsafe
//! functions, is here, each as one small safe function: creating a process in new namespaces, starting and becoming
//! other programs, waiting with resource usage, mount attributes, the system-call filter, personality, the loopback
//! interface, descriptors by their numbers, the account database, and the C library's allocator. Nothing here decides anything; policy lives in the
//! crates above.
//!
//! Every block of unsafe code says why it is sound. The functions of [`process`] that copy the process check that it
//! has a single thread, because that is what makes them sound.

pub mod accounts;
pub mod descriptors;
mod failure;
pub mod heap;
pub mod listening;
pub mod mounts;
pub mod network;
pub mod personality;
pub mod process;
pub mod seccomp;
pub mod signals;
