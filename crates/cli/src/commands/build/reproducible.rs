//! `--verify-reproducible`: the build is run twice without its cache, and what differs is named file by file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::Digest as _;

use super::super::Outcome;
use super::progress::Mode;
use super::{Build, random};
use crate::connect::Target;
use crate::error::{CliError, print, say};

/// Differences that are named, at most.
const NAMED: usize = 100;

/// Builds twice and compares; the exit code is 1 when something differs.
pub(super) async fn verify(build: &Build, target: &Target, mode: Mode) -> Outcome {
    let place = Place::make()?;
    let client = target.connect().await?;
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut more = BTreeMap::from([("no-cache".to_owned(), String::new())]);
    let epoch = "build-arg:SOURCE_DATE_EPOCH".to_owned();
    let given = std::env::var_os("SOURCE_DATE_EPOCH").is_some()
        || build.build_arg.iter().any(|argument| argument.starts_with("SOURCE_DATE_EPOCH="));
    if !given {
        // Times alone would differ otherwise; the build sees the same one twice.
        more.insert(epoch, now.to_string());
    }
    let mut layouts = Vec::new();
    for number in ["first", "second"] {
        let archive = place.0.join(number);
        let output = format!("type=oci,compression=uncompressed,\"dest={}\"", archive.display());
        let one = Build { output: vec![output], tag: Vec::new(), push: false, load: false, ..build.clone() };
        one.once(&client, target, mode, &more)
            .await
            .map_err(|error| error.within(&format!("{number} build")))?;
        layouts.push(Layout::read(&archive, &place.0.join(format!("{number}.d")))?);
    }
    let [first, second] = &layouts[..] else { return Err(CliError::new("there are not two builds")) };
    if first.target == second.target {
        print(&format!("reproducible: both builds gave {}", first.target))?;
        return Ok(0);
    }
    let found = first.differences(second)?;
    for line in found.iter().take(NAMED) {
        print(line)?;
    }
    if found.len() > NAMED {
        print(&format!("and {} more", found.len() - NAMED))?;
    }
    say(&format!("not reproducible: {} and {} differ", first.target, second.target));
    Ok(1)
}

/// A directory that goes at the end.
struct Place(PathBuf);

impl Place {
    fn make() -> Result<Self, CliError> {
        let path = std::env::temp_dir().join(format!("wharf-verify-{}", random(8)));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An unpacked OCI layout.
struct Layout {
    dir: PathBuf,
    target: String,
}

impl Layout {
    fn read(archive: &Path, dir: &Path) -> Result<Self, CliError> {
        std::fs::create_dir(dir)?;
        tar::Archive::new(File::open(archive)?).unpack(dir)?;
        let index: Value = serde_json::from_reader(File::open(dir.join("index.json"))?)?;
        let target = index["manifests"][0]["digest"].as_str();
        let target = target.ok_or_else(|| CliError::new("the build gave no image"))?.to_owned();
        Ok(Self { dir: dir.to_owned(), target })
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
    }

    fn document(&self, digest: &str) -> Result<Value, CliError> {
        Ok(serde_json::from_reader(File::open(self.blob(digest))?)?)
    }

    /// The images' manifests, by platform.
    fn manifests(&self) -> Result<BTreeMap<String, Value>, CliError> {
        let top = self.document(&self.target)?;
        let Some(entries) = top["manifests"].as_array() else {
            return Ok(BTreeMap::from([(String::new(), top)]));
        };
        let mut found = BTreeMap::new();
        for entry in entries {
            let word = |name: &str| entry["platform"][name].as_str().unwrap_or_default();
            if word("os") != "unknown" {
                let digest = entry["digest"].as_str().unwrap_or_default();
                found.insert(format!("{}/{} ", word("os"), word("architecture")), self.document(digest)?);
            }
        }
        Ok(found)
    }

    fn differences(&self, other: &Self) -> Result<Vec<String>, CliError> {
        let (ours, theirs) = (self.manifests()?, other.manifests()?);
        let mut found = Vec::new();
        for (platform, left) in &ours {
            let Some(right) = theirs.get(platform) else {
                found.push(format!("{platform}is only in the first"));
                continue;
            };
            let digest =
                |manifest: &Value| manifest["config"]["digest"].as_str().unwrap_or_default().to_owned();
            let (left_config, right_config) =
                (self.document(&digest(left))?, other.document(&digest(right))?);
            config(platform, &left_config, &right_config, &mut found);
            let steps = steps(&left_config);
            let layers = |manifest: &Value| manifest["layers"].as_array().cloned().unwrap_or_default();
            let (left, right) = (layers(left), layers(right));
            if left.len() != right.len() {
                found.push(format!("{platform}has {} layers and then {}", left.len(), right.len()));
            }
            for (at, (left, right)) in left.iter().zip(&right).enumerate() {
                let digest = |layer: &Value| layer["digest"].as_str().unwrap_or_default().to_owned();
                if digest(left) != digest(right) {
                    let step = steps.get(at).map_or(String::new(), |step| format!(" ({step})"));
                    let (left, right) =
                        (members(&self.blob(&digest(left)))?, members(&other.blob(&digest(right)))?);
                    let name = format!("{platform}layer {}{step}", at + 1);
                    compare(&name, &left, &right, &mut found);
                }
            }
        }
        Ok(found)
    }
}

/// What made each layer.
fn steps(config: &Value) -> Vec<String> {
    let history = config["history"].as_array().into_iter().flatten();
    let full = history.filter(|step| step["empty_layer"] != true);
    full.map(|step| step["created_by"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Members of the configs that differ, beside the layers' digests.
fn config(platform: &str, left: &Value, right: &Value, found: &mut Vec<String>) {
    let names = |value: &Value| value.as_object().map(|object| object.keys().cloned().collect::<Vec<_>>());
    let all: BTreeSet<String> = names(left).into_iter().chain(names(right)).flatten().collect();
    for name in all.iter().filter(|name| *name != "rootfs" && left[*name] != right[*name]) {
        found.push(format!("{platform}config: {name} is {} and then {}", left[name], right[name]));
    }
}

/// A member of a layer, as far as it can differ.
#[derive(Debug, PartialEq, Eq)]
struct Member {
    kind: u8,
    mode: u32,
    owner: (u64, u64),
    modified: u64,
    link: Vec<u8>,
    attributes: Vec<(String, Vec<u8>)>,
    size: u64,
    content: String,
}

fn members(layer: &Path) -> Result<BTreeMap<String, Member>, CliError> {
    let mut archive = tar::Archive::new(File::open(layer)?);
    let mut members = BTreeMap::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let attributes = attributes(&mut entry)?;
        let header = entry.header();
        let member = Member {
            kind: header.entry_type().as_byte(),
            mode: header.mode()?,
            owner: (header.uid()?, header.gid()?),
            modified: header.mtime()?,
            link: entry.link_name_bytes().map(|name| name.into_owned()).unwrap_or_default(),
            attributes,
            size: entry.size(),
            content: String::new(),
        };
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        members.insert(path, Member { content: hashed(&mut entry)?, ..member });
    }
    Ok(members)
}

fn attributes(entry: &mut tar::Entry<'_, File>) -> Result<Vec<(String, Vec<u8>)>, CliError> {
    let Some(records) = entry.pax_extensions()? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for record in records {
        let record = record?;
        if let Ok(key) = record.key()
            && key.starts_with("SCHILY.xattr.")
        {
            found.push((key.to_owned(), record.value_bytes().to_vec()));
        }
    }
    Ok(found)
}

fn hashed(entry: &mut impl Read) -> Result<String, CliError> {
    let mut hasher = sha2::Sha256::new();
    io::copy(entry, &mut HashWriter(&mut hasher))?;
    Ok(hex::encode(hasher.finalize()))
}

struct HashWriter<'a>(&'a mut sha2::Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Says what differs between two layers.
fn compare(
    name: &str,
    left: &BTreeMap<String, Member>,
    right: &BTreeMap<String, Member>,
    found: &mut Vec<String>,
) {
    let paths: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let before = found.len();
    for path in paths {
        let said = match (left.get(path), right.get(path)) {
            (Some(_), None) => "is only in the first".to_owned(),
            (None, Some(_)) => "is only in the second".to_owned(),
            (Some(left), Some(right)) if left != right => how(left, right),
            _ => continue,
        };
        found.push(format!("{name}: /{}: {said}", path.trim_end_matches('/')));
    }
    if found.len() == before {
        found.push(format!("{name}: the order of its members"));
    }
}

fn how(left: &Member, right: &Member) -> String {
    let mut said = Vec::new();
    let mut differs = |differs: bool, what: String| said.extend(differs.then_some(what));
    differs(left.kind != right.kind, "kind".to_owned());
    differs(left.mode != right.mode, format!("mode {:o} and then {:o}", left.mode, right.mode));
    differs(left.owner != right.owner, format!("owner {:?} and then {:?}", left.owner, right.owner));
    differs(left.modified != right.modified, format!("time {} and then {}", left.modified, right.modified));
    differs(left.link != right.link, "what it links to".to_owned());
    differs(left.attributes != right.attributes, "extended attributes".to_owned());
    differs(left.size != right.size, format!("size {} and then {}", left.size, right.size));
    differs(left.size == right.size && left.content != right.content, "content".to_owned());
    said.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(content: &str, mode: u32) -> Member {
        Member {
            kind: b'0',
            mode,
            owner: (0, 0),
            modified: 1,
            link: Vec::new(),
            attributes: Vec::new(),
            size: 1,
            content: content.to_owned(),
        }
    }

    #[test]
    fn differences_are_named_by_file() {
        let left =
            BTreeMap::from([("a".to_owned(), member("x", 0o644)), ("b".to_owned(), member("x", 0o644))]);
        let right =
            BTreeMap::from([("a".to_owned(), member("y", 0o600)), ("c".to_owned(), member("x", 0o644))]);
        let mut found = Vec::new();
        compare("layer 2", &left, &right, &mut found);
        let expected = [
            "layer 2: /a: mode 644 and then 600, content",
            "layer 2: /b: is only in the first",
            "layer 2: /c: is only in the second",
        ];
        assert_eq!(found, expected);
    }
}
