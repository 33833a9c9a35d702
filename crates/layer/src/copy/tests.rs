//! Copies on real trees; what BuildKit 0.29 does with the same ones stands in the comments of `super`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

struct Trees {
    source: tempfile::TempDir,
    target: tempfile::TempDir,
}

impl Trees {
    fn new() -> Self {
        let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(source.path().join("d/sub")).unwrap();
        fs::write(source.path().join("d/a"), "1").unwrap();
        fs::write(source.path().join("d/sub/b"), "2").unwrap();
        fs::set_permissions(source.path().join("d/sub"), fs::Permissions::from_mode(0o700)).unwrap();
        symlink("d", source.path().join("ld")).unwrap();
        symlink("d/a", source.path().join("la")).unwrap();
        Self { source, target }
    }

    fn copy(&self, from: &str, to: &str, options: &CopyOptions<'_>) -> Result<()> {
        copy(
            &Root::open(self.source.path()).unwrap(),
            from,
            &Root::open(self.target.path()).unwrap(),
            to,
            options,
        )
    }

    fn plain(&self, from: &str, to: &str) -> Result<()> {
        self.copy(from, to, &CopyOptions::default())
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.target.path().join(path)).unwrap_or_else(|error| error.to_string())
    }

    fn there(&self, path: &str) -> bool {
        self.target.path().join(path).symlink_metadata().is_ok()
    }
}

#[test]
fn a_directorys_content_is_copied() {
    let trees = Trees::new();
    trees.plain("d", "/new").unwrap();
    assert_eq!((trees.read("new/a"), trees.read("new/sub/b")), ("1".to_owned(), "2".to_owned()));
    let mode = trees.target.path().join("new/sub").metadata().unwrap().mode();
    assert_eq!(mode & 0o777, 0o700);
    trees.plain("ld", "/followed/").unwrap();
    assert_eq!(trees.read("followed/a"), "1");
    trees.plain("/d/*", "/flat/").unwrap();
    assert_eq!((trees.read("flat/a"), trees.read("flat/b")), ("1".to_owned(), "2".to_owned()));
    trees.plain(".", "/all").unwrap();
    assert!(trees.target.path().join("all/ld").symlink_metadata().unwrap().is_symlink());
}

#[test]
fn a_file_goes_into_directories() {
    let trees = Trees::new();
    trees.plain("d/a", "/x").unwrap();
    trees.plain("la", "/dir/").unwrap();
    assert_eq!((trees.read("x"), trees.read("dir/la")), ("1".to_owned(), "1".to_owned()));
    trees.plain("d/a", "/dir").unwrap();
    assert_eq!(trees.read("dir/a"), "1");
    symlink("dir", trees.target.path().join("to")).unwrap();
    trees.plain("d", "/to").unwrap();
    assert_eq!(trees.read("dir/sub/b"), "2");
    trees.plain("d/sub/b", "/x").unwrap();
    assert_eq!(trees.read("x"), "2");
}

#[test]
fn directories_are_made_behind_links_and_inside() {
    let trees = Trees::new();
    let outside = tempfile::tempdir().unwrap();
    let root = trees.target.path();
    symlink(outside.path().join("new"), root.join("out")).unwrap();
    symlink("/../../..", root.join("top")).unwrap();
    symlink(Path::new("top/deep").join("er"), root.join("far")).unwrap();
    for (to, there) in [("/out/", outside.path().join("new/a")), ("/far/x/", "deep/er/x/a".into())] {
        trees.plain("d/a", to).unwrap();
        assert_eq!(trees.read(there.strip_prefix("/").unwrap_or(&there).to_str().unwrap()), "1", "{to}");
        assert!(root.join(to.trim_matches('/').split('/').next().unwrap()).is_symlink(), "{to}");
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    symlink("two", root.join("one")).unwrap();
    symlink("one", root.join("two")).unwrap();
    symlink("self/x", root.join("self")).unwrap();
    for round in ["/one/", "/self/"] {
        trees.plain("d/a", round).unwrap_err();
    }
}

#[test]
fn owners_and_modes_are_given() {
    let trees = Trees::new();
    let mode = Some("640".parse().unwrap());
    trees
        .copy("d/a", "/p/q/r/", &CopyOptions { owner: Some((5, 6)), mode, ..CopyOptions::default() })
        .unwrap();
    for path in ["p", "p/q", "p/q/r", "p/q/r/a"] {
        let found = trees.target.path().join(path).metadata().unwrap();
        assert_eq!((found.uid(), found.gid()), (5, 6), "{path}");
    }
    let found = trees.target.path().join("p/q/r/a").metadata().unwrap();
    assert_eq!(found.mode() & 0o7777, 0o640);
    let source = trees.source.path().join("d/a").metadata().unwrap();
    assert_eq!((found.mtime(), found.mtime_nsec()), (source.mtime(), source.mtime_nsec()));
}

#[test]
fn kinds_that_clash_are_refused() {
    let trees = Trees::new();
    fs::write(trees.target.path().join("file"), "").unwrap();
    assert!(matches!(trees.plain("d", "/file"), Err(Error::OverwriteWithDirectory(_))));
    fs::create_dir_all(trees.target.path().join("dd/a")).unwrap();
    assert!(matches!(trees.plain("d", "/dd"), Err(Error::OverwriteWithFile(_))));
    assert_eq!(trees.plain("nosuch", "/x").unwrap_err().to_string(), "\"/nosuch\": not found");
    assert!(matches!(trees.plain("no*", "/x"), Err(Error::NotFound(_))));
    trees.copy("no*", "/x", &CopyOptions { allow_empty: true, ..CopyOptions::default() }).unwrap();
}

#[test]
fn nothing_leads_out_of_the_trees() {
    let trees = Trees::new();
    symlink("/etc", trees.source.path().join("abs")).unwrap();
    assert!(matches!(trees.plain("abs/passwd", "/x"), Err(Error::NotFound(_))));
    assert!(matches!(trees.plain("../../etc/passwd", "/x"), Err(Error::NotFound(_))));
    symlink("/../../outside", trees.target.path().join("out")).unwrap();
    fs::create_dir(trees.target.path().join("outside")).unwrap();
    trees.plain("d/a", "/out/").unwrap();
    assert_eq!(trees.read("outside/a"), "1");
}

#[test]
fn some_can_be_left_out_and_links_stay() {
    let trees = Trees::new();
    fs::hard_link(trees.source.path().join("d/a"), trees.source.path().join("d/z")).unwrap();
    let exclude = |path: &Path| path.ends_with("b");
    trees.copy("d", "/x", &CopyOptions { exclude: Some(&exclude), ..CopyOptions::default() }).unwrap();
    assert!(trees.there("x/sub") && !trees.there("x/sub/b"));
    let inode = |path: &str| trees.target.path().join(path).metadata().unwrap().ino();
    assert_eq!(inode("x/a"), inode("x/z"));
}

#[test]
fn parents_are_made_too() {
    let trees = Trees::new();
    trees.copy("d/sub/b", "/x/", &CopyOptions { parents: true, ..CopyOptions::default() }).unwrap();
    assert_eq!(trees.read("x/d/sub/b"), "2");
    assert_eq!(trees.target.path().join("x/d/sub").metadata().unwrap().mode() & 0o777, 0o700);
}

#[test]
fn archives_are_unpacked_when_asked() {
    let trees = Trees::new();
    let packed = crate::pack(
        &Root::open(trees.source.path()).unwrap(),
        Path::new(""),
        crate::PackOptions::default(),
        Vec::new(),
    );
    fs::write(trees.source.path().join("t.tar"), packed.unwrap()).unwrap();
    let unpacking = CopyOptions { unpack: true, ..CopyOptions::default() };
    trees.copy("t.tar", "/ex/", &unpacking).unwrap();
    assert_eq!(trees.read("ex/d/sub/b"), "2");
    trees.plain("t.tar", "/nx/").unwrap();
    assert!(trees.there("nx/t.tar"));
    trees.copy("d/a", "/ex/", &unpacking).unwrap();
    assert_eq!(trees.read("ex/a"), "1");
}

/// What is in a tree, with all that a copy keeps but the times of directories.
fn listed(top: &Path) -> Vec<(PathBuf, u32, u64, i64, Vec<u8>)> {
    let (mut left, mut found) = (vec![top.to_owned()], Vec::new());
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let content = match (meta.is_dir(), meta.is_symlink()) {
                (true, _) => Vec::new(),
                (_, true) => fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
                _ => fs::read(&path).unwrap(),
            };
            let (links, modified) = if meta.is_dir() { (0, 0) } else { (meta.nlink(), meta.mtime()) };
            found.push((path.strip_prefix(top).unwrap().to_owned(), meta.mode(), links, modified, content));
            if meta.is_dir() {
                left.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn new_directories_of_an_overlay_are_filled_where_it_keeps_them() {
    let trees = Trees::new();
    fs::hard_link(trees.source.path().join("d/a"), trees.source.path().join("d/sub/second")).unwrap();
    fs::write(trees.source.path().join("d/large"), vec![7; 400 * 1024]).unwrap();
    let through = |direct: bool| {
        let top = tempfile::tempdir().unwrap();
        let [lower, upper, work] = ["lower", "upper", "work"].map(|name| top.path().join(name));
        for dir in [&lower, &upper, &work] {
            fs::create_dir(dir).unwrap();
        }
        fs::create_dir_all(lower.join("usr/lib/sub")).unwrap();
        fs::write(lower.join("usr/lib/sub/b"), "old").unwrap();
        symlink("usr/lib", lower.join("lib")).unwrap();
        let recipe = wharf_sys::mount::Recipe::Overlay {
            lower: vec![lower],
            upper: upper.clone(),
            work,
            volatile: true,
        };
        let target = Root::from_fd(recipe.mount().unwrap().into_fd());
        let above = Root::open(&upper).unwrap();
        let source = Root::open(trees.source.path()).unwrap();
        let options = CopyOptions { upper: direct.then_some(&above), ..CopyOptions::default() };
        // Into nothing, into what a link leads to, and into what was just made.
        for to in ["/new/deep/", "/lib", "/lib/more", "/new/deep", "/new/deep/again"] {
            copy(&source, "d", &target, to, &options).unwrap();
        }
        assert_eq!(target.read("usr/lib/sub/b", 9).unwrap(), b"2");
        assert_eq!(target.read("new/deep/again/sub/second", 9).unwrap(), b"1");
        drop(target);
        listed(&upper)
    };
    assert_eq!(through(true), through(false));
}
