//! Mounts in which the container's user stands for somebody of the host: `-v DIR:/x:idmap`.

use wharf_oci::runtime::{IdMapping, Linux, Mount, User};
use wharf_sys::namespace::{IdMap, IdRange};

use crate::error::{Error, Result};

/// How many ids there are; the highest means none.
const ALL: u64 = u32::MAX as u64;

/// Lets what `owner` has on the disk belong to the container's `user` in a mount, and the other way round.
///
/// # Errors
/// When the container's user is nobody on the host.
pub(super) fn map(mount: &mut Mount, owner: (u32, u32), user: &User, linux: &Linux) -> Result<()> {
    let nobody = |id| {
        Error::invalid(format!(
            "idmap of {}: id {id} of the container is none of the host",
            mount.destination
        ))
    };
    let uid = outside(user.uid, &linux.uid_mappings).ok_or_else(|| nobody(user.uid))?;
    let gid = outside(user.gid, &linux.gid_mappings).ok_or_else(|| nobody(user.gid))?;
    if (uid, gid) == owner {
        return Ok(());
    }
    mount.options.push("idmap".to_owned());
    mount.uid_mappings = mapping(owner.0, uid);
    mount.gid_mappings = mapping(owner.1, gid);
    Ok(())
}

/// The same for a process that looks at the container's files from outside. `user` and `group`: the container's;
/// `own`: its users' ids, where it has others than the host. `None`: nothing is to be mapped.
pub(in crate::container) fn ids(
    owner: (u32, u32),
    (user, group): (u32, u32),
    own: Option<&IdMap>,
) -> Option<IdMap> {
    let as_written = |ranges: &[IdRange]| -> Vec<IdMapping> {
        let one = |range: &IdRange| IdMapping {
            container_id: range.inside,
            host_id: range.outside,
            size: range.size,
        };
        ranges.iter().map(one).collect()
    };
    let (users, groups) =
        own.map_or_else(Default::default, |own| (as_written(&own.users), as_written(&own.groups)));
    let (uid, gid) = (outside(user, &users)?, outside(group, &groups)?);
    let ranges = |disk, shown| -> Vec<IdRange> {
        let one = |mapping: IdMapping| IdRange {
            inside: mapping.container_id,
            outside: mapping.host_id,
            size: mapping.size,
        };
        mapping(disk, shown).into_iter().map(one).collect()
    };
    ((uid, gid) != owner).then(|| IdMap { users: ranges(owner.0, uid), groups: ranges(owner.1, gid) })
}

/// The id of the host that an id of the container is.
fn outside(id: u32, mappings: &[IdMapping]) -> Option<u32> {
    if mappings.is_empty() {
        return Some(id);
    }
    let has = |range: &&IdMapping| (range.container_id..).zip(0..range.size).any(|(inside, _)| inside == id);
    mappings.iter().find(has).map(|range| range.host_id + (id - range.container_id))
}

/// `disk` is shown as `shown`, the others as they are. What is `shown` on the disk is nobody's in the mount, and who
/// would write as `disk` cannot: otherwise files of two owners would become one's.
fn mapping(disk: u32, shown: u32) -> Vec<IdMapping> {
    let mut ranges = vec![IdMapping { container_id: disk, host_id: shown, size: 1 }];
    let (low, high) = (u64::from(disk.min(shown)), u64::from(disk.max(shown)));
    for (start, end) in [(0, low), (low + 1, high), (high + 1, ALL)] {
        // Ids below ALL fit.
        if let (Ok(start), Ok(size)) = (u32::try_from(start), u32::try_from(end.saturating_sub(start)))
            && size > 0
        {
            ranges.push(IdMapping { container_id: start, host_id: start, size });
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(ranges: &[IdMapping], disk: u32) -> Option<u32> {
        let found = ranges
            .iter()
            .find(|range| disk.checked_sub(range.container_id).is_some_and(|at| at < range.size));
        found.map(|range| range.host_id + (disk - range.container_id))
    }

    #[test]
    fn one_id_stands_for_another_and_no_two_for_one() {
        for (disk, own) in [(1000, 0), (0, 1000), (5, 5), (u32::MAX - 1, 0), (1, 0)] {
            let ranges = mapping(disk, own);
            assert_eq!(shown(&ranges, disk), Some(own));
            assert_eq!(shown(&ranges, 77), Some(77));
            if disk != own {
                assert_eq!(shown(&ranges, own), None);
            }
            let total: u64 = ranges.iter().map(|range| u64::from(range.size)).sum();
            assert_eq!(total, if disk == own { ALL } else { ALL - 1 }, "{ranges:?}");
        }
    }
}
