//! What a client wants to come out of a build: BuildKit's exporters and their attributes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use wharf_oci::Reference;
use wharf_oci::image::Annotations;

use super::attest::{Provenance, Sbom};
use super::compress::Packing;
use crate::error::{Error, Result};

/// Attributes as they are on the wire.
pub type Attributes = BTreeMap<String, String>;

/// Where the result goes.
#[derive(Debug, Clone)]
pub enum Exporter {
    /// An image of this engine (`moby`, `image`).
    Image(ImageExport),
    /// An archive of the image: Docker's form, or an OCI layout.
    Archive(ArchiveExport),
    /// The files as an archive.
    Tar(FilesExport),
    /// The files in a directory of the client's.
    Local(FilesExport),
    /// Nowhere: the cache has it.
    CacheOnly,
}

/// What all images have in common, wherever they go.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// Nothing is newer than this: the times of what is new are cut off there.
    pub epoch: Option<Timestamp>,
    /// How new layers go out; `None`: as suits the destination.
    pub packing: Option<Packing>,
    /// Base layers too are packed so.
    pub force_packing: bool,
    /// What is attached to manifests, descriptors and the index.
    pub annotations: Vec<Annotation>,
    /// What the frontend was asked, which provenance tells.
    pub frontend: Attributes,
    /// Say how it was made.
    pub provenance: Option<Provenance>,
    /// Say what is in it.
    pub sbom: Option<Sbom>,
    /// The config says which layers came of which steps, so that another build can go on from the image.
    pub inline_cache: bool,
}

/// An image of this engine.
#[derive(Debug, Clone, Default)]
pub struct ImageExport {
    pub wishes: Wishes,
    /// Its names.
    pub names: Vec<Reference>,
    /// Send it to the registries of its names.
    pub push: bool,
}

/// An image as an archive.
#[derive(Debug, Clone, Default)]
pub struct ArchiveExport {
    pub wishes: Wishes,
    pub names: Vec<Reference>,
    /// With Docker's `manifest.json`.
    pub docker: bool,
    /// No archive, but blobs in a store of the client's.
    pub loose: bool,
}

/// The files themselves.
#[derive(Debug, Clone, Default)]
pub struct FilesExport {
    pub epoch: Option<Timestamp>,
    /// One directory a platform, even for one platform alone.
    pub platform_split: Option<bool>,
}

/// Something attached to a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    pub place: AnnotationPlace,
    /// Only for this platform.
    pub platform: Option<String>,
    pub key: String,
    pub value: String,
}

/// What an annotation is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnotationPlace {
    Manifest,
    ManifestDescriptor,
    Index,
    IndexDescriptor,
}

impl Exporter {
    /// Reads an exporter's name and attributes, and what the attributes of the frontend say of its result.
    pub fn parse(kind: &str, attributes: &Attributes, frontend: &Attributes) -> Result<Self> {
        let epoch = epoch(attributes, frontend)?;
        Ok(match kind {
            "moby" | "image" => Self::Image(ImageExport {
                wishes: Wishes::parse(attributes, frontend, epoch)?,
                names: names(attributes)?,
                push: pushed(attributes)?,
            }),
            "docker" | "oci" => {
                let loose = flag(attributes, "tar")? == Some(false);
                let docker = kind == "docker";
                let wishes = Wishes::parse(attributes, frontend, epoch)?;
                Self::Archive(ArchiveExport { wishes, names: names(attributes)?, docker, loose })
            }
            "tar" | "local" => {
                let platform_split = flag(attributes, "platform-split")?;
                let export = FilesExport { epoch, platform_split };
                if kind == "tar" { Self::Tar(export) } else { Self::Local(export) }
            }
            "cacheonly" | "" => Self::CacheOnly,
            other => return Err(Error::not_found(format!("exporter {other:?} could not be found"))),
        })
    }
}

impl Exporter {
    /// What is wished of the image, where one is made.
    pub fn wishes_mut(&mut self) -> Option<&mut Wishes> {
        match self {
            Self::Image(export) => Some(&mut export.wishes),
            Self::Archive(export) => Some(&mut export.wishes),
            Self::Tar(_) | Self::Local(_) | Self::CacheOnly => None,
        }
    }
}

impl Wishes {
    fn parse(attributes: &Attributes, frontend: &Attributes, epoch: Option<Timestamp>) -> Result<Self> {
        let inline = frontend.get("build-arg:BUILDKIT_INLINE_CACHE").map(String::as_str);
        Ok(Self {
            epoch,
            packing: Packing::parse(attributes)?,
            force_packing: flag(attributes, "force-compression")?.unwrap_or(false),
            annotations: attributes.iter().filter_map(|(key, value)| annotation(key, value)).collect(),
            provenance: frontend
                .get("attest:provenance")
                .map(|text| Provenance::parse(text))
                .transpose()?
                .flatten(),
            sbom: frontend.get("attest:sbom").map(|text| Sbom::parse(text)).transpose()?.flatten(),
            frontend: frontend.clone(),
            inline_cache: inline
                .is_some_and(|value| matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True")),
        })
    }

    /// The annotations of one place.
    pub(super) fn annotations_of(&self, place: AnnotationPlace, platform: Option<&str>) -> Annotations {
        let of = |annotation: &&Annotation| {
            annotation.place == place
                && annotation.platform.as_deref().is_none_or(|wanted| Some(wanted) == platform)
        };
        let found = self.annotations.iter().filter(of);
        found.map(|annotation| (annotation.key.clone(), annotation.value.clone())).collect()
    }
}

/// Whether the image goes to a registry.
fn pushed(attributes: &Attributes) -> Result<bool> {
    let push = flag(attributes, "push")?.unwrap_or(false);
    if push && flag(attributes, "push-by-digest")?.unwrap_or(false) {
        return Err(Error::not_implemented(
            "push-by-digest is not supported: images are pushed by their names",
        ));
    }
    Ok(push)
}

/// `SOURCE_DATE_EPOCH`: the exporter's attribute, else the build argument; empty means none.
fn epoch(attributes: &Attributes, frontend: &Attributes) -> Result<Option<Timestamp>> {
    let given = attributes.get("source-date-epoch");
    let text = given.or_else(|| frontend.get("build-arg:SOURCE_DATE_EPOCH")).map_or("", String::as_str);
    if text.is_empty() {
        return Ok(None);
    }
    let seconds: Option<i64> = text.trim().parse().ok();
    let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    let wrong = || Error::invalid(format!("invalid SOURCE_DATE_EPOCH: {text}"));
    time.map(Some).ok_or_else(wrong)
}

fn names(attributes: &Attributes) -> Result<Vec<Reference>> {
    let text = attributes.get("name").map_or("", String::as_str);
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let mut parsed: Vec<Reference> = Vec::new();
    for name in names {
        let name = Reference::parse(name)
            .map_err(|error| Error::invalid(format!("failed to parse {name}: {error}")))?
            .with_default_tag();
        if !parsed.contains(&name) {
            parsed.push(name);
        }
    }
    Ok(parsed)
}

/// `annotation.KEY`, `annotation-index[linux/amd64].KEY` and the like.
fn annotation(name: &str, value: &str) -> Option<Annotation> {
    let rest = name.strip_prefix("annotation")?;
    let (head, key) = match rest.split_once("].") {
        Some((head, key)) if head.contains('[') => (head, key),
        _ => rest.split_once('.')?,
    };
    let (kind, platform) = match head.split_once('[') {
        Some((kind, platform)) => (kind, Some(platform.to_owned())),
        None => (head, None),
    };
    let place = match kind {
        "" | "-manifest" => AnnotationPlace::Manifest,
        "-manifest-descriptor" => AnnotationPlace::ManifestDescriptor,
        "-index" => AnnotationPlace::Index,
        "-index-descriptor" => AnnotationPlace::IndexDescriptor,
        _ => return None,
    };
    Some(Annotation { place, platform, key: key.to_owned(), value: value.to_owned() })
}

/// A truth value as Go reads it; empty means true.
pub(super) fn flag(attributes: &Attributes, name: &str) -> Result<Option<bool>> {
    let Some(value) = attributes.get(name) else { return Ok(None) };
    match value.as_str() {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
        _ => Err(Error::invalid(format!("non-bool value specified for {name}: {value:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(pairs: &[(&str, &str)]) -> Attributes {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_epoch_comes_from_the_exporter_before_the_build_argument() {
        let argument = attributes(&[("build-arg:SOURCE_DATE_EPOCH", "5")]);
        let of = |attributes: &Attributes| epoch(attributes, &argument).unwrap().map(Timestamp::as_second);
        assert_eq!(of(&Attributes::new()), Some(5));
        assert_eq!(of(&attributes(&[("source-date-epoch", "7")])), Some(7));
        assert_eq!(of(&attributes(&[("source-date-epoch", "")])), None);
        assert!(epoch(&attributes(&[("source-date-epoch", "x")]), &argument).is_err());
    }

    #[test]
    fn annotations_say_where_they_go() {
        let found = annotation("annotation-manifest[linux/arm64].org.x.y", "v").unwrap();
        assert_eq!(
            (found.place, found.platform.as_deref()),
            (AnnotationPlace::Manifest, Some("linux/arm64"))
        );
        assert_eq!(found.key, "org.x.y");
        let plain = annotation("annotation.a.b", "v").unwrap();
        assert_eq!((plain.key.as_str(), plain.platform), ("a.b", None));
        assert_eq!(
            annotation("annotation-index-descriptor.a", "").unwrap().place,
            AnnotationPlace::IndexDescriptor
        );
        assert_eq!(annotation("name", "v"), None);
    }

    #[test]
    fn names_are_full_and_come_once() {
        let wanted = attributes(&[("name", "a,docker.io/library/a:latest,b:1")]);
        let Exporter::Image(image) = Exporter::parse("moby", &wanted, &Attributes::new()).unwrap() else {
            panic!("no image")
        };
        let names: Vec<String> = image.names.iter().map(Reference::familiar).collect();
        assert_eq!(names, ["a:latest", "b:1"]);
    }
}
