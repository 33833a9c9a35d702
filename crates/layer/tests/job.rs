//! Jobs as the daemon runs them: in a process with descriptors at 3 and 4, on mounted trees and on those of live processes. Needs root.

#![allow(clippy::print_stdout, reason = "a test program with a main of its own")]

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::pipe::{PipeFlags, pipe_with};
use support::{Raw, read};
use wharf_layer::job::{self, Answer, Base, FailureKind, Job, Task, Tree, Volume};
use wharf_sys::mount::Recipe;
use wharf_sys::namespace::{self, flags};
use wharf_sys::process;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("fs-job") {
        process::exit_now(job::main());
    }
    let tests: [(&str, fn()); 7] = [
        ("a_path_is_told_and_read", a_path_is_told_and_read),
        ("an_archive_is_written_where_links_lead", an_archive_is_written_where_links_lead),
        ("volumes_are_seen_and_their_rule_kept", volumes_are_seen_and_their_rule_kept),
        ("a_hostile_tree_keeps_the_job_inside", a_hostile_tree_keeps_the_job_inside),
        ("the_root_of_a_process_comes_without_its_mounts", the_root_of_a_process_comes_without_its_mounts),
        ("changes_and_diff_of_an_overlay", changes_and_diff_of_an_overlay),
        ("the_hosts_mounts_stay_as_they_are", the_hosts_mounts_stay_as_they_are),
    ];
    for (name, test) in tests {
        test();
        println!("test {name} ... ok");
    }
}

/// An overlay with a small image, and what belongs to it.
struct Container {
    dir: tempfile::TempDir,
}

impl Container {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["lower", "upper", "work", "place", "volume"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let container = Self { dir };
        let lower = container.path("lower");
        std::fs::create_dir_all(lower.join("etc")).unwrap();
        std::fs::create_dir_all(lower.join("run")).unwrap();
        std::fs::create_dir_all(lower.join("var")).unwrap();
        std::fs::write(lower.join("etc/passwd"), "root").unwrap();
        std::os::unix::fs::symlink("/run", lower.join("var/run")).unwrap();
        std::os::unix::fs::symlink("../../../../../../etc", lower.join("up")).unwrap();
        container
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn recipe(&self) -> Recipe {
        let (upper, work) = (self.path("upper"), self.path("work"));
        Recipe::Overlay { lower: vec![self.path("lower")], upper, work, volatile: false }
    }

    fn volume(&self, destination: &str, read_only: bool) -> Volume {
        let (source, destination) = (self.path("volume"), destination.into());
        Volume { source, subpath: PathBuf::new(), destination, read_only, ids: None }
    }

    fn on(&self, volumes: Vec<Volume>, task: Task) -> Job {
        Job::Tree {
            tree: Tree { base: Base::Recipe(self.recipe()), place: self.path("place"), volumes, ids: None },
            task,
        }
    }

    fn write(&self, path: &str, volumes: Vec<Volume>, read_only_root: bool) -> Job {
        self.on(volumes, Task::Write { path: path.to_owned(), owner: None, keep_kind: false, read_only_root })
    }
}

/// Runs a job in a process; its answers and its output.
fn run(job: &Job, input: &[u8]) -> (Vec<Answer>, Vec<u8>) {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).unwrap();
    let ((job_fd, job_end), (answers_end, answers), (output_end, output)) = (pipe(), pipe(), pipe());
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(input).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let errors = rustix::stdio::stderr();
    let exe = std::env::current_exe().unwrap();
    let descriptors = [file.as_fd(), output.as_fd(), errors, job_fd.as_fd(), answers.as_fd()];
    let child = process::spawn(exe.as_os_str(), ["wharf", "fs-job"], &descriptors).unwrap();
    drop((output, job_fd, answers));
    serde_json::to_writer(File::from(job_end), job).unwrap();
    let mut written = Vec::new();
    File::from(output_end).read_to_end(&mut written).unwrap();
    let mut said = String::new();
    File::from(answers_end).read_to_string(&mut said).unwrap();
    process::wait(child.pid).unwrap();
    (said.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), written)
}

fn failure(job: &Job, input: &[u8]) -> (FailureKind, String) {
    match run(job, input).0.pop() {
        Some(Answer::Failed { kind, message }) => (kind, message),
        other => panic!("{other:?}"),
    }
}

fn names(archive: &[u8]) -> Vec<String> {
    let mut reader = wharf_layer::tar::Reader::new(archive);
    let mut names = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        names.push(String::from_utf8(entry.path).unwrap());
    }
    names
}

fn a_path_is_told_and_read() {
    let container = Container::new();
    let stat = |path: &str| run(&container.on(Vec::new(), Task::Stat { path: path.to_owned() }), b"").0;
    let [Answer::Found(found), Answer::Done] = &stat("/var/run")[..] else { panic!("not found") };
    assert_eq!((found.name.as_str(), found.link_target.as_str()), ("run", "/run"));
    let [Answer::Found(found), Answer::Done] = &stat("/up/passwd")[..] else { panic!("not found") };
    assert_eq!((found.size, found.mode), (4, 0o644));

    let get = |path: &str| run(&container.on(Vec::new(), Task::Read { path: path.to_owned() }), b"");
    for (path, wanted) in [
        ("/etc", &["etc/", "etc/passwd"][..]),
        ("/etc/.", &["./", "./passwd"]),
        ("/up/", &["up/", "up/passwd"]),
        ("/up", &["up"]),
        ("/etc/passwd", &["passwd"]),
        ("/", &["/", "/etc/", "/etc/passwd", "/run/", "/up", "/var/", "/var/run"]),
    ] {
        let (answers, archive) = get(path);
        assert!(matches!(answers[..], [Answer::Found(_), Answer::Done]), "{path}: {answers:?}");
        assert_eq!(names(&archive), wanted, "{path}");
    }
    let read = |path: &str| container.on(Vec::new(), Task::Read { path: path.to_owned() });
    assert_eq!(failure(&read("/nope"), b"").0, FailureKind::NotFound);
    assert_eq!(failure(&read("/etc/passwd/"), b"").1, "lstat /etc/passwd/: not a directory");
}

fn an_archive_is_written_where_links_lead() {
    let container = Container::new();
    let archive = Raw::default().file("f", b"new").end();
    // As Debian has it: an absolute link inside the container (the regression of the fix for CVE-2026-42306).
    assert_eq!(run(&container.write("/var/run", Vec::new(), false), &archive).0, [Answer::Done]);
    assert_eq!(read(container.path("upper/run/f")), "new");

    let mut packed = Vec::new();
    let mut gzip = wharf_layer::compressor(wharf_layer::Compression::Gzip, &mut packed).unwrap();
    gzip.write_all(&archive).unwrap();
    gzip.finish().unwrap();
    assert_eq!(run(&container.write("/etc", Vec::new(), false), &packed).0, [Answer::Done]);
    assert_eq!(read(container.path("upper/etc/f")), "new");

    for (path, kind, message) in [
        ("/etc/passwd", FailureKind::Invalid, "extraction point is not a directory"),
        ("/etc/passwd/", FailureKind::Failed, "lstat /etc/passwd/: not a directory"),
        ("/etc/passwd/x", FailureKind::Failed, "not a directory"),
    ] {
        assert_eq!(failure(&container.write(path, Vec::new(), false), &archive), (kind, message.to_owned()));
    }
    assert_eq!(failure(&container.write("/nope", Vec::new(), false), &archive).0, FailureKind::NotFound);
    let cut = failure(&container.write("/etc", Vec::new(), false), b"junk\n");
    assert_eq!(cut, (FailureKind::Failed, "unexpected EOF".to_owned()));
}

fn volumes_are_seen_and_their_rule_kept() {
    let container = Container::new();
    let archive = Raw::default().file("f", b"new").end();
    let volume = || vec![container.volume("/data/v", false)];
    assert_eq!(run(&container.write("/data/v", volume(), true), &archive).0, [Answer::Done]);
    assert_eq!(read(container.path("volume/f")), "new");
    let (_, seen) = run(&container.on(volume(), Task::Read { path: "/data".to_owned() }), b"");
    assert_eq!(names(&seen), ["data/", "data/v/", "data/v/f"]);

    // A file beside the container's own, in the directory that the root is mounted over.
    std::fs::write(container.path("place/hosts"), "localhost").unwrap();
    let hosts = Volume { source: container.path("place/hosts"), ..container.volume("/etc/hosts", false) };
    let (_, seen) = run(&container.on(vec![hosts], Task::Read { path: "/etc/hosts".to_owned() }), b"");
    assert!(seen.windows(9).any(|part| part == b"localhost"));

    let refused = failure(&container.write("/etc", volume(), true), &archive);
    assert_eq!(refused, (FailureKind::Invalid, "container rootfs is marked read-only".to_owned()));
    let locked = vec![container.volume("/data/v", true)];
    let refused = failure(&container.write("/data/v", locked, false), &archive);
    assert_eq!(refused, (FailureKind::Invalid, "mounted volume is marked read-only".to_owned()));
}

fn a_hostile_tree_keeps_the_job_inside() {
    let container = Container::new();
    let secret = container.path("secret");
    std::fs::write(&secret, "host").unwrap();
    std::os::unix::fs::symlink(container.path(""), container.path("upper/out")).unwrap();
    std::os::unix::fs::symlink("/proc/self/root", container.path("upper/magic")).unwrap();
    let archive = Raw::default().file("secret", b"evil").end();
    for path in ["/out", "/magic", "/out/../..", "/up/../../.."] {
        run(&container.write(path, Vec::new(), false), &archive);
        assert_eq!(read(&secret), "host", "{path}");
    }
    let get = container.on(Vec::new(), Task::Read { path: "/out/secret".to_owned() });
    assert_eq!(failure(&get, b"").0, FailureKind::NotFound);
    // A volume's place is a link of the container's making.
    let mounted = vec![container.volume("/out", false)];
    run(&container.write("/", mounted, false), &archive);
    assert_eq!(read(&secret), "host");
}

fn the_root_of_a_process_comes_without_its_mounts() {
    let container = Container::new();
    let (ready, ready_end) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let (hold, hold_end) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let mount = container.recipe().mount().unwrap();
    let place = container.path("place");
    let child = process::fork_child(|| {
        drop(hold_end.try_clone());
        let lived = (|| -> Result<(), Box<dyn std::error::Error>> {
            namespace::unshare(flags::MOUNT)?;
            namespace::make_mounts_private()?;
            mount.attach(wharf_sys::root::Root::open(&place)?.as_fd())?;
            namespace::pivot_root(mount.as_fd())?;
            let memory = wharf_sys::mount::DetachedMount::new(
                "tmpfs",
                "tmpfs",
                &[],
                rustix::mount::MountAttrFlags::empty(),
            )?;
            memory.attach(wharf_sys::root::Root::open("/run")?.as_fd())?;
            std::fs::write("/run/in-memory", "")?;
            rustix::io::write(&ready_end, b"x")?;
            // Until the test kills this process.
            rustix::io::read(&hold, &mut [0u8; 1])?;
            Ok(())
        })();
        i32::from(lived.is_err())
    })
    .unwrap();
    drop(mount);
    rustix::io::read(&ready, &mut [0u8; 1]).unwrap();
    let tree =
        Tree { base: Base::Process(child), place: container.path("place"), volumes: vec![], ids: None };
    let (answers, archive) = run(&Job::Tree { tree: tree.clone(), task: Task::Export }, b"");
    assert_eq!(answers, [Answer::Done]);
    assert_eq!(names(&archive), ["etc/", "etc/passwd", "run/", "up", "var/", "var/run"]);
    let task =
        Task::Write { path: "/etc".to_owned(), owner: Some((7, 8)), keep_kind: false, read_only_root: false };
    assert_eq!(run(&Job::Tree { tree, task }, &Raw::default().file("f", b"x").end()).0, [Answer::Done]);
    let written = std::fs::metadata(container.path("upper/etc/f")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&written), 7);
    drop(hold_end);
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(child).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    process::wait(child).unwrap();
}

fn changes_and_diff_of_an_overlay() {
    let container = Container::new();
    let archive = Raw::default().file("etc/new", b"1").file("etc/passwd", b"other").end();
    assert_eq!(run(&container.write("/", Vec::new(), false), &archive).0, [Answer::Done]);
    let base = Recipe::View { lower: vec![container.path("lower")] };
    let (answers, _) = run(&Job::Changes { tree: container.recipe(), base: base.clone() }, b"");
    let told = [("/etc", 0), ("/etc/new", 1), ("/etc/passwd", 0)].map(|(path, kind)| (path.to_owned(), kind));
    assert_eq!(answers[0], Answer::Changes(told.to_vec()));
    let (answers, layer) = run(&Job::Diff { tree: container.recipe(), base }, b"");
    assert_eq!(names(&layer), ["etc/", "etc/new", "etc/passwd"]);
    let digest = wharf_oci::Digest::of(&layer).to_string();
    assert_eq!(answers[0], Answer::Layer { diff_id: digest, size: layer.len() as u64 });
}

fn the_hosts_mounts_stay_as_they_are() {
    let container = Container::new();
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let ours = |table: &str| {
        let place = container.dir.path().to_str().unwrap().to_owned();
        table.lines().filter(|line| line.contains(&place)).count()
    };
    run(&container.on(vec![container.volume("/v", false)], Task::Stat { path: "/".to_owned() }), b"");
    assert_eq!(ours(&mounts()), 0);
    assert!(std::fs::read_dir(Path::new(&container.path("place"))).unwrap().next().is_none());
}
