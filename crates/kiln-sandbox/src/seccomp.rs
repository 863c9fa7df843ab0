//! The system-call filter.
//!
//! A filter is an allow-list over every ABI that the kernel would run (x86_64 and i386, aarch64 and 32-bit arm); calls
//! that are not on it, and other ABIs such as x32, do not exist (`ENOSYS`). Some calls are looked into: modes must not
//! have set-ID bits, sockets must be of the plain families, terminals can't be fed. [`policy`] says what is allowed,
//! [`table`] which numbers that means, and [`program`] turns both into BPF. The result depends on the architecture alone,
//! so it is assembled once per launcher.

use std::cell::OnceCell;

use kiln_sys::seccomp::Instruction;

mod policy;
mod program;
mod table;

use policy::{Architecture, Policy};

/// The filters that plans can ask for. The usual one is there from the start: what a copy of this process assembles for
/// itself would be assembled again in the next.
#[derive(Default)]
pub(crate) struct Filters {
    strict: OnceCell<Vec<Instruction>>,
    strict_with_socketcall: OnceCell<Vec<Instruction>>,
}

impl Filters {
    /// With the usual one assembled.
    pub(crate) fn assembled() -> Self {
        let filters = Self::default();
        filters.strict();
        filters
    }

    /// [`crate::SystemCallFilter::Strict`]; `None` on an architecture for which there is no table.
    pub(crate) fn strict(&self) -> Option<&[Instruction]> {
        Self::get(&self.strict, Policy { socketcall: false })
    }

    /// [`crate::SystemCallFilter::StrictWithSocketcall`]; `None` on an architecture for which there is no table.
    pub(crate) fn strict_with_socketcall(&self) -> Option<&[Instruction]> {
        Self::get(&self.strict_with_socketcall, Policy { socketcall: true })
    }

    fn get(cell: &OnceCell<Vec<Instruction>>, policy: Policy) -> Option<&[Instruction]> {
        let native = Architecture::native();
        (!native.is_empty()).then(|| cell.get_or_init(|| program::assemble(native, policy)).as_slice())
    }
}
