//! Archives made to write outside the target, to hide members from some readers, or to exhaust the machine. Each is refused or
//! stays inside, and the host's file beside the target is never touched.

mod support;

use support::{Place, Raw, read};
use wharf_layer::{Error, UnpackOptions, Whiteouts, unpack};

/// Unpacks as an overlay layer and checks the host.
fn refused(archive: Raw) -> Error {
    let place = Place::new();
    let error = place.unpack(&archive.end(), Whiteouts::Overlay).unwrap_err();
    assert!(place.host_untouched(), "{error}");
    error
}

fn accepted(archive: Raw) -> Place {
    let place = Place::new();
    place.unpack(&archive.end(), Whiteouts::Overlay).unwrap();
    assert!(place.host_untouched());
    place
}

#[test]
fn dotdot_in_a_path_is_refused() {
    for name in ["../secret", "a/../../secret", "/../secret", "a/..", ".."] {
        assert!(matches!(refused(Raw::default().file(name, b"x")), Error::Path(_)), "{name}");
    }
}

#[test]
fn absolute_paths_are_taken_as_inner_ones() {
    let place = accepted(Raw::default().file("/etc//./passwd", b"x"));
    assert_eq!(read(place.path("etc/passwd")), "x");
}

#[test]
fn a_file_through_an_absolute_symlink_stays_inside() {
    let place = Place::new();
    let outside = place.secret();
    let archive = Raw::default().symlink("link", &outside).file("link", b"evil").end();
    place.unpack(&archive, Whiteouts::Overlay).unwrap();
    assert_eq!(read(place.path("link")), "evil");
    assert!(place.host_untouched());
}

#[test]
fn a_directory_symlink_leads_inside_only() {
    for target in ["/", "../..", "../../../..", "/proc/self/root"] {
        let place = Place::new();
        let archive = Raw::default().symlink("link", target).file("link/secret", b"evil").end();
        // The link to a directory that is not there is an error, the others lead to the root itself.
        let result = place.unpack(&archive, Whiteouts::Overlay);
        assert_eq!(result.is_ok(), target != "/proc/self/root", "{target}");
        assert!(place.host_untouched(), "{target}");
    }
}

#[test]
fn a_link_in_the_place_of_a_remembered_directory_is_noticed() {
    let place = accepted(
        Raw::default()
            .dir("real")
            .dir("swap")
            .file("swap/first", b"1")
            .symlink("swap", "real")
            .file("swap/second", b"2"),
    );
    assert_eq!(read(place.path("real/second")), "2");
    assert!(!place.path("real/first").exists());
}

#[test]
fn hard_links_to_the_outside_are_refused() {
    for target in ["../secret", "a/../../secret"] {
        assert!(matches!(refused(Raw::default().hardlink("l", target)), Error::Path(_)), "{target}");
    }
    let place = Place::new();
    let archive = Raw::default().hardlink("l", &place.secret()).end();
    assert!(matches!(place.unpack(&archive, Whiteouts::Overlay).unwrap_err(), Error::Link { .. }));
    assert!(place.host_untouched());
}

#[test]
fn hard_links_through_symlinks_stay_inside() {
    let archive = Raw::default().symlink("up", "../").hardlink("l", "up/secret");
    assert!(matches!(refused(archive), Error::Link { .. }));
}

#[test]
fn a_hard_link_to_a_symlink_is_that_symlink() {
    let place = Place::new();
    let outside = place.secret();
    let archive = Raw::default().symlink("s", &outside).hardlink("l", "s").file("l", b"evil").end();
    place.unpack(&archive, Whiteouts::Overlay).unwrap();
    assert!(place.host_untouched());
    assert_eq!(read(place.path("l")), "evil");
}

#[test]
fn hard_links_to_nothing_to_the_root_and_to_directories_are_refused() {
    for target in ["missing", "", "/", ".", "d"] {
        let error = refused(Raw::default().dir("d").hardlink("l", target));
        assert!(matches!(error, Error::Link { .. }), "{target}: {error}");
    }
}

#[test]
fn whiteouts_of_no_name_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "d/.wh..."] {
        assert!(matches!(refused(Raw::default().file(name, b"")), Error::Path(_)), "{name}");
    }
}

#[test]
fn applied_whiteouts_do_not_leave_through_links() {
    let place = Place::new();
    let up = Raw::default().symlink("up", "..").end();
    place.unpack(&up, Whiteouts::Apply).unwrap();
    let archive = Raw::default().file("up/.wh.secret", b"").file("up/.wh..wh..opq", b"").end();
    place.unpack(&archive, Whiteouts::Apply).unwrap();
    assert!(place.host_untouched());
}

#[test]
fn attributes_of_overlayfs_itself_are_left_out() {
    let place = accepted(
        Raw::default()
            .pax(b'x', &[("SCHILY.xattr.trusted.overlay.redirect", "/etc"), ("SCHILY.xattr.user.a", "1")])
            .dir("d"),
    );
    let top = place.root().top().unwrap();
    let names = top.list_xattrs("d".as_ref()).unwrap();
    assert!(!names.iter().any(|name| name.to_string_lossy().starts_with("trusted.overlay")), "{names:?}");
    assert!(names.contains(&"user.a".into()));
}

#[test]
fn modes_are_not_set_through_links() {
    let place = Place::new();
    let outside = place.secret();
    let before = std::fs::metadata(&outside).unwrap().permissions();
    let archive =
        Raw::default().symlink("l", &outside).patch(|block| block[100..108].copy_from_slice(b"0000777\0"));
    place.unpack(&archive.end(), Whiteouts::Overlay).unwrap();
    assert_eq!(std::fs::metadata(&outside).unwrap().permissions(), before);
}

#[test]
fn two_sizes_are_refused() {
    // The smuggling of CVE-2025-62518: a reader that ignores the extended header takes content for headers.
    let inner = Raw::default().file("smuggled", b"x").end();
    let archive = Raw::default()
        .pax(b'x', &[("size", &inner.len().to_string())])
        .header("outer", b'0', 512, "")
        .data(&inner);
    assert!(matches!(refused(archive), Error::SizeDisagreement { ustar: 512, .. }));
}

#[test]
fn a_size_in_the_extended_header_alone_counts() {
    let inner = Raw::default().file("smuggled", b"x").end();
    let place = accepted(
        Raw::default()
            .pax(b'x', &[("size", &inner.len().to_string())])
            .header("outer", b'0', 0, "")
            .data(&inner),
    );
    assert_eq!(std::fs::read(place.path("outer")).unwrap(), inner);
    assert!(!place.path("smuggled").exists());
}

#[test]
fn an_extended_header_passes_a_long_name_to_its_member() {
    // GHSA-3cv2-h65g-fgmm: applied to the long name's own header, the size would make its content longer.
    let place = accepted(
        Raw::default()
            .pax(b'x', &[("mtime", "77")])
            .header("././@LongLink", b'L', 5, "")
            .data(b"long\0")
            .file("short", b"x"),
    );
    let modified = std::os::unix::fs::MetadataExt::mtime(&std::fs::metadata(place.path("long")).unwrap());
    assert_eq!(modified, 77);
}

#[test]
fn headers_that_readers_understand_differently_are_refused() {
    let cases = [
        (
            "two extended headers",
            Raw::default().pax(b'x', &[("path", "a")]).pax(b'x', &[("path", "b")]).file("c", b""),
        ),
        ("global path", Raw::default().pax(b'g', &[("path", "a")]).file("c", b"")),
        ("global size", Raw::default().pax(b'g', &[("size", "512")]).file("c", b"")),
        ("link with content", Raw::default().header("l", b'2', 512, "t").data(&[1; 512])),
        ("directory with content", Raw::default().header("d", b'5', 512, "").data(&[1; 512])),
        (
            "lone zero block",
            Raw(Raw::default().file("a", b"").data(&[]).0.into_iter().chain([0; 512]).collect())
                .file("b", b""),
        ),
        (
            "octal with text",
            Raw::default().file("a", b"").patch(|block| block[124..136].copy_from_slice(b"1x         \0")),
        ),
        ("negative size", Raw::default().file("a", b"").patch(|block| block[124..136].fill(0xff))),
        ("malformed record", Raw::default().header("x", b'x', 6, "").data(b"9 a=b\n").file("c", b"")),
        ("path with a NUL", Raw::default().pax(b'x', &[("path", "a\0b")]).file("c", b"")),
    ];
    for (what, archive) in cases {
        let error = refused(archive);
        assert!(matches!(error, Error::Header(_)), "{what}: {error}");
    }
}

#[test]
fn a_wrong_checksum_is_refused() {
    let mut archive = Raw::default().file("a", b"").end();
    archive[0] = b'b';
    let error = Place::new().unpack(&archive, Whiteouts::Overlay).unwrap_err();
    assert_eq!(error.to_string(), "invalid tar header: wrong checksum");
}

#[test]
fn unknown_kinds_are_refused() {
    for flag in [b'M', b'V', b'D', b'N', b'A', b'8'] {
        assert!(
            matches!(refused(Raw::default().header("a", flag, 0, "")), Error::Kind(found) if found == flag)
        );
    }
}

#[test]
fn cut_archives_are_refused() {
    let archive = Raw::default().file("a", &[1; 2000]).end();
    for length in [1, 511, 513, 1000, 2511] {
        let error = Place::new().unpack(&archive[..length], Whiteouts::Overlay).unwrap_err();
        assert!(matches!(error, Error::Truncated), "{length}: {error}");
    }
    let dangling = Raw::default().pax(b'x', &[("path", "a")]);
    assert!(matches!(refused(dangling), Error::Truncated));
}

#[test]
fn an_archive_without_an_end_mark_is_whole() {
    let place = Place::new();
    place.unpack(&Raw::default().file("a", b"x").0, Whiteouts::Overlay).unwrap();
    assert_eq!(read(place.path("a")), "x");
    // As Docker's client writes a context whose Dockerfile comes from its standard input.
    let unpadded = Raw::default().file("a", &[b'y'; 700]).0;
    for length in [512 + 700, 512 + 701, 512 + 1023] {
        place.unpack(&unpadded[..length], Whiteouts::Overlay).unwrap();
        assert_eq!(read(place.path("a")).len(), 700, "{length}");
    }
}

#[test]
fn extended_headers_are_bounded() {
    for flag in [b'x', b'g', b'L', b'K'] {
        let error = refused(Raw::default().header("a", flag, 1 << 30, "").data(b"x"));
        assert_eq!(error.to_string(), "invalid tar header: extended header too long");
    }
}

#[test]
fn sparse_maps_that_lie_are_refused() {
    let map = |map: &str, size: &str, stored: u64| {
        Raw::default()
            .pax(b'x', &[("GNU.sparse.size", size), ("GNU.sparse.map", map)])
            .header("f", b'0', stored, "")
            .data(&vec![1; stored as usize])
    };
    for (what, archive) in [
        ("overlap", map("0,4,2,4", "10", 8)),
        ("beyond the end", map("8,4", "10", 4)),
        ("overflow", map("9223372036854775807,9223372036854775807", "10", 4)),
        ("less than stored", map("0,2", "10", 4)),
        ("odd", map("0,2,4", "10", 2)),
    ] {
        let error = refused(archive);
        assert!(matches!(error, Error::Header(_)), "{what}: {error}");
    }
    accepted(map("0,2,8,2", "10", 4));
}

#[test]
fn an_endless_sparse_map_is_refused() {
    let extension = [&[b'0'; 504][..], &[1], &[0; 7]].concat();
    let mut archive = Raw::default().header("f", b'S', 0, "").patch(|block| {
        block[257..265].copy_from_slice(b"ustar  \0");
        block[482] = 1;
        block[483..495].copy_from_slice(b"00000000000\0");
    });
    for _ in 0..60_000 {
        archive = archive.data(&extension);
    }
    assert!(matches!(refused(archive), Error::Header(_)));
}

#[test]
fn a_bomb_is_stopped_by_its_limits() {
    let place = Place::new();
    let mut options = UnpackOptions::new(Whiteouts::Overlay);
    options.limits.bytes = 1 << 20;
    let bomb = Raw::default().header("big", b'0', 1 << 32, "").0;
    let endless = std::io::Read::chain(&bomb[..], std::io::repeat(0));
    let error = unpack(endless, &place.root(), &options).unwrap_err();
    assert_eq!(error.to_string(), "archive exceeds the limit of 1048576 bytes");

    options.limits.entries = 3;
    let many = (0..9).fold(Raw::default(), |archive, number| archive.file(&number.to_string(), b"")).end();
    let error = unpack(&many[..], &place.root(), &options).unwrap_err();
    assert_eq!(error.to_string(), "archive exceeds the limit of 3 entries");
}

#[test]
fn names_longer_than_the_kernel_takes_are_errors() {
    let long = "x".repeat(5000);
    let error = refused(Raw::default().pax(b'x', &[("path", &long)]).file("c", b""));
    assert_eq!(error.errno(), Some(rustix::io::Errno::NAMETOOLONG));
}

#[test]
fn arbitrary_damage_never_panics_or_escapes() {
    let good = Raw::default()
        .dir("d")
        .pax(b'x', &[("path", "d/file"), ("mtime", "5.5"), ("SCHILY.xattr.user.a", "b")])
        .file("c", b"content")
        .symlink("d/l", "../..")
        .hardlink("h", "d/file")
        .end();
    let place = Place::new();
    for at in 0..good.len() {
        for value in [b'/', good[at] ^ 1] {
            let mut bad = good.clone();
            bad[at] = value;
            // Whatever comes of it; only where it happens matters.
            let _ = place.unpack(&bad, Whiteouts::Overlay);
        }
        if at % 64 == 0 {
            place.root().top().unwrap().clear().unwrap();
        }
    }
    assert!(place.host_untouched());
}
