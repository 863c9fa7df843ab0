//! Assembling a filter as classic BPF.
//!
//! Code is built from the leaves up: a piece of code is a vector of instructions that ends by returning a verdict, so
//! pieces can be put one behind the other with jumps over whole pieces, and there are no labels to resolve. Jumps go
//! forward only, which is all that the kernel accepts.

use kiln_sys::seccomp::Instruction;

use super::policy::{Architecture, Policy, Rule, SET_UP_CALLS};

// Operations, from linux/bpf_common.h.
const LOAD_WORD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_GREATER_OR_EQUAL: u16 = 0x35;
const JUMP_IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const ALLOW: u32 = 0x7fff_0000;
const FAIL_WITH: u32 = 0x0005_0000;

/// Set-user-ID and set-group-ID.
const SET_ID_BITS: u32 = 0o6000;
/// `O_CREAT`, and the bit that tells `O_TMPFILE` from `O_DIRECTORY`: the same on all architectures here.
const CREATING_FLAGS: u32 = 0o100 | 0o20_000_000;
/// Requests that put characters into a terminal's input.
const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541c;
/// Calls of `socketcall`.
const SOCKETCALL_SOCKET: u32 = 1;

const PLAIN_FAMILIES: [libc::c_int; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];

/// A filter for all the architectures.
pub(super) fn assemble(architectures: &[Architecture], policy: Policy) -> Vec<Instruction> {
    let mut program = vec![load(ARCHITECTURE)];
    for architecture in architectures {
        let section = section(*architecture, policy);
        program.push(conditional(JUMP_IF_EQUAL, architecture.audit_number(), 1, 0));
        program.push(jump_over(&section));
        program.extend(section);
    }
    program.push(fail(libc::ENOSYS));
    program
}

/// What takes away the calls to set up a sandbox from a process that has a filter which allows them, and nothing else.
pub(super) fn assemble_closing() -> Vec<Instruction> {
    let mut program = vec![load(NUMBER)];
    for number in SET_UP_CALLS {
        program.push(conditional(JUMP_IF_EQUAL, number, 0, 1));
        program.push(fail(libc::ENOSYS));
    }
    program.push(allow());
    program
}

fn section(architecture: Architecture, policy: Policy) -> Vec<Instruction> {
    let mut code = vec![load(NUMBER)];
    if let Some(limit) = architecture.foreign_from() {
        code.push(conditional(JUMP_IF_GREATER_OR_EQUAL, limit, 0, 1));
        code.push(fail(libc::ENOSYS));
    }
    code.extend(search(&architecture.segments(policy), policy));
    code
}

/// A binary search for the segment that the loaded number is in. The depth is the logarithm of the length of a table
/// that is part of this program.
fn search(segments: &[(u32, Rule)], policy: Policy) -> Vec<Instruction> {
    match segments {
        [] => vec![fail(libc::ENOSYS)],
        [(_, rule)] => verdict(*rule, policy),
        _ => {
            let (lower, upper) = segments.split_at(segments.len() / 2);
            let first = upper.first().map_or(0, |(number, _)| *number);
            let lower = search(lower, policy);
            let mut code = match u8::try_from(lower.len()) {
                Ok(length) => vec![conditional(JUMP_IF_GREATER_OR_EQUAL, first, length, 0)],
                Err(_) => {
                    vec![conditional(JUMP_IF_GREATER_OR_EQUAL, first, 0, 1), jump_over(&lower)]
                }
            };
            code.extend(lower);
            code.extend(search(upper, policy));
            code
        }
    }
}

/// Arguments are compared by their lower halves alone: that is all the kernel uses of modes, flags, requests and
/// families, so a filter that looked at the upper halves could be passed by setting bits there.
fn verdict(rule: Rule, policy: Policy) -> Vec<Instruction> {
    match rule {
        Rule::Allow => vec![allow()],
        Rule::Absent => vec![fail(libc::ENOSYS)],
        Rule::Attribute => vec![fail(libc::ENOTSUP)],
        Rule::Mode(argument) => vec![
            load_argument(argument),
            conditional(JUMP_IF_ANY_BIT, SET_ID_BITS, 0, 1),
            fail(libc::EPERM),
            allow(),
        ],
        // Without a creating flag the mode is not used, and may be anything.
        Rule::OpenMode(argument) => vec![
            load_argument(argument),
            conditional(JUMP_IF_ANY_BIT, CREATING_FLAGS, 0, 3),
            load_argument(argument + 1),
            conditional(JUMP_IF_ANY_BIT, SET_ID_BITS, 0, 1),
            fail(libc::EPERM),
            allow(),
        ],
        Rule::Socket => socket(),
        Rule::Socketcall if policy.socketcall => vec![allow()],
        Rule::Socketcall => vec![
            load_argument(0),
            conditional(JUMP_IF_EQUAL, SOCKETCALL_SOCKET, 0, 1),
            fail(libc::EAFNOSUPPORT),
            allow(),
        ],
        Rule::Ioctl => vec![
            load_argument(1),
            conditional(JUMP_IF_EQUAL, TIOCSTI, 1, 0),
            conditional(JUMP_IF_EQUAL, TIOCLINUX, 0, 1),
            fail(libc::EPERM),
            allow(),
        ],
    }
}

fn socket() -> Vec<Instruction> {
    let mut code = vec![load_argument(0)];
    for family in PLAIN_FAMILIES {
        code.push(conditional(JUMP_IF_EQUAL, family as u32, 0, 1));
        code.push(allow());
    }
    code.extend([
        conditional(JUMP_IF_EQUAL, libc::AF_NETLINK as u32, 1, 0),
        fail(libc::EAFNOSUPPORT),
        load_argument(2),
        conditional(JUMP_IF_EQUAL, libc::NETLINK_ROUTE as u32, 1, 0),
        fail(libc::EPROTONOSUPPORT),
        allow(),
    ]);
    code
}

const fn instruction(code: u16, jump_true: u8, jump_false: u8, operand: u32) -> Instruction {
    Instruction { code, jump_true, jump_false, operand }
}

const fn load(offset: u32) -> Instruction {
    instruction(LOAD_WORD, 0, 0, offset)
}

/// The lower half of an argument, on a little-endian machine.
fn load_argument(index: u8) -> Instruction {
    load(ARGUMENTS + 8 * u32::from(index))
}

const fn conditional(code: u16, operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
    instruction(code, jump_true, jump_false, operand)
}

fn jump_over(code: &[Instruction]) -> Instruction {
    instruction(JUMP, 0, 0, u32::try_from(code.len()).unwrap_or(u32::MAX))
}

const fn allow() -> Instruction {
    instruction(RETURN, 0, 0, ALLOW)
}

fn fail(errno: libc::c_int) -> Instruction {
    instruction(RETURN, 0, 0, FAIL_WITH | errno as u32)
}

#[cfg(test)]
mod tests;
