//! The allocator's manners for training.
#![allow(unsafe_code)]

/// The largest block that glibc lets come from the heap rather than from the system: 32 MiB.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGEST: i32 = 32 << 20;

/// Keeps freed memory in the process. Every step frees and takes the same tensors of some megabytes; glibc hands such
/// blocks back to the system at once, and fetching them again, page by page, costs more than most operations on them.
/// Does nothing on other systems.
pub fn keep_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt sets two numbers of the allocator; programs call this before they start threads.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}
