//! A registry that caches another.

use std::time::Duration;

use wharf_distribution::server::Upstream;
use wharf_testkit::client::eventually;
use wharf_testkit::registry::{Fault, Faulty, Registry, ask, digest, try_ask};

use crate::bytes;

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A cache of `faulty` that believes tags for `ttl`.
fn cache(faulty: &Faulty, ttl: Duration) -> Registry {
    Registry::with(|config| {
        let mut upstream = Upstream { ttl, ..Upstream::new(format!("http://{}", faulty.host())) };
        upstream.client.attempts = 2;
        upstream.client.patience.backoff = Duration::from_millis(10);
        config.proxy = Some(upstream);
    })
}

#[test]
fn what_was_fetched_once_is_kept() {
    let upstream = Registry::start();
    let layer = bytes(3_000_000, 1);
    let manifest = upstream.put_image("library/app", "latest", LAYER, &[&layer], &[&layer]);
    let faulty = Faulty::before(&upstream);
    let cache = cache(&faulty, Duration::from_secs(300));
    let blob = format!("/v2/library/app/blobs/{}", digest(&layer));
    for _ in 0..2 {
        let reply = cache.ask("GET", "/v2/library/app/manifests/latest", &[], b"");
        assert_eq!((reply.status, digest(&reply.body)), (200, manifest.clone()), "{}", reply.text());
        assert_eq!(cache.ask("HEAD", &blob, &[], b"").header("content-length"), Some("3000000"));
        assert!(cache.ask("GET", &blob, &[], b"").body == layer);
    }
    // The answer ends with the last byte; that the blob is kept is seen a moment later.
    let kept = eventually(Duration::from_secs(10), || {
        let before = faulty.count("GET", "/blobs/");
        cache.ask("GET", &blob, &[("range", "bytes=10-19")], b"");
        (faulty.count("GET", "/blobs/") == before).then_some(())
    });
    assert!(kept.is_some());
    assert_eq!(faulty.count("GET", "/blobs/"), 1);
    assert_eq!(faulty.count("GET", "/manifests/"), 1);
    assert_eq!(cache.ask("GET", "/v2/library/app/tags/list", &[], b"").json()["tags"][0], "latest");
    assert_eq!(cache.ask("POST", "/v2/library/app/blobs/uploads/", &[], b"").status, 405);
    assert_eq!(cache.ask("GET", "/v2/library/none/manifests/latest", &[], b"").status, 404);
    assert_eq!(cache.ask("GET", &format!("/v2/library/app/blobs/{}", digest(b"none")), &[], b"").status, 404);
}

#[test]
fn many_clients_cause_one_download() {
    let upstream = Registry::start();
    let layer = bytes(2_000_000, 2);
    upstream.put_image("app", "latest", LAYER, &[&layer], &[&layer]);
    let faulty = Faulty::before(&upstream);
    let slow = Fault::Slow { bytes: 100_000, pause: Duration::from_millis(20) };
    faulty.every("GET", "/blobs/", slow);
    let cache = cache(&faulty, Duration::from_secs(300));
    let path = format!("/v2/app/blobs/{}", digest(&layer));
    std::thread::scope(|scope| {
        for at in 0..8usize {
            let (cache, path, layer) = (&cache, &path, &layer);
            scope.spawn(move || {
                let range = format!("bytes={}-", at * 1000);
                let reply = cache.ask("GET", path, &[("range", &range)], b"");
                assert_eq!(reply.status, 206);
                assert!(reply.body == layer[at * 1000..]);
            });
        }
    });
    assert_eq!(faulty.count("GET", "/blobs/"), 1);
}

#[test]
fn lies_are_not_kept_and_not_given_out() {
    let upstream = Registry::start();
    let layer = bytes(500_000, 3);
    upstream.put_image("app", "latest", LAYER, &[&layer], &[&layer]);
    let faulty = Faulty::before(&upstream);
    let cache = cache(&faulty, Duration::from_secs(300));
    let path = format!("/v2/app/blobs/{}", digest(&layer));
    faulty.every("GET", "/blobs/", Fault::WrongByte(1000));
    let got = try_ask(cache.address(), "GET", &path, &[], b"");
    assert!(got.is_err(), "a wrong blob must not look whole: {:?}", got.map(|reply| reply.status));
    faulty.behave();
    let right = eventually(Duration::from_secs(10), || {
        try_ask(cache.address(), "GET", &path, &[], b"").ok().filter(|reply| reply.body == layer)
    });
    assert!(right.is_some());
    let uploads = cache.root().join("uploads");
    let empty = eventually(Duration::from_secs(5), || {
        (std::fs::read_dir(&uploads).unwrap().count() == 0).then_some(())
    });
    assert!(empty.is_some());
}

#[test]
fn tags_move_and_stale_ones_serve_when_upstream_is_down() {
    let upstream = Registry::start();
    let first = upstream.put_image("app", "latest", LAYER, &[b"1"], &[b"1"]);
    let faulty = Faulty::before(&upstream);
    let cache = cache(&faulty, Duration::ZERO);
    let current = || {
        let reply = cache.ask("GET", "/v2/app/manifests/latest", &[], b"");
        (reply.status, digest(&reply.body))
    };
    assert_eq!(current(), (200, first));
    let second = upstream.put_image("app", "latest", LAYER, &[b"2"], &[b"2"]);
    assert_eq!(current(), (200, second.clone()));
    faulty.rule(|_| Some(Fault::status(503, None)));
    assert_eq!(current(), (200, second.clone()));
    let reply = ask(cache.address(), "GET", "/v2/app/manifests/other", &[], b"");
    assert_eq!(reply.status, 502, "{}", reply.text());
    faulty.behave();
    upstream.ask("DELETE", &format!("/v2/app/manifests/{second}"), &[], b"");
    assert_eq!(current().0, 404);
}
