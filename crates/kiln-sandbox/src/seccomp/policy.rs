//! What is done about a system call.

use super::table::CALLS;

/// The rule for one system call. Numbers are indices of its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// The kernel decides.
    Allow,
    /// It does not exist.
    Absent,
    /// Extended attributes, which could carry capabilities, access lists and labels: not supported.
    Attribute,
    /// The argument is a file mode, which must be without set-ID bits.
    Mode(u8),
    /// The argument is `open` flags; if they create a file, the next argument is such a mode.
    OpenMode(u8),
    /// The first argument must be a plain address family; of netlink only the routing protocol is.
    Socket,
    /// The sockets of i386 by a call number and pointers that a filter can't follow.
    Socketcall,
    /// The second argument must not be a request that types into a terminal.
    Ioctl,
}

/// What differs from build to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    /// May `socketcall` create sockets, though of families unseen?
    pub(super) socketcall: bool,
    /// May calls be made by which a sandbox is set up ([`SET_UP_CALLS`])?
    pub(super) set_up: bool,
}

/// The calls that no builder may make, but that are needed to set up its sandbox: `open_tree`, `move_mount`, `fsopen`,
/// `fsconfig`, `fsmount`, `openat2` and `mount_setattr`. Their numbers are the same on all architectures.
pub(super) const SET_UP_CALLS: [u32; 7] = [428, 429, 430, 431, 432, 437, 442];

/// An ABI of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Architecture {
    X86_64,
    I386,
    Aarch64,
    Arm,
}

impl Architecture {
    /// All that the machine runs for which this program has been compiled.
    pub(super) const fn native() -> &'static [Self] {
        if cfg!(target_arch = "x86_64") {
            &[Self::X86_64, Self::I386]
        } else if cfg!(target_arch = "aarch64") {
            &[Self::Aarch64, Self::Arm]
        } else {
            &[]
        }
    }

    /// How the kernel names it to filters (`AUDIT_ARCH_…`).
    pub(super) const fn audit_number(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::I386 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// From which number on calls belong to another ABI under the same name.
    pub(super) const fn foreign_from(self) -> Option<u32> {
        match self {
            // x32
            Self::X86_64 => Some(0x4000_0000),
            _ => None,
        }
    }

    /// Where the rule changes, in ascending order: each holds from its number to the next; the first is for 0.
    pub(super) fn segments(self, policy: Policy) -> Vec<(u32, Rule)> {
        let mut numbered: Vec<_> = CALLS
            .iter()
            .filter_map(|call| {
                let number = match self {
                    Self::X86_64 => call.x86_64,
                    Self::I386 => call.i386,
                    Self::Aarch64 => call.aarch64,
                    Self::Arm => call.arm,
                };
                Some((number?, call.rule))
            })
            .chain(SET_UP_CALLS.into_iter().filter(|_| policy.set_up).map(|number| (number, Rule::Allow)))
            .collect();
        numbered.sort_by_key(|(number, _)| *number);
        let mut segments = vec![(0, Rule::Absent)];
        let mut next = 0;
        for (number, rule) in numbered {
            if number > next {
                push(&mut segments, next, Rule::Absent);
            }
            push(&mut segments, number, rule);
            next = number + 1;
        }
        push(&mut segments, next, Rule::Absent);
        segments
    }
}

fn push(segments: &mut Vec<(u32, Rule)>, number: u32, rule: Rule) {
    match segments.last_mut() {
        Some((start, last)) if *start == number => *last = rule,
        Some((_, last)) if *last == rule => {}
        _ => segments.push((number, rule)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::table::Call;

    fn call(name: &str) -> Option<&'static Call> {
        CALLS.iter().find(|call| call.name == name)
    }

    #[test]
    fn numbers_are_unique() {
        for number in [
            |call: &Call| call.x86_64,
            |call: &Call| call.i386,
            |call: &Call| call.aarch64,
            |call: &Call| call.arm,
        ] {
            let mut numbers: Vec<_> = CALLS.iter().filter_map(number).collect();
            let all = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), all);
            assert!(all > 250);
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn numbers_agree_with_the_c_librarys() {
        for (name, number) in [
            ("chmod", libc::SYS_chmod),
            ("fchmodat", libc::SYS_fchmodat),
            ("fchmodat2", libc::SYS_fchmodat2),
            ("openat", libc::SYS_openat),
            ("mknodat", libc::SYS_mknodat),
            ("socket", libc::SYS_socket),
            ("socketpair", libc::SYS_socketpair),
            ("ioctl", libc::SYS_ioctl),
            ("setxattr", libc::SYS_setxattr),
            ("fsetxattr", libc::SYS_fsetxattr),
            ("execve", libc::SYS_execve),
            ("clone3", libc::SYS_clone3),
            ("futex_waitv", libc::SYS_futex_waitv),
        ] {
            assert_eq!(call(name).unwrap().x86_64.map(i64::from), Some(number), "{name}");
        }
        let set_up = [
            libc::SYS_open_tree,
            libc::SYS_move_mount,
            libc::SYS_fsopen,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_openat2,
            libc::SYS_mount_setattr,
        ];
        assert_eq!(SET_UP_CALLS.map(i64::from), set_up);
    }

    #[test]
    fn x9_what_must_not_be_there_is_not() {
        for name in [
            "io_uring_setup",
            "io_uring_enter",
            "io_uring_register",
            "openat2",
            "keyctl",
            "add_key",
            "request_key",
            "bpf",
            "perf_event_open",
            "userfaultfd",
            "open_by_handle_at",
            "name_to_handle_at",
            "kcmp",
            "move_pages",
            "swapon",
            "reboot",
            "kexec_load",
            "init_module",
            "finit_module",
            "fsopen",
            "move_mount",
            "mount_setattr",
        ] {
            assert!(call(name).is_none(), "{name}");
        }
    }

    #[test]
    fn x9_no_call_to_set_up_a_sandbox_is_a_builders() {
        for number in SET_UP_CALLS {
            for call in CALLS {
                assert!(
                    ![call.x86_64, call.i386, call.aarch64, call.arm].contains(&Some(number)),
                    "{}",
                    call.name
                );
            }
        }
    }

    #[test]
    fn x9_every_call_that_takes_a_mode_or_attribute_is_looked_into() {
        for call in CALLS {
            let expected = match call.name {
                "chmod" | "fchmod" | "creat" | "mknod" => Rule::Mode(1),
                "fchmodat" | "fchmodat2" | "mknodat" => Rule::Mode(2),
                "open" => Rule::OpenMode(1),
                "openat" => Rule::OpenMode(2),
                "socket" | "socketpair" => Rule::Socket,
                "socketcall" => Rule::Socketcall,
                "ioctl" => Rule::Ioctl,
                name if name.contains("xattr") => Rule::Attribute,
                _ => Rule::Allow,
            };
            assert_eq!(call.rule, expected, "{}", call.name);
        }
        assert!(call("setxattrat").is_some() && call("fchmodat2").is_some());
    }

    #[test]
    fn segments_ascend_and_end_with_nothing() {
        for architecture in
            [Architecture::X86_64, Architecture::I386, Architecture::Aarch64, Architecture::Arm]
        {
            let segments = architecture.segments(Policy { socketcall: false, set_up: true });
            assert!(segments.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 != pair[1].1));
            assert_eq!(segments[0].0, 0);
            assert_eq!(segments.last().unwrap().1, Rule::Absent);
        }
    }
}
