//! Documents as dockerd 28.5 answered them at each version: those of 1.51, shaped, must be those of the others.

use std::path::PathBuf;

use serde_json::Value;
use wharf_api::shape::{Document, shape};
use wharf_api::{
    ApiVersion, ContainerInspect, ContainerSummary, DiskUsage, ImageInspect, ImageSummary, Info, from_value,
};

const MINORS: [u16; 14] = [24, 25, 30, 31, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50];

const DOCUMENTS: [(&str, Document); 6] = [
    ("ContainerList", Document::ContainerList),
    ("ContainerInspect", Document::ContainerInspect),
    ("ImageList", Document::ImageList),
    ("ImageInspect", Document::ImageInspect),
    ("Info", Document::Info),
    ("DiskUsage", Document::DiskUsage),
];

fn golden(minor: u16) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/1.{minor}.json"));
    let text =
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

#[test]
fn every_version_gets_its_own_shape() {
    let newest = golden(51);
    for minor in MINORS {
        let expected = golden(minor);
        for (name, kind) in DOCUMENTS {
            let mut document = newest[name].clone();
            shape(kind, &mut document, ApiVersion::new(1, minor));
            assert_eq!(document, expected[name], "{name} at 1.{minor}");
        }
    }
}

/// What is read from Docker's document and written again must be that document: names, presence, `null`s.
fn survives<T: serde::Serialize + serde::de::DeserializeOwned>(document: &Value) {
    let read: T = from_value(document.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), *document);
}

#[test]
fn the_newest_documents_are_written_as_docker_writes_them() {
    let newest = golden(51);
    survives::<Vec<ContainerSummary>>(&newest["ContainerList"]);
    survives::<ContainerInspect>(&newest["ContainerInspect"]);
    survives::<Vec<ImageSummary>>(&newest["ImageList"]);
    survives::<ImageInspect>(&newest["ImageInspect"]);
    survives::<DiskUsage>(&newest["DiskUsage"]);
    let mut info = newest["Info"].clone();
    // The address of a containerd, which is not here.
    info.as_object_mut().unwrap().remove("Containerd");
    survives::<Info>(&info);
}
