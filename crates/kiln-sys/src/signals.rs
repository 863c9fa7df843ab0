//! Putting signals back to what a freshly started program may expect.

use std::ptr;

/// Signals of the kernel, real-time ones included.
const LAST_SIGNAL: libc::c_int = 64;
/// The size of the kernel's signal sets, in bytes.
const SIGNAL_SET: usize = 8;

/// Gives every signal its default action, and unblocks all.
///
/// This goes past the C library, which would leave out the two signals that it keeps for threads: a parent may have
/// ignored those too. SIGKILL and SIGSTOP refuse any change, which is as it should be.
pub fn reset_signals() {
    // The kernel's `struct sigaction` with zeros everywhere: default action, no flags, empty mask. Larger than on any
    // architecture.
    let default = [0_u64; 8];
    for signal in 1..=LAST_SIGNAL {
        // SAFETY: the kernel reads a `struct sigaction` from `default` and writes nothing; the default action runs no code
        // of this process.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null_mut::<libc::c_void>(),
                SIGNAL_SET,
            )
        };
    }
    let none = 0_u64;
    // SAFETY: the kernel reads a signal set of the given size from `none`, and the old one is not asked for.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            ptr::from_ref(&none),
            ptr::null_mut::<libc::c_void>(),
            SIGNAL_SET,
        )
    };
}
