//! What is mounted where in a container: decided at create, kept in its record, turned into mounts at every start.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What kind of thing is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A directory or file of the host.
    Bind,
    /// A volume.
    Volume,
    /// Memory.
    Tmpfs,
    /// The tree of an image, read-only.
    Image,
}

impl Kind {
    /// The word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Volume => "volume",
            Self::Tmpfs => "tmpfs",
            Self::Image => "image",
        }
    }
}

/// How far a read-only mount reaches into the mounts below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadOnlyReach {
    /// Into all, where the kernel can (5.12 and newer).
    #[default]
    IfPossible,
    /// Only the top.
    TopOnly,
    /// Into all, or no start.
    Forced,
    /// Both of the last two were asked for, which no start can satisfy.
    Contradictory,
}

/// One mount point of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// What is mounted.
    pub kind: Kind,
    /// A volume's name, or the image as it was named.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The path on the host; for an image its id, for tmpfs nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Where, a clean absolute path.
    pub destination: String,
    /// A volume's driver.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// The mode as given with `-v`, shown by inspect.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mode: String,
    /// Whether it can be written.
    pub rw: bool,
    /// `rprivate` and so on; only binds and images have one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub propagation: String,
    /// Whether an empty volume is filled with what the image has there.
    #[serde(default)]
    pub copy: bool,
    /// Whether a missing source of a bind is made.
    #[serde(default)]
    pub make_source: bool,
    /// A directory inside the volume or image to mount instead of all of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subpath: String,
    /// Leaves mounts below the source out.
    #[serde(default)]
    pub non_recursive: bool,
    /// Of a read-only bind.
    #[serde(default)]
    pub reach: ReadOnlyReach,
    /// Options of a tmpfs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub options: String,
    /// Whether the volume goes with the container (`rm -v`, `--rm`).
    #[serde(default)]
    pub anonymous: bool,
    /// The user and group of the host whom files belong to that the container's user writes (`idmap`), and whose files
    /// are that user's in the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<(u32, u32)>,
}

impl Point {
    pub(crate) fn new(kind: Kind, destination: &str) -> Self {
        Self {
            kind,
            name: String::new(),
            source: String::new(),
            destination: clean(destination),
            driver: String::new(),
            mode: String::new(),
            rw: true,
            propagation: String::new(),
            copy: false,
            make_source: false,
            subpath: String::new(),
            non_recursive: false,
            reach: ReadOnlyReach::default(),
            options: String::new(),
            anonymous: false,
            owner: None,
        }
    }
}

/// The word of a mode that maps owners; `idmap` alone means whoever calls, which the API's side fills in.
pub const IDMAP: &str = "idmap";

/// The user and group in `UID` or `UID-GID`.
pub fn parse_owner(text: &str) -> Option<(u32, u32)> {
    let (user, group) = text.split_once('-').unwrap_or((text, text));
    // The highest id means that there is none.
    let id = |text: &str| text.parse().ok().filter(|id| *id != u32::MAX);
    Some((id(user)?, id(group)?))
}

fn owner(word: &str) -> Option<(u32, u32)> {
    word.strip_prefix(IDMAP)?.strip_prefix('=').and_then(parse_owner)
}

/// A path without doubled slashes, `.` and `..`, as Go's `path.Clean` makes it.
pub fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            _ => parts.push(part),
        }
    }
    match (absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// The propagation in a mode such as `ro,rslave`; `None` where it names none.
fn propagation(mode: &str) -> Option<&str> {
    mode.split(',').find(|word| is_propagation(word))
}

/// Whether `word` names a mount propagation.
pub fn is_propagation(word: &str) -> bool {
    matches!(word, "private" | "rprivate" | "slave" | "rslave" | "shared" | "rshared")
}

/// Whether a mode of `-v` holds nothing unknown and nothing twice.
pub fn valid_mode(mode: &str) -> bool {
    if mode.is_empty() {
        return true;
    }
    let mut counts = [0; 6];
    for word in mode.split(',') {
        let slot = match word {
            "ro" | "rw" => 0,
            "z" | "Z" => 1,
            "nocopy" => 2,
            "consistent" | "cached" | "delegated" => 3,
            word if is_propagation(word) => 4,
            word if owner(word).is_some() => 5,
            _ => return false,
        };
        counts[slot] += 1;
    }
    counts.iter().all(|count| *count <= 1)
}

/// Whether a mode lets the container write.
pub fn writable(mode: &str) -> bool {
    !mode.split(',').any(|word| word == "ro")
}

/// Parses `-v [SOURCE:]DESTINATION[:MODE]`. A source that is no absolute path names a volume; none is an anonymous one.
///
/// # Errors
/// `invalid volume specification: '…'` and `invalid mode: …`, internal as Docker answers them.
pub fn parse_bind(raw: &str, volume_driver: &str) -> Result<Point> {
    let wrong = || Error::internal(format!("invalid volume specification: '{raw}'"));
    let parts: Vec<&str> = raw.splitn(4, ':').collect();
    let (source, target, mode) = match parts.as_slice() {
        ["", ..] => return Err(wrong()),
        [target] => ("", *target, ""),
        // A mode without a source, as in /data:ro.
        [_, mode] if valid_mode(mode) => return Err(wrong()),
        [source, target] => (*source, *target, ""),
        [source, target, mode] => (*source, *target, *mode),
        _ => return Err(wrong()),
    };
    if !valid_mode(mode) {
        return Err(Error::internal(format!("invalid mode: {mode}")));
    }
    let kind = if source.starts_with('/') { Kind::Bind } else { Kind::Volume };
    let no_copy = mode.split(',').any(|word| word == "nocopy");
    let inner = |why: String| {
        Error::internal(format!(
            "{}: invalid mount config for type \"{}\": {why}",
            wrong().message(),
            kind.as_str()
        ))
    };
    check_target(target).map_err(&inner)?;
    let mut point = Point::new(kind, target);
    point.mode = mode.to_owned();
    point.rw = writable(mode);
    point.owner = mode.split(',').find_map(owner);
    match kind {
        Kind::Bind if no_copy => return Err(inner("field VolumeOptions must not be specified".to_owned())),
        Kind::Bind => {
            point.source = clean(source);
            point.make_source = true;
            point.propagation = propagation(mode).unwrap_or("rprivate").to_owned();
        }
        _ => {
            if propagation(mode).is_some() {
                return Err(inner("field BindOptions must not be specified".to_owned()));
            }
            point.name = source.to_owned();
            point.anonymous = source.is_empty();
            point.driver = volume_driver.to_owned();
            point.copy = !no_copy;
        }
    }
    Ok(point)
}

/// What is wrong with a path to mount at, in Docker's words.
pub fn check_target(target: &str) -> Result<(), String> {
    if target.is_empty() {
        return Err("field Target must not be empty".to_owned());
    }
    if clean(target) == "/" {
        return Err("invalid specification: destination can't be '/'".to_owned());
    }
    check_absolute(target)
}

/// What is wrong with a path that has to be absolute.
pub fn check_absolute(path: &str) -> Result<(), String> {
    if path.starts_with('/') {
        Ok(())
    } else {
        Err(format!("invalid mount path: '{path}' mount path must be absolute"))
    }
}

/// Parses `--volumes-from CONTAINER[:MODE]` into the container's name and the mode.
///
/// # Errors
/// Invalid, with Docker's words for an empty name and an unknown mode.
pub fn parse_volumes_from(spec: &str) -> Result<(&str, &str)> {
    if spec.is_empty() {
        return Err(Error::invalid("volumes-from specification cannot be an empty string"));
    }
    let (name, mode) = spec.split_once(':').unwrap_or((spec, "rw"));
    let copies = mode.split(',').any(|word| word == "nocopy");
    if !valid_mode(mode) || propagation(mode).is_some() || copies {
        return Err(Error::invalid(format!("invalid mode: {mode}")));
    }
    Ok((name, mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(raw: &str) -> String {
        parse_bind(raw, "").unwrap_err().message().to_owned()
    }

    #[test]
    fn binds_and_volumes_are_told_apart() {
        let bind = parse_bind("/tmp/../tmp/a/:/x/../y/:rslave,ro", "").unwrap();
        assert_eq!(
            (bind.kind, bind.source.as_str(), bind.destination.as_str()),
            (Kind::Bind, "/tmp/a", "/y")
        );
        assert_eq!((bind.rw, bind.propagation.as_str(), bind.mode.as_str()), (false, "rslave", "rslave,ro"));
        let named = parse_bind("v1:/x:nocopy", "").unwrap();
        assert_eq!(
            (named.kind, named.name.as_str(), named.copy, named.anonymous),
            (Kind::Volume, "v1", false, false)
        );
        let unnamed = parse_bind("/data", "").unwrap();
        assert_eq!((unnamed.kind, unnamed.anonymous, unnamed.copy), (Kind::Volume, true, true));
        assert!(parse_bind("v1:/x:", "").is_ok());
    }

    #[test]
    fn owners_are_mapped_to_whom_the_mode_names() {
        let owner = |raw: &str| parse_bind(raw, "").unwrap().owner;
        assert_eq!(owner("/s:/x:idmap=1000-100,ro"), Some((1000, 100)));
        assert_eq!(owner("v1:/x:idmap=7"), Some((7, 7)));
        assert_eq!(owner("v1:/x"), None);
        for mode in ["idmap", "idmap=", "idmap=x", "idmap=1-2-3", "idmap=4294967295", "idmap=1,idmap=2"] {
            assert_eq!(refusal(&format!("/s:/x:{mode}")), format!("invalid mode: {mode}"));
        }
    }

    #[test]
    fn bad_specifications_are_refused_as_recorded() {
        for raw in ["/tmp:", ":/x", "a:b:c:d", "", "/x:ro"] {
            assert_eq!(refusal(raw), format!("invalid volume specification: '{raw}'"));
        }
        for mode in
            ["foo", "ro,rw", "shared,private", "consistent,cached", "ro,ro", "RO", "copy", "volume-nocopy"]
        {
            assert_eq!(refusal(&format!("/tmp/f3:/x:{mode}")), format!("invalid mode: {mode}"));
        }
        let inner = |kind, raw: &str, why| {
            assert_eq!(
                refusal(raw),
                format!(
                    "invalid volume specification: '{raw}': invalid mount config for type \"{kind}\": {why}"
                )
            );
        };
        inner("bind", "/tmp/f3:x", "invalid mount path: 'x' mount path must be absolute");
        inner("volume", "v1:/", "invalid specification: destination can't be '/'");
        inner("bind", "/tmp/f3:/x:nocopy", "field VolumeOptions must not be specified");
        inner("volume", "v1:/x:shared", "field BindOptions must not be specified");
        inner("volume", "v1:rel", "invalid mount path: 'rel' mount path must be absolute");
    }

    #[test]
    fn volumes_from_takes_a_mode() {
        assert_eq!(parse_volumes_from("c1").unwrap(), ("c1", "rw"));
        assert_eq!(parse_volumes_from("c1:ro,z").unwrap(), ("c1", "ro,z"));
        assert_eq!(parse_volumes_from("zz:foo").unwrap_err().message(), "invalid mode: foo");
        assert_eq!(parse_volumes_from("a:b:c").unwrap_err().message(), "invalid mode: b:c");
        assert!(parse_volumes_from("").is_err());
    }

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, cleaned) in
            [("/a/../b/", "/b"), ("", "."), ("a/..", "."), ("/../x", "/x"), ("../x", "../x"), ("//a", "/a")]
        {
            assert_eq!(clean(path), cleaned);
        }
    }
}
