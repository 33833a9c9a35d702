//! Files by HTTP.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use wharf_distribution::client::Remote;
use wharf_oci::{Digest, Hasher};

use crate::build::{Build, Files, Material, Step, canceled};
use crate::names::new_id;

/// The largest file that is fetched, bytes.
const LARGEST: u64 = 64 << 30;

impl Build {
    /// A directory with the file that an address names, as `file_name`; fetched once in a build.
    pub(in crate::build) fn http(
        &self,
        url: &str,
        checksum: Option<&str>,
        file_name: &str,
        step: &Step,
    ) -> Result<PathBuf, String> {
        let key = format!("{url} {} {file_name}", checksum.unwrap_or_default());
        self.once(&key, |directory| {
            let expected = checksum.map(expected).transpose()?;
            let file = directory.join(file_name);
            let digest = self.runtime.block_on(async {
                tokio::select! {
                    fetched = self.fetch(url, &file, step) => fetched,
                    () = canceled(self.cancel()) => Err("context canceled".to_owned()),
                }
            })?;
            if let Some(expected) = expected.filter(|expected| *expected != digest) {
                return Err(format!("digest mismatch {digest}: {expected}"));
            }
            self.used(Material { uri: url.to_owned(), algorithm: "sha256".to_owned(), digest: digest.hex() });
            Ok(())
        })
    }

    async fn fetch(&self, url: &str, file: &Path, step: &Step) -> Result<Digest, String> {
        let failed = |error: std::io::Error| format!("write {}: {error}", file.display());
        let client = self.builds.registries.client();
        let mut remote = client.fetch(url, None).await.map_err(|error| error.to_string())?;
        if !remote.status().is_success() {
            return Err(format!("invalid response status {}", remote.status().as_u16()));
        }
        let (started, total) = (Timestamp::now(), remote.length().unwrap_or(0));
        if total > LARGEST {
            return Err(format!("{url} is larger than {LARGEST} bytes"));
        }
        let mut out = File::create(file).map_err(failed)?;
        let (mut hasher, mut current) = (Hasher::new(), 0_u64);
        while let Some(bytes) = remote.chunk().await.map_err(|error| error.to_string())? {
            current += bytes.len() as u64;
            if current > LARGEST {
                return Err(format!("{url} is larger than {LARGEST} bytes"));
            }
            hasher.update(&bytes);
            out.write_all(&bytes).map_err(failed)?;
            step.status("downloading", current, total, started, false);
        }
        step.status("downloading", current, total, started, true);
        settle(&out, &remote).map_err(failed)?;
        Ok(hasher.finish())
    }

    /// Makes a directory once in a build, and keeps it until the build ends.
    pub(in crate::build) fn once(
        &self,
        key: &str,
        make: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Result<PathBuf, String> {
        let place = {
            let mut fetched = self.fetched.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            fetched.entry(key.to_owned()).or_default().clone()
        };
        // Two that want the same wait for one.
        let mut place = place.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(path) = &*place {
            return Ok(path.clone());
        }
        let path = self.builds.places().join(new_id());
        let made = std::fs::create_dir_all(&path);
        made.map_err(|error| format!("mkdir {}: {error}", path.display()))?;
        self.hold(Files { path: path.clone(), held: Box::new(Scratch(path.clone())) });
        make(&path)?;
        *place = Some(path.clone());
        Ok(path)
    }
}

/// A directory that goes with whoever holds it.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!("remove {}: {error}", self.0.display());
        }
    }
}

fn expected(text: &str) -> Result<Digest, String> {
    text.parse().map_err(|_| format!("invalid checksum \"{text}\": only sha256 is known"))
}

/// The file's mode, and its time: the one its server gives, or the beginning of all times.
fn settle(file: &File, remote: &Remote) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    let seconds = remote.modified().and_then(|text| jiff::fmt::rfc2822::parse(text).ok());
    let seconds = seconds.map_or(0, |time| time.timestamp().as_second());
    let since = std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    file.set_modified(std::time::UNIX_EPOCH + since)
}
