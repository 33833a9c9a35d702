//! Garbage collection, at rest and while pushes go on. In process, where it can be told to collect now.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::json;
use wharf_distribution::server::Keep;
use wharf_testkit::client::eventually;
use wharf_testkit::registry::{Registry, digest};

use crate::{OCI_INDEX, OCI_MANIFEST, bytes};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Makes everything look a day old; what goes meanwhile is skipped.
fn age(folder: &std::path::Path) {
    let day = SystemTime::now() - Duration::from_secs(24 * 3600);
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            age(&entry.path());
        } else if let Ok(file) = std::fs::File::open(entry.path()) {
            file.set_modified(day).unwrap();
        }
    }
}

fn eager(untagged: bool) -> Registry {
    Registry::with(|config| config.keep = Keep { young: Duration::ZERO, untagged })
}

#[test]
fn what_nothing_refers_to_goes() {
    let registry = eager(true);
    let manifest = registry.put_image("app", "latest", LAYER, &[b"kept"], &[b"kept"]);
    let loose = registry.put_blob("app", &bytes(5000, 1));
    let mut signature = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/x.signature",
        "config": { "mediaType": "application/x", "digest": registry.put_blob("app", b"{}"), "size": 2 },
        "layers": [{ "mediaType": "application/x", "digest": registry.put_blob("app", b"signature"), "size": 9 }],
    });
    signature["subject"] = json!({ "mediaType": OCI_MANIFEST, "digest": manifest, "size": 1 });
    let signature = registry.put_manifest("app", &digest(signature.to_string().as_bytes()), &signature);

    let young = registry.server().collect_garbage().unwrap();
    assert_eq!((young.links, young.blobs), (0, 0), "what just came is safe");
    age(registry.root());
    let collected = registry.server().collect_garbage().unwrap();
    assert_eq!((collected.links, collected.blobs, collected.bytes), (1, 1, 5000));
    assert_eq!(registry.ask("HEAD", &format!("/v2/app/blobs/{loose}"), &[], b"").status, 404);
    for blob in [digest(b"kept"), digest(b"signature")] {
        assert_eq!(registry.ask("GET", &format!("/v2/app/blobs/{blob}"), &[], b"").status, 200);
    }
    assert_eq!(registry.ask("GET", &format!("/v2/app/manifests/{signature}"), &[], b"").status, 200);

    registry.ask("DELETE", &format!("/v2/app/manifests/{manifest}"), &[], b"");
    age(registry.root());
    let collected = registry.server().collect_garbage().unwrap();
    assert_eq!(collected.links, 2, "the layer and the config of the image");
    assert_eq!(collected.blobs, 3, "and its manifest");
}

#[test]
fn a_blob_that_a_client_was_told_of_stays() {
    let registry = eager(true);
    let blob = registry.put_blob("app", b"old");
    age(registry.root());
    assert_eq!(registry.ask("HEAD", &format!("/v2/app/blobs/{blob}"), &[], b"").status, 200);
    assert_eq!(registry.server().collect_garbage().unwrap().links, 0);
    age(registry.root());
    let mount = format!("/v2/other/blobs/uploads/?mount={blob}&from=app");
    assert_eq!(registry.ask("POST", &mount, &[], b"").status, 201);
    assert_eq!(registry.server().collect_garbage().unwrap().links, 1, "the source's link alone");
    assert_eq!(registry.ask("GET", &format!("/v2/other/blobs/{blob}"), &[], b"").body, b"old");
}

#[test]
fn untagged_manifests_go_if_so_told() {
    let registry = eager(false);
    let first = registry.put_image("app", "latest", LAYER, &[b"first"], &[b"first"]);
    let child = registry.put_image("app", "child", LAYER, &[b"child"], &[b"child"]);
    let index = json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [{ "mediaType": OCI_MANIFEST, "digest": child, "size": 1 }],
    });
    registry.put_manifest("app", "all", &index);
    registry.ask("DELETE", "/v2/app/manifests/child", &[], b"");
    registry.put_image("app", "latest", LAYER, &[b"second"], &[b"second"]);
    age(registry.root());
    let collected = registry.server().collect_garbage().unwrap();
    assert_eq!(collected.manifests, 1);
    assert_eq!(registry.ask("GET", &format!("/v2/app/manifests/{first}"), &[], b"").status, 404);
    assert_eq!(registry.ask("GET", &format!("/v2/app/manifests/{child}"), &[], b"").status, 200);
    assert_eq!(registry.ask("GET", "/v2/app/manifests/latest", &[], b"").status, 200);
}

#[test]
fn pushes_under_collection_lose_nothing() {
    // Nothing is old but what is made to look so, however long a push takes between a blob and its manifest.
    let keep = Keep { young: Duration::from_secs(3600), untagged: true };
    let registry = Registry::with(|config| config.keep = keep);
    let (done, removed) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let (registry, done, removed) = (&registry, &done, &removed);
        let collector = scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let collected = registry.server().collect_garbage().unwrap();
                removed.fetch_add(collected.links, Ordering::Relaxed);
            }
        });
        // Some garbage is old enough to be collected all the while.
        let ager = scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                for at in 0..4 {
                    let link = registry.root().join(format!("repositories/loose{at}/_blobs"));
                    if link.is_dir() {
                        age(&link);
                    }
                }
            }
        });
        let pushers: Vec<_> =
            (0..4u64).map(|worker| scope.spawn(move || push_often(registry, worker))).collect();
        let outcomes: Vec<_> = pushers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        let collected =
            eventually(Duration::from_secs(60), || (removed.load(Ordering::Relaxed) > 0).then_some(()));
        done.store(true, Ordering::Relaxed);
        ager.join().unwrap();
        collector.join().unwrap();
        assert!(outcomes.iter().all(Result::is_ok));
        assert!(collected.is_some(), "nothing was collected");
    });
}

/// Pushes images one after the other, as a client does that asks first; each must be whole.
fn push_often(registry: &Registry, worker: u64) {
    let name = format!("app{}", worker % 2);
    for at in 0..15 {
        let layer = bytes(50_000, worker * 100 + at % 5);
        registry.put_blob(&format!("loose{worker}"), &bytes(1000, worker * 1000 + at));
        let tag = format!("w{worker}-{at}");
        registry.put_image(&name, &tag, LAYER, &[&layer], &[&layer]);
        let manifest = registry.ask("GET", &format!("/v2/{name}/manifests/{tag}"), &[], b"");
        assert_eq!(manifest.status, 200);
        for blob in manifest.json()["layers"].as_array().unwrap() {
            let blob = blob["digest"].as_str().unwrap();
            let reply = registry.ask("GET", &format!("/v2/{name}/blobs/{blob}"), &[], b"");
            assert!(reply.status == 200 && reply.body == layer, "{tag}: {}", reply.status);
        }
        if at % 3 == 2 {
            let digest = digest(&manifest.body);
            registry.ask("DELETE", &format!("/v2/{name}/manifests/{digest}"), &[], b"");
        }
    }
}
