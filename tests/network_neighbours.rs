//! Beside Docker and Podman on one host: `WHARF_TEST_NEIGHBOURS=unix:///dockerd.sock,unix:///podman.sock` names
//! engines that live in one network namespace, which the daemon joins. Without it there is nobody to be beside of.

use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use wharf_testkit::client::eventually;
use wharf_testkit::{Daemon, image};

/// The host's address towards another host, and that host's.
const HERE: &str = "198.51.100.1";
const THERE: &str = "198.51.100.2";

/// A host that engines share, and another one at the other end of a cable.
struct World {
    /// The file of the namespace.
    host: String,
    remote: String,
    cable: String,
}

impl World {
    fn with(socket: &str) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        let pid = rustix::net::sockopt::socket_peercred(&stream).unwrap().pid;
        let number = std::process::id();
        let host = format!("/proc/{}/ns/net", pid.as_raw_nonzero());
        let world = Self { host, remote: format!("nbr{number}"), cable: format!("nbc{number}") };
        let (remote, cable) = (&world.remote, &world.cable);
        run("sh", &["-ec", &format!("ip netns add {remote}; ip -n {remote} link set lo up")]);
        world.on_host(&format!(
            "ip link add {cable} type veth peer name eth0 netns {remote}
             ip addr add {HERE}/24 dev {cable}; ip link set {cable} up"
        ));
        run(
            "sh",
            &[
                "-ec",
                &format!(
                    "ip -n {remote} addr add {THERE}/24 dev eth0; ip -n {remote} link set eth0 up
                     ip -n {remote} route add default via {HERE}"
                ),
            ],
        );
        world
    }

    fn on_host(&self, script: &str) -> String {
        run("nsenter", &[&format!("--net={}", self.host), "sh", "-ec", script])
    }

    fn host_gets(&self, address: &str) -> String {
        get(&["nsenter", &format!("--net={}", self.host)], address)
    }

    fn remote_gets(&self, address: &str) -> String {
        get(&["ip", "netns", "exec", &self.remote], address)
    }

    /// What forwards nothing by itself: as Docker's own chain where Docker turned forwarding on.
    fn drop_by_default(&self, drops: bool) {
        let policy = if drops { "drop" } else { "accept" };
        self.on_host(&format!("nft \"add chain ip filter FORWARD {{ policy {policy}; }}\""));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.drop_by_default(false);
        let _ = Command::new("ip").args(["netns", "delete", &self.remote]).status();
    }
}

#[track_caller]
fn run(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().unwrap();
    assert!(output.status.success(), "{program} {words:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// What a web server says; nothing, where it is not reached.
fn get(inside: &[&str], address: &str) -> String {
    let url = format!("http://{address}/");
    let output = Command::new(inside[0])
        .args(&inside[1..])
        .args(["curl", "-s", "--max-time", "2", &url])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A container with a web server, of one of the engines.
struct Web<'a> {
    d: &'a Daemon,
    /// The engine's socket; `None`: the daemon's.
    engine: Option<&'a str>,
    name: String,
    port: u16,
}

impl<'a> Web<'a> {
    fn start(d: &'a Daemon, engine: Option<&'a str>, name: &str, port: u16) -> Self {
        let web = Self { d, engine, name: format!("nb-{name}-{}", std::process::id()), port };
        if engine.is_some() {
            web.ask(&["load", "-q", "-i", &image::busybox().to_string_lossy()]);
        }
        let script = format!("echo {} >/index.html; exec httpd -f -p 80 -h /", web.name);
        let port = format!("{port}:80");
        web.ask(&["run", "-d", "--name", &web.name, "-p", &port, "busybox", "sh", "-c", &script]);
        web
    }

    #[track_caller]
    fn ask(&self, words: &[&str]) {
        let output = self.command(words).output().unwrap();
        assert!(output.status.success(), "{:?} {words:?}: {output:?}", self.engine);
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.d.command("docker");
        command.args(self.engine.iter().flat_map(|engine| ["-H", engine])).args(words);
        command
    }

    /// What a web server says to this container.
    fn get(&self, address: &str) -> String {
        let url = format!("http://{address}/");
        let output = self.command(&["exec", &self.name, "timeout", "5", "wget", "-qO-", &url]).output();
        String::from_utf8_lossy(&output.unwrap().stdout).trim().to_owned()
    }
}

impl Drop for Web<'_> {
    fn drop(&mut self) {
        let _ = self.command(&["rm", "-f", &self.name]).output();
    }
}

/// Everybody reaches everybody's published port: the host, another host, and the containers of each engine.
#[track_caller]
fn all_reach_all(world: &World, webs: &[Web<'_>], when: &str) {
    for web in webs {
        let address = format!("{HERE}:{}", web.port);
        let reached = |from: &str, ask: &dyn Fn() -> String| {
            let answered = eventually(Duration::from_secs(10), || Some(()).filter(|()| ask() == web.name));
            assert!(answered.is_some(), "{when}: {} is not reached from {from}", web.name);
        };
        reached("the host", &|| world.host_gets(&address));
        reached("its loopback", &|| world.host_gets(&format!("127.0.0.1:{}", web.port)));
        reached("another host", &|| world.remote_gets(&address));
        for other in webs {
            // Whether theirs reach themselves that way is theirs.
            if other.engine.is_none() || other.name != web.name {
                reached(&other.name, &|| other.get(&address));
            }
        }
    }
}

#[test]
fn engines_do_not_stand_in_each_other_s_way() {
    let Ok(engines) = std::env::var("WHARF_TEST_NEIGHBOURS") else { return };
    let engines: Vec<&str> = engines.split(',').collect();
    let world = World::with(engines[0].trim_start_matches("unix://"));
    let d = Daemon::start_in(world.host.as_ref(), env!("CARGO_BIN_EXE_wharf"), &[]);
    let mut webs = vec![Web::start(&d, None, "own", 18_200)];
    for (number, engine) in (0..).zip(&engines) {
        webs.push(Web::start(&d, Some(engine), &format!("their{number}"), 18_201 + number));
    }
    all_reach_all(&world, &webs, "as they started");
    let name = format!("nb-net-{}", std::process::id());
    for web in &webs {
        web.ask(&["network", "create", &name]);
        web.ask(&["network", "rm", &name]);
    }
    all_reach_all(&world, &webs, "after each has changed its rules");
    world.drop_by_default(true);
    let own = &webs[..1];
    all_reach_all(&world, own, "where the others' chain drops what it does not know");
    let (_server, answer) = remote_server(&world);
    let out = || Some(()).filter(|()| own[0].get(&format!("{THERE}:8000")) == answer);
    assert!(eventually(Duration::from_secs(10), out).is_some(), "the way out is closed");
}

/// A web server of the other host.
struct Server {
    process: std::process::Child,
    /// What it serves.
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn remote_server(world: &World) -> (Server, &'static str) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("index.html"), "from outside").unwrap();
    let process = Command::new("ip")
        .args(["netns", "exec", &world.remote, "busybox", "httpd", "-f", "-p", "8000", "-h"])
        .arg(folder.path())
        .spawn()
        .unwrap();
    (Server { process, _folder: folder }, "from outside")
}
