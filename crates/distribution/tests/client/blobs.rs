//! Blobs down and up, over connections that break and registries that are busy.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use wharf_distribution::client::{
    BlobEvent, BlobStream, Client, Config, Error, Kind, Patience, Pushed, Repository, Upload,
};
use wharf_oci::digest::Digest;
use wharf_oci::image::Descriptor;

use crate::script::{Reply, Script, Seen, Step, answer, head, refuse};
use crate::{blob, client, hasty, repository};

async fn at(script: &Script) -> Repository {
    repository(&client(), &format!("{}/a", script.address))
}

/// All bytes of a stream, and how often it was begun anew.
async fn drain(mut stream: BlobStream) -> Result<(Vec<u8>, u32), Error> {
    let (mut all, mut retries) = (Vec::new(), 0);
    while let Some(event) = stream.next().await? {
        match event {
            BlobEvent::Bytes(bytes) => all.extend_from_slice(&bytes),
            BlobEvent::Retrying { .. } => retries += 1,
        }
    }
    Ok((all, retries))
}

fn range_of(seen: &Seen) -> usize {
    let range = seen.header("range").unwrap_or_default();
    range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap_or(0)
}

/// What an honest registry answers from `from` on.
fn rest(bytes: &[u8], from: usize) -> Reply {
    if from == 0 {
        return answer("200 OK", &[], bytes);
    }
    let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
    answer("206 Partial Content", &[("Content-Range", &range)], &bytes[from..])
}

#[tokio::test]
async fn a_cut_blob_goes_on_where_it_was() {
    let (bytes, descriptor) = blob(300_000);
    let content = bytes.clone();
    let cuts = AtomicUsize::new(0);
    let registry = Script::start(move |seen| {
        if !seen.path.starts_with("/v2/a/blobs/") {
            return answer("200 OK", &[], b"");
        }
        let from = range_of(seen);
        let Reply(mut steps) = rest(&content, from);
        if cuts.fetch_add(1, Ordering::SeqCst) < 2 {
            if let Step::Bytes(bytes) = &mut steps[0] {
                bytes.truncate(bytes.len() - (content.len() - from) + 70_000);
            }
            steps.push(Step::Close);
        }
        Reply(steps)
    })
    .await;
    let (got, retries) = drain(at(&registry).await.blob(&descriptor, 0)).await.unwrap();
    assert_eq!((got == bytes, retries), (true, 2));
    let offsets: Vec<_> =
        registry.seen().iter().filter(|seen| seen.path.contains("/blobs/")).map(range_of).collect();
    assert_eq!(offsets, [0, 70_000, 140_000]);
}

#[tokio::test]
async fn a_stream_starts_at_any_offset() {
    let (bytes, descriptor) = blob(1000);
    let content = bytes.clone();
    let registry = Script::start(move |seen| rest(&content, range_of(seen))).await;
    let (got, _) = drain(at(&registry).await.blob(&descriptor, 999)).await.unwrap();
    assert_eq!(got, bytes[999..]);
    assert!(drain(at(&registry).await.blob(&descriptor, 1000)).await.unwrap().0.is_empty());

    // One that knows no ranges sends everything; what was there before is left out.
    let content = bytes.clone();
    let simple = Script::start(move |_| answer("200 OK", &[], &content)).await;
    let (got, _) = drain(at(&simple).await.blob(&descriptor, 400)).await.unwrap();
    assert_eq!(got, bytes[400..]);
}

#[tokio::test]
async fn a_range_that_is_not_honoured_is_refused() {
    let (bytes, descriptor) = blob(1000);
    for range in ["bytes 0-999/1000", "bytes 500-998/1000", "bytes 500-999/2000", "bytes 501-999/1000", ""] {
        let content = bytes[500..].to_vec();
        let registry =
            Script::start(move |_| answer("206 Partial Content", &[("Content-Range", range)], &content))
                .await;
        let error = drain(at(&registry).await.blob(&descriptor, 500)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Hostile, "{range}: {error}");
    }
}

#[tokio::test]
async fn a_blob_is_never_longer_than_its_descriptor() {
    let (_, descriptor) = blob(1000);
    let registry = Script::start(|seen| {
        if seen.path == "/v2/" {
            return answer("200 OK", &[], b"");
        }
        Reply::raw(head("200 OK", &[], "Content-Length: 1001")).then(Step::Silence)
    })
    .await;
    let error = drain(at(&registry).await.blob(&descriptor, 0)).await.unwrap_err();
    assert!(error.to_string().ends_with("1001 bytes where 1000 were announced"), "{error}");

    let endless = Script::start(|seen| {
        if seen.path == "/v2/" {
            return answer("200 OK", &[], b"");
        }
        Reply::raw(head("200 OK", &[], "Transfer-Encoding: chunked"))
            .then(Step::Endless(b"10\r\n0123456789abcdef\r\n".to_vec(), Duration::ZERO))
    })
    .await;
    let error = drain(at(&endless).await.blob(&descriptor, 0)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Hostile, "{error}");
}

#[tokio::test]
async fn a_blob_that_drips_is_given_up() {
    let (_, descriptor) = blob(1 << 20);
    let registry = Script::start(|seen| {
        if seen.path == "/v2/" {
            return answer("200 OK", &[], b"");
        }
        Reply::raw(head("200 OK", &[], "Content-Length: 1048576"))
            .then(Step::Endless(b"x".to_vec(), Duration::from_millis(10)))
    })
    .await;
    let patience = Patience { stall: Duration::from_millis(200), ..hasty().patience };
    let client = Client::new(Config { patience, attempts: 2, ..hasty() }).unwrap();
    let repository = repository(&client, &format!("{}/a", registry.address));
    let error = drain(repository.blob(&descriptor, 0)).await.unwrap_err();
    assert!(error.to_string().ends_with("the body of the answer comes too slowly"), "{error}");
}

#[tokio::test]
async fn a_reader_may_be_slow_itself() {
    let (bytes, descriptor) = blob(100_000);
    let content = bytes.clone();
    let registry = Script::start(move |_| answer("200 OK", &[], &content)).await;
    // Enough for a server that has nothing else to do, and less than the reader takes once.
    let patience = Patience { stall: Duration::from_secs(3), ..hasty().patience };
    let client = Client::new(Config { patience, attempts: 1, ..hasty() }).unwrap();
    let mut stream = repository(&client, &format!("{}/a", registry.address)).blob(&descriptor, 0);
    let mut got = 0;
    while let Some(event) = stream.next().await.unwrap() {
        let BlobEvent::Bytes(bytes) = event else { panic!("{event:?}") };
        if got == 0 {
            tokio::time::sleep(Duration::from_secs(4)).await;
        }
        got += bytes.len();
    }
    assert_eq!(got, bytes.len());
}

#[tokio::test]
async fn a_busy_registry_is_asked_again_and_an_absent_blob_is_not() {
    let (bytes, descriptor) = blob(10);
    let content = bytes.clone();
    let asked = AtomicUsize::new(0);
    let registry = Script::start(move |seen| match (seen.path.as_str(), asked.load(Ordering::SeqCst)) {
        ("/v2/", _) => answer("200 OK", &[], b""),
        (_, 0) => {
            asked.store(1, Ordering::SeqCst);
            answer("429 Too Many Requests", &[("Retry-After", "0")], b"slow down")
        }
        (_, 1) => {
            asked.store(2, Ordering::SeqCst);
            answer("503 Service Unavailable", &[], b"")
        }
        _ => answer("200 OK", &[], &content),
    })
    .await;
    assert_eq!(drain(at(&registry).await.blob(&descriptor, 0)).await.unwrap(), (bytes, 2));

    let empty = Script::start(|seen| match seen.path.as_str() {
        "/v2/" => answer("200 OK", &[], b""),
        _ => refuse("404 Not Found", "BLOB_UNKNOWN", "blob unknown to registry"),
    })
    .await;
    let error = drain(at(&empty).await.blob(&descriptor, 0)).await.unwrap_err();
    assert_eq!(error.to_string(), "blob unknown: blob unknown to registry");
    assert_eq!(empty.count("/v2/a/"), 1);

    let broken = Script::start(|seen| match seen.path.as_str() {
        "/v2/" => answer("200 OK", &[], b""),
        _ => answer("500 Internal Server Error", &[], b""),
    })
    .await;
    let error = drain(at(&broken).await.blob(&descriptor, 0)).await.unwrap_err();
    assert_eq!(error.to_string(), "received unexpected HTTP status: 500 Internal Server Error");
    assert_eq!(broken.count("/v2/a/"), 3);
}

#[tokio::test]
async fn small_blobs_are_verified() {
    let (bytes, descriptor) = blob(100);
    let content = bytes.clone();
    let registry = Script::start(move |_| answer("200 OK", &[], &content)).await;
    let repository = at(&registry).await;
    assert_eq!(repository.small_blob(&descriptor, 100).await.unwrap(), bytes);
    assert!(repository.small_blob(&descriptor, 99).await.unwrap_err().to_string().contains("limit of 99"));
    let other = Descriptor::new("", Digest::of(b"other"), 100);
    assert_eq!(repository.small_blob(&other, 100).await.unwrap_err().kind(), Kind::Hostile);
    let empty = Script::start(|_| answer("200 OK", &[], b"")).await;
    let nothing = Descriptor::new("", Digest::of(b""), 0);
    assert!(at(&empty).await.small_blob(&nothing, 10).await.unwrap().is_empty());
}

/// A registry that takes one upload, losing the connection at the first PATCH after `keep` bytes.
async fn losing(size: usize, keep: usize) -> Script {
    let patches = Arc::new(AtomicUsize::new(0));
    Script::start(move |seen| {
        let has = |bytes: usize| format!("0-{}", bytes.saturating_sub(1));
        match (seen.method.as_str(), seen.path.as_str()) {
            ("HEAD", _) => answer("404 Not Found", &[], b""),
            ("POST", _) => answer("202 Accepted", &[("Location", "/up?state=1")], b""),
            ("PATCH", _) if patches.fetch_add(1, Ordering::SeqCst) == 0 => Reply(vec![Step::Close]),
            ("PATCH", _) => {
                let range = seen.header("content-range").unwrap();
                assert_eq!(range, format!("{keep}-{}", size - 1));
                assert_eq!(seen.body.len(), size - keep);
                answer("202 Accepted", &[("Location", "/up?state=3"), ("Range", &has(size))], b"")
            }
            ("GET", "/up?state=1" | "/up?state=2") => {
                answer("204 No Content", &[("Location", "/up?state=2"), ("Range", &has(keep))], b"")
            }
            ("PUT", path) => {
                assert!(path.starts_with("/up?state=3&digest=sha256%3A"), "{path}");
                answer("201 Created", &[], b"")
            }
            ("GET", "/v2/") => answer("200 OK", &[], b""),
            other => panic!("{other:?}"),
        }
    })
    .await
}

#[tokio::test]
async fn a_cut_upload_goes_on_where_the_registry_has_it() {
    let (bytes, descriptor) = blob(3 << 20);
    let registry = losing(bytes.len(), 1 << 20).await;
    let source = Bytes::from(bytes);
    let told = std::sync::Mutex::new(Vec::new());
    let on_retry = |attempt: u32, _: Duration, error: &Error| {
        told.lock().unwrap().push(format!("{attempt} {}", error.to_string().starts_with("Patch ")));
    };
    let mut upload = Upload::new(descriptor.digest, descriptor.size, &source);
    upload.on_retry = Some(&on_retry);
    assert_eq!(at(&registry).await.for_push().push_blob(upload).await.unwrap(), Pushed::Sent);
    assert_eq!(*told.lock().unwrap(), ["2 true"]);
}

#[tokio::test]
async fn an_upload_of_an_earlier_process_is_gone_on_with() {
    let (bytes, descriptor) = blob(3 << 20);
    let registry = losing(bytes.len(), 1 << 20).await;
    let source = Bytes::from(bytes);
    let mut upload = Upload::new(descriptor.digest, descriptor.size, &source);
    upload.session = Some(format!("http://{}/up?state=1", registry.address));
    at(&registry).await.for_push().push_blob(upload).await.unwrap();
    assert_eq!(registry.seen().iter().filter(|seen| seen.method == "POST").count(), 0);
}

#[tokio::test]
async fn a_cancelled_upload_is_taken_back() {
    let (bytes, descriptor) = blob(3 << 20);
    let registry = Script::start(|seen| match seen.method.as_str() {
        "HEAD" => answer("404 Not Found", &[], b""),
        "POST" => answer("202 Accepted", &[("Location", "/up")], b""),
        "PATCH" => Reply(vec![Step::Silence]),
        "DELETE" => answer("204 No Content", &[], b""),
        _ => answer("200 OK", &[], b""),
    })
    .await;
    let repository = at(&registry).await.for_push();
    let source = Bytes::from(bytes);
    let upload = Upload::new(descriptor.digest, descriptor.size, &source);
    let started = async {
        while !registry.seen().iter().any(|seen| seen.method == "PATCH") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        done = repository.push_blob(upload) => panic!("{done:?}"),
        () = started => {}
    }
    for _ in 0..1000 {
        if registry.seen().iter().any(|seen| seen.method == "DELETE" && seen.path == "/up") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the registry was not told");
}

#[tokio::test]
async fn where_a_large_body_is_refused_pieces_are_sent() {
    let (bytes, descriptor) = blob(65 << 20);
    let got = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&got);
    let registry = Script::start(move |seen| match seen.method.as_str() {
        "HEAD" => answer("404 Not Found", &[], b""),
        "POST" => answer("202 Accepted", &[("Location", "/up")], b""),
        "PATCH" if seen.header("content-range").is_none() => answer("413 Payload Too Large", &[], b""),
        "PATCH" => {
            let all = counted.fetch_add(seen.body.len(), Ordering::SeqCst) + seen.body.len();
            answer("202 Accepted", &[("Location", "/up"), ("Range", &format!("0-{}", all - 1))], b"")
        }
        "PUT" => answer("201 Created", &[], b""),
        _ => answer("204 No Content", &[("Location", "/up"), ("Range", "0-0")], b""),
    })
    .await;
    let source = Bytes::from(bytes);
    let upload = Upload::new(descriptor.digest, descriptor.size, &source);
    at(&registry).await.for_push().push_blob(upload).await.unwrap();
    assert_eq!(got.load(Ordering::SeqCst), 65 << 20);
}
