//! The client of a classic build: all it has is the archive that it sent.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::FileType;
use wharf_build::ignore::Ignore;
use wharf_build::solve::LocalRequest;
use wharf_distribution::client::Credentials;
use wharf_layer::{UnpackOptions, Whiteouts, decompressor, extract};
use wharf_sys::root::{Dir, Root, RootError};

use crate::body::ByteStream;
use crate::build::{Client, Files, SshSocket, Transfer};
use crate::error::{Error, Result};
use crate::names::new_id;

/// How much of an archive is read at once, bytes.
const READ: usize = 128 * 1024;

/// An archive's content.
pub(super) struct Archive {
    place: Place,
    credentials: BTreeMap<String, Credentials>,
    /// What was taken out of it already.
    excluded: Mutex<Vec<String>>,
}

/// A directory that goes with its owner.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        match std::fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!("remove {}: {error}", self.0.display());
            }
            _ => {}
        }
    }
}

impl Archive {
    /// Unpacks what a client sends; without a body there is nothing in it. Everything belongs to root, as in every context.
    pub(super) fn receive(
        places: &Path,
        credentials: BTreeMap<String, Credentials>,
        body: Option<ByteStream>,
    ) -> Result<Self> {
        let place = Place(places.join(new_id()));
        std::fs::create_dir_all(&place.0)
            .map_err(|error| Error::io(format_args!("mkdir {}", place.0.display()), &error))?;
        if let Some(body) = body {
            let failed = |error: wharf_layer::Error| Error::invalid(format!("read build context: {error}"));
            let mut body = body.into_reader();
            let root = Root::open(&place.0).map_err(|error| Error::internal(error.to_string()))?;
            let options = UnpackOptions { owner: Some((0, 0)), ..UnpackOptions::new(Whiteouts::Plain) };
            let (_, plain) = decompressor(&mut body).map_err(failed)?;
            let mut plain = BufReader::with_capacity(READ, plain);
            extract(&mut plain, &root, Path::new(""), &options).map_err(failed)?;
            // What follows the archive's end is padding; a client that still sends must not be cut off.
            std::io::copy(&mut plain, &mut std::io::sink())
                .map_err(|error| Error::io("read build context", &error))?;
        }
        Ok(Self { place, credentials, excluded: Mutex::default() })
    }
}

impl Client for Archive {
    fn local(
        &self,
        request: &LocalRequest<'_>,
        progress: &dyn Fn(Transfer),
    ) -> std::result::Result<Files, String> {
        if request.name != "context" {
            return Err(format!("no local sources enabled: {}", request.name));
        }
        // The lock covers the removal: whoever comes second finds it done.
        let mut excluded = self.excluded.lock().unwrap_or_else(PoisonError::into_inner);
        if !request.exclude.is_empty() && *excluded != request.exclude {
            let ignore = Ignore::new(request.exclude.iter().map(String::as_str));
            let ignore = ignore.map_err(|error| error.to_string())?;
            let root = Root::open(&self.place.0).and_then(|root| root.top());
            root.and_then(|top| take_out(&top, "", &ignore)).map_err(|error| error.to_string())?;
            *excluded = request.exclude.to_vec();
        }
        progress(Transfer { bytes: 0, done: true });
        Ok(Files { path: self.place.0.clone(), held: Box::new(()) })
    }

    fn secret(&self, _: &str) -> std::result::Result<Option<Vec<u8>>, String> {
        Ok(None)
    }

    fn ssh(&self, _: &str, _: u32, _: u32, _: u32) -> std::result::Result<Option<SshSocket>, String> {
        Ok(None)
    }

    fn credentials(&self, host: &str) -> Credentials {
        let keys = match host {
            "docker.io" | "index.docker.io" => {
                vec!["https://index.docker.io/v1/", "docker.io", "index.docker.io"]
            }
            other => vec![other],
        };
        let bare = |key: &str| key.trim_start_matches("https://").trim_start_matches("http://").to_owned();
        let found = keys
            .iter()
            .find_map(|key| self.credentials.iter().find(|(name, _)| name == key || bare(name) == bare(key)));
        found.map(|(_, credentials)| credentials.clone()).unwrap_or_default()
    }
}

/// Removes what an ignore file leaves out; a directory goes when nothing in it was let in again.
fn take_out(dir: &Dir, above: &str, ignore: &Ignore) -> std::result::Result<(), RootError> {
    for entry in dir.entries()? {
        let name = entry.name.to_string_lossy();
        let path = if above.is_empty() { name.into_owned() } else { format!("{above}/{name}") };
        let is_directory = FileType::from_raw_mode(dir.stat(&entry.name)?.st_mode) == FileType::Directory;
        let excluded = ignore.excludes(&path);
        if is_directory && (!excluded || ignore.has_exceptions()) {
            let inner = dir.dir(&entry.name)?;
            take_out(&inner, &path, ignore)?;
            if excluded && inner.entries()?.is_empty() {
                dir.rmdir(&entry.name)?;
            }
        } else if excluded {
            dir.remove_all(&entry.name)?;
        }
    }
    Ok(())
}
