//! Memory that the allocator keeps.

/// Returns what the allocator holds without need to the kernel (`malloc_trim(3)`).
pub fn give_back() {
    // SAFETY: walks the allocator's own structures under its own locks.
    unsafe { libc::malloc_trim(0) };
}

/// Keeps large buffers out of the heap for good: without this, the allocator stops returning buffers of a
/// size that was freed once (`mallopt(3)`, `M_MMAP_THRESHOLD`).
pub fn map_large_buffers() {
    const LARGE: libc::c_int = 64 * 1024;
    // SAFETY: sets a parameter of the allocator.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
}
