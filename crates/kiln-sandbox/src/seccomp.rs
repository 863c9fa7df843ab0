//! The system-call filter.
//!
//! A filter is an allow-list over every ABI that the kernel would run (x86_64 and i386, aarch64 and 32-bit arm); calls
//! that are not on it, and other ABIs such as x32, do not exist (`ENOSYS`). Some calls are looked into: modes must not
//! have set-ID bits, sockets must be of the plain families, terminals can't be fed. [`policy`] says what is allowed,
//! [`table`] which numbers that means, and [`program`] turns both into BPF. The result depends on the architecture alone,
//! so it is assembled once per launcher.

use std::cell::OnceCell;

use kiln_sys::seccomp::Instruction;

use crate::SystemCallFilter;

mod policy;
mod program;
mod table;

use policy::{Architecture, Policy};

/// The filters that plans can ask for, each in two parts.
///
/// The kernel takes longer to compile a filter than for most other steps in setting up a sandbox. So the first part, which is all
/// but a few calls, can be installed before it is known what will be built, and allows what is needed to set up the rest;
/// the second takes that away.
#[derive(Default)]
pub(crate) struct Filters {
    strict: OnceCell<Vec<Instruction>>,
    strict_with_socketcall: OnceCell<Vec<Instruction>>,
    closing: OnceCell<Vec<Instruction>>,
}

impl Filters {
    /// With the usual ones assembled: what a copy of this process assembles for itself would be assembled again in the next.
    pub(crate) fn assembled() -> Self {
        let filters = Self::default();
        filters.first(SystemCallFilter::Strict);
        filters.closing();
        filters
    }

    /// The first part; `None` if there is to be no filter, or on an architecture for which there is no table.
    pub(crate) fn first(&self, filter: SystemCallFilter) -> Option<&[Instruction]> {
        let (cell, socketcall) = match filter {
            SystemCallFilter::Strict => (&self.strict, false),
            SystemCallFilter::StrictWithSocketcall => (&self.strict_with_socketcall, true),
            SystemCallFilter::Off => return None,
        };
        let native = Architecture::native();
        let policy = Policy { socketcall, set_up: true };
        (!native.is_empty()).then(|| cell.get_or_init(|| program::assemble(native, policy)).as_slice())
    }

    /// The second part, the same for all.
    pub(crate) fn closing(&self) -> &[Instruction] {
        self.closing.get_or_init(program::assemble_closing)
    }
}
