//! Names of volumes.

use std::fmt::Write as _;

use crate::error::{Error, Result};

/// A name for a volume that was given none: 64 hex digits.
pub fn random_name() -> String {
    let mut bytes = [0_u8; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        // getrandom(2) fails only before the kernel's pool is ready, and then waits.
        filled +=
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()).unwrap_or(0);
    }
    bytes.iter().fold(String::with_capacity(64), |mut name, byte| {
        // Writing to a string cannot fail.
        let _ = write!(name, "{byte:02x}");
        name
    })
}

/// Checks a name; it becomes a directory's.
///
/// # Errors
/// Docker's words, without `create NAME: ` before them.
pub(super) fn check(name: &str) -> Result<()> {
    let letter = |byte: &u8| byte.is_ascii_alphanumeric();
    let inner = |byte: &u8| letter(byte) || matches!(byte, b'_' | b'.' | b'-');
    if name.len() == 1 {
        return Err(Error::invalid(
            "volume name is too short, names should be at least two alphanumeric characters",
        ));
    }
    let valid =
        name.as_bytes().split_first().is_some_and(|(first, rest)| letter(first) && rest.iter().all(inner));
    if !valid || name.len() > 255 {
        return Err(Error::invalid(format!(
            "{name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are \
             allowed. If you intended to pass a host directory, use absolute path"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_directories_of_one_component() {
        for bad in ["x", "a b", "../x", "-ab", "a/b", "_ab", "ä1"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        for good in ["ab", "F3-v.1_x", &random_name()] {
            assert!(check(good).is_ok(), "{good}");
        }
    }
}
