//! Installing a system-call filter (`seccomp(2)`).

use rustix::io::Errno;

use crate::failure::last_errno;

/// One instruction of classic BPF, laid out as the kernel's `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation, as in `linux/bpf_common.h`.
    pub code: u16,
    /// How many instructions to skip if a conditional jump's condition holds.
    pub jump_true: u8,
    /// How many to skip if it does not hold.
    pub jump_false: u8,
    /// Constant operand.
    pub operand: u32,
}

/// Filters all further system calls of the calling thread, and of what it executes and creates.
///
/// The caller must have `no_new_privs` set. The kernel checks the program: it can't loop or read beyond the call's data.
///
/// # Errors
///
/// `EINVAL` for a program that the kernel does not accept or one of more than 4,096 instructions, `EACCES` without
/// `no_new_privs`.
pub fn install_filter(program: &[Instruction]) -> Result<(), Errno> {
    let arguments = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::INVAL)?,
        // `Instruction` has the layout of `sock_filter`, and the kernel only reads.
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: `arguments` describes the slice `program`, which is alive and has the stated length.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, std::ptr::from_ref(&arguments))
    };
    if result == 0 {
        return Ok(());
    }
    Err(last_errno())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOW: Instruction = Instruction { code: 0x06, jump_true: 0, jump_false: 0, operand: 0x7fff_0000 };

    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!(size_of::<Instruction>(), size_of::<libc::sock_filter>());
        assert_eq!(std::mem::offset_of!(Instruction, operand), std::mem::offset_of!(libc::sock_filter, k));
        assert_eq!(std::mem::offset_of!(Instruction, jump_true), std::mem::offset_of!(libc::sock_filter, jt));
    }

    #[test]
    fn programs_are_installed_and_bad_ones_refused() {
        // A filter holds for the thread that installs it alone.
        std::thread::spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            assert_eq!(install_filter(&[]), Err(Errno::INVAL));
            assert_eq!(install_filter(&[Instruction { code: 0x05, ..ALLOW }]), Err(Errno::INVAL));
            assert_eq!(install_filter(&vec![ALLOW; 70_000]), Err(Errno::INVAL));
            install_filter(&[ALLOW]).unwrap();
        })
        .join()
        .unwrap();
    }
}
