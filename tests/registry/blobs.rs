//! Blobs and uploads, case by case as the conformance tests of the distribution spec go through them.

use std::time::Duration;

use wharf_testkit::client::eventually;
use wharf_testkit::registry::digest;

use crate::{OCTETS, begin, bytes, code, put_blob, registry, registry_with};

#[test]
fn the_base_says_what_this_is() {
    let (registry, _folder) = registry();
    for path in ["/v2/", "/v2"] {
        let reply = registry.ask("GET", path, &[], b"");
        assert_eq!((reply.status, reply.text().as_str()), (200, "{}"));
        assert_eq!(reply.header("docker-distribution-api-version"), Some("registry/2.0"));
    }
    let reply = registry.ask("GET", "/v1/", &[], b"");
    assert_eq!(reply.status, 404);
    let line =
        eventually(Duration::from_secs(10), || registry.said().contains("\"GET /v2/\" 200 2 ").then_some(()));
    assert!(line.is_some(), "{}", registry.said());
}

#[test]
fn an_upload_as_a_whole_in_two_requests() {
    let (registry, _folder) = registry();
    let blob = bytes(100_000, 1);
    let location = begin(&registry, "app/one");
    let reply = registry.ask("PUT", &format!("{location}?digest={}", digest(&blob)), &[OCTETS], &blob);
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(reply.header("location"), Some(format!("/v2/app/one/blobs/{}", digest(&blob)).as_str()));
    assert_eq!(reply.header("docker-content-digest"), Some(digest(&blob).as_str()));
    let reply = registry.ask("GET", &format!("/v2/app/one/blobs/{}", digest(&blob)), &[], b"");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body, blob);
    assert_eq!(reply.header("content-type"), Some("application/octet-stream"));
    let reply = registry.ask("HEAD", &format!("/v2/app/one/blobs/{}", digest(&blob)), &[], b"");
    assert_eq!((reply.status, reply.header("content-length")), (200, Some("100000")));
    let reply = registry.ask("GET", &format!("/v2/app/two/blobs/{}", digest(&blob)), &[], b"");
    assert_eq!((reply.status, code(&reply).as_str()), (404, "BLOB_UNKNOWN"));
    let gone = registry.ask("GET", &location, &[], b"");
    assert_eq!((gone.status, code(&gone).as_str()), (404, "BLOB_UPLOAD_UNKNOWN"));
}

#[test]
fn an_upload_as_a_whole_in_one_request() {
    let (registry, _folder) = registry();
    let digest = put_blob(&registry, "app", b"one request");
    assert_eq!(registry.ask("GET", &format!("/v2/app/blobs/{digest}"), &[], b"").body, b"one request");
    let wrong = wharf_testkit::registry::digest(b"another request");
    let reply =
        registry.ask("POST", &format!("/v2/app/blobs/uploads/?digest={wrong}"), &[OCTETS], b"one request");
    assert_eq!((reply.status, code(&reply).as_str()), (400, "DIGEST_INVALID"));
    let empty = put_blob(&registry, "app", b"");
    let reply = registry.ask("GET", &format!("/v2/app/blobs/{empty}"), &[], b"");
    assert_eq!((reply.status, reply.body.len()), (200, 0));
}

#[test]
fn chunks_must_come_in_order() {
    let (registry, _folder) = registry();
    let blob = bytes(3000, 2);
    let location = begin(&registry, "app");
    let chunk = |range: &str, part: &[u8]| {
        registry.ask("PATCH", &location, &[OCTETS, ("content-range", range)], part)
    };
    let reply = chunk("0-999", &blob[..1000]);
    assert_eq!((reply.status, reply.header("range")), (202, Some("0-999")));
    assert_eq!(reply.header("location"), Some(location.as_str()));
    let reply = chunk("2000-2999", &blob[2000..]);
    assert_eq!((reply.status, reply.header("range")), (416, Some("0-999")), "{}", reply.text());
    let reply = chunk("0-999", &blob[..1000]);
    assert_eq!(reply.status, 416);
    let reply = chunk("nonsense", &blob[..1000]);
    assert_eq!((reply.status, code(&reply).as_str()), (400, "BLOB_UPLOAD_INVALID"));
    let reply = chunk("1000-1999", &blob[1000..1500]);
    assert_eq!((reply.status, code(&reply).as_str()), (400, "SIZE_INVALID"));
    let reply = chunk("1000-1999", &blob[1000..2000]);
    assert_eq!((reply.status, reply.header("range")), (202, Some("0-1999")));
    let status = registry.ask("GET", &location, &[], b"");
    assert_eq!((status.status, status.header("range")), (204, Some("0-1999")));
    let last = [OCTETS, ("content-range", "2000-2999")];
    let reply = registry.ask("PUT", &format!("{location}?digest={}", digest(&blob)), &last, &blob[2000..]);
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(registry.ask("GET", &format!("/v2/app/blobs/{}", digest(&blob)), &[], b"").body, blob);
}

#[test]
fn a_streamed_chunk_needs_no_length() {
    let (registry, _folder) = registry();
    let blob = bytes(700_000, 3);
    let location = begin(&registry, "app");
    let mut body = Vec::new();
    for part in blob.chunks(70_001) {
        body.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        body.extend_from_slice(part);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    let reply = registry.ask("PATCH", &location, &[OCTETS, ("transfer-encoding", "chunked")], &body);
    assert_eq!((reply.status, reply.header("range")), (202, Some("0-699999")));
    // More than a chunk announces is not taken, and what was there before stays.
    let headers = [OCTETS, ("transfer-encoding", "chunked"), ("content-range", "700000-700009")];
    assert_eq!(registry.ask("PATCH", &location, &headers, &body).status, 413);
    assert_eq!(registry.ask("GET", &location, &[], b"").header("range"), Some("0-699999"));
    let reply = registry.ask("PUT", &format!("{location}?digest={}", digest(&blob)), &[], b"");
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(registry.ask("GET", &format!("/v2/app/blobs/{}", digest(&blob)), &[], b"").body, blob);
}

#[test]
fn wrong_bytes_never_become_a_blob() {
    let (registry, folder) = registry();
    let location = begin(&registry, "app");
    let promised = digest(b"right");
    let reply = registry.ask("PUT", &format!("{location}?digest={promised}"), &[OCTETS], b"wrong");
    assert_eq!((reply.status, code(&reply).as_str()), (400, "DIGEST_INVALID"));
    assert_eq!(registry.ask("HEAD", &format!("/v2/app/blobs/{promised}"), &[], b"").status, 404);
    for query in ["", "?digest=sha256:12", "?digest=md5:d41d8cd98f00b204e9800998ecf8427e"] {
        let location = begin(&registry, "app");
        let reply = registry.ask("PUT", &format!("{location}{query}"), &[OCTETS], b"x");
        assert_eq!((reply.status, code(&reply).as_str()), (400, "DIGEST_INVALID"), "{query}");
    }
    let left = std::fs::read_dir(folder.path().join("blobs/sha256")).unwrap().count();
    assert_eq!(left, 0);
}

#[test]
fn an_upload_can_be_cancelled() {
    let (registry, folder) = registry();
    let location = begin(&registry, "app");
    registry.ask("PATCH", &location, &[OCTETS], b"some");
    let other = location.replace("/v2/app/", "/v2/other/");
    assert_eq!(registry.ask("DELETE", &other, &[], b"").status, 404);
    assert_eq!(registry.ask("DELETE", &location, &[], b"").status, 204);
    for method in ["GET", "PATCH", "DELETE"] {
        let reply = registry.ask(method, &location, &[], b"");
        assert_eq!((reply.status, code(&reply).as_str()), (404, "BLOB_UPLOAD_UNKNOWN"), "{method}");
    }
    assert_eq!(std::fs::read_dir(folder.path().join("uploads")).unwrap().count(), 0);
}

#[test]
fn blobs_are_mounted_across_repositories() {
    let (registry, _folder) = registry();
    let blob = put_blob(&registry, "first", b"shared");
    let mount = |query: String| registry.ask("POST", &format!("/v2/second/blobs/uploads/?{query}"), &[], b"");
    let reply = mount(format!("mount={blob}&from=elsewhere"));
    assert_eq!(reply.status, 202, "what the source has not is to be sent");
    assert!(reply.header("location").unwrap().contains("/uploads/"));
    let reply = mount(format!("mount={blob}&from=first"));
    assert_eq!(reply.status, 201);
    assert_eq!(reply.header("location"), Some(format!("/v2/second/blobs/{blob}").as_str()));
    assert_eq!(registry.ask("GET", &format!("/v2/second/blobs/{blob}"), &[], b"").body, b"shared");
    assert_eq!(registry.ask("POST", &format!("/v2/third/blobs/uploads/?mount={blob}"), &[], b"").status, 201);
    let reply = mount(format!("mount={}&from=../../etc", digest(b"x")));
    assert_eq!(reply.status, 202);
    assert_eq!(mount("mount=nonsense&from=first".to_owned()).status, 400);
}

#[test]
fn parts_of_blobs() {
    let (registry, _folder) = registry();
    let blob = bytes(300_000, 4);
    let path = format!("/v2/app/blobs/{}", put_blob(&registry, "app", &blob));
    let part = |range: &str| registry.ask("GET", &path, &[("range", range)], b"");
    for (range, from, to) in
        [("bytes=0-9", 0, 10), ("bytes=200000-", 200_000, 300_000), ("bytes=-7", 299_993, 300_000)]
    {
        let reply = part(range);
        assert_eq!((reply.status, &reply.body[..]), (206, &blob[from..to]), "{range}");
        let shown = format!("bytes {from}-{}/300000", to - 1);
        assert_eq!(reply.header("content-range"), Some(shown.as_str()));
    }
    let reply = part("bytes=300000-");
    assert_eq!((reply.status, reply.header("content-range")), (416, Some("bytes */300000")));
    assert_eq!(part("bytes=0-1,5-6").status, 200);
    let etag = registry.ask("HEAD", &path, &[], b"").header("etag").unwrap().to_owned();
    assert_eq!(registry.ask("GET", &path, &[("if-none-match", &etag)], b"").status, 304);
}

#[test]
fn sha512_is_as_good() {
    use std::process::{Command, Stdio};
    let (registry, folder) = registry();
    let mut sum = Command::new("sha512sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut sum.stdin.take().unwrap(), b"long digest").unwrap();
    let output = sum.wait_with_output().unwrap();
    let digest = format!("sha512:{}", String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap());
    let location = begin(&registry, "app");
    let reply = registry.ask("PUT", &format!("{location}?digest={digest}"), &[OCTETS], b"long digest");
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(registry.ask("GET", &format!("/v2/app/blobs/{digest}"), &[], b"").body, b"long digest");
    assert!(folder.path().join("blobs/sha512").join(&digest[7..]).exists());
}

#[test]
fn blobs_are_deleted_where_that_is_allowed() {
    let (registry, _folder) = registry();
    let blob = put_blob(&registry, "app", b"gone soon");
    put_blob(&registry, "other", b"gone soon");
    let path = format!("/v2/app/blobs/{blob}");
    assert_eq!(registry.ask("DELETE", &path, &[], b"").status, 202);
    assert_eq!(registry.ask("GET", &path, &[], b"").status, 404);
    assert_eq!(registry.ask("DELETE", &path, &[], b"").status, 404);
    assert_eq!(registry.ask("GET", &format!("/v2/other/blobs/{blob}"), &[], b"").status, 200);

    let (registry, _folder) = registry_with(&[]);
    let blob = put_blob(&registry, "app", b"stays");
    let reply = registry.ask("DELETE", &format!("/v2/app/blobs/{blob}"), &[], b"");
    assert_eq!((reply.status, code(&reply).as_str()), (405, "UNSUPPORTED"));
}

#[test]
fn names_cannot_leave_the_tree() {
    let (registry, folder) = registry();
    std::fs::write(folder.path().join("secret"), "x").unwrap();
    for path in [
        "/v2/../secret",
        "/v2/..%2f..%2fsecret/blobs/uploads/",
        "/v2/%2e%2e/blobs/uploads/",
        "/v2/a/../../b/blobs/uploads/",
        "/v2/a/blobs/sha256:../../../secret",
        "/v2/_tags/blobs/uploads/",
        "/v2/A/blobs/uploads/",
        "/v2//blobs/uploads/",
    ] {
        for method in ["GET", "POST", "PUT", "DELETE"] {
            let reply = registry.ask(method, path, &[], b"");
            assert!((400..=405).contains(&reply.status), "{method} {path}: {}", reply.status);
        }
    }
    let reply = registry.ask("GET", "/v2/Upper/tags/list", &[], b"");
    assert_eq!((reply.status, code(&reply).as_str()), (400, "NAME_INVALID"));
    let names: Vec<_> = std::fs::read_dir(folder.path().join("repositories")).unwrap().flatten().collect();
    assert!(names.is_empty(), "{names:?}");
}

#[test]
fn the_same_blob_at_once_from_many() {
    let (registry, folder) = registry();
    let blob = bytes(2_000_000, 5);
    std::thread::scope(|scope| {
        for at in 0..8 {
            let (registry, blob) = (&registry, &blob);
            scope.spawn(move || put_blob(registry, &format!("app{}", at % 4), blob));
        }
    });
    for at in 0..4 {
        let reply = registry.ask("GET", &format!("/v2/app{at}/blobs/{}", digest(&blob)), &[], b"");
        assert!(reply.body == blob);
    }
    assert_eq!(std::fs::read_dir(folder.path().join("blobs/sha256")).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(folder.path().join("uploads")).unwrap().count(), 0);
}
