//! How the C library's allocator keeps what was freed.
//!
//! By default it has up to eight heaps for each processor, and keeps for itself most of what was freed in them: a process of
//! many threads, whose load goes up and down, grows with every peak that falls on another heap. A process that lives for
//! weeks wants the opposite. With another C library than glibc, nothing here does anything.

/// Heaps, however many processors there are. Threads keep small blocks for themselves, so that few of them wait for each
/// other.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS: libc::c_int = 4;

/// What is as large as this, in bytes, gets pages of its own, which go back at once. The bound would rise up to 32 MiB by itself
/// otherwise.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: libc::c_int = 256 << 10;

/// Has the allocator keep little. To be called before there are threads that allocate.
pub fn keep_little() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (parameter, value) in
        [(libc::M_ARENA_MAX, ARENAS), (libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TRIM_THRESHOLD, LARGE)]
    {
        // It refuses numbers that it does not like, which changes nothing.
        // SAFETY: mallopt takes numbers alone, and changes what the allocator does next, not what it has given out.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Gives whole pages that are free back to the system, also those between others that are not. Takes some milliseconds for each
/// 100 MiB, during which other threads may have to wait for memory.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim may be called at any time by any thread; it touches only what is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    fn resident_pages() -> usize {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        pages.split_whitespace().nth(1).and_then(|resident| resident.parse().ok()).unwrap_or_default()
    }

    #[test]
    fn what_was_freed_between_others_goes_back() {
        keep_little();
        // 64 MiB of blocks, of which every hundredth stays.
        let mut blocks: Vec<Vec<u8>> = (0..16_384).map(|_| vec![1; 4096]).collect();
        let full = resident_pages();
        let mut number = 0;
        blocks.retain(|_| {
            number += 1;
            number % 100 == 0
        });
        give_back();
        let left = resident_pages();
        assert!(left + 8192 < full, "{full} pages became {left}");
        assert_eq!(blocks.len(), 163);
    }
}
