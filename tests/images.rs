//! Images from files: load, import, save, tag, list, inspect, remove, and what hostile archives meet.

use serde_json::{Value, json};
use wharf_testkit::client::eventually;
use wharf_testkit::image::{self, Entry};
use wharf_testkit::{Daemon, SmallDisk, daemon};

fn small(tag: &str, marker: &str) -> Vec<u8> {
    let layer =
        image::layer(&[Entry::Dir("data", 0o755), Entry::File("data/marker", 0o644, marker.as_bytes())])
            .unwrap();
    image::archive(tag, &json!({ "Cmd": ["/none"], "Labels": { "made": "here" } }), &[layer]).unwrap()
}

#[test]
fn load_list_inspect_history() {
    let d = daemon!();
    assert_eq!(d.docker_with(&["load"], &small("small:one", "1")).ok(), "Loaded image: small:one");
    let listed = d.docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok();
    assert!(listed.contains("small:one") && listed.contains("busybox:latest"), "{listed}");
    let id = d.docker(&["images", "-q", "--no-trunc", "small"]).ok();
    assert!(id.starts_with("sha256:") && id.len() == 71);
    let document = d.get("/images/small:one/json").unwrap().json();
    assert_eq!(document["Id"], id.as_str());
    assert_eq!(document["RepoTags"], json!(["small:one"]));
    assert_eq!(document["Config"]["Labels"]["made"], "here");
    assert_eq!(document["RootFS"]["Type"], "layers");
    assert_eq!(
        d.get(&format!("/images/{}/json", &id[7..19])).unwrap().json()["Id"],
        id.as_str(),
        "a short id"
    );
    let history = d.docker(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", "small:one"]).ok();
    assert_eq!(history, "testkit");
    assert_eq!(d.get("/images/nosuch/json").unwrap().message(), "No such image: nosuch:latest");
}

#[test]
fn tags_move_and_images_dangle() {
    let d = daemon!();
    d.docker_with(&["load"], &small("moving:tag", "moving 1")).ok();
    let first = d.docker(&["images", "-q", "--no-trunc", "moving"]).ok();
    let said = d.docker_with(&["load"], &small("moving:tag", "moving 2")).ok();
    assert!(said.contains("Loaded image: moving:tag"), "{said}");
    let dangling = d.docker(&["images", "-q", "--no-trunc", "-f", "dangling=true"]).ok();
    assert!(dangling.contains(&first), "{dangling}");
    d.docker(&["tag", "moving:tag", "other/name:v1"]).ok();
    let document = d.get("/images/other/name:v1/json").unwrap().json();
    assert_eq!(document["RepoTags"].as_array().unwrap().len(), 2);
    let said = d.docker(&["rmi", "other/name:v1"]).ok();
    assert_eq!(said, "Untagged: other/name:v1");
    let pruned = d.docker(&["image", "prune", "-f"]).ok();
    assert!(pruned.contains(&format!("deleted: {first}")), "{pruned}");
    let said = d.docker(&["rmi", "moving:tag"]).ok();
    assert!(said.starts_with("Untagged: moving:tag\nDeleted: sha256:"), "{said}");
    d.docker(&["rmi", "moving:tag"]).fails(1, "No such image: moving:tag");
    d.docker(&["tag", "busybox", "Upper/Case"]).fails(1, "must be lowercase");
}

#[test]
fn an_image_in_use_stays() {
    let d = daemon!();
    let id = d.docker(&["create", "busybox"]).ok();
    let run = d.docker(&["rmi", "busybox"]);
    run.fails(
        1,
        &format!(
            "conflict: unable to remove repository reference \"busybox\" (must force) - container {} is using its referenced image",
            &id[..12]
        ),
    );
    d.docker(&["rmi", " "]).fails(1, "image name cannot be blank");
    let said = d.docker(&["rmi", "-f", "busybox"]).ok();
    assert!(said.starts_with("Untagged: busybox:latest\nDeleted: sha256:"), "{said}");
    d.docker(&["start", &id]).ok();
}

#[test]
fn save_gives_back_what_load_takes() {
    let d = daemon!();
    d.docker_with(&["load"], &small("saved:one", "x")).ok();
    let id = d.docker(&["images", "-q", "--no-trunc", "saved"]).ok();
    let path = d.path("saved.tar");
    d.docker(&["save", "-o", path.to_str().unwrap(), "saved:one", "busybox"]).ok();
    d.docker(&["rmi", "saved:one"]).ok();
    let said = d.docker(&["load", "-i", path.to_str().unwrap()]).ok();
    assert!(said.contains("Loaded image: saved:one"), "{said}");
    assert_eq!(d.docker(&["images", "-q", "--no-trunc", "saved"]).ok(), id);
    d.docker(&["save", "-o", path.to_str().unwrap(), "nosuch"]).fails(1, "No such image: nosuch");
}

#[test]
fn import_with_changes_runs() {
    let d = daemon!();
    let busybox = std::fs::read("/bin/busybox").unwrap();
    let layer = image::layer(&[Entry::Dir("bin", 0o755), Entry::File("bin/sh", 0o755, &busybox)]).unwrap();
    let id = d
        .docker_with(
            &[
                "import",
                "-m",
                "note",
                "-c",
                "CMD [\"sh\", \"-c\", \"echo $WHO\"]",
                "-c",
                "ENV WHO=imported",
                "-",
                "imported:1",
            ],
            &layer,
        )
        .ok();
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(d.docker(&["run", "--rm", "--network", "none", "imported:1"]).ok(), "imported");
    let history = d.docker(&["history", "--format", "{{.Comment}}", "imported:1"]).ok();
    assert_eq!(history, "note");
    d.docker_with(&["import", "-c", "RUN true", "-", "bad:1"], &layer)
        .fails(1, "RUN is not a valid change command");
}

#[test]
fn layers_whiteouts_and_links() {
    let d = daemon!();
    let base = image::layer(&[
        Entry::Dir("dir", 0o755),
        Entry::File("dir/gone", 0o644, b"1"),
        Entry::File("dir/kept", 0o600, b"2"),
        Entry::Dir("opaque", 0o755),
        Entry::File("opaque/hidden", 0o644, b"3"),
        Entry::Link("link", "dir/kept"),
    ])
    .unwrap();
    let top = image::layer(&[
        Entry::Dir("dir", 0o755),
        Entry::File("dir/.wh.gone", 0o644, b""),
        Entry::Dir("opaque", 0o755),
        Entry::File("opaque/.wh..wh..opq", 0o644, b""),
        Entry::File("opaque/new", 0o644, b"4"),
    ])
    .unwrap();
    let busybox = std::fs::read("/bin/busybox").unwrap();
    let tools =
        image::layer(&[Entry::Dir("bin", 0o755), Entry::File("bin/busybox", 0o755, &busybox)]).unwrap();
    let archive =
        image::archive("layers:1", &json!({ "Entrypoint": ["/bin/busybox"] }), &[base, top, tools]).unwrap();
    d.docker_with(&["load"], &archive).ok();
    let run = |args: &[&str]| d.docker(&[&["run", "--rm", "--network", "none", "layers:1"], args].concat());
    assert_eq!(run(&["ls", "/dir"]).ok(), "kept");
    assert_eq!(run(&["ls", "/opaque"]).ok(), "new");
    assert_eq!(run(&["cat", "/link"]).ok(), "2");
    assert_eq!(run(&["stat", "-c", "%a", "/dir/kept"]).ok(), "600");
}

#[test]
fn hostile_archives_are_refused_and_leave_nothing() {
    let d = daemon!();
    if d.is_peer() {
        return;
    }
    let before = blobs(&d);
    let images = d.docker(&["images", "-aq"]).ok();
    let escape = image::archive("evil:1", &json!({}), &[raw_layer("../../escape", b"x")]).unwrap();
    let run = d.docker_with(&["load"], &escape);
    assert!(run.code != 0 && run.stderr.contains(".."), "{run:?}");
    let good = small("good:1", "x");
    let run = d.docker_with(&["load"], &good[..good.len() / 2]);
    assert!(run.code != 0, "{run:?}");
    let mut lying = small("lying:1", "AAAAAAAA");
    let at = lying.windows(8).position(|window| window == b"AAAAAAAA").unwrap();
    lying[at] = b'B';
    let run = d.docker_with(&["load"], &lying);
    assert!(run.code != 0, "a layer that is not what its diffID says: {run:?}");
    let run = d.docker_with(&["load"], b"this is no tar at all, but it is long enough to be looked at");
    assert!(run.code != 0, "{run:?}");
    assert_eq!(d.docker(&["images", "-aq"]).ok(), images);
    let gone = eventually(std::time::Duration::from_secs(10), || (blobs(&d) == before).then_some(()));
    assert!(gone.is_some(), "left of them: {:?}, before: {before:?}", blobs(&d));
    assert!(!d.path("escape").exists());
}

/// A layer with one file whose name the tar library would refuse to write.
fn raw_layer(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut layer = image::layer(&[Entry::File("placeholder", 0o644, bytes)]).unwrap();
    layer[..100].fill(0);
    layer[..name.len()].copy_from_slice(name.as_bytes());
    layer[148..156].fill(b' ');
    let sum: u32 = layer[..512].iter().map(|byte| u32::from(*byte)).sum();
    layer[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    layer
}

fn blobs(d: &Daemon) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(d.path("data/blobs/sha256"))
        .map(|entries| {
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        })
        .unwrap_or_default();
    names.sort();
    names
}

#[test]
fn what_an_archive_says_of_itself_is_not_kept() {
    let d = daemon!();
    if d.is_peer() {
        return;
    }
    let before = blobs(&d);
    d.docker_with(&["load", "-q"], &small("kept:1", "x")).ok();
    let path = d.path("kept.tar");
    d.docker(&["save", "-o", path.to_str().unwrap(), "kept:1"]).ok();
    d.docker(&["rmi", "kept:1"]).ok();
    d.docker(&["load", "-i", path.to_str().unwrap()]).ok();
    d.docker(&["rmi", "kept:1"]).ok();
    let gone = eventually(std::time::Duration::from_secs(10), || (blobs(&d) == before).then_some(()));
    assert!(gone.is_some(), "{:?}, before: {before:?}", blobs(&d));
}

/// An image that goes and comes back while containers are made of it: each of them runs, or is told that there is none.
#[test]
fn an_image_goes_between_two_containers_never_under_one() {
    let d = daemon!();
    if d.is_peer() {
        return;
    }
    let before = blobs(&d);
    let archive = small("fleeting:1", "x");
    std::thread::scope(|scope| {
        let (d, archive) = (&d, &archive);
        scope.spawn(move || {
            for _ in 0..15 {
                d.docker_with(&["load", "-q"], archive).ok();
                let reply = d.request("DELETE", "/images/fleeting:1", None).unwrap();
                assert!([200, 404, 409].contains(&reply.status), "{}: {}", reply.status, reply.text());
            }
        });
        scope.spawn(move || {
            let ask = json!({ "Image": "fleeting:1", "Cmd": ["/none"] });
            for _ in 0..60 {
                let made = d.post("/containers/create", &ask);
                assert!([201, 404].contains(&made.status), "{}: {}", made.status, made.text());
                if made.status == 201 {
                    let id = made.json()["Id"].as_str().unwrap().to_owned();
                    // The layer is there, though nothing in it can run.
                    let marker = d.get(&format!("/containers/{id}/archive?path=/data/marker")).unwrap();
                    assert_eq!(marker.status, 200, "{}", marker.text());
                    let gone = d.request("DELETE", &format!("/containers/{id}"), None).unwrap();
                    assert_eq!(gone.status, 204, "{}", gone.text());
                }
            }
        });
    });
    let _ = d.request("DELETE", "/images/fleeting:1?force=1", None);
    let gone = eventually(std::time::Duration::from_secs(10), || (blobs(&d) == before).then_some(()));
    assert!(gone.is_some(), "{:?}, before: {before:?}", blobs(&d));
    assert!(d.wharf(&["system", "check"]).ok().contains("checked"));
}

#[test]
fn an_image_goes_only_for_the_platform_it_has() {
    let d = daemon!();
    d.docker_with(&["load", "-q"], &small("small:1", "x")).ok();
    let image = d.get("/images/small:1/json").unwrap().json();
    let (own, other) = (image["Architecture"].as_str().unwrap(), "s390x");
    let remove = |architecture: &[&str]| {
        let wanted: Vec<Value> = architecture
            .iter()
            .map(|architecture| json!({ "os": "linux", "architecture": architecture }))
            .collect();
        // The list in its query, as the stock client writes it: one JSON document a parameter.
        let query: Vec<String> = wanted
            .iter()
            .map(|wanted| format!("platforms={}", wanted.to_string().replace('"', "%22")))
            .collect();
        d.request("DELETE", &format!("/images/small:1?{}", query.join("&")), None).unwrap()
    };
    let refused = remove(&[other]);
    assert_eq!(refused.status, 404, "{}", refused.text());
    assert!(refused.message().contains("does not match the specified platform"), "{}", refused.text());
    assert_eq!(remove(&[own, other]).status, 400);
    assert_eq!(d.get("/images/small:1/json").unwrap().status, 200);
    let removed = remove(&[own]);
    assert_eq!(removed.status, 200, "{}", removed.text());
    assert_eq!(removed.json()[0]["Untagged"], "small:1");
    assert_eq!(d.get("/images/small:1/json").unwrap().status, 404);
}

#[test]
fn a_full_disk_ends_a_load_which_leaves_nothing() {
    let disk = SmallDisk::new(48);
    let d = Daemon::start_on(&disk, env!("CARGO_BIN_EXE_wharf"), &[]);
    let content: Vec<u8> =
        (0..4_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let layer = image::layer(&[Entry::File("large", 0o644, &content)]).unwrap();
    let config =
        json!({ "architecture": "amd64", "os": "linux", "config": {}, "rootfs": { "type": "layers" } });
    let archive = image::archive("large:1", &config, &[layer]).unwrap();
    let kept = || {
        let folders = ["blobs/sha256", "partial", "ingest", "snapshots/layers", "trash"];
        let entries =
            folders.iter().flat_map(|folder| std::fs::read_dir(disk.path("data").join(folder)).unwrap());
        entries.map(|entry| entry.unwrap().path()).collect::<std::collections::BTreeSet<_>>()
    };
    let before = kept();
    for room in [0, 2 << 20] {
        disk.fill();
        disk.leave(room);
        d.docker_with(&["load", "-q"], &archive).fails(1, "no space left on device");
        let gone = eventually(std::time::Duration::from_secs(10), || (kept() == before).then_some(()));
        assert!(gone.is_some(), "with {room} bytes: {:?}", kept());
        disk.free();
    }
    assert_eq!(d.docker_with(&["load", "-q"], &archive).ok(), "Loaded image: large:1");
}
