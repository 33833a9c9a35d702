//! A host of one's own for a test, and containers on it.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use wharf_network::helper::{Helper, Namespace};
use wharf_network::names::{Endpoint, Names};
use wharf_sys::namespace;

/// Leaves the real host: its network, its mounts, its name servers.
pub fn isolate() {
    namespace::unshare(namespace::flags::NETWORK | namespace::flags::MOUNT).unwrap();
    namespace::make_mounts_private().unwrap();
    namespace::loopback_up().unwrap();
    run("mount", &["-t", "tmpfs", "tmpfs", "/run"]);
    std::fs::write("/run/resolv.conf", "nameserver 127.0.0.1\n").unwrap();
    run("mount", &["--bind", "/run/resolv.conf", "/etc/resolv.conf"]);
}

/// Changes the host's name servers.
pub fn set_servers(text: &str) {
    std::fs::write("/etc/resolv.conf", text).unwrap();
}

/// Runs a program that must succeed, and answers what it printed.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}{text}");
    text
}

/// Waits up to 20 seconds.
pub fn eventually(what: &str, mut test: impl FnMut() -> bool) {
    let started = Instant::now();
    while !test() {
        assert!(started.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A helper with its folder. Dropping it waits for the helper's end: what holds anything must be released.
pub struct Instance {
    pub helper: Helper,
    pub root: PathBuf,
    executable: OwnedFd,
    _folder: TempDir,
}

impl Instance {
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("wharf-net-test-").tempdir().unwrap();
        // Longer than a socket's address can be.
        let root = folder.path().join("r".repeat(100));
        let executable = OwnedFd::from(std::fs::File::open("/proc/self/exe").unwrap());
        let helper = Helper::ensure("test", &root, executable.as_fd()).unwrap();
        Self { helper, root, executable, _folder: folder }
    }

    /// As a daemon that dies.
    pub fn leave(&mut self) {
        self.helper = Helper::new("none", Path::new("/nonexistent"), self.executable.as_fd()).unwrap();
    }

    /// As a daemon that was started again.
    pub fn another(&self) -> Helper {
        Helper::ensure("test", &self.root, self.executable.as_fd()).unwrap()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let pid = self.helper.pid().and_then(rustix::process::Pid::from_raw);
            let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
            return;
        }
        for owner in self.helper.owners().unwrap() {
            self.helper.release(&owner).unwrap();
        }
        self.leave();
        let socket = self.root.join("net/socket");
        eventually("the helper ends by itself", || !socket.exists());
    }
}

/// A container: a namespace with a way to the host, 10.9.N.1 and fd09:N::1 there.
pub struct Container {
    pub space: Namespace,
    pub owner: String,
    pub number: u8,
}

impl Container {
    /// With a resolver, in network `net` as `name`, which may ask outside.
    pub fn start(instance: &Instance, number: u8, name: &str) -> Self {
        let owner = format!("container-{name}");
        let space = instance.helper.namespace(&owner, true, None).unwrap();
        let container = Self { space, owner, number };
        instance.helper.set_names(&container.owner, &container.names(name)).unwrap();
        container
    }

    pub fn names(&self, name: &str) -> Names {
        let endpoint = Endpoint {
            network: "id-net".into(),
            network_name: "net".into(),
            internal: false,
            addresses: vec![self.address()],
            names: vec![name.to_owned(), "all".to_owned()],
        };
        Names { endpoints: vec![endpoint], ..Names::default() }
    }

    pub fn address(&self) -> IpAddr {
        IpAddr::from([10, 9, self.number, 2])
    }

    /// The host as the container sees it.
    pub fn host(&self) -> IpAddr {
        IpAddr::from([10, 9, self.number, 1])
    }

    /// Connects it with the host.
    pub fn link(&self) -> &Self {
        let (outside, n) = (format!("veth{}", self.number), self.number);
        run("ip", &["link", "add", &outside, "type", "veth", "peer", "name", "inner"]);
        run("ip", &["addr", "add", &format!("10.9.{n}.1/24"), "dev", &outside]);
        run("ip", &["addr", "add", &format!("fd09:{n}::1/64"), "dev", &outside, "nodad"]);
        run("ip", &["link", "set", &outside, "up"]);
        // The child has the namespace by a path: descriptors do not survive its start.
        let pid = self.sleeper();
        run("ip", &["link", "set", "inner", "netns", &pid.id().to_string()]);
        let mut pid = pid;
        pid.kill().unwrap();
        pid.wait().unwrap();
        self.inside("ip", &["link", "set", "inner", "name", "eth0"]);
        self.inside("ip", &["addr", "add", &format!("10.9.{n}.2/24"), "dev", "eth0"]);
        self.inside("ip", &["addr", "add", &format!("fd09:{n}::2/64"), "dev", "eth0", "nodad"]);
        self.inside("ip", &["link", "set", "eth0", "up"]);
        self
    }

    /// A process in the namespace.
    pub fn sleeper(&self) -> std::process::Child {
        let child = Command::new("nsenter")
            .arg(format!("--net={}", self.path()))
            .args(["sleep", "60"])
            .spawn()
            .unwrap();
        let inode = |path: String| {
            std::fs::metadata(path).map(|meta| std::os::unix::fs::MetadataExt::ino(&meta)).ok()
        };
        let own = inode(self.path());
        eventually("the child is inside", || inode(format!("/proc/{}/ns/net", child.id())) == own);
        child
    }

    /// The namespace's path for other programs.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.space.namespace.as_raw_fd())
    }

    /// Runs a program in the container's namespace.
    pub fn inside(&self, program: &str, arguments: &[&str]) -> String {
        let path = format!("--net={}", self.path());
        run("nsenter", &[&[path.as_str(), program], arguments].concat())
    }

    /// What `dig` says of a question, without decoration.
    pub fn dig(&self, arguments: &[&str]) -> String {
        let always = ["@127.0.0.11", "+tries=1", "+time=8", "+noall", "+answer", "+comments", "+question"];
        self.inside("dig", &[&always[..], arguments].concat())
    }

    /// The data of the answers, sorted.
    pub fn ask(&self, arguments: &[&str]) -> Vec<String> {
        let text =
            self.inside("dig", &[&["@127.0.0.11", "+tries=1", "+time=8", "+short"], arguments].concat());
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    }

    /// What `work` made in the namespace.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    namespace::join(self.space.namespace.as_fd(), namespace::flags::NETWORK).unwrap();
                    work()
                })
                .join()
                .unwrap()
        })
    }

    /// A UDP socket inside that asks the resolver.
    pub fn asker(&self) -> UdpSocket {
        self.enter(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(SocketAddr::from(([127, 0, 0, 11], 53))).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
            socket
        })
    }
}
