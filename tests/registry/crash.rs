//! Killed in the middle: nothing that was acknowledged is lost, nothing that was not is visible.

use std::io::Write;
use std::net::TcpStream;

use wharf_testkit::client::eventually;
use wharf_testkit::registry::{Served, digest, try_ask};

use crate::{OCTETS, WHARF, begin, bytes, image, put_blob, put_manifest};

#[test]
fn an_upload_goes_on_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Served::start(WHARF, folder.path(), &[]);
    let blob = bytes(1_000_000, 10);
    let location = begin(&registry, "app");
    registry.ask("PATCH", &location, &[OCTETS], &blob[..400_000]);
    // Another chunk breaks off half way, and the registry is killed.
    let mut stream = TcpStream::connect(registry.address()).unwrap();
    write!(stream, "PATCH {location} HTTP/1.1\r\nhost: x\r\ncontent-length: 600000\r\n\r\n").unwrap();
    stream.write_all(&blob[400_000..600_000]).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    drop(registry);

    let registry = Served::start(WHARF, folder.path(), &[]);
    let status = registry.ask("GET", &location, &[], b"");
    assert_eq!(status.status, 204, "{}", status.text());
    let end: usize = status.header("range").unwrap().trim_start_matches("0-").parse().unwrap();
    assert!((399_999..600_000).contains(&end), "{end}");
    let range = format!("{}-999999", end + 1);
    let headers = [OCTETS, ("content-range", range.as_str())];
    let reply =
        registry.ask("PUT", &format!("{location}?digest={}", digest(&blob)), &headers, &blob[end + 1..]);
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert!(registry.ask("GET", &format!("/v2/app/blobs/{}", digest(&blob)), &[], b"").body == blob);
}

#[test]
fn a_client_that_comes_back_is_not_kept_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Served::start(WHARF, folder.path(), &[]);
    // The connection stays open and silent: the registry cannot know that nobody is there any more.
    let silent = |location: &str| {
        let mut silent = TcpStream::connect(registry.address()).unwrap();
        let head = format!("PATCH {location} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nfirst");
        silent.write_all(head.as_bytes()).unwrap();
        silent
    };
    let second =
        |location: &str| registry.ask("PATCH", location, &[OCTETS, ("content-range", "5-10")], b"second");
    // Whoever comes back before the first bytes were taken is told how far the upload is, and those bytes are lost: an
    // upload of its own for each attempt, with a longer pause before the second client comes.
    let mut pause = std::time::Duration::from_millis(50);
    let (_silent, location, reply) = loop {
        let location = begin(&registry, "app");
        let held = silent(&location);
        std::thread::sleep(pause);
        let reply = second(&location);
        if reply.status != 416 || pause.as_secs() > 60 {
            break (held, location, reply);
        }
        pause *= 2;
    };
    assert_eq!((reply.status, reply.header("range")), (202, Some("0-10")), "{}", reply.text());
    let reply = registry.ask("PUT", &format!("{location}?digest={}", digest(b"firstsecond")), &[], b"");
    assert_eq!(reply.status, 201, "{}", reply.text());
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut kept: Vec<(String, String)> = Vec::new();
    for round in 0..10u64 {
        let registry = Served::start(WHARF, folder.path(), &[]);
        for (name, tag) in &kept {
            let reply = registry.ask("GET", &format!("/v2/{name}/manifests/{tag}"), &[], b"");
            assert_eq!(reply.status, 200, "round {round}: {name}:{tag}");
            for layer in reply.json()["layers"].as_array().unwrap() {
                let blob = layer["digest"].as_str().unwrap();
                let reply = registry.ask("GET", &format!("/v2/{name}/blobs/{blob}"), &[], b"");
                assert_eq!(digest(&reply.body), blob);
            }
        }
        // Pushes go on in the background until the kill; those that were answered are remembered.
        let (address, acknowledged) = (registry.address(), std::sync::Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for worker in 0..4u64 {
                let acknowledged = &acknowledged;
                scope.spawn(move || {
                    for at in 0.. {
                        let layer = bytes(200_000, round * 1000 + worker * 100 + at);
                        let name = format!("app{worker}");
                        let Ok(tag) = push(address, &name, &format!("r{round}-{at}"), &layer) else { return };
                        acknowledged.lock().unwrap().push((name, tag));
                    }
                });
            }
            // In the middle of another push than in the other rounds.
            let some = || (acknowledged.lock().unwrap().len() > 1).then_some(());
            let pushed = eventually(std::time::Duration::from_secs(60), some);
            std::thread::sleep(std::time::Duration::from_millis(37 * round));
            drop(registry);
            assert!(pushed.is_some(), "round {round}: nothing was acknowledged");
        });
        kept.extend(acknowledged.into_inner().unwrap());
    }
}

fn push(address: std::net::SocketAddr, name: &str, tag: &str, layer: &[u8]) -> std::io::Result<String> {
    let blob = |bytes: &[u8]| -> std::io::Result<serde_json::Value> {
        let digest = digest(bytes);
        let target = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        let reply = try_ask(address, "POST", &target, &[OCTETS], bytes)?;
        assert_eq!(reply.status, 201, "{}", reply.text());
        Ok(
            serde_json::json!({ "mediaType": "application/octet-stream", "digest": digest, "size": bytes.len() }),
        )
    };
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": crate::OCI_MANIFEST, "config": blob(b"{}")?, "layers": [blob(layer)?],
    });
    let kind = [("content-type", crate::OCI_MANIFEST)];
    let target = format!("/v2/{name}/manifests/{tag}");
    let reply = try_ask(address, "PUT", &target, &kind, manifest.to_string().as_bytes())?;
    assert_eq!(reply.status, 201, "{}", reply.text());
    Ok(tag.to_owned())
}

#[test]
fn an_image_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Served::start(WHARF, folder.path(), &[]);
    let manifest = image(&registry, "app", &[b"layer"]);
    put_manifest(&registry, "app", "latest", &manifest);
    let loose = put_blob(&registry, "app", b"loose");
    drop(registry);
    let registry = Served::start(WHARF, folder.path(), &[]);
    assert_eq!(registry.ask("GET", "/v2/app/manifests/latest", &[], b"").json(), manifest);
    assert_eq!(registry.ask("GET", &format!("/v2/app/blobs/{loose}"), &[], b"").body, b"loose");
}
