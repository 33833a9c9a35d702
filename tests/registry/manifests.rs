//! Manifests, and what refers to them.

use serde_json::{Value, json};
use wharf_testkit::registry::digest;

use crate::{OCI_INDEX, OCI_MANIFEST, code, image, put_manifest, registry};

#[test]
fn manifests_come_back_as_they_were() {
    let (registry, _folder) = registry();
    let manifest = image(&registry, "app", &[b"layer"]);
    // Bytes that no program would write again like this.
    let bytes = format!(" {}\n\n", serde_json::to_string_pretty(&manifest).unwrap()).into_bytes();
    let digest = digest(&bytes);
    let kind = [("content-type", OCI_MANIFEST)];
    for reference in ["latest", &digest] {
        let reply = registry.ask("PUT", &format!("/v2/app/manifests/{reference}"), &kind, &bytes);
        assert_eq!(reply.status, 201, "{}", reply.text());
        assert_eq!(reply.header("docker-content-digest"), Some(digest.as_str()));
        assert_eq!(reply.header("location"), Some(format!("/v2/app/manifests/{digest}").as_str()));
    }
    for reference in ["latest", &digest] {
        let path = format!("/v2/app/manifests/{reference}");
        let reply = registry.ask("GET", &path, &[("accept", OCI_MANIFEST)], b"");
        assert_eq!((reply.status, &reply.body), (200, &bytes));
        assert_eq!(reply.header("content-type"), Some(OCI_MANIFEST));
        assert_eq!(reply.header("docker-content-digest"), Some(digest.as_str()));
        let head = registry.ask("HEAD", &path, &[], b"");
        assert_eq!(head.header("content-length"), Some(bytes.len().to_string().as_str()));
        assert_eq!((head.status, head.body.len()), (200, 0));
    }
    let other = wharf_testkit::registry::digest(b"other");
    for missing in [".INVALID_MANIFEST_NAME", "nothing", &other] {
        let reply = registry.ask("GET", &format!("/v2/app/manifests/{missing}"), &[], b"");
        assert_eq!((reply.status, code(&reply).as_str()), (404, "MANIFEST_UNKNOWN"), "{missing}");
    }
}

#[test]
fn manifests_that_cannot_be_are_refused() {
    let (registry, _folder) = registry();
    let good = image(&registry, "app", &[b"layer"]);
    let put = |reference: &str, kind: &str, bytes: &[u8]| {
        let reply =
            registry.ask("PUT", &format!("/v2/app/manifests/{reference}"), &[("content-type", kind)], bytes);
        (reply.status, code(&reply))
    };
    let text = good.to_string().into_bytes();
    let refused = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(put("x", OCI_MANIFEST, b"{}"), refused(400, "MANIFEST_INVALID"));
    assert_eq!(put("x", OCI_MANIFEST, b"blabla"), refused(400, "MANIFEST_INVALID"));
    assert_eq!(put("x", OCI_INDEX, &text), refused(400, "MANIFEST_INVALID"));
    assert_eq!(put("x", "text/plain", &text), refused(415, "MANIFEST_INVALID"));
    assert_eq!(put("-x", OCI_MANIFEST, &text), refused(400, "TAG_INVALID"));
    assert_eq!(put(&digest(b"other"), OCI_MANIFEST, &text), refused(400, "DIGEST_INVALID"));
    assert_eq!(put("x", OCI_MANIFEST, &vec![b' '; (4 << 20) + 1]), refused(413, "SIZE_INVALID"));
    let mut missing = good.clone();
    missing["layers"][0]["digest"] = digest(b"not there").into();
    assert_eq!(put("x", OCI_MANIFEST, missing.to_string().as_bytes()), refused(404, "MANIFEST_BLOB_UNKNOWN"));
    let schema1 = json!({ "schemaVersion": 1, "name": "app", "tag": "x", "fsLayers": [] }).to_string();
    let kind = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    assert_eq!(put("x", kind, schema1.as_bytes()), refused(400, "MANIFEST_INVALID"));
    assert_eq!(registry.ask("GET", "/v2/app/tags/list", &[], b"").json()["tags"], json!([]));
}

#[test]
fn an_index_needs_its_manifests() {
    let (registry, _folder) = registry();
    let manifest = image(&registry, "app", &[b"layer"]);
    let entry =
        json!({ "mediaType": OCI_MANIFEST, "digest": digest(manifest.to_string().as_bytes()), "size": 1 });
    let index = json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry], "annotations": { "what": "an index" },
    });
    let (_, reply) = put_manifest(&registry, "app", "all", &index);
    assert_eq!((reply.status, code(&reply).as_str()), (404, "MANIFEST_BLOB_UNKNOWN"));
    let (child, _) = put_manifest(&registry, "app", &digest(manifest.to_string().as_bytes()), &manifest);
    let (_, reply) = put_manifest(&registry, "app", "all", &index);
    assert_eq!(reply.status, 201, "{}", reply.text());
    let found = registry.ask("GET", "/v2/app/manifests/all", &[], b"");
    assert_eq!(found.header("content-type"), Some(OCI_INDEX));
    assert_eq!(found.json()["manifests"][0]["digest"], child.as_str());
}

#[test]
fn manifests_are_deleted_with_their_tags() {
    let (registry, _folder) = registry();
    let manifest = image(&registry, "app", &[b"layer"]);
    let (digest, _) = put_manifest(&registry, "app", "one", &manifest);
    put_manifest(&registry, "app", "two", &manifest);
    let path = format!("/v2/app/manifests/{digest}");
    assert_eq!(registry.ask("DELETE", &path, &[], b"").status, 202);
    for reference in ["one", "two", &digest] {
        let reply = registry.ask("GET", &format!("/v2/app/manifests/{reference}"), &[], b"");
        assert_eq!(reply.status, 404, "{reference}");
    }
    assert_eq!(registry.ask("DELETE", &path, &[], b"").status, 404);
}

#[test]
fn referrers_are_listed_and_filtered() {
    let (registry, _folder) = registry();
    let subject = image(&registry, "app", &[b"layer"]);
    let subject_digest = digest(subject.to_string().as_bytes());
    let list = |query: &str| {
        let reply = registry.ask("GET", &format!("/v2/app/referrers/{subject_digest}{query}"), &[], b"");
        assert_eq!((reply.status, reply.header("content-type")), (200, Some(OCI_INDEX)));
        reply
    };
    assert_eq!(list("").json()["manifests"], json!([]));
    let referrer = |kind: Option<&str>, text: &str| {
        let mut manifest = image(&registry, "app", &[]);
        manifest["config"]["mediaType"] = "application/x.config".into();
        manifest["subject"] = json!({ "mediaType": OCI_MANIFEST, "digest": subject_digest, "size": 1 });
        manifest["annotations"] = json!({ "text": text });
        if let Some(kind) = kind {
            manifest["artifactType"] = kind.into();
        }
        let own = digest(manifest.to_string().as_bytes());
        let (_, reply) = put_manifest(&registry, "app", &own, &manifest);
        assert_eq!(reply.status, 201, "{}", reply.text());
        assert_eq!(reply.header("oci-subject"), Some(subject_digest.as_str()));
        (own, manifest.to_string().len())
    };
    // The subject may come later.
    let (signature, size) = referrer(Some("application/x.signature"), "signed");
    let (sbom, _) = referrer(None, "sbom");
    assert_eq!(put_manifest(&registry, "app", "latest", &subject).1.header("oci-subject"), None);

    let document = list("").json();
    assert_eq!((&document["schemaVersion"], &document["mediaType"]), (&json!(2), &json!(OCI_INDEX)));
    let entries = document["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    let entry = |digest: &str| -> Value { entries.iter().find(|e| e["digest"] == digest).unwrap().clone() };
    assert_eq!(
        entry(&signature),
        json!({
            "mediaType": OCI_MANIFEST, "digest": signature, "size": size,
            "artifactType": "application/x.signature", "annotations": { "text": "signed" },
        })
    );
    assert_eq!(entry(&sbom)["artifactType"], "application/x.config");

    let reply = list("?artifactType=application%2Fx.signature");
    assert_eq!(reply.header("oci-filters-applied"), Some("artifactType"));
    assert_eq!(reply.json()["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(list("?artifactType=none").json()["manifests"], json!([]));

    assert_eq!(registry.ask("DELETE", &format!("/v2/app/manifests/{signature}"), &[], b"").status, 202);
    assert_eq!(list("").json()["manifests"].as_array().unwrap().len(), 1);
    let reply = registry.ask("GET", "/v2/app/referrers/nonsense", &[], b"");
    assert_eq!((reply.status, code(&reply).as_str()), (400, "DIGEST_INVALID"));
}
