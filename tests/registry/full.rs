//! A full disk: what does not fit is refused in words that say so, and what is there is served on.

use wharf_testkit::SmallDisk;
use wharf_testkit::registry::{Served, digest};

use crate::{OCTETS, WHARF, begin, bytes, image, put_blob, put_manifest};

#[test]
fn what_does_not_fit_is_refused_and_takes_no_room() {
    let disk = SmallDisk::new(8);
    let registry = Served::start(WHARF, &disk.path("root"), &[]);
    let small = bytes(100_000, 1);
    let held = put_blob(&registry, "app", &small);
    let document = image(&registry, "app", &[&small]);
    let large = bytes(12_000_000, 2);
    let uploads = || std::fs::read_dir(disk.path("root/uploads")).unwrap().count();

    let target = format!("/v2/app/blobs/uploads/?digest={}", digest(&large));
    let refused = registry.ask("POST", &target, &[OCTETS], &large);
    assert_eq!(refused.status, 507, "{}", refused.text());
    assert!(refused.text().contains("disk is full"), "{}", refused.text());
    assert_eq!(uploads(), 0, "what nobody can go on with is gone");

    // An upload that was begun stays, with what there was room for; its client may wait for room, or give it up.
    let location = begin(&registry, "app");
    let refused = registry.ask("PATCH", &location, &[OCTETS], &large);
    assert_eq!(refused.status, 507, "{}", refused.text());
    assert_eq!(registry.ask("GET", &location, &[], b"").status, 204);
    disk.fill();
    let (_, refused) = put_manifest(&registry, "app", "one", &document);
    assert_eq!(refused.status, 507, "{}", refused.text());
    assert_eq!(registry.ask("GET", "/v2/app/manifests/one", &[], b"").status, 404);
    assert!(registry.ask("GET", &format!("/v2/app/blobs/{held}"), &[], b"").body == small);

    assert_eq!(registry.ask("DELETE", &location, &[], b"").status, 204);
    assert_eq!(uploads(), 0);
    disk.free();
    assert_eq!(put_manifest(&registry, "app", "one", &document).1.status, 201);
    assert!(registry.ask("GET", "/v2/app/manifests/one", &[], b"").status == 200);
}
