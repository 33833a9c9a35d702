//! Options of tmpfs mounts.

use crate::error::{Error, Result};

/// Flags, each with the group whose last member wins.
const FLAGS: [(&str, &str); 29] = [
    ("defaults", "defaults"),
    ("ro", "rw"),
    ("rw", "rw"),
    ("suid", "suid"),
    ("nosuid", "suid"),
    ("dev", "dev"),
    ("nodev", "dev"),
    ("exec", "exec"),
    ("noexec", "exec"),
    ("sync", "sync"),
    ("async", "sync"),
    ("dirsync", "dirsync"),
    ("remount", "remount"),
    ("mand", "mand"),
    ("nomand", "mand"),
    ("atime", "atime"),
    ("noatime", "atime"),
    ("diratime", "diratime"),
    ("nodiratime", "diratime"),
    ("relatime", "relatime"),
    ("norelatime", "relatime"),
    ("strictatime", "strictatime"),
    ("nostrictatime", "strictatime"),
    ("private", "propagation"),
    ("rprivate", "propagation"),
    ("shared", "propagation"),
    ("rshared", "propagation"),
    ("slave", "propagation"),
    ("rslave", "propagation"),
];

/// Options with a value.
const VALUES: [&str; 7] = ["mode", "uid", "gid", "size", "nr_inodes", "nr_blocks", "mpol"];

/// The options of `--tmpfs PATH:OPTIONS` after the defaults (noexec, nosuid, nodev, rprivate), later ones replacing
/// earlier ones of their kind.
///
/// # Errors
/// `invalid tmpfs option "…"`.
pub fn merge(options: &str) -> Result<Vec<String>> {
    let defaults = ["noexec", "nosuid", "nodev", "rprivate"];
    let given = options.split(',').filter(|_| !options.is_empty());
    let mut merged: Vec<(String, String)> = Vec::new();
    for option in defaults.into_iter().chain(given) {
        let kind =
            kind(option).ok_or_else(|| Error::internal(format!("invalid tmpfs option {:?}", key(option))))?;
        merged.retain(|(other, _)| *other != kind);
        merged.push((kind, option.to_owned()));
    }
    Ok(merged.into_iter().map(|(_, option)| option).collect())
}

fn key(option: &str) -> &str {
    option.split('=').next().unwrap_or_default()
}

fn kind(option: &str) -> Option<String> {
    match option.split_once('=') {
        Some((name, _)) => VALUES.contains(&name).then(|| name.to_owned()),
        None => FLAGS.iter().find(|(flag, _)| *flag == option).map(|(_, kind)| (*kind).to_owned()),
    }
}

/// The options of a `--mount type=tmpfs`: mode, size in bytes, further ones as (name) or (name, value).
///
/// # Errors
/// `invalid option: …`, without the mount's own words around it.
pub fn from_mount(size: i64, mode: u32, further: &[Vec<String>], read_only: bool) -> Result<String> {
    let mut options: Vec<String> = Vec::new();
    if read_only {
        options.push("ro".to_owned());
    }
    if mode != 0 {
        options.push(format!("mode={mode:o}"));
    }
    if size != 0 {
        options.push(format!("size={}", rounded(size)));
    }
    for pair in further {
        match pair.as_slice() {
            [flag] if FLAGS.iter().any(|(known, _)| known == flag) => options.push(flag.clone()),
            [flag] => return Err(Error::invalid(format!("invalid option: {flag}"))),
            [name, value] if VALUES.contains(&name.as_str()) => options.push(format!("{name}={value}")),
            [name, ..] => return Err(Error::invalid(format!("invalid option: {name}"))),
            [] => return Err(Error::invalid("invalid option array length")),
        }
    }
    Ok(options.join(","))
}

/// A size as Docker writes it: in the largest unit that divides it.
fn rounded(size: i64) -> String {
    for (shift, unit) in [(30, "g"), (20, "m"), (10, "k")] {
        if size % (1 << shift) == 0 {
            return format!("{}{unit}", size >> shift);
        }
    }
    size.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_kind_wins() {
        assert_eq!(merge("").unwrap(), ["noexec", "nosuid", "nodev", "rprivate"]);
        let all = merge("rw,exec,size=64k,mode=1777,size=1m").unwrap();
        assert_eq!(all, ["nosuid", "nodev", "rprivate", "rw", "exec", "mode=1777", "size=1m"]);
    }

    #[test]
    fn unknown_options_are_refused() {
        assert_eq!(merge("foo=1").unwrap_err().message(), "invalid tmpfs option \"foo\"");
        assert_eq!(merge("rw,size").unwrap_err().message(), "invalid tmpfs option \"size\"");
    }

    #[test]
    fn mounts_say_the_same_in_another_way() {
        assert_eq!(
            from_mount(1 << 20, 0o700, &[vec!["exec".to_owned()]], true).unwrap(),
            "ro,mode=700,size=1m,exec"
        );
        let error = from_mount(0, 0, &[vec!["foo".to_owned(), "1".to_owned()]], false).unwrap_err();
        assert_eq!(error.message(), "invalid option: foo");
    }
}
