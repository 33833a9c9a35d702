//! Published ports and networks as other hosts see them: the daemon's host is a network namespace, and so is the
//! remote one, with a cable between them.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use wharf_testkit::client::eventually;
use wharf_testkit::{Daemon, ports};

/// Two hosts and a cable: `host` has 198.51.100.1 and 2001:db8::1, `remote` 198.51.100.2 and 2001:db8::2, with routes
/// to all that is behind the host.
struct World {
    host: String,
    remote: String,
}

impl World {
    fn new() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = format!("{}x{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let world = Self { host: format!("hosth{number}"), remote: format!("hostr{number}") };
        for space in [&world.host, &world.remote] {
            shell(&format!("ip netns add {space}; ip -n {space} link set lo up"));
        }
        let (host, remote) = (&world.host, &world.remote);
        shell(&format!(
            "ip -n {host} link add eth0 type veth peer name eth0 netns {remote}
             ip -n {host} addr add 198.51.100.1/24 dev eth0; ip -n {remote} addr add 198.51.100.2/24 dev eth0
             ip -n {host} addr add 2001:db8::1/64 dev eth0 nodad; ip -n {remote} addr add 2001:db8::2/64 dev eth0 nodad
             ip -n {host} link set eth0 up; ip -n {remote} link set eth0 up
             ip -n {host} route add default via 198.51.100.2; ip -n {remote} route add default via 198.51.100.1
             ip -n {remote} route add default via 2001:db8::1"
        ));
        world
    }

    fn daemon(&self, flags: &[&str]) -> Daemon {
        let space = PathBuf::from(format!("/run/netns/{}", self.host));
        Daemon::start_in(&space, env!("CARGO_BIN_EXE_wharf"), flags)
    }

    /// What a web server says, asked from a namespace.
    fn ask(space: &str, url: &str) -> Option<String> {
        let program = ["netns", "exec", space, "curl", "-sg", "--max-time", "1", url];
        let output = Command::new("ip").args(program).output().unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn reached(&self, address: &str) -> bool {
        Self::ask(&self.remote, &format!("http://{address}/")).is_some()
    }

    fn reached_from_host(&self, address: &str) -> bool {
        Self::ask(&self.host, &format!("http://{address}/")).is_some()
    }

    #[track_caller]
    fn comes_from_host(&self, address: &str) {
        let comes = eventually(Duration::from_secs(10), || self.reached_from_host(address).then_some(()));
        assert!(comes.is_some(), "the host does not reach {address}");
    }

    #[track_caller]
    fn comes(&self, address: &str) {
        let comes = eventually(Duration::from_secs(10), || self.reached(address).then_some(()));
        assert!(comes.is_some(), "the remote host does not reach {address}");
    }

    /// A shell of the host's namespace.
    fn on_host(&self, script: &str) -> String {
        shell(&format!("ip netns exec {} sh -ec '{script}'", self.host))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for space in [&self.host, &self.remote] {
            let _ = Command::new("ip").args(["netns", "delete", space]).status();
        }
    }
}

#[track_caller]
fn shell(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn web(d: &Daemon, name: &str, flags: &[&str]) {
    let script = format!("echo -n {name} >/index.html; exec httpd -f -p 80 -h /");
    d.docker(&[&["run", "-d", "--name", name][..], flags, &["busybox", "sh", "-c", &script]].concat()).ok();
    ports::until_listens(&d.inspect(name)["State"]["Pid"].to_string(), 80);
}

fn address(d: &Daemon, name: &str, field: &str) -> String {
    let networks = d.inspect(name)["NetworkSettings"]["Networks"].clone();
    let network = networks.as_object().unwrap().values().next().unwrap().clone();
    network[field].as_str().unwrap().to_owned()
}

#[test]
fn ports_of_both_families_are_reached_from_another_host() {
    let world = World::new();
    let d = world.daemon(&[]);
    d.docker(&["network", "create", "--ipv6", "--subnet", "fd51:1::/64", "--subnet", "10.51.1.0/24", "net"])
        .ok();
    web(
        &d,
        "web",
        &["--network", "net", "-p", "8080:80", "-p", "198.51.100.1:8081:80", "-p", "127.0.0.1:8082:80"],
    );
    world.comes("198.51.100.1:8080");
    world.comes("[2001:db8::1]:8080");
    world.comes("198.51.100.1:8081");
    assert!(!world.reached("[2001:db8::1]:8081") && !world.reached("198.51.100.1:8082"));
    for place in ["127.0.0.1:8080", "[::1]:8080", "198.51.100.1:8080", "[2001:db8::1]:8080", "127.0.0.1:8082"]
    {
        world.comes_from_host(place);
    }
    // The container itself is reached by nobody outside.
    let (v4, v6) = (address(&d, "web", "IPAddress"), address(&d, "web", "GlobalIPv6Address"));
    assert!(v6.starts_with("fd51:1::"), "{v6}");
    assert!(!world.reached(&v4) && !world.reached(&format!("[{v6}]")));
    world.comes_from_host(&v4);
    world.comes_from_host(&format!("[{v6}]"));
    let inside = ["exec", "web", "timeout", "60", "wget", "-qO-"];
    for url in ["http://198.51.100.1:8080", "http://[2001:db8::1]:8080", "http://web"] {
        assert_eq!(d.docker(&[&inside[..], &[url]].concat()).ok(), "web", "{url}");
    }
    let settings = d.inspect("web")["NetworkSettings"].clone();
    assert_eq!(settings["Networks"]["net"]["IPv6Gateway"], "fd51:1::1");
    assert_eq!(settings["Networks"]["net"]["GlobalIPv6PrefixLen"], 64);
    let listed = d.docker(&["port", "web", "80"]).ok();
    assert_eq!(listed, "0.0.0.0:8080\n127.0.0.1:8082\n198.51.100.1:8081\n[::]:8080");
}

#[test]
fn random_ports_ranges_and_protocols() {
    let world = World::new();
    let d = world.daemon(&[]);
    web(&d, "all", &["-P", "--expose", "80", "--expose", "90-91/udp"]);
    let ports = d.inspect("all")["NetworkSettings"]["Ports"].clone();
    let port = |name: &str| ports[name][0]["HostPort"].as_str().unwrap().parse::<u16>().unwrap();
    assert!(port("80/tcp") >= 1024 && port("90/udp") != port("91/udp"), "{ports}");
    world.comes(&format!("198.51.100.1:{}", port("80/tcp")));
    assert_eq!(ports["80/tcp"].as_array().unwrap().len(), 2, "{ports}");

    web(&d, "range", &["-p", "9000-9002:80-82"]);
    world.comes("198.51.100.1:9000");
    let ports = d.docker(&["port", "range"]).ok();
    for line in ["80/tcp -> 0.0.0.0:9000", "82/tcp -> [::]:9002"] {
        assert!(ports.lines().any(|one| one == line), "{ports}");
    }
    // One port out of a range: the first that is free.
    web(&d, "one", &["-p", "9002-9010:80"]);
    world.comes("198.51.100.1:9003");
    let wrong = d.docker(&["create", "-p", "9000-9005:80-82", "busybox"]);
    assert!(wrong.stderr.contains("nvalid ranges specified for container and host Ports"), "{wrong:?}");

    d.docker(&["run", "-d", "--name", "udp", "-p", "5353:53/udp", "busybox", "sleep", "1000"]).ok();
    let pid = d.inspect("udp")["State"]["Pid"].to_string();
    // Busybox has no server for datagrams.
    let serve = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.bind((\"\", 53))\n\
                 while True: s.sendto(*s.recvfrom(10))";
    let inside = format!("--net=/proc/{pid}/ns/net");
    let mut server = Command::new("nsenter").args([&inside, "python3", "-c", serve]).spawn().unwrap();
    let echo = || {
        let script = "import socket; s=socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1); \
                      s.sendto(b\"hi\", (\"198.51.100.1\", 5353)); print(s.recv(10).decode())";
        let output =
            Command::new("ip").args(["netns", "exec", &world.remote, "python3", "-c", script]).output();
        output.ok().filter(|output| output.stdout == b"hi\n").map(drop)
    };
    let answered = eventually(Duration::from_secs(10), echo);
    server.kill().unwrap();
    server.wait().unwrap();
    answered.expect("datagrams come back");
    let sctp = d.docker(&["run", "-d", "--name", "sctp", "-p", "7000:7001/sctp", "busybox", "sleep", "1000"]);
    sctp.ok();
    assert_eq!(d.docker(&["port", "sctp"]).ok(), "7001/sctp -> 0.0.0.0:7000\n7001/sctp -> [::]:7000");
    let pid = d.inspect("sctp")["State"]["Pid"].to_string();
    assert_eq!(sctp_arrives(&world, &pid), "7001");
}

/// Sends the first packet of an SCTP connection to the host's port 7000 until one arrives in a container; to which
/// port. Made by hand, since the kernel may have no such sockets.
fn sctp_arrives(world: &World, pid: &str) -> String {
    let receive = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132)\np = s.recv(2000)\n\
                   h = (p[0] & 15) * 4\nprint(int.from_bytes(p[h + 2:h + 4], \"big\"))";
    let mut receiver = Command::new("nsenter")
        .args([&format!("--net=/proc/{pid}/ns/net"), "timeout", "600", "python3", "-c", receive])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // RFC 9260, 3.3.2: INIT. The checksum is a CRC-32C over all with itself as zero.
    let send = "import socket, struct\n\
                def crc(data):\n c = 0xffffffff\n for x in data:\n  c ^= x\n\
                \x20 for _ in range(8): c = (c >> 1) ^ (0x82f63b78 & -(c & 1))\n return c ^ 0xffffffff\n\
                head = struct.pack(\"!HHI\", 5000, 7000, 0)\n\
                init = struct.pack(\"!BBHIIHHI\", 1, 0, 20, 1, 65536, 1, 1, 1)\n\
                packet = head + struct.pack(\"<I\", crc(head + bytes(4) + init)) + init\n\
                s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132)\n\
                s.sendto(packet, (\"198.51.100.1\", 0))";
    let arrived = eventually(Duration::from_secs(30), || {
        let sent = Command::new("ip").args(["netns", "exec", &world.remote, "python3", "-c", send]).output();
        assert!(sent.as_ref().is_ok_and(|output| output.status.success()), "{sent:?}");
        receiver.try_wait().unwrap()
    });
    if arrived.is_none() {
        receiver.kill().unwrap();
    }
    let output = receiver.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A host whose firewall has files of its own, which a daemon sees too.
struct Guarded {
    world: World,
    folder: tempfile::TempDir,
    /// Of `/etc`.
    directory: &'static str,
}

impl Guarded {
    /// `None`: the program is not installed here.
    #[expect(clippy::print_stderr, reason = "what is not run is told")]
    fn with(program: &str, directory: &'static str) -> Option<Self> {
        if !std::path::Path::new("/usr/sbin").join(program).exists() {
            eprintln!("skipped: {program} is not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        shell(&format!("cp -a /etc/{directory} {}/{directory}", folder.path().display()));
        Some(Self { world: World::new(), folder, directory })
    }

    /// What shows the files in a mount namespace.
    fn mounts(&self) -> String {
        let (folder, directory) = (self.folder.path().display(), self.directory);
        format!("mount --make-rprivate /; mount --bind {folder}/{directory} /etc/{directory}")
    }

    fn daemon(&self) -> Daemon {
        use std::os::unix::fs::PermissionsExt;
        let (program, mounts) = (self.folder.path().join("wharf"), self.mounts());
        let real = env!("CARGO_BIN_EXE_wharf");
        let script =
            format!("#!/bin/sh\nexec unshare -m sh -ec '{mounts}; exec {real} \"$@\"' wharf \"$@\"\n");
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let space = PathBuf::from(format!("/run/netns/{}", self.world.host));
        Daemon::start_in(&space, program, &[])
    }

    /// Runs a program of the firewall.
    fn run(&self, script: &str) {
        let (host, mounts) = (&self.world.host, self.mounts());
        shell(&format!(
            "ip netns exec {host} unshare -m sh -ec '{mounts}; mount -t tmpfs tmpfs /run; {script}'"
        ));
    }

    #[track_caller]
    fn goes(&self, address: &str) {
        let gone = eventually(Duration::from_secs(10), || (!self.world.reached(address)).then_some(()));
        assert!(gone.is_some(), "the remote host reaches {address}");
    }

    /// What is open to the host and its containers, whatever is closed.
    fn stays_open_inside(&self, d: &Daemon) {
        for place in ["127.0.0.1:8080", "198.51.100.1:8080", "[::1]:8080"] {
            self.world.comes_from_host(place);
        }
        is_answered(d, "bridge", "http://198.51.100.1:8080/");
    }
}

#[test]
fn ufw_s_own_configuration_opens_ports() {
    let Some(host) = Guarded::with("ufw", "ufw") else { return };
    let d = host.daemon();
    web(&d, "web", &["-p", "8080:80", "-p", "8081:80"]);
    host.world.comes("198.51.100.1:8080");
    host.run("ufw --force enable");
    host.goes("198.51.100.1:8080");
    host.goes("[2001:db8::1]:8081");
    host.stays_open_inside(&d);
    let said = || d.get("/containers/web/reach").unwrap().json();
    assert_eq!(said()[0]["Port"], "0.0.0.0:8080->80/tcp", "{}", said());
    host.run("ufw allow 8080/tcp");
    host.world.comes("198.51.100.1:8080");
    assert!(!host.world.reached("198.51.100.1:8081"));
    host.run("ufw disable");
    host.world.comes("198.51.100.1:8081");
}

#[test]
fn gateway_modes_open_what_they_say() {
    let world = World::new();
    let d = world.daemon(&[]);
    let mode = |mode: &str| format!("com.docker.network.bridge.gateway_mode_ipv4={mode}");
    for (at, name) in ["nat", "routed", "nat-unprotected"].into_iter().enumerate() {
        let subnet = format!("10.52.{at}.0/24");
        d.docker(&["network", "create", "--subnet", &subnet, "-o", &mode(name), name]).ok();
        let port = format!("{}:80", 8000 + at);
        web(&d, &format!("web-{name}"), &["--network", name, "-p", &port]);
    }
    let place =
        |name: &str, port: u16| format!("{}:{port}", address(&d, &format!("web-{name}"), "IPAddress"));
    // Published ports alone are open, at the host's addresses or the container's.
    world.comes("198.51.100.1:8000");
    world.comes(&place("routed", 80));
    assert!(!world.reached("198.51.100.1:8001"), "nothing is translated there");
    world.comes("198.51.100.1:8002");
    world.comes(&place("nat-unprotected", 80));
    assert!(!world.reached(&place("nat", 80)));
    d.docker(&["exec", "-d", "web-routed", "httpd", "-f", "-p", "81", "-h", "/"]).ok();
    d.docker(&["exec", "-d", "web-nat-unprotected", "httpd", "-f", "-p", "81", "-h", "/"]).ok();
    world.comes(&place("nat-unprotected", 81));
    assert!(!world.reached(&place("routed", 81)), "it is not published");
    // Routed containers are seen with their own addresses; the others are the host to the world.
    let isolated = ["network", "create", "--internal", "-o", &mode("isolated"), "alone"];
    d.docker(&isolated).ok();
    web(&d, "web-alone", &["--network", "alone"]);
    let routes = d.docker(&["exec", "web-alone", "ip", "route"]).ok();
    assert!(!routes.contains("default"), "{routes}");
    assert!(!world.reached_from_host(&place("alone", 80)), "not even the host is in it");
    let peer = [
        "run",
        "--rm",
        "--init",
        "--network",
        "alone",
        "busybox",
        "timeout",
        "60",
        "wget",
        "-qO-",
        "http://web-alone/",
    ];
    assert_eq!(d.docker(&peer).ok(), "web-alone");
    let refused = d.docker(&["network", "create", "-o", &mode("isolated"), "open"]);
    assert!(refused.code != 0 && refused.stderr.contains("isolated"), "{refused:?}");
}

#[test]
fn what_the_host_s_firewall_closes_stays_closed_and_is_said() {
    let world = World::new();
    world.on_host(
        "nft \"table inet fw { chain input { type filter hook input priority 0; policy drop; iif lo accept; \
         ct state established,related accept; meta l4proto ipv6-icmp accept; }; }\"",
    );
    let d = world.daemon(&["--publish-allow", "8081"]);
    web(&d, "closed", &["-p", "8080:80"]);
    web(&d, "allowed", &["-p", "8081:80"]);
    world.comes("198.51.100.1:8081");
    assert!(!world.reached("198.51.100.1:8080") && !world.reached("[2001:db8::1]:8080"));
    for place in ["127.0.0.1:8080", "198.51.100.1:8080", "[::1]:8080"] {
        world.comes_from_host(place);
    }
    let peer =
        ["run", "--rm", "--init", "busybox", "timeout", "60", "wget", "-qO-", "http://198.51.100.1:8080/"];
    assert_eq!(d.docker(&peer).ok(), "closed");
    let reach = |name: &str| d.get(&format!("/containers/{name}/reach")).unwrap().json();
    let said = reach("closed");
    assert_eq!(said[0]["Port"], "0.0.0.0:8080->80/tcp", "{said}");
    assert!(said[0]["From"].as_str().unwrap().starts_with("this host and its containers only"), "{said}");
    assert_eq!(reach("allowed"), serde_json::json!([]));
    // On a terminal, `run` and `ps` say it.
    let line = |words: &str| {
        let command = format!("{} {words}", env!("CARGO_BIN_EXE_wharf"));
        let mut script = Command::new("script");
        script.args(["-qec", &command, "/dev/null"]).env("DOCKER_HOST", d.host());
        String::from_utf8_lossy(&script.output().unwrap().stdout).into_owned()
    };
    let told = |port: u16| format!("0.0.0.0:{port}->80/tcp: reached from this host and its containers only");
    let listed = line("ps");
    assert!(listed.contains(&told(8080)) && !listed.contains(&told(8081)), "{listed}");
    let run = line("run -d -p 8090:80 busybox sleep 1000");
    assert!(run.contains(&told(8090)), "{run}");
    // The host opens it: so it is.
    world.on_host("nft flush chain inet fw input; nft add chain inet fw input \"{ policy accept; }\"");
    world.comes("198.51.100.1:8080");
    let said =
        eventually(Duration::from_secs(10), || (reach("closed") == serde_json::json!([])).then_some(()));
    assert!(said.is_some(), "{}", reach("closed"));
    drop(d);
    world.on_host("nft add chain inet fw input \"{ policy drop; }\"");
    let d = world.daemon(&["--publish-policy", "open"]);
    web(&d, "open", &["-p", "8080:80"]);
    world.comes("198.51.100.1:8080");
    assert_eq!(d.get("/containers/open/reach").unwrap().json(), serde_json::json!([]));
}

/// A container in `network` is answered.
#[track_caller]
fn is_answered(d: &Daemon, network: &str, url: &str) {
    let answered = eventually(Duration::from_secs(20), || asks(d, network, url).then_some(()));
    assert!(answered.is_some(), "{url} does not answer in {network}");
}

/// Whether a container in `network` is answered, and soon.
fn asks(d: &Daemon, network: &str, url: &str) -> bool {
    let run = ["run", "--rm", "--init", "--network", network, "busybox", "timeout", "1", "wget", "-qO-", url];
    d.docker(&run).code == 0
}

#[test]
fn neighbours_talk_only_where_they_may() {
    let world = World::new();
    let d = world.daemon(&[]);
    d.docker(&["network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "quiet"]).ok();
    d.docker(&["network", "create", "other"]).ok();
    web(&d, "one", &["--network", "quiet", "-p", "8080:80"]);
    web(&d, "two", &["--network", "quiet"]);
    web(&d, "three", &["--network", "other"]);
    assert!(!asks(&d, "quiet", "http://two/"));
    let (two, three) = (address(&d, "two", "IPAddress"), address(&d, "three", "IPAddress"));
    assert!(!asks(&d, "quiet", &format!("http://{three}/")) && !asks(&d, "other", &format!("http://{two}/")));
    // What is published is for everybody.
    is_answered(&d, "quiet", "http://198.51.100.1:8080/");
    is_answered(&d, "other", "http://198.51.100.1:8080/");
    is_answered(&d, "other", "http://three/");
    // The default network, by a flag of the daemon.
    drop(d);
    let flags = ["--icc=false", "--bip", "10.53.0.1/24", "--fixed-cidr", "10.53.0.64/26", "--mtu", "1450"];
    let more = ["--ip", "198.51.100.1", "--default-address-pool", "base=10.54.0.0/16,size=28"];
    let d = world.daemon(&[&flags[..], &more].concat());
    web(&d, "one", &["-p", "8080:80"]);
    let one = address(&d, "one", "IPAddress");
    let last: u8 = one.strip_prefix("10.53.0.").unwrap().parse().unwrap();
    assert!((64..128).contains(&last), "{one}");
    assert!(!asks(&d, "bridge", &format!("http://{one}/")));
    world.comes("198.51.100.1:8080");
    assert_eq!(d.docker(&["port", "one"]).ok(), "80/tcp -> 198.51.100.1:8080");
    assert_eq!(d.docker(&["exec", "one", "cat", "/sys/class/net/eth0/mtu"]).ok(), "1450");
    d.docker(&["network", "create", "small"]).ok();
    let network = d.get("/networks/small").unwrap().json();
    let subnet = network["IPAM"]["Config"][0]["Subnet"].as_str().unwrap().to_owned();
    assert!(subnet.starts_with("10.54.") && subnet.ends_with("/28"), "{subnet}");
}

#[test]
fn a_daemon_without_a_firewall_says_what_that_means() {
    let world = World::new();
    let d = world.daemon(&["--iptables=false", "--ip6tables=false"]);
    web(&d, "web", &[]);
    assert!(!world.on_host("nft list ruleset").contains(d.instance()));
    world.comes_from_host(&address(&d, "web", "IPAddress"));
    let info = d.get("/info").unwrap().json();
    assert!(info["Warnings"].is_null() || info["Warnings"].is_array());
}
