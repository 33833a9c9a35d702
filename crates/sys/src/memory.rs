//! What the C library does with memory better than anyone: searching it, and giving it back.

/// Returns what the allocator holds without need to the kernel (`malloc_trim(3)`).
pub fn give_back() {
    // SAFETY: walks the allocator's own structures under its own locks.
    unsafe { libc::malloc_trim(0) };
}

/// The place of the first `byte` in `bytes` (`memchr(3)`, which uses the widest registers there are).
pub fn find_byte(byte: u8, bytes: &[u8]) -> Option<usize> {
    // SAFETY: reads only inside the live slice.
    let found = unsafe { libc::memchr(bytes.as_ptr().cast(), i32::from(byte), bytes.len()) };
    if found.is_null() { None } else { Some(found.addr() - bytes.as_ptr().addr()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_found_where_it_is() {
        assert_eq!(find_byte(b'\n', b""), None);
        assert_eq!(find_byte(b'\n', b"ab\nc\n"), Some(2));
        assert_eq!(find_byte(0, &[1; 1000]), None);
    }
}
