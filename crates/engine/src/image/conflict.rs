//! Why an image may not be removed, in Docker's words (moby, daemon/images/image_delete.go).

use wharf_oci::Digest;
use wharf_store::Image;

use super::Images;
use crate::error::Error;

/// What stands against removing an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conflict {
    /// The image.
    pub(super) image: Digest,
    /// Whether no force helps.
    pub(super) hard: bool,
    /// Whether a container is the reason.
    pub(super) used: bool,
    message: String,
}

/// Which conflicts to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checks {
    /// Names that point to it.
    pub(super) names: bool,
    /// Containers that stand on it without running.
    pub(super) stopped: bool,
}

impl Checks {
    /// Everything, or with force only what no force overcomes.
    pub(super) const fn of(force: bool) -> Self {
        Self { names: !force, stopped: !force }
    }
}

impl From<Conflict> for Error {
    fn from(conflict: Conflict) -> Self {
        let force = if conflict.hard { "cannot" } else { "must" };
        let image = conflict.image.short();
        Self::conflict(format!(
            "conflict: unable to delete {image} ({force} be forced) - {}",
            conflict.message
        ))
    }
}

impl Images {
    pub(super) fn conflict(&self, image: &Image, checks: Checks) -> Option<Conflict> {
        let conflict = |hard, used, message: String| Some(Conflict { image: image.id, hard, used, message });
        if self.store.has_children(&image.id) {
            return conflict(true, false, "image has dependent child images".to_owned());
        }
        let id = image.id.to_string();
        let users: Vec<super::User> = self.users().into_iter().filter(|user| user.image == id).collect();
        if let Some(user) = users.iter().find(|user| user.running) {
            let container = short(&user.container);
            return conflict(true, true, format!("image is being used by running container {container}"));
        }
        if let Some(user) = users.iter().find(|user| user.mounted) {
            let container = short(&user.container);
            return conflict(true, true, format!("image is mounted in container {container}"));
        }
        if checks.names && !self.store.names_of(&image.id).is_empty() {
            return conflict(false, false, "image is referenced in multiple repositories".to_owned());
        }
        match users.first() {
            Some(user) if checks.stopped => {
                let container = short(&user.container);
                conflict(false, true, format!("image is being used by stopped container {container}"))
            }
            _ => None,
        }
    }

    /// A container that stands on the image, if any.
    pub(super) fn user_of(&self, id: &Digest) -> Option<String> {
        let id = id.to_string();
        self.users().into_iter().find(|user| user.image == id).map(|user| user.container)
    }
}

pub(super) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
