//! The assembled programs, run by an interpreter of the kernel's BPF.

use proptest::prelude::*;

use super::*;

const NATIVE: &[Architecture] = &[Architecture::X86_64, Architecture::I386];
const ARM: &[Architecture] = &[Architecture::Aarch64, Architecture::Arm];
const STRICT: Policy = Policy { socketcall: false, set_up: false };

/// What a program says about a system call.
fn run(program: &[Instruction], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let word = |offset: u32| match offset {
        NUMBER => number,
        ARCHITECTURE => architecture,
        _ => {
            let index = ((offset - ARGUMENTS) / 8) as usize;
            assert_eq!((offset - ARGUMENTS) % 8, 0, "only lower halves are looked at");
            arguments[index] as u32
        }
    };
    let (mut accumulator, mut at) = (0, 0);
    loop {
        let instruction = program[at];
        let take = |condition: bool| {
            usize::from(if condition { instruction.jump_true } else { instruction.jump_false })
        };
        at += 1 + match instruction.code {
            LOAD_WORD => {
                accumulator = word(instruction.operand);
                0
            }
            JUMP => instruction.operand as usize,
            JUMP_IF_EQUAL => take(accumulator == instruction.operand),
            JUMP_IF_GREATER_OR_EQUAL => take(accumulator >= instruction.operand),
            JUMP_IF_ANY_BIT => take(accumulator & instruction.operand != 0),
            RETURN => return instruction.operand,
            code => panic!("no such operation: {code:#x}"),
        };
    }
}

fn number(architecture: Architecture, name: &str) -> u32 {
    let call = super::super::table::CALLS.iter().find(|call| call.name == name).unwrap();
    match architecture {
        Architecture::X86_64 => call.x86_64,
        Architecture::I386 => call.i386,
        Architecture::Aarch64 => call.aarch64,
        Architecture::Arm => call.arm,
    }
    .unwrap()
}

fn judge(policy: Policy, architecture: Architecture, name: &str, arguments: [u64; 6]) -> Result<(), i32> {
    let all = if NATIVE.contains(&architecture) { NATIVE } else { ARM };
    verdict_of(run(
        &assemble(all, policy),
        architecture.audit_number(),
        number(architecture, name),
        arguments,
    ))
}

fn verdict_of(result: u32) -> Result<(), i32> {
    match result {
        ALLOW => Ok(()),
        failed => {
            assert_eq!(failed & !0xffff, FAIL_WITH);
            Err((failed & 0xffff) as i32)
        }
    }
}

const ALL: [Architecture; 4] =
    [Architecture::X86_64, Architecture::I386, Architecture::Aarch64, Architecture::Arm];

#[test]
fn programs_fit_the_kernels_limit() {
    for architectures in [NATIVE, ARM] {
        let program = assemble(architectures, STRICT);
        assert!(program.len() < 4096, "{}", program.len());
    }
}

#[test]
fn every_number_gets_the_rule_of_its_segment() {
    for architectures in [NATIVE, ARM] {
        let program = assemble(architectures, STRICT);
        for architecture in architectures {
            let segments = architecture.segments(STRICT);
            for number in (0..1024).chain(0xf0000..0xf0010) {
                let rule = segments.iter().rev().find(|(start, _)| *start <= number).unwrap().1;
                let result = verdict_of(run(&program, architecture.audit_number(), number, [0; 6]));
                let expected = match rule {
                    Rule::Absent => Err(libc::ENOSYS),
                    Rule::Attribute => Err(libc::ENOTSUP),
                    // Family 0.
                    Rule::Socket => Err(libc::EAFNOSUPPORT),
                    _ => Ok(()),
                };
                assert_eq!(result, expected, "{architecture:?} {number}");
            }
        }
    }
}

#[test]
fn x9_set_id_modes_are_refused_on_all_architectures() {
    for architecture in ALL {
        for mode in [0o4755, 0o2755, 0o6000, 0o4755 | 1 << 40, 0o4755 | 1 << 16] {
            assert_eq!(judge(STRICT, architecture, "fchmod", [3, mode, 0, 0, 0, 0]), Err(libc::EPERM));
            assert_eq!(judge(STRICT, architecture, "fchmodat", [0, 0, mode, 0, 0, 0]), Err(libc::EPERM));
            assert_eq!(judge(STRICT, architecture, "fchmodat2", [0, 0, mode, 0, 0, 0]), Err(libc::EPERM));
            assert_eq!(judge(STRICT, architecture, "mknodat", [0, 0, mode, 0, 0, 0]), Err(libc::EPERM));
            assert_eq!(judge(STRICT, architecture, "openat", [0, 0, 0o101, mode, 0, 0]), Err(libc::EPERM));
            let temporary = 0o20_200_001;
            assert_eq!(
                judge(STRICT, architecture, "openat", [0, 0, temporary, mode, 0, 0]),
                Err(libc::EPERM)
            );
            // Without O_CREAT the argument is whatever was in the register.
            assert_eq!(judge(STRICT, architecture, "openat", [0, 0, 0o200_000, mode, 0, 0]), Ok(()));
        }
        assert_eq!(judge(STRICT, architecture, "fchmod", [3, 0o1777, 0, 0, 0, 0]), Ok(()));
        assert_eq!(judge(STRICT, architecture, "openat", [0, 0, 0o101, 0o644, 0, 0]), Ok(()));
    }
    for architecture in NATIVE {
        assert_eq!(judge(STRICT, *architecture, "open", [0, 0o101, 0o4755, 0, 0, 0]), Err(libc::EPERM));
        assert_eq!(judge(STRICT, *architecture, "creat", [0, 0o4755, 0, 0, 0, 0]), Err(libc::EPERM));
        assert_eq!(judge(STRICT, *architecture, "chmod", [0, 0o4755, 0, 0, 0, 0]), Err(libc::EPERM));
    }
}

#[test]
fn terminals_cannot_be_fed_whatever_the_upper_half_says() {
    for architecture in ALL {
        for request in [0x5412, 0x541c, 0x5412 | 1 << 32, 0x541c | 0xffff_ffff << 32] {
            assert_eq!(judge(STRICT, architecture, "ioctl", [0, request, 0, 0, 0, 0]), Err(libc::EPERM));
        }
        assert_eq!(judge(STRICT, architecture, "ioctl", [0, 0x5413, 0, 0, 0, 0]), Ok(()));
    }
}

#[test]
fn sockets_are_of_the_plain_families() {
    for architecture in ALL {
        for family in 0..64 {
            let expected = match family {
                1 | 2 | 10 | 16 => Ok(()),
                _ => Err(libc::EAFNOSUPPORT),
            };
            assert_eq!(judge(STRICT, architecture, "socket", [family, 1, 0, 0, 0, 0]), expected);
        }
        // Of netlink only the routing protocol.
        assert_eq!(judge(STRICT, architecture, "socket", [16, 3, 12, 0, 0, 0]), Err(libc::EPROTONOSUPPORT));
        assert_eq!(judge(STRICT, architecture, "socket", [2, 1, 6, 0, 0, 0]), Ok(()));
    }
}

#[test]
fn socketcall_creates_sockets_only_where_the_plan_says_so() {
    let socket = |policy| judge(policy, Architecture::I386, "socketcall", [1, 0, 0, 0, 0, 0]);
    assert_eq!(socket(STRICT), Err(libc::EAFNOSUPPORT));
    assert_eq!(socket(Policy { socketcall: true, set_up: false }), Ok(()));
    assert_eq!(judge(STRICT, Architecture::I386, "socketcall", [3, 0, 0, 0, 0, 0]), Ok(()));
}

#[test]
fn x9_what_is_left_in_the_end_is_the_whole_filter() {
    let closing = assemble_closing();
    for socketcall in [false, true] {
        for architectures in [NATIVE, ARM] {
            let whole = assemble(architectures, Policy { socketcall, set_up: false });
            let first = assemble(architectures, Policy { socketcall, set_up: true });
            let foreign = (0_u32, 0..8);
            let known = architectures.iter().map(|architecture| (architecture.audit_number(), 0..1024));
            for (architecture, numbers) in known.chain([foreign]) {
                for number in numbers.flat_map(|number| [number, number | 0x4000_0000]) {
                    for arguments in [[0; 6], [1; 6], [u64::MAX; 6]] {
                        let verdict = |program| verdict_of(run(program, architecture, number, arguments));
                        // The kernel takes the stricter of two verdicts.
                        let both = verdict(&first).and_then(|()| verdict(&closing));
                        assert_eq!(both, verdict(&whole), "{architecture:#x} {number}");
                    }
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn other_architectures_and_x32_have_no_calls(architecture: u32, number: u32, arguments: [u64; 6]) {
        let program = assemble(NATIVE, STRICT);
        prop_assume!(NATIVE.iter().all(|known| known.audit_number() != architecture));
        prop_assert_eq!(verdict_of(run(&program, architecture, number, arguments)), Err(libc::ENOSYS));
        let x32 = number | 0x4000_0000;
        let verdict = verdict_of(run(&program, Architecture::X86_64.audit_number(), x32, arguments));
        prop_assert_eq!(verdict, Err(libc::ENOSYS));
    }

    #[test]
    fn no_arguments_lead_out_of_the_program(number in 0..600_u32, arguments: [u64; 6]) {
        for architectures in [NATIVE, ARM] {
            let program = assemble(architectures, STRICT);
            for architecture in architectures {
                let _ = verdict_of(run(&program, architecture.audit_number(), number, arguments));
            }
        }
    }
}
