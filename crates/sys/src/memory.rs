//! What the C library does with memory better than anyone: searching it, and giving it back.

/// Returns what the allocator holds without need to the kernel (`malloc_trim(3)`).
pub fn give_back() {
    // SAFETY: walks the allocator's own structures under its own locks.
    unsafe { libc::malloc_trim(0) };
}

/// Has all threads allocate from `heaps` heaps instead of up to eight for each processor: what one thread frees, another
/// can use then, and less lies idle. To be called before there are threads.
pub fn share_heaps(heaps: i32) {
    // SAFETY: sets a number of the allocator's.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, heaps) };
}

/// Lets go of the pages of this program's code. What is still run comes back from the page cache bit by bit;
/// what only a start needed stays away.
pub fn forget_code() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, end) in maps.lines().filter_map(code_of_file) {
        let place = std::ptr::with_exposed_provenance_mut::<libc::c_void>(start);
        // SAFETY: a private mapping of a file that was never writable, so every page equals the file's and
        // is read again when touched; a refusal changes nothing.
        unsafe { libc::madvise(place, end - start, libc::MADV_DONTNEED) };
    }
}

/// The range of a line of `/proc/PID/maps` (proc_pid_maps(5)) that is code from a file.
fn code_of_file(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let is_code = fields.next()? == "r-xp";
    let inode = fields.nth(2)?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    if is_code && inode != "0" { Some((number(start)?, number(end)?)) } else { None }
}

/// The place of the first `byte` in `bytes` (`memchr(3)`, which uses the widest registers there are).
pub fn find_byte(byte: u8, bytes: &[u8]) -> Option<usize> {
    // SAFETY: reads only inside the live slice.
    let found = unsafe { libc::memchr(bytes.as_ptr().cast(), i32::from(byte), bytes.len()) };
    if found.is_null() { None } else { Some(found.addr() - bytes.as_ptr().addr()) }
}

/// Memory for the stack of a child that shares ours; what lies below it cannot be touched.
#[derive(Debug)]
pub(crate) struct Stack(*mut libc::c_void);

/// Only what is used is ever there; too small for the kernel to give it a huge page.
const STACK_SIZE: usize = 1 << 20;
/// A page of any size that Linux has.
const GUARD: usize = 64 << 10;

impl Stack {
    pub(crate) fn new() -> rustix::io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        // SAFETY: a new mapping at a place that the kernel chooses.
        let place = unsafe {
            libc::mmap(std::ptr::null_mut(), STACK_SIZE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        if place == libc::MAP_FAILED {
            return Err(crate::process::errno());
        }
        let stack = Self(place);
        // SAFETY: the lowest part of the mapping just made, which nobody uses yet.
        match unsafe { libc::mprotect(place, GUARD, libc::PROT_NONE) } {
            0 => Ok(stack),
            _ => Err(crate::process::errno()),
        }
    }

    /// The lowest address that may be used; aligned as every stack must be, and so is the end.
    pub(crate) fn bottom(&self) -> usize {
        self.0.addr() + GUARD
    }

    pub(crate) fn size(&self) -> usize {
        STACK_SIZE - GUARD
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: our own mapping; whoever ran on it has left this memory.
        unsafe { libc::munmap(self.0, STACK_SIZE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgotten_code_still_runs() {
        forget_code();
        assert_eq!(find_byte(b'b', b"ab"), Some(1));
    }

    #[test]
    fn only_code_of_files_is_forgotten() {
        let code = "004f5000-01268000 r-xp 002f4000 fe:00 10028637                           /usr/bin/wharf";
        assert_eq!(code_of_file(code), Some((0x4f_5000, 0x126_8000)));
        assert_eq!(code_of_file(&code.replace("r-xp", "r--p")), None);
        assert_eq!(code_of_file("7ffd1000-7ffd3000 r-xp 00000000 00:00 0 [vdso]"), None);
    }

    #[test]
    fn a_byte_is_found_where_it_is() {
        assert_eq!(find_byte(b'\n', b""), None);
        assert_eq!(find_byte(b'\n', b"ab\nc\n"), Some(2));
        assert_eq!(find_byte(0, &[1; 1000]), None);
    }
}
