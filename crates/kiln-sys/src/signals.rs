//! Putting signals back to what a freshly started program may expect.

use std::mem;
use std::ptr;

/// Gives every signal its default action, and unblocks all.
///
/// Signals that the kernel or the C library keep for themselves refuse this, which is as it should be.
pub fn reset_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: the default action runs no code of this process, so no handler's assumptions can be violated.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: all-zero bytes are a valid `sigset_t`.
    let mut none: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: `none` is a live `sigset_t`.
    unsafe { libc::sigemptyset(&mut none) };
    // SAFETY: the mask is a live value, and the old one is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &none, ptr::null_mut()) };
}
