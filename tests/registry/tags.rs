//! Lists of tags and repositories.

use serde_json::{Value, json};
use wharf_testkit::registry::Served;

use crate::{code, image, put_manifest, registry, registry_with};

/// Follows the links of a list to its end; the pages.
fn pages(registry: &Served, first: &str, key: &str) -> Vec<Value> {
    let mut pages = Vec::new();
    let mut next = Some(first.to_owned());
    while let Some(path) = next {
        let reply = registry.ask("GET", &path, &[], b"");
        assert_eq!(reply.status, 200, "{}", reply.text());
        pages.push(reply.json()[key].clone());
        next = reply.header("link").map(|link| {
            let (target, relation) = link.split_once(';').unwrap();
            assert_eq!(relation.trim(), "rel=\"next\"");
            target.trim_matches(['<', '>']).to_owned()
        });
    }
    pages
}

#[test]
fn tags_come_sorted_and_in_pages() {
    let (registry, _folder) = registry();
    let manifest = image(&registry, "app", &[b"layer"]);
    for tag in ["b", "a", "C", "latest", "1.0"] {
        assert_eq!(put_manifest(&registry, "app", tag, &manifest).1.status, 201);
    }
    assert_eq!(pages(&registry, "/v2/app/tags/list", "tags"), [json!(["1.0", "C", "a", "b", "latest"])]);
    let paged = pages(&registry, "/v2/app/tags/list?n=2", "tags");
    assert_eq!(paged, [json!(["1.0", "C"]), json!(["a", "b"]), json!(["latest"])]);
    assert_eq!(pages(&registry, "/v2/app/tags/list?n=9&last=a", "tags"), [json!(["b", "latest"])]);
    assert_eq!(pages(&registry, "/v2/app/tags/list?n=0", "tags"), [json!([])]);
    let reply = registry.ask("GET", "/v2/app/tags/list?n=x", &[], b"");
    assert_eq!((reply.status, code(&reply).as_str()), (400, "PAGINATION_NUMBER_INVALID"));
    let reply = registry.ask("GET", "/v2/nobody/tags/list", &[], b"");
    assert_eq!((reply.status, code(&reply).as_str()), (404, "NAME_UNKNOWN"));
}

#[test]
fn tags_are_deleted_alone() {
    let (registry, _folder) = registry();
    let manifest = image(&registry, "app", &[b"layer"]);
    let (digest, _) = put_manifest(&registry, "app", "one", &manifest);
    put_manifest(&registry, "app", "two", &manifest);
    assert_eq!(registry.ask("DELETE", "/v2/app/manifests/one", &[], b"").status, 202);
    assert_eq!(registry.ask("GET", "/v2/app/manifests/one", &[], b"").status, 404);
    assert_eq!(registry.ask("GET", "/v2/app/manifests/two", &[], b"").status, 200);
    assert_eq!(registry.ask("GET", &format!("/v2/app/manifests/{digest}"), &[], b"").status, 200);
    assert_eq!(registry.ask("DELETE", "/v2/app/manifests/one", &[], b"").status, 404);

    let (registry, _folder) = registry_with(&[]);
    let manifest = image(&registry, "app", &[b"layer"]);
    let (digest, _) = put_manifest(&registry, "app", "one", &manifest);
    for reference in ["one", &digest] {
        let reply = registry.ask("DELETE", &format!("/v2/app/manifests/{reference}"), &[], b"");
        assert_eq!((reply.status, code(&reply).as_str()), (405, "UNSUPPORTED"));
    }
}

#[test]
fn the_catalog_lists_repositories() {
    let (registry, _folder) = registry();
    for name in ["b", "a/b/c", "a"] {
        image(&registry, name, &[b"layer"]);
    }
    assert_eq!(pages(&registry, "/v2/_catalog", "repositories"), [json!(["a", "a/b/c", "b"])]);
    let paged = pages(&registry, "/v2/_catalog?n=1", "repositories");
    assert_eq!(paged, [json!(["a"]), json!(["a/b/c"]), json!(["b"])]);
}
