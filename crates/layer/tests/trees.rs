//! Trees into archives and back: whatever a tree holds, it comes back the same; layers do to a tree what they did where they
//! were made.

mod support;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;

use proptest::prelude::*;
use rustix::fs::{FileType, Timespec};
use support::{Place, Raw, read};
use wharf_layer::{
    ChangeKind, PackOptions, UnpackOptions, Whiteouts, changes, changes_between, diff, diff_between, pack,
    unpack,
};
use wharf_sys::root::{Dir, Root};

/// What there is to know about an entry.
#[derive(Debug, PartialEq)]
struct Facts {
    mode: u32,
    owner: (u32, u32),
    seconds: i64,
    device: u64,
    links: u64,
    content: Vec<u8>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

fn facts(root: &Path) -> BTreeMap<Vec<u8>, Facts> {
    let mut all = BTreeMap::new();
    walk(&Root::open(root).unwrap().top().unwrap(), root, &[], &mut all);
    all
}

fn walk(dir: &Dir, real: &Path, path: &[u8], all: &mut BTreeMap<Vec<u8>, Facts>) {
    for entry in dir.entries().unwrap() {
        let stat = dir.stat(&entry.name).unwrap();
        let inner = [path, b"/", entry.name.as_bytes()].concat();
        let place = real.join(&entry.name);
        let is_dir = entry.kind == FileType::Directory;
        let content = match entry.kind {
            FileType::RegularFile => std::fs::read(&place).unwrap(),
            FileType::Symlink => dir.read_link(&entry.name).unwrap().as_bytes().to_vec(),
            _ => Vec::new(),
        };
        let names = dir.list_xattrs(&entry.name).unwrap();
        let xattrs = names.iter().map(|name| {
            (name.as_bytes().to_vec(), dir.get_xattr(&entry.name, name).unwrap().unwrap_or_default())
        });
        let facts = Facts {
            mode: stat.st_mode,
            owner: (stat.st_uid, stat.st_gid),
            seconds: stat.st_mtime,
            device: stat.st_rdev,
            links: if is_dir { 0 } else { stat.st_nlink },
            content,
            xattrs: xattrs.collect(),
        };
        all.insert(inner.clone(), facts);
        if is_dir {
            walk(&dir.dir(&entry.name).unwrap(), &place, &inner, all);
        }
    }
}

fn packed(place: &Place) -> Vec<u8> {
    pack(&place.root(), Path::new("/"), PackOptions::default(), Vec::new()).unwrap()
}

/// One step of making a random tree.
#[derive(Debug, Clone)]
struct Made {
    dir: usize,
    name: Vec<u8>,
    kind: u8,
    mode: u32,
    owner: (u32, u32),
    seconds: i64,
    content: Vec<u8>,
    xattr: Option<Vec<u8>>,
}

fn made() -> impl Strategy<Value = Made> {
    let name = prop_oneof![
        "[a-c]{1,2}".prop_map(String::into_bytes),
        "[a-z]{120,200}".prop_map(String::into_bytes),
        prop::collection::vec(1u8..=255, 1..6),
    ];
    let name = name.prop_filter("a name", |name| {
        !name.contains(&b'/') && !matches!(&name[..], b"." | b"..") && !name.starts_with(b".wh.")
    });
    let owner = (prop_oneof![0u32..2000, Just(u32::MAX - 7)], 0u32..3_000_000);
    let seconds = prop_oneof![0i64..2_000_000_000, -9_000i64..0, Just(9_000_000_000)];
    let content = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        (511usize..1100).prop_map(|size| vec![b'x'; size])
    ];
    let xattr = prop::option::of(prop::collection::vec(any::<u8>(), 0..30));
    (0usize..8, name, 0u8..7, 0u32..0o10000, owner, seconds, content, xattr).prop_map(
        |(dir, name, kind, mode, owner, seconds, content, xattr)| Made {
            dir,
            name,
            kind,
            mode,
            owner,
            seconds,
            content,
            xattr,
        },
    )
}

/// Makes a tree; steps that clash with earlier ones are left out. Times of directories come last.
fn build(root: &Root, steps: &[Made]) {
    let mut dirs = vec![root.top().unwrap()];
    let mut files: Vec<(usize, Vec<u8>)> = Vec::new();
    let mut times = Vec::new();
    for step in steps {
        let at = step.dir % dirs.len();
        let (dir, name) = (&dirs[at], OsStr::from_bytes(&step.name));
        let done = match step.kind {
            0 | 1 => dir.create_file(name, 0o600).map(|file| file.write_all_at(&step.content, 0).unwrap()),
            2 | 3 => dir.mkdir(name, 0o755),
            4 => dir.symlink(name, OsStr::from_bytes(&[b"../", &step.name[..]].concat())),
            5 => match files.last() {
                Some((from, old)) => dir.link(name, &dirs[*from], OsStr::from_bytes(old)),
                None => continue,
            },
            _ => dir.mknod(name, FileType::CharacterDevice, 0o600, (1, 3)),
        };
        if done.is_err() || step.kind == 5 {
            continue;
        }
        dir.chown(name, step.owner.0, step.owner.1).unwrap();
        if step.kind != 4 {
            dir.chmod(name, step.mode).unwrap();
        }
        if let (Some(value), 0..=3) = (&step.xattr, step.kind) {
            dir.set_xattr(name, OsStr::new("user.test"), value).unwrap();
        }
        times.push((at, step.name.clone(), step.seconds));
        match step.kind {
            0 | 1 => files.push((at, step.name.clone())),
            2 | 3 => {
                let made = dir.dir(name).unwrap();
                dirs.push(made);
            }
            _ => {}
        }
    }
    for (at, name, seconds) in times.iter().rev() {
        let time = Timespec { tv_sec: *seconds, tv_nsec: 0 };
        dirs[*at].set_times(OsStr::from_bytes(name), time, time).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_tree_comes_back_as_it_was(steps in prop::collection::vec(made(), 0..25)) {
        let (from, to) = (Place::new(), Place::new());
        build(&from.root(), &steps);
        let archive = packed(&from);
        let summary = to.unpack(&archive, Whiteouts::Plain).unwrap();
        prop_assert_eq!(facts(&from.path("")), facts(&to.path("")));
        prop_assert_eq!(summary.diff_id.0, wharf_oci::Digest::of(&archive));
        prop_assert_eq!(packed(&to), archive);
    }

    #[test]
    fn a_difference_applied_gives_the_other_tree(
        steps in prop::collection::vec(made(), 0..20),
        other in prop::collection::vec(made(), 0..20),
    ) {
        let (lower, upper) = (Place::new(), Place::new());
        build(&lower.root(), &steps);
        build(&upper.root(), &other);
        let mut layer = Vec::new();
        diff_between(&lower.root(), &upper.root(), &mut layer).unwrap();
        lower.unpack(&layer, Whiteouts::Apply).unwrap();
        let names = |place: &Place| facts(&place.path("")).into_iter().map(|(path, facts)| (path, facts.mode, facts.content)).collect::<Vec<_>>();
        prop_assert_eq!(names(&lower), names(&upper));
    }
}

#[test]
fn whiteouts_become_overlay_ones_and_layers_again() {
    let place = Place::new();
    let layer = Raw::default()
        .dir("d/")
        .file("d/.wh..wh..opq", b"")
        .file("d/kept", b"1")
        .file(".wh.gone", b"")
        .file(".wh..wh.plnk", b"")
        .end();
    place.unpack(&layer, Whiteouts::Overlay).unwrap();
    let gone = std::fs::metadata(place.path("gone")).unwrap();
    assert_eq!((gone.rdev(), gone.mode() & 0o170_000), (0, 0o020_000));
    let top = place.root().top().unwrap();
    assert_eq!(top.get_xattr("d".as_ref(), "trusted.overlay.opaque".as_ref()).unwrap().unwrap(), b"y");
    assert!(!place.path(".wh..wh.plnk").exists());

    let mut again = Vec::new();
    let summary = diff(&place.root(), &mut again).unwrap();
    assert_eq!(summary.diff_id.0, wharf_oci::Digest::of(&again));
    let mut paths = Vec::new();
    let mut reader = wharf_layer::tar::Reader::new(&again[..]);
    while let Some(entry) = reader.next().unwrap() {
        paths.push(String::from_utf8(entry.path).unwrap());
    }
    assert_eq!(paths, ["d/", "d/.wh..wh..opq", "d/kept", ".wh.gone"]);
}

#[test]
fn whiteouts_hide_only_the_layers_below() {
    let lower = Raw::default().file("d/old", b"").file("d/sub/old", b"").file("f", b"old").end();
    for upper in [
        Raw::default()
            .file("d/new", b"")
            .file("d/sub/new", b"")
            .file("d/.wh..wh..opq", b"")
            .file("f", b"new")
            .file(".wh.f", b""),
        Raw::default()
            .file(".wh.d", b"")
            .file("d/new", b"")
            .file("d/sub/new", b"")
            .file(".wh.f", b"")
            .file("f", b"new"),
    ] {
        let place = Place::new();
        place.unpack(&lower, Whiteouts::Apply).unwrap();
        place.unpack(&upper.end(), Whiteouts::Apply).unwrap();
        assert_eq!(read(place.path("f")), "new");
        let left: Vec<_> = facts(&place.path("d")).into_keys().collect();
        assert_eq!(left, [&b"/new"[..], b"/sub", b"/sub/new"]);
    }
}

#[test]
fn a_directory_over_its_own_whiteout_is_opaque() {
    for layer in [
        Raw::default().file(".wh.d", b"").dir("d/").file("d/new", b""),
        Raw::default().dir("d/").file("d/new", b"").file(".wh.d", b""),
    ] {
        let place = Place::new();
        place.unpack(&layer.end(), Whiteouts::Overlay).unwrap();
        let top = place.root().top().unwrap();
        assert_eq!(top.get_xattr("d".as_ref(), "trusted.overlay.opaque".as_ref()).unwrap().unwrap(), b"y");
        assert!(place.path("d/new").exists());
    }
}

#[test]
fn changes_are_told_as_docker_does() {
    let (lower, upper) = (Place::new(), Place::new());
    let below = Raw::default()
        .file("d/f", b"1")
        .file("d/g", b"1")
        .file("same", b"1")
        .dir("e")
        .file("e/x", b"1")
        .end();
    lower.unpack(&below, Whiteouts::Plain).unwrap();
    let above = Raw::default()
        .file("d/f", b"22")
        .file("d/.wh.g", b"")
        .file("d/.wh.never", b"")
        .file("same", b"1")
        .dir("e")
        .file("n/m", b"")
        .end();
    upper.unpack(&above, Whiteouts::Overlay).unwrap();
    let told: Vec<_> = changes(&upper.root(), &lower.root())
        .unwrap()
        .into_iter()
        .map(|change| (change.path.to_str().unwrap().to_owned(), change.kind))
        .collect();
    use ChangeKind::{Added, Deleted, Modified};
    // `e` is 0644 in both and `same` has the same time and size; `d` is there because of what changed in it.
    let wanted = [("/d", Modified), ("/d/f", Modified), ("/d/g", Deleted), ("/n", Added), ("/n/m", Added)];
    assert_eq!(told, wanted.map(|(path, kind)| (path.to_owned(), kind)));
    assert_eq!(changes_between(&lower.root(), &lower.root()).unwrap(), []);
}

#[test]
fn sparse_files_of_all_formats_have_their_holes() {
    let old = Raw::default().header("f", b'S', 4, "").patch(|block| {
        block[257..265].copy_from_slice(b"ustar  \0");
        block[386..410].copy_from_slice(b"00000002000\x0000000000004\0");
        block[483..495].copy_from_slice(b"00000004000\0");
    });
    let v00 = Raw::default()
        .pax(
            b'x',
            &[
                ("GNU.sparse.size", "2048"),
                ("GNU.sparse.numblocks", "1"),
                ("GNU.sparse.offset", "1024"),
                ("GNU.sparse.numbytes", "4"),
            ],
        )
        .header("f", b'0', 4, "");
    let v01 = Raw::default()
        .pax(b'x', &[("GNU.sparse.size", "2048"), ("GNU.sparse.map", "1024,4"), ("GNU.sparse.name", "f")])
        .header("GNUSparseFile.0/f", b'0', 4, "");
    let v10 = Raw::default()
        .pax(
            b'x',
            &[
                ("GNU.sparse.major", "1"),
                ("GNU.sparse.minor", "0"),
                ("GNU.sparse.name", "f"),
                ("GNU.sparse.realsize", "2048"),
            ],
        )
        .header("GNUSparseFile.0/f", b'0', 516, "")
        .data(b"1\n1024\n4\n");
    let mut wanted = vec![0; 2048];
    wanted[1024..1028].copy_from_slice(b"data");
    for (format, archive) in [("old", old), ("0.0", v00), ("0.1", v01), ("1.0", v10)] {
        let place = Place::new();
        place.unpack(&archive.data(b"data").file("next", b"n").end(), Whiteouts::Plain).unwrap();
        assert_eq!(std::fs::read(place.path("f")).unwrap(), wanted, "{format}");
        assert_eq!(read(place.path("next")), "n", "{format}");
    }
}

#[test]
fn gnu_tar_reads_what_is_written_and_is_read() {
    let (from, to, back) = (Place::new(), Place::new(), Place::new());
    std::fs::create_dir(from.path("d")).unwrap();
    std::fs::write(from.path("d/näme"), "x").unwrap();
    std::fs::write(from.path(&format!("d/{}", "l".repeat(180))), "y").unwrap();
    std::fs::hard_link(from.path("d/näme"), from.path("h")).unwrap();
    symlink("t".repeat(150), from.path("s")).unwrap();
    std::fs::write(from.path("archive"), packed(&from)).unwrap();
    let tar = |arguments: &[&str], archive: &Path, dir: &Path| {
        let tar = std::process::Command::new("tar")
            .args(arguments)
            .arg(archive)
            .arg("-C")
            .arg(dir)
            .arg(".")
            .output();
        let output = tar.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let archive = from.path("archive");
    let status =
        std::process::Command::new("tar").arg("-xpf").arg(&archive).arg("-C").arg(to.path("")).status();
    assert!(status.unwrap().success());
    std::fs::remove_file(&archive).unwrap();
    let mut known = facts(&to.path(""));
    known.remove(&b"/archive"[..]);
    assert_eq!(facts(&from.path("")), known);
    for format in ["--format=gnu", "--format=pax", "--format=ustar"] {
        if format == "--format=ustar" {
            std::fs::remove_dir_all(from.path("d")).unwrap();
            std::fs::remove_file(from.path("s")).unwrap();
        }
        back.root().top().unwrap().clear().unwrap();
        tar(&[format, "-cf"], &to.path("archive"), &from.path(""));
        back.unpack(&std::fs::read(to.path("archive")).unwrap(), Whiteouts::Plain).unwrap();
        assert_eq!(facts(&from.path("")), facts(&back.path("")), "{format}");
    }
}

#[test]
fn everything_can_be_given_one_owner_and_kinds_be_kept() {
    let place = Place::new();
    let mut options = UnpackOptions::new(Whiteouts::Plain);
    options.owner = Some((11, 12));
    unpack(&Raw::default().file("f", b"").dir("d").end()[..], &place.root(), &options).unwrap();
    let meta = std::fs::metadata(place.path("f")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (11, 12));
    options.keep_kind = true;
    let error = unpack(&Raw::default().file("d", b"").end()[..], &place.root(), &options).unwrap_err();
    assert_eq!(error.to_string(), "cannot overwrite directory \"d\" with non-directory \"\"");
    let error = unpack(&Raw::default().dir("f").end()[..], &place.root(), &options).unwrap_err();
    assert_eq!(error.to_string(), "cannot overwrite non-directory \"f\" with directory \"\"");
}
