//! Whole graphs on a real store: what is run again, what is not, what is left behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use wharf_build::dockerfile::Dockerfile;
use wharf_build::graph::NodeId;
use wharf_build::plan::{ContextSource, Plan, PlanOptions, plan};
use wharf_build::solve::{Cache, Cancel, Event, Host, LocalRequest, MountSource, Process, Solver, Tree};
use wharf_oci::Platform;
use wharf_store::{Chain, Driver, Store};
use wharf_sys::root::Root;

/// A host whose processes are one word: `write PATH TEXT`, `fail CODE`, `cache PATH`; they work on the mounted trees
/// themselves.
struct Words {
    context: PathBuf,
    ran: Mutex<Vec<String>>,
}

impl Host for Words {
    fn image(&self, reference: &str, _: &str, _: &Platform, _: NodeId) -> Result<Chain, String> {
        Err(format!("no image {reference}"))
    }

    fn local(&self, request: &LocalRequest<'_>, _: NodeId) -> Result<PathBuf, String> {
        assert_eq!(request.name, "context");
        Ok(self.context.clone())
    }

    fn git(&self, address: &str, _: bool, _: NodeId) -> Result<PathBuf, String> {
        Err(format!("no repository {address}"))
    }

    fn http(&self, url: &str, _: Option<&str>, _: &str, _: NodeId) -> Result<PathBuf, String> {
        Err(format!("no file {url}"))
    }

    fn revision(&self, _: &Path) -> Option<u64> {
        None
    }

    fn execute(&self, process: &Process<'_>, _: &Cancel, _: NodeId) -> Result<i32, String> {
        let words: Vec<&str> = process.execute.arguments.iter().map(String::as_str).collect();
        self.ran.lock().unwrap().push(words.join(" "));
        match words[..] {
            ["fail", code] => Ok(code.parse().unwrap()),
            ["write", path, text] => {
                let root = Root::from_fd(process.root.mount().unwrap().into_fd());
                let (dir, name) = root.parent(path).unwrap().unwrap();
                let mut file = dir.create_file(&name, 0o644).unwrap();
                std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
                Ok(0)
            }
            ["cache", path] => {
                let mounted = process.mounts.iter().find(|mount| mount.destination == path).unwrap();
                let MountSource::Directory(directory) = &mounted.source else { panic!("no directory") };
                let count = fs::read_to_string(directory.join("n")).map_or(0, |text| text.parse().unwrap());
                fs::write(directory.join("n"), (count + 1).to_string()).unwrap();
                Ok(if count > 0 { 0 } else { 7 })
            }
            _ => panic!("{words:?}"),
        }
    }
}

struct Builder {
    _dir: tempfile::TempDir,
    store: Arc<Store>,
    cache: Arc<Cache>,
    host: Words,
}

impl Builder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (context, root) = (dir.path().join("context"), dir.path().join("data"));
        fs::create_dir_all(&context).unwrap();
        fs::create_dir_all(&root).unwrap();
        let store = Store::open(&root, Some(Driver::Overlay)).unwrap();
        let cache = Arc::new(Cache::open(Arc::clone(&store), root.join("mounts")).unwrap());
        Self { store, cache, host: Words { context, ran: Mutex::default() }, _dir: dir }
    }

    fn put(&self, name: &str, content: &str) {
        fs::write(self.host.context.join(name), content).unwrap();
    }

    /// Builds, and tells what ran.
    fn build(&self, text: &str) -> (Result<Chain, String>, Vec<String>) {
        let plan = planned(text);
        self.host.ran.lock().unwrap().clear();
        let cancel = Cancel::default();
        let quiet = |_: Event| {};
        let hold = self.cache.hold();
        let solver = Solver::new(&plan.graph, &self.store, &self.host, &hold, &cancel, &quiet);
        let made = solver.solve(plan.result.unwrap());
        self.cache.save().unwrap();
        let chain = made.map_err(|failure| failure.message).map(|tree| match tree {
            Tree::Chain(chain) => chain,
            Tree::Directory(path) => panic!("{path:?}"),
        });
        (chain, self.host.ran.lock().unwrap().clone())
    }

    fn has(&self, chain: &Chain, path: &str) -> bool {
        Root::from_fd(self.store.chain_view(chain).unwrap().mount().unwrap().into_fd()).exists(path)
    }

    fn read(&self, chain: &Chain, path: &str) -> String {
        let root = Root::from_fd(self.store.chain_view(chain).unwrap().mount().unwrap().into_fd());
        root.read(path, 1 << 20)
            .map_or_else(|error| error.to_string(), |bytes| String::from_utf8(bytes).unwrap())
    }
}

fn planned(text: &str) -> Plan {
    let platform =
        Platform { architecture: "amd64".to_owned(), os: "linux".to_owned(), ..Platform::default() };
    let options = PlanOptions {
        target: None,
        arguments: BTreeMap::new(),
        labels: BTreeMap::new(),
        build_platform: platform.clone(),
        platform,
        no_cache: None,
        hosts: Vec::new(),
        hostname: String::new(),
        context: ContextSource::Local { name: "context".to_owned(), ignored: Vec::new() },
        contexts: BTreeMap::new(),
    };
    plan(&Dockerfile::parse(text).unwrap(), &options, &BTreeMap::new()).unwrap()
}

const STEPS: &str = "FROM scratch AS base\nRUN [\"write\", \"/one\", \"1\"]\nCOPY a /\nRUN [\"write\", \"/two\", \"2\"]\nCOPY b /\nRUN [\"write\", \"/three\", \"3\"]\n";

#[test]
fn what_did_not_change_is_not_run_again() {
    let builder = Builder::new();
    builder.put("a", "a");
    builder.put("b", "b");
    let (chain, ran) = builder.build(STEPS);
    let chain = chain.unwrap();
    assert_eq!(ran, ["write /one 1", "write /two 2", "write /three 3"]);
    assert_eq!((builder.read(&chain, "one"), builder.read(&chain, "b")), ("1".to_owned(), "b".to_owned()));
    let (again, ran) = builder.build(STEPS);
    assert!(ran.is_empty() && again.unwrap() == chain);
    builder.put("unrelated", "x");
    assert!(builder.build(STEPS).1.is_empty());
    // The time alone is no change.
    builder.put("a", "a");
    assert!(builder.build(STEPS).1.is_empty());
    builder.put("b", "other");
    let (changed, ran) = builder.build(STEPS);
    assert_eq!(ran, ["write /three 3"]);
    assert_eq!(builder.read(&changed.unwrap(), "b"), "other");
}

#[test]
fn stages_copy_by_content() {
    let builder = Builder::new();
    builder.put("a", "a");
    let text = |written: &str| {
        format!(
            "FROM scratch AS one\nRUN [\"write\", \"/x\", \"x\"]\nRUN [\"write\", \"/y\", \"{written}\"]\nFROM scratch\nCOPY --from=one /x /\nRUN [\"write\", \"/z\", \"z\"]\n"
        )
    };
    assert_eq!(builder.build(&text("1")).1.len(), 3);
    // Another file of the stage changed: what was copied did not.
    assert_eq!(builder.build(&text("2")).1, ["write /y 2"]);
}

#[test]
fn a_failed_step_says_what_it_was_and_is_tried_again() {
    let builder = Builder::new();
    let text = "FROM scratch\nRUN [\"write\", \"/a\", \"1\"]\nRUN [\"fail\", \"3\"]\n";
    for expected in [2, 1] {
        let (made, ran) = builder.build(text);
        assert_eq!(made.unwrap_err(), "process \"fail 3\" did not complete successfully: exit code: 3");
        assert_eq!(ran.len(), expected);
    }
    let (missing, _) = builder.build("FROM scratch\nCOPY nosuch /x\n");
    let expected = "failed to compute cache key: failed to calculate checksum: \"/nosuch\": not found";
    assert_eq!(missing.unwrap_err(), expected);
}

#[test]
fn cache_mounts_outlive_builds_and_layers_do_not_hold_them() {
    let builder = Builder::new();
    let text = "FROM scratch\nRUN --mount=type=cache,target=/c [\"cache\", \"/c\"]\n";
    assert!(builder.build(text).0.is_err());
    let chain = builder.build(text).0.unwrap();
    assert!(!builder.has(&chain, "c/n"));
}

#[test]
fn pruning_frees_and_a_restart_keeps() {
    let dir = tempfile::tempdir().unwrap();
    let builder = Builder::new();
    builder.put("a", "a");
    builder.put("b", "b");
    let (chain, _) = builder.build(STEPS);
    let chain = chain.unwrap();
    let reopened = Cache::open(Arc::clone(&builder.store), dir.path().join("mounts")).unwrap();
    assert_eq!(reopened.usage().len(), 5);
    assert!(builder.store.has_chain(&chain));
    let gone = reopened.prune(|_| true).unwrap();
    assert_eq!(gone.len(), 5);
    assert!(!builder.store.has_chain(&chain));
    let left = fs::read_dir(Path::new(&steps_of(&builder))).unwrap().count();
    assert_eq!(left, 0);
}

fn steps_of(builder: &Builder) -> PathBuf {
    builder.host.context.with_file_name("data").join("snapshots/steps")
}

#[test]
fn a_build_that_was_ended_makes_nothing() {
    let builder = Builder::new();
    let plan = planned("FROM scratch\nRUN [\"write\", \"/a\", \"1\"]\n");
    let cancel = Cancel::default();
    cancel.cancel();
    let quiet = |_: Event| {};
    let hold = builder.cache.hold();
    let solver = Solver::new(&plan.graph, &builder.store, &builder.host, &hold, &cancel, &quiet);
    assert_eq!(solver.solve(plan.result.unwrap()).unwrap_err().message, "canceled");
    assert!(builder.host.ran.lock().unwrap().is_empty());
}
