//! Where a build's files are: a directory, an archive or a Dockerfile on standard input, an address.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use wharf_oci::image::ANNOTATION_REF_NAME;
use wharf_oci::{Descriptor, Digest, Index};

use super::options::absolute;
use super::session::{UPLOAD_HOST, Upload};
use crate::error::{CliError, reason};

/// How much of standard input tells what it is, bytes.
const HEAD: usize = 512;

/// What a build is made from.
#[derive(Debug, Default)]
pub(super) struct Context {
    /// The client's directories, by the names that the daemon asks for.
    pub(super) directories: BTreeMap<String, PathBuf>,
    /// What the frontend is told of them.
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) upload: Upload,
    /// OCI layouts, by the names that the daemon knows them by.
    pub(super) stores: BTreeMap<String, PathBuf>,
    /// What was written for this build alone.
    pub(super) scratch: Option<Scratch>,
}

/// A directory that goes with the build.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Context {
    /// Finds out what `given` (the last word) and `file` (`-f`) mean.
    ///
    /// # Errors
    /// When there is no such thing, in the words of Docker's client.
    pub(super) fn find(given: &str, file: Option<&str>, id: &str) -> Result<Self, CliError> {
        let mut context = Self::default();
        if given == "-" && file == Some("-") {
            return Err(CliError::new(
                "invalid argument: can't use stdin for both build context and dockerfile",
            ));
        }
        if given == "-" {
            context.standard(file, id)?;
        } else if is_address(given) {
            context.attributes.insert("context".to_owned(), given.to_owned());
            match file {
                Some("-") => context.write_dockerfile(&mut std::io::stdin().lock())?,
                Some(file) => drop(context.attributes.insert("filename".to_owned(), file.to_owned())),
                None => {}
            }
        } else {
            context.directory(Path::new(given), file)?;
        }
        Ok(context)
    }

    fn directory(&mut self, path: &Path, file: Option<&str>) -> Result<(), CliError> {
        let wrong =
            |why: &str| CliError::new(format!("unable to prepare context: path {:?} {why}", path.display()));
        match std::fs::metadata(path) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Err(wrong("is not a directory")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(wrong("not found")),
            Err(error) => return Err(wrong(&reason(&error))),
        }
        let top = std::fs::canonicalize(path)?;
        self.directories.insert("context".to_owned(), top.clone());
        if file == Some("-") {
            return self.write_dockerfile(&mut std::io::stdin().lock());
        }
        let file = match file {
            Some(file) => absolute(file),
            None => top.join("Dockerfile"),
        };
        let (Some(dir), Some(name)) = (file.parent(), file.file_name().and_then(|name| name.to_str())) else {
            return Err(CliError::new(format!("invalid Dockerfile path {}", file.display())));
        };
        if !dir.is_dir() {
            let why = format!("unable to prepare context: path {:?} not found", dir.display());
            return Err(CliError::new(why));
        }
        self.directories.insert("dockerfile".to_owned(), dir.to_owned());
        self.attributes.insert("filename".to_owned(), name.to_owned());
        Ok(())
    }

    /// An archive on standard input is the context, anything else a Dockerfile without one.
    fn standard(&mut self, file: Option<&str>, id: &str) -> Result<(), CliError> {
        let mut input = std::io::stdin();
        let mut head = Vec::with_capacity(HEAD);
        (&mut input).take(HEAD as u64).read_to_end(&mut head)?;
        if !is_archive(&head) {
            let scratch = self.make_scratch()?;
            let empty = scratch.join("context");
            std::fs::create_dir_all(&empty)?;
            self.directories.insert("context".to_owned(), empty);
            return self.write_dockerfile(&mut Cursor::new(head).chain(input));
        }
        self.upload = Upload::new(id.to_owned(), Box::new(Cursor::new(head).chain(input)));
        self.attributes.insert("context".to_owned(), format!("http://{UPLOAD_HOST}/{id}"));
        if let Some(file) = file {
            self.attributes.insert("filename".to_owned(), file.to_owned());
        }
        Ok(())
    }

    fn write_dockerfile(&mut self, text: &mut dyn Read) -> Result<(), CliError> {
        let dir = self.make_scratch()?.join("dockerfile");
        std::fs::create_dir_all(&dir)?;
        std::io::copy(text, &mut std::fs::File::create(dir.join("Dockerfile"))?)?;
        self.directories.insert("dockerfile".to_owned(), dir);
        self.attributes.insert("filename".to_owned(), "Dockerfile".to_owned());
        if self.attributes.contains_key("context") {
            self.attributes.insert("dockerfilekey".to_owned(), "dockerfile".to_owned());
        }
        Ok(())
    }

    fn make_scratch(&mut self) -> Result<PathBuf, CliError> {
        if let Some(scratch) = &self.scratch {
            return Ok(scratch.0.clone());
        }
        let path = std::env::temp_dir().join(format!("wharf-build-{}", super::random(8)));
        std::fs::create_dir(&path)?;
        self.scratch = Some(Scratch(path.clone()));
        Ok(path)
    }

    /// `--build-context NAME=WHAT`.
    pub(super) fn named(&mut self, text: &str) -> Result<(), CliError> {
        let wrong = || CliError::new(format!("invalid context value: {text}, expected key=value"));
        let (name, value) = text.split_once('=').ok_or_else(wrong)?;
        let value =
            if is_address(value) || value.starts_with("docker-image://") || value.starts_with("target:") {
                value.to_owned()
            } else if let Some(place) = value.strip_prefix("oci-layout://") {
                self.layout(place)?
            } else {
                let path = Path::new(value);
                if !path.is_dir() {
                    let why = if path.exists() { "is not a directory" } else { "not found" };
                    return Err(CliError::new(format!(
                        "failed to get build context {name}: path {value:?} {why}"
                    )));
                }
                self.directories.insert(name.to_owned(), std::fs::canonicalize(path)?);
                format!("local:{name}")
            };
        self.attributes.insert(format!("context:{name}"), value);
        Ok(())
    }

    /// The address by which the daemon asks for an image in an OCI layout: `DIR[:TAG][@DIGEST]`.
    fn layout(&mut self, place: &str) -> Result<String, CliError> {
        let (rest, digest) =
            place.split_once('@').map_or((place, None), |(rest, digest)| (rest, Some(digest)));
        let (directory, tag) = rest.split_once(':').unwrap_or((rest, "latest"));
        let wrong = |why: &str| {
            CliError::new(format!(
                "oci-layout reference \"oci-layout://{place}\" could not be resolved: {why}"
            ))
        };
        let digest = match digest {
            Some(digest) => digest.parse::<Digest>().map_err(|error| wrong(&error.to_string()))?,
            None => named_in(Path::new(directory), tag).map_err(|why| wrong(&why))?,
        };
        let directory = std::fs::canonicalize(directory).map_err(|error| wrong(&reason(&error)))?;
        let store = super::random(13);
        let address = format!("oci-layout://{store}:{tag}@{digest}");
        self.stores.insert(store, directory);
        Ok(address)
    }

    /// What the directories are called over several sessions: the same for the same ones on this machine.
    pub(super) fn shared_key(&self) -> String {
        use sha2::Digest as _;
        let mut hasher = sha2::Sha256::new();
        for (name, path) in &self.directories {
            hasher.update(format!("{name}\0{}\0", path.display()));
        }
        if self.scratch.is_some() {
            // Not the same next time.
            hasher.update(super::random(8));
        }
        hex::encode(hasher.finalize())
    }
}

/// The image that an OCI layout has under a tag, else its only one.
fn named_in(directory: &Path, tag: &str) -> Result<Digest, String> {
    let index = directory.join("index.json");
    let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", index.display());
    let text = std::fs::read(&index).map_err(|error| failed(&reason(&error)))?;
    let manifests = serde_json::from_slice::<Index>(&text).map_err(|error| failed(&error))?.manifests;
    let has_tag =
        |entry: &&Descriptor| entry.annotations.get(ANNOTATION_REF_NAME).is_some_and(|name| name == tag);
    match (manifests.iter().find(has_tag), &manifests[..]) {
        (Some(entry), _) | (None, [entry]) => Ok(entry.digest),
        (None, all) => Err(format!("none of {} images has the tag {tag}", all.len())),
    }
}

/// Whether something is fetched by the daemon.
fn is_address(text: &str) -> bool {
    let begins = ["http://", "https://", "git://", "git@", "ssh://", "github.com/"];
    begins.iter().any(|begin| text.starts_with(begin))
}

/// Whether a stream is an archive, compressed or not.
fn is_archive(head: &[u8]) -> bool {
    let magics: [&[u8]; 4] =
        [&[0x1f, 0x8b], b"BZh", &[0xfd, b'7', b'z', b'X', b'Z', 0], &[0x28, 0xb5, 0x2f, 0xfd]];
    magics.iter().any(|magic| head.starts_with(magic)) || head.get(257..262) == Some(b"ustar")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_its_dockerfile_or_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        let context = Context::find(path, None, "id").unwrap();
        assert_eq!(context.directories["context"], context.directories["dockerfile"]);
        assert_eq!(context.attributes["filename"], "Dockerfile");
        let other = dir.path().join("sub/Other");
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        let context = Context::find(path, other.to_str(), "id").unwrap();
        assert!(context.directories["dockerfile"].ends_with("sub"));
        assert_eq!(context.attributes["filename"], "Other");
        let missing = Context::find("/no/such/place", None, "id").unwrap_err();
        assert!(missing.message().contains("path \"/no/such/place\" not found"), "{}", missing.message());
    }

    #[test]
    fn addresses_are_left_to_the_daemon() {
        let context = Context::find("https://example.com/x.git#main", Some("sub/F"), "id").unwrap();
        assert!(context.directories.is_empty());
        assert_eq!(context.attributes["filename"], "sub/F");
    }

    #[test]
    fn named_contexts() {
        let dir = tempfile::tempdir().unwrap();
        let mut context = Context::default();
        context.named(&format!("a={}", dir.path().display())).unwrap();
        context.named("b=docker-image://busybox").unwrap();
        assert_eq!((context.attributes["context:a"].as_str(), context.directories.len()), ("local:a", 1));
        assert!(context.named("c").is_err() && context.named("d=/no/such").is_err());
    }

    #[test]
    fn layouts_are_named_by_tag_or_digest() {
        let dir = tempfile::tempdir().unwrap();
        let (path, one, two) = (dir.path().display(), Digest::of(b"1"), Digest::of(b"2"));
        let entry = |digest: &Digest, tag: &str| {
            serde_json::json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest,
                "size": 1, "annotations": {ANNOTATION_REF_NAME: tag}})
        };
        let write = |manifests: &[serde_json::Value]| {
            let index = serde_json::json!({"schemaVersion": 2, "manifests": manifests});
            std::fs::write(dir.path().join("index.json"), index.to_string()).unwrap();
        };
        let resolved = |place: &str| {
            let mut context = Context::default();
            context.named(&format!("base=oci-layout://{place}"))?;
            let address = context.attributes["context:base"].clone();
            assert_eq!(context.stores.len(), 1);
            Ok::<_, CliError>(address.split_once('@').unwrap().1.to_owned())
        };
        assert!(resolved(&path.to_string()).is_err());
        write(&[entry(&one, "1")]);
        assert_eq!(resolved(&path.to_string()).unwrap(), one.to_string());
        write(&[entry(&one, "1"), entry(&two, "2")]);
        assert_eq!(resolved(&format!("{path}:2")).unwrap(), two.to_string());
        assert_eq!(resolved(&format!("{path}@{two}")).unwrap(), two.to_string());
        assert!(resolved(&path.to_string()).is_err() && resolved(&format!("{path}@x")).is_err());
    }

    #[test]
    fn archives_are_told_by_their_heads() {
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        assert!(is_archive(&tar) && is_archive(&[0x1f, 0x8b, 8]) && !is_archive(b"FROM x"));
    }
}
