//! What a container changed in its image.

use std::sync::Arc;

use wharf_api::FilesystemChange;
use wharf_layer::job::{Answer, Job};

use super::Containers;
use super::fs_job::Running;
use crate::error::{Error, Result};
use crate::pools::Class;

/// Mount points that a start makes where the image has none. They are the engine's doing, not the container's.
const MOUNT_POINTS: [&str; 13] = [
    "/.dockerenv",
    "/dev",
    "/dev/console",
    "/dev/mqueue",
    "/dev/pts",
    "/dev/shm",
    "/etc",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/mtab",
    "/etc/resolv.conf",
    "/proc",
    "/sys",
];
const MODIFIED: u8 = 0;
const ADDED: u8 = 1;

impl Containers {
    /// The paths that differ from the image, sorted.
    pub async fn changes(self: &Arc<Self>, asked: &str) -> Result<Vec<FilesystemChange>> {
        let view = self.find(asked)?.view();
        let (containers, asked) = (self.clone(), asked.to_owned());
        let work = move || {
            let id = &view.record.id;
            let job =
                Job::Changes { tree: containers.recipe_of(id)?, base: containers.store.base_recipe(id)? };
            match Running::start(&containers, &job, &asked, "/")?.answer()? {
                Answer::Changes(changes) => Ok(without_mount_points(changes)),
                other => Err(Error::internal(format!("read answer of job: unexpected {other:?}"))),
            }
        };
        self.pools.run(Class::Files, work).await
    }
}

fn without_mount_points(mut changes: Vec<(String, u8)>) -> Vec<FilesystemChange> {
    let before = changes.len();
    let paths: Vec<String> = changes.iter().map(|(path, _)| path.clone()).collect();
    let has_own = |path: &str| {
        let below = format!("{path}/");
        paths.iter().any(|other| other.starts_with(&below) && !MOUNT_POINTS.contains(&other.as_str()))
    };
    changes.retain(|(path, kind)| *kind != ADDED || !MOUNT_POINTS.contains(&path.as_str()) || has_own(path));
    if changes.len() < before {
        // A directory that is here only because of what has just been taken out.
        changes.retain(|(path, kind)| {
            *kind != MODIFIED || !matches!(path.as_str(), "/dev" | "/etc") || has_own(path)
        });
    }
    changes.into_iter().map(|(path, kind)| FilesystemChange { path, kind }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_makes_is_not_told() {
        let told = |changes: &[(&str, u8)]| {
            let changes = changes.iter().map(|(path, kind)| ((*path).to_owned(), *kind)).collect();
            without_mount_points(changes).into_iter().map(|change| change.path).collect::<Vec<_>>()
        };
        assert!(
            told(&[("/dev", 0), ("/dev/pts", 1), ("/etc", 0), ("/etc/hosts", 1), ("/proc", 1)]).is_empty()
        );
        assert_eq!(told(&[("/etc", 0), ("/etc/f", 1), ("/etc/hosts", 1)]), ["/etc", "/etc/f"]);
        assert_eq!(told(&[("/etc", 0), ("/etc/hosts", 2)]), ["/etc", "/etc/hosts"]);
        assert_eq!(told(&[("/dev", 1), ("/dev/pts", 1), ("/dev/x", 1)]), ["/dev", "/dev/x"]);
    }
}
