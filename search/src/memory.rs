//! Settings of the memory allocator for training.
#![allow(unsafe_code)]

/// Largest block that glibc takes from the heap instead of the system, in bytes: 32 MiB.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGEST: i32 = 32 << 20;

/// Keeps freed memory in the process. Every step frees and allocates the same tensors of some megabytes. By
/// default glibc returns such blocks to the system at once, and page faults on new ones cost more than most
/// operations on them. Does nothing on other systems.
pub fn keep_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` only sets parameters of the allocator, and programs call this before they start
    // threads.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}
