//! The contract of snapshots, run by every driver.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use wharf_layer::tar::{Entry, Kind, Writer};
use wharf_oci::image::media_type;
use wharf_oci::{Descriptor, DiffId, Digest, ImageConfig, Platform, Reference};
use wharf_store::{Batch, Driver, Image, ImageLayer, Store};
use wharf_sys::root::Root;

/// A layer of files: name and content; a name ending in `/` is a directory.
fn layer(files: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (name, content) in files {
        let kind = if name.ends_with('/') { Kind::Directory } else { Kind::File };
        let mut entry = Entry::new(kind, *name);
        entry.mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
        entry.size = content.len() as u64;
        writer.append_file(&entry, content.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

/// Brings in an image of these layers without committing it.
fn draft(batch: &Batch, layers: &[Vec<u8>]) -> wharf_store::Result<Image> {
    let mut named = Vec::new();
    for bytes in layers {
        let digest = batch.put(bytes)?;
        let blob = Descriptor::new(media_type::OCI_LAYER, digest, bytes.len() as u64);
        named.push(ImageLayer { diff_id: DiffId(digest), blob, size: 0 });
    }
    let sizes = batch.unpack(&named)?;
    for (layer, size) in named.iter_mut().zip(sizes) {
        layer.size = size.unwrap();
    }
    let mut config = ImageConfig::default();
    config.rootfs.diff_ids = named.iter().map(|layer| layer.diff_id).collect();
    let bytes = serde_json::to_vec(&config).unwrap();
    let id = batch.put(&bytes)?;
    let mut blobs: Vec<Digest> = named.iter().map(|layer| layer.blob.digest).collect();
    blobs.push(id);
    let target = Descriptor::new(media_type::OCI_MANIFEST, id, 1);
    Ok(Image {
        id,
        config_size: bytes.len() as u64,
        manifest: target.clone(),
        target,
        layers: named,
        blobs,
        parent: None,
        tagged: None,
        created: None,
        platform: Platform::host(),
        labels: Default::default(),
        made: false,
        removed: false,
    })
}

fn image(store: &Arc<Store>, name: &str, layers: &[Vec<u8>]) -> Digest {
    let batch = store.batch().unwrap();
    let image = draft(&batch, layers).unwrap();
    let id = image.id;
    batch.commit(vec![image], vec![(Reference::parse(name).unwrap().with_default_tag(), id)]).unwrap();
    id
}

/// The container's root, mounted nowhere.
fn root(store: &Store, container: &str) -> Root {
    Root::from_fd(store.recipe(container).unwrap().mount().unwrap().into_fd())
}

fn read(root: &Root, path: &str) -> Option<String> {
    root.read(path, 1000).ok().map(|bytes| String::from_utf8(bytes).unwrap())
}

fn write(root: &Root, path: &str, content: &str) {
    let (dir, name) = root.parent(path).unwrap().unwrap();
    dir.create_file(&name, 0o644).unwrap().write_all(content.as_bytes()).unwrap();
}

/// Names in a directory.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Closes the data root; the thread that marks layers as synced may hold it for a moment.
fn close(store: Arc<Store>) {
    while Arc::strong_count(&store) > 1 {
        std::thread::yield_now();
    }
    drop(store);
}

fn wait_until_empty(dir: &Path) {
    for _ in 0..12_000 {
        if names(dir).is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("{} is not freed: {:?}", dir.display(), names(dir));
}

fn on_every_driver(test: impl Fn(&Path, Driver)) {
    for driver in [Driver::Overlay, Driver::Vfs] {
        let dir = tempfile::tempdir().unwrap();
        test(dir.path(), driver);
    }
}

#[test]
fn a_container_sees_all_layers_and_writes_to_none() {
    on_every_driver(|dir, driver| {
        let store = Store::open(dir, Some(driver)).unwrap();
        let layers = [
            layer(&[("a/", ""), ("a/x", "1"), ("a/y", "1"), ("b", "1")]),
            layer(&[("a/", ""), ("a/.wh.y", ""), ("a/x", "2")]),
        ];
        let id = image(&store, "a", &layers);
        assert_eq!(store.image(&id).unwrap().size(), 4);
        store.create_active("one", Some(&id)).unwrap();
        store.create_active("two", Some(&id)).unwrap();
        let (one, two) = (root(&store, "one"), root(&store, "two"));
        assert_eq!(
            (read(&one, "a/x"), read(&one, "a/y"), read(&one, "b")),
            (Some("2".into()), None, Some("1".into()))
        );
        assert!(one.exists("proc") && one.exists("etc/hosts") && one.exists("dev/console"));
        write(&one, "a/z", "3");
        assert_eq!((read(&one, "a/z"), read(&two, "a/z")), (Some("3".into()), None));
        assert!(store.usage("one").unwrap().bytes >= 1);
        let base = Root::from_fd(store.base_recipe("one").unwrap().mount().unwrap().into_fd());
        assert_eq!((read(&base, "a/x"), read(&base, "a/z")), (Some("2".into()), None));
    });
}

#[test]
fn containers_survive_a_restart_and_orphans_do_not() {
    on_every_driver(|dir, driver| {
        let store = Store::open(dir, Some(driver)).unwrap();
        let id = image(&store, "a", &[layer(&[("x", "1")])]);
        store.create_active("kept", Some(&id)).unwrap();
        store.create_active("orphan", Some(&id)).unwrap();
        store.create_active("bare", None).unwrap();
        write(&root(&store, "kept"), "y", "2");
        close(store);
        let store = Store::open(dir, Some(driver)).unwrap();
        store.retain_actives(|id| id != "orphan").unwrap();
        let mut actives = store.actives();
        actives.sort();
        assert_eq!(actives, ["bare", "kept"]);
        assert_eq!(read(&root(&store, "kept"), "y"), Some("2".into()));
        assert!(root(&store, "bare").exists("etc/hosts"));
        assert!(store.recipe("orphan").is_err());
    });
}

#[test]
fn a_snapshot_that_was_half_made_is_made_again() {
    on_every_driver(|root, driver| {
        let store = Store::open(root, Some(driver)).unwrap();
        let id = image(&store, "i", &[layer(&[("file", "content")])]);
        store.create_active("c", Some(&id)).unwrap();
        close(store);
        // As a crash leaves it: no name yet, and not all that is in it.
        let actives = root.join("snapshots/active");
        let whole = actives.join(names(&actives).pop().unwrap());
        fs::remove_dir_all(&whole).unwrap();
        fs::create_dir(actives.join(".c")).unwrap();
        let store = Store::open(root, Some(driver)).unwrap();
        assert!(store.actives().is_empty() && names(&actives).is_empty());
        store.create_active("c", Some(&id)).unwrap();
        assert_eq!(read(&crate::root(&store, "c"), "file"), Some("content".into()));
        close(store);
    });
}

#[test]
fn what_nothing_reaches_is_freed_and_what_a_container_needs_is_not() {
    on_every_driver(|dir, driver| {
        let store = Store::open(dir, Some(driver)).unwrap();
        let shared = layer(&[("shared", "1")]);
        let first = image(&store, "first", &[shared.clone(), layer(&[("x", "1")])]);
        let second = image(&store, "second", &[shared, layer(&[("y", "1")])]);
        store.create_active("c", Some(&first)).unwrap();
        store.remove_images(&[first, second]).unwrap();
        assert!(store.images().is_empty() && store.names().is_empty());
        assert!(store.image_below(&first).is_some() && store.image_below(&second).is_none());
        assert_eq!(read(&root(&store, "c"), "x"), Some("1".into()));
        assert_eq!(names(&dir.join("snapshots/layers")).len(), 2);
        store.remove("c").unwrap();
        for empty in ["snapshots/layers", "snapshots/active", "blobs/sha256", "ingest", "trash"] {
            wait_until_empty(&dir.join(empty));
        }
    });
}

#[test]
fn removing_one_image_frees_what_looking_at_all_would() {
    on_every_driver(|dir, driver| {
        let store = Store::open(dir, Some(driver)).unwrap();
        let layers: Vec<_> =
            ["a", "b", "c", "d"].iter().map(|name| layer(&[(*name, "content"), ("over", *name)])).collect();
        // Chains that share layers at the same and at other depths.
        let chains: [&[usize]; 8] =
            [&[0], &[0, 1], &[1, 0], &[0, 1, 2], &[1], &[2, 1, 0], &[0, 2], &[3, 0, 3]];
        let mut state = 0x2545_f491_u32;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as usize % below
        };
        let mut there = std::collections::BTreeMap::new();
        for _ in 0..60 {
            let number = random(chains.len());
            match there.remove(&number) {
                None => {
                    let layers: Vec<_> = chains[number].iter().map(|at| layers[*at].clone()).collect();
                    there.insert(number, image(&store, &format!("image{number}"), &layers));
                }
                Some(id) => store.remove_images(&[id]).unwrap(),
            }
            let kept = [names(&dir.join("snapshots/layers")), names(&dir.join("blobs/sha256"))];
            store.collect().unwrap();
            assert_eq!(kept, [names(&dir.join("snapshots/layers")), names(&dir.join("blobs/sha256"))]);
            for (number, id) in &there {
                store.create_active("seen", Some(id)).unwrap();
                let top = ["a", "b", "c", "d"][*chains[*number].last().unwrap()];
                assert_eq!(read(&root(&store, "seen"), "over").as_deref(), Some(top), "{number}");
                store.remove("seen").unwrap();
            }
        }
    });
}

#[test]
fn a_dropped_or_refused_batch_leaves_nothing() {
    on_every_driver(|dir, driver| {
        let store = Store::open(dir, Some(driver)).unwrap();
        let good = layer(&[("x", "1")]);
        for bad in [
            layer(&[("../../escape", "1")]),
            layer(&[("x", &"1".repeat(600))])[..700].to_vec(),
            b"no archive at all, but long enough to be taken for one".repeat(20),
        ] {
            let batch = store.batch().unwrap();
            assert!(draft(&batch, &[good.clone(), bad]).is_err(), "{driver}");
        }
        drop(store.batch().unwrap().blob().unwrap());
        assert!(store.images().is_empty());
        for empty in ["snapshots/layers", "blobs/sha256", "ingest", "trash"] {
            wait_until_empty(&dir.join(empty));
        }
        assert!(!dir.join("escape").exists() && !dir.parent().unwrap().join("escape").exists());
    });
}

#[test]
fn layers_of_an_earlier_boot_that_were_never_synced_are_unpacked_again() {
    on_every_driver(|dir, driver| {
        let store = Store::open(dir, Some(driver)).unwrap();
        let id = image(&store, "a", &[layer(&[("x", "1")]), layer(&[("y", "2")])]);
        store.create_active("c", Some(&id)).unwrap();
        store.sync_layers().unwrap();
        // The power cut: a record says that another boot unpacked it, and the tree lost a file.
        let victim = names(&dir.join("snapshots/layers")).remove(0);
        store.documents("layers").put(&victim, br#"{"unsynced":"another boot"}"#).unwrap();
        let tree = dir.join("snapshots/layers").join(&victim).join("fs");
        for name in names(&tree) {
            let _ = fs::remove_file(tree.join(name));
        }
        close(store);
        let store = Store::open(dir, Some(driver)).unwrap();
        if driver == Driver::Overlay {
            assert_eq!(names(&dir.join("snapshots/layers")).len(), 1);
        }
        store.create_active("d", Some(&id)).unwrap();
        let root = root(&store, "d");
        assert_eq!((read(&root, "x"), read(&root, "y")), (Some("1".into()), Some("2".into())));
    });
}

#[test]
fn a_hundred_and_twenty_layers_work() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Some(Driver::Overlay)).unwrap();
    let layers: Vec<Vec<u8>> = (0..120)
        .map(|n| layer(&[(format!("f{n}").as_str(), "1"), ("last", n.to_string().as_str())]))
        .collect();
    let id = image(&store, "deep", &layers);
    store.create_active("c", Some(&id)).unwrap();
    let root = root(&store, "c");
    assert_eq!((read(&root, "f0"), read(&root, "last")), (Some("1".into()), Some("119".into())));
}

#[test]
fn files_without_a_record_are_swept_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), None).unwrap();
    let id = image(&store, "a", &[layer(&[("x", "1")])]);
    close(store);
    fs::write(dir.path().join("blobs/sha256").join("ab".repeat(32)), "renamed, not recorded").unwrap();
    fs::create_dir_all(dir.path().join("snapshots/layers/dead/fs")).unwrap();
    fs::create_dir_all(dir.path().join("ingest/3")).unwrap();
    let store = Store::open(dir.path(), None).unwrap();
    assert_eq!(names(&dir.path().join("blobs/sha256")).len(), 2);
    assert_eq!(names(&dir.path().join("snapshots/layers")).len(), 1);
    wait_until_empty(&dir.path().join("ingest"));
    assert!(store.image(&id).is_some());
    assert!(matches!(Store::open(dir.path(), None), Err(wharf_store::Error::InUse(_))));
}

#[test]
fn bytes_brought_in_twice_are_kept_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), None).unwrap();
    let shared = layer(&[("x", "12345")]);
    let first = image(&store, "a", std::slice::from_ref(&shared));
    let kept =
        || (names(&dir.path().join("blobs/sha256")).len(), names(&dir.path().join("snapshots/layers")).len());
    assert_eq!((image(&store, "b", std::slice::from_ref(&shared)), kept()), (first, (2, 1)));
    image(&store, "c", &[shared, layer(&[("y", "1")])]);
    assert_eq!(kept(), (4, 2));
}

/// What `du` counts under a directory, bytes.
fn du(dir: &Path) -> u64 {
    let output = std::process::Command::new("du").args(["-s", "--block-size=1"]).arg(dir).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn what_is_counted_is_what_du_counts() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), None).unwrap();
    let text = "x".repeat(300_000);
    let names: Vec<String> = (0..500).map(|number| format!("file{number}")).collect();
    let files: Vec<(&str, &str)> =
        names.iter().map(|name| (name.as_str(), &text[..name.len() * 700])).collect();
    let id = image(&store, "a", &[layer(&files), layer(&[("big", text.as_str())])]);
    let close_to = |counted: u64| {
        let actual = du(dir.path());
        assert!(counted.abs_diff(actual) * 100 <= actual, "counted {counted}, du {actual}");
    };
    close_to(store.disk_usage().total());
    store.remove_images(&[id]).unwrap();
    wait_until_empty(&dir.path().join("trash"));
    assert!(store.disk_usage().layers < 200_000, "{:?}", store.disk_usage());
}

#[test]
fn a_lease_keeps_what_has_come_for_a_request_that_failed() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = layer(&[("x", "1")]);
    let digest = Digest::of(&bytes);
    let store = Store::open(dir.path(), None).unwrap();
    let batch = store.batch().unwrap();
    batch.lease(&[digest], &[DiffId(digest)]).unwrap();
    let mut writer = batch.resumable(&digest, bytes.len() as u64).unwrap();
    writer.write_all(&bytes[..700]).unwrap();
    drop(writer);
    drop(batch);
    close(store);
    let store = Store::open(dir.path(), None).unwrap();
    store.collect().unwrap();
    assert_eq!(names(&dir.path().join("partial")), [digest.hex()]);
    let batch = store.batch().unwrap();
    let mut writer = batch.resumable(&digest, bytes.len() as u64).unwrap();
    let mut seen = Vec::new();
    assert_eq!(writer.replay(|piece| seen.extend(piece)).unwrap(), 700);
    assert_eq!(seen, bytes[..700]);
    writer.write_all(&bytes[700..]).unwrap();
    batch.keep(writer, Some(&digest)).unwrap();
    batch.commit(Vec::new(), Vec::new()).unwrap();
    store.collect().unwrap();
    assert!(store.has_blob(&digest), "the lease of the first attempt keeps it");
    assert_eq!(store.drop_partials().unwrap(), 0);
    assert!(!store.has_blob(&digest));
}

#[test]
fn a_partial_blob_has_one_writer_and_wrong_bytes_do_not_stay() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), None).unwrap();
    let digest = Digest::of(b"right");
    let batch = store.batch().unwrap();
    let mut first = batch.resumable(&digest, 5).unwrap();
    first.write_all(b"wro").unwrap();
    let mut second = batch.resumable(&digest, 5).unwrap();
    assert_eq!(second.replay(|_| {}).unwrap(), 0, "the second starts from nothing");
    first.write_all(b"ng").unwrap();
    assert!(matches!(batch.keep(first, Some(&digest)), Err(wharf_store::Error::Mismatch { .. })));
    assert!(names(&dir.path().join("partial")).is_empty());
}

#[test]
fn damage_is_found_and_what_can_be_mended_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Some(Driver::Overlay)).unwrap();
    let (one, two) = (layer(&[("x", "1")]), layer(&[("y", "2")]));
    let id = image(&store, "a", &[one.clone(), two.clone()]);
    assert!(store.check(false, &|_| {}).unwrap().findings.is_empty());
    let layers = dir.path().join("snapshots/layers");
    fs::remove_dir_all(layers.join(Digest::of(&one).hex())).unwrap();
    let blobs = dir.path().join("blobs/sha256");
    fs::write(blobs.join(Digest::of(&two).hex()), b"damaged").unwrap();
    fs::write(blobs.join("ab".repeat(32)), b"nobody's").unwrap();
    let report = store.check(false, &|_| {}).unwrap();
    let kinds: Vec<_> = report.findings.iter().map(|finding| finding.damage).collect();
    use wharf_store::Damage::{CorruptBlob, MissingLayer, Orphan};
    assert!(
        kinds.contains(&CorruptBlob) && kinds.contains(&MissingLayer) && kinds.contains(&Orphan),
        "{kinds:?}"
    );
    assert_eq!(kinds.len(), 3, "{report:?}");
    let report = store.check(true, &|_| {}).unwrap();
    assert!(
        report.findings.iter().all(|finding| finding.repaired || finding.damage == CorruptBlob),
        "{report:?}"
    );
    let left: Vec<_> =
        store.check(false, &|_| {}).unwrap().findings.into_iter().map(|left| left.damage).collect();
    assert_eq!(left, [wharf_store::Damage::MissingBlob], "only other bytes can mend that");
    store.create_active("c", Some(&id)).unwrap();
    assert_eq!(read(&root(&store, "c"), "x"), Some("1".into()));
    image(&store, "b", &[one, two]);
    assert!(store.check(false, &|_| {}).unwrap().findings.is_empty(), "brought in again");
}
