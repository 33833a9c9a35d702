//! Mount options as fstab and the runtime specification write them.

use rustix::mount::MountAttrFlags;
use wharf_sys::mount::{Attributes, Propagation};

/// What a list of options asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options<'a> {
    /// A bind mount: `Some(true)` with all mounts below the source.
    pub(crate) bind: Option<bool>,
    /// Attributes of the mount itself.
    pub(crate) own: Change,
    /// Attributes of all mounts below as well (`rro`, …).
    pub(crate) recursive: Change,
    /// Propagation, and whether it is for the mounts below too.
    pub(crate) propagation: Option<(Propagation, bool)>,
    /// An idmapped mount.
    pub(crate) id_map: bool,
    /// What the file system itself reads.
    pub(crate) data: Vec<&'a str>,
}

/// Attributes turned on and off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    set: MountAttrFlags,
    clear: MountAttrFlags,
    atime: Option<MountAttrFlags>,
}

impl Default for Change {
    fn default() -> Self {
        Self { set: MountAttrFlags::empty(), clear: MountAttrFlags::empty(), atime: None }
    }
}

impl Change {
    fn apply(&mut self, flag: MountAttrFlags, on: bool) {
        let (to, from) = if on { (&mut self.set, &mut self.clear) } else { (&mut self.clear, &mut self.set) };
        to.insert(flag);
        from.remove(flag);
    }

    /// Attributes for a new mount.
    pub(crate) fn initial(&self) -> MountAttrFlags {
        self.set | self.atime.unwrap_or(MountAttrFlags::empty())
    }

    /// The same but for read-only, which comes when all is in place.
    pub(crate) fn initial_writable(&self) -> MountAttrFlags {
        self.initial() - MountAttrFlags::MOUNT_ATTR_RDONLY
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.set.contains(MountAttrFlags::MOUNT_ATTR_RDONLY)
    }

    pub(crate) fn attributes(&self) -> Attributes<'static> {
        let attributes = Attributes::new().set(self.set).clear(self.clear);
        self.atime.map_or(attributes, |mode| attributes.atime(mode))
    }
}

impl<'a> Options<'a> {
    pub(crate) fn parse(options: &'a [String]) -> Self {
        let mut parsed = Self::default();
        for option in options {
            parsed.add(option);
        }
        parsed
    }

    fn add(&mut self, option: &'a str) {
        if self.add_mode(option) {
            return;
        }
        if let Some((flag, on)) = attribute(option) {
            return self.own.apply(flag, on);
        }
        if let Some((flag, on)) = option.strip_prefix('r').and_then(attribute) {
            return self.recursive.apply(flag, on);
        }
        if let Some(mode) = access_time(option) {
            self.own.atime = Some(mode);
            return;
        }
        if let Some(mode) = option.strip_prefix('r').and_then(access_time) {
            self.recursive.atime = Some(mode);
            return;
        }
        self.data.push(option);
    }

    /// Options that say how to mount; also those that mean nothing here.
    fn add_mode(&mut self, option: &str) -> bool {
        let spread = |word: &str| match word {
            "shared" => Some(Propagation::Shared),
            "slave" => Some(Propagation::Slave),
            "private" => Some(Propagation::Private),
            "unbindable" => Some(Propagation::Unbindable),
            _ => None,
        };
        match option {
            "bind" => self.bind = Some(self.bind.unwrap_or(false)),
            "rbind" => self.bind = Some(true),
            "idmap" | "ridmap" => self.id_map = true,
            "defaults" | "async" | "loud" | "nomand" | "mand" | "norelatime" | "silent" | "auto"
            | "noauto" => {}
            _ => match (spread(option), option.strip_prefix('r').and_then(spread)) {
                (Some(kind), _) => self.propagation = Some((kind, false)),
                (None, Some(kind)) => self.propagation = Some((kind, true)),
                (None, None) => return false,
            },
        }
        true
    }
}

fn attribute(word: &str) -> Option<(MountAttrFlags, bool)> {
    Some(match word {
        "ro" => (MountAttrFlags::MOUNT_ATTR_RDONLY, true),
        "rw" => (MountAttrFlags::MOUNT_ATTR_RDONLY, false),
        "nosuid" => (MountAttrFlags::MOUNT_ATTR_NOSUID, true),
        "suid" => (MountAttrFlags::MOUNT_ATTR_NOSUID, false),
        "nodev" => (MountAttrFlags::MOUNT_ATTR_NODEV, true),
        "dev" => (MountAttrFlags::MOUNT_ATTR_NODEV, false),
        "noexec" => (MountAttrFlags::MOUNT_ATTR_NOEXEC, true),
        "exec" => (MountAttrFlags::MOUNT_ATTR_NOEXEC, false),
        "nodiratime" => (MountAttrFlags::MOUNT_ATTR_NODIRATIME, true),
        "diratime" => (MountAttrFlags::MOUNT_ATTR_NODIRATIME, false),
        "nosymfollow" => (MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, true),
        "symfollow" => (MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, false),
        _ => return None,
    })
}

fn access_time(word: &str) -> Option<MountAttrFlags> {
    Some(match word {
        "noatime" => MountAttrFlags::MOUNT_ATTR_NOATIME,
        "strictatime" => MountAttrFlags::MOUNT_ATTR_STRICTATIME,
        "relatime" | "atime" | "nostrictatime" => MountAttrFlags::empty(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_sorted_by_what_they_are_about() {
        let words = ["rbind", "ro", "rslave", "nosuid", "rnoexec", "size=64k", "noatime"].map(String::from);
        let options = Options::parse(&words);
        assert_eq!(options.bind, Some(true));
        assert!(options.own.is_read_only());
        assert_eq!(options.propagation, Some((Propagation::Slave, true)));
        assert!(options.recursive.initial().contains(MountAttrFlags::MOUNT_ATTR_NOEXEC));
        assert_eq!(options.data, ["size=64k"]);
        assert!(options.own.initial().contains(MountAttrFlags::MOUNT_ATTR_NOATIME));
    }

    #[test]
    fn the_last_of_opposites_wins() {
        let words = ["ro", "rw"].map(String::from);
        assert!(!Options::parse(&words).own.is_read_only());
    }
}
