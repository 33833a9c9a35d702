//! Lists that are being put together: a folder for each, a file for each manifest, as Docker's client has them.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Serialize;
use wharf_oci::image::media_type;
use wharf_oci::{Descriptor, Digest, Platform, Reference};

use super::{Described, pretty};
use crate::connect::Target;
use crate::error::CliError;

/// All lists of one user.
pub(super) struct Lists(PathBuf);

/// A list as registries take it, its fields in Docker's order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u8,
    media_type: &'a str,
    manifests: Vec<Entry<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    media_type: &'a str,
    size: u64,
    digest: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<&'a Platform>,
}

impl Lists {
    pub(super) fn of(target: &Target) -> Self {
        Self(target.config_folder().join("manifests"))
    }

    fn folder(&self, list: &Reference) -> PathBuf {
        self.0.join(file_name(list))
    }

    /// The manifests of a list, in the order of their names; `None` where there is no such list.
    pub(super) fn get(&self, list: &Reference) -> Result<Option<Vec<Described>>, CliError> {
        let entries = match std::fs::read_dir(self.folder(list)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            entries => entries?,
        };
        let mut paths: Vec<PathBuf> =
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
        paths.sort();
        paths.iter().map(|path| read(path)).collect::<Result<_, _>>().map(Some)
    }

    /// A list that has to be there.
    pub(super) fn existing(&self, list: &Reference) -> Result<Vec<Described>, CliError> {
        let found = self.get(list)?;
        found.ok_or_else(|| CliError::new(format!("No such manifest: {}", list.familiar())))
    }

    /// One manifest of a list.
    pub(super) fn manifest(
        &self,
        list: &Reference,
        manifest: &Reference,
    ) -> Result<Option<Described>, CliError> {
        let path = self.folder(list).join(file_name(manifest));
        if path.exists() { read(&path).map(Some) } else { Ok(None) }
    }

    /// Keeps a manifest in a list.
    pub(super) fn save(
        &self,
        list: &Reference,
        manifest: &Reference,
        described: &Described,
    ) -> Result<(), CliError> {
        let folder = self.folder(list);
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(file_name(manifest));
        let draft = path.with_extension("draft");
        std::fs::write(&draft, serde_json::to_vec(described)?)?;
        Ok(std::fs::rename(draft, path)?)
    }

    /// Forgets a list.
    pub(super) fn remove(&self, list: &Reference) -> Result<(), CliError> {
        Ok(std::fs::remove_dir_all(self.folder(list))?)
    }
}

fn read(path: &Path) -> Result<Described, CliError> {
    let text = std::fs::read(path)?;
    serde_json::from_slice(&text).map_err(|error| CliError::new(format!("{}: {error}", path.display())))
}

/// A reference as Docker's client names its file.
fn file_name(reference: &Reference) -> String {
    reference.to_string().replace(':', "-").replace('/', "_")
}

/// The document of a list, and its media type: of the family of the first manifest.
pub(super) fn document(manifests: &[&Descriptor]) -> (String, &'static str) {
    let first = manifests.first().map(|manifest| manifest.media_type.as_str());
    let kind = if first == Some(media_type::OCI_MANIFEST) {
        media_type::OCI_INDEX
    } else {
        media_type::DOCKER_INDEX
    };
    let entries = manifests.iter().map(|manifest| Entry {
        media_type: &manifest.media_type,
        size: manifest.size,
        digest: manifest.digest,
        platform: manifest.platform.as_ref(),
    });
    let index = Index { schema_version: 2, media_type: kind, manifests: entries.collect() };
    (pretty(&index, b"   "), kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_as_dockers_client_names_them() {
        let name = |text: &str| file_name(&Reference::parse(text).unwrap().with_default_tag());
        assert_eq!(name("127.0.0.1:5077/x:both"), "127.0.0.1-5077_x-both");
        assert_eq!(name("app"), "docker.io_library_app-latest");
    }
}
