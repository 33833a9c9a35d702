//! The registry that misbehaves does as it is told: what other tests stand on.

use wharf_testkit::registry::{Fault, Faulty, Registry, ask, try_ask};

use crate::bytes;

#[test]
fn each_fault_is_seen() {
    let registry = Registry::start();
    let blob = bytes(10_000, 1);
    let path = format!("/v2/app/blobs/{}", registry.put_blob("app", &blob));
    let faulty = Faulty::before(&registry);
    let get = |headers: &[(&str, &str)]| try_ask(faulty.address(), "GET", &path, headers, b"");

    assert_eq!(get(&[]).unwrap().body, blob);
    faulty.first(2, "GET", "/blobs/", Fault::status(429, Some(1)));
    for status in [429, 429, 200] {
        assert_eq!(get(&[]).unwrap().status, status);
    }
    faulty.every("GET", "/blobs/", Fault::CutAfter(500));
    assert!(get(&[]).is_err());
    faulty.behave();
    faulty.first(1, "GET", "/blobs/", Fault::Drop);
    assert!(get(&[]).is_err());
    faulty.first(1, "GET", "/blobs/", Fault::WrongByte(17));
    let wrong = get(&[]).unwrap().body;
    assert_eq!(wrong.iter().zip(&blob).filter(|(a, b)| a != b).count(), 1);
    faulty.first(1, "GET", "/blobs/", Fault::ShortenTo(100));
    assert_eq!(get(&[]).unwrap().body, blob[..100]);
    faulty.first(1, "GET", "/blobs/", Fault::IgnoreRange);
    assert_eq!(get(&[("range", "bytes=5-6")]).unwrap().status, 200);
    assert_eq!(get(&[("range", "bytes=5-6")]).unwrap().body, blob[5..7]);

    let elsewhere = Faulty::at(std::net::Ipv4Addr::new(127, 0, 0, 2), registry.address());
    faulty.first(1, "GET", "/blobs/", Fault::RedirectTo(format!("http://{}", elsewhere.host())));
    let reply = get(&[("authorization", "Basic x")]).unwrap();
    assert_eq!(reply.status, 307);
    assert_eq!(reply.header("location"), Some(format!("http://{}{path}", elsewhere.host()).as_str()));
    assert_eq!(ask(elsewhere.address(), "GET", &path, &[], b"").body, blob);
    assert_eq!(elsewhere.seen()[0].header("authorization"), None);
    assert_eq!(elsewhere.count("GET", "/blobs/"), 1);
}

#[test]
fn an_upload_that_is_cut_can_go_on() {
    let registry = Registry::start();
    let faulty = Faulty::before(&registry);
    let begun = ask(faulty.address(), "POST", "/v2/app/blobs/uploads/", &[], b"");
    let location = begun.header("location").unwrap();
    faulty.first(1, "PATCH", "/uploads/", Fault::CutRequestAfter(300));
    assert!(try_ask(faulty.address(), "PATCH", location, &[], &bytes(1000, 2)).is_err());
    let status = wharf_testkit::client::eventually(std::time::Duration::from_secs(10), || {
        let status = ask(faulty.address(), "GET", location, &[], b"");
        (status.header("range") == Some("0-299")).then_some(status)
    });
    assert_eq!(status.unwrap().status, 204);
}
