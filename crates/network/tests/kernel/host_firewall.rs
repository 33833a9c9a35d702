//! What the host's firewall closes stays closed.

use std::time::{Duration, Instant};

use wharf_network::types::{Network, Opening, PublishPolicy, Reach};

use crate::world::*;

const CLOSED: &str = "nft 'table inet fw { chain input { type filter hook input priority 0; policy drop;
    iif lo accept; ct state established,related accept; meta l4proto ipv6-icmp accept; }; }'";

struct Setting {
    world: World,
    neighbour: Container,
    _network: Network,
    _server: Container,
}

fn published(world: World) -> Setting {
    let network = bridge(&["10.81.1.0/24", "fd81:1::/64"]);
    world.network(&network);
    let mut ports = vec![tcp("198.51.100.1:9000", "10.81.1.2:80")];
    for port in [8080, 8081] {
        ports.push(tcp(&format!("0.0.0.0:{port}"), "10.81.1.2:80"));
        ports.push(tcp(&format!("[::]:{port}"), "[fd81:1::2]:80"));
    }
    let server = world.publishing(&network, &["10.81.1.2/24", "fd81:1::2/64"], &ports);
    server.space.serve(80);
    let neighbour = world.container(&network, &["10.81.1.3/24", "fd81:1::3/64"]);
    Setting { world, neighbour, _network: network, _server: server }
}

impl Setting {
    fn remote_reaches(&self, port: u16) -> (bool, bool) {
        let ask = |address: &str| {
            self.world.remote.ask_within(format!("{address}:{port}").as_str(), SILENCE).is_some()
        };
        (ask("198.51.100.1"), ask("[2001:db8::1]"))
    }

    fn eventually(&self, port: u16, wanted: (bool, bool)) {
        let start = Instant::now();
        while self.remote_reaches(port) != wanted {
            assert!(start.elapsed() < PATIENCE, "port {port}: {wanted:?} never came");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn inside_reaches(&self) {
        for to in ["198.51.100.1:8080", "127.0.0.1:8080", "[2001:db8::1]:8080"] {
            assert!(self.world.host.ask(to).is_some(), "{to}");
        }
        for to in ["198.51.100.1:8080", "[2001:db8::1]:8080"] {
            assert!(self.neighbour.space.ask(to).is_some(), "{to}");
        }
    }
}

#[test]
fn a_closed_host_keeps_ports_to_itself() {
    let all = published(World::prepared(CLOSED, |_| {}));
    assert_eq!(all.remote_reaches(8080), (false, false));
    all.inside_reaches();
    // A named address is a decision.
    assert!(all.world.remote.ask("198.51.100.1:9000").is_some());
    let reach = |host: &str| all.world.plane.reach(&tcp(host, "10.81.1.2:80"));
    assert_eq!(reach("0.0.0.0:8080"), Reach::HostOnly { closed_by: "inet fw input".into() });
    assert_eq!(reach("198.51.100.1:9000"), Reach::Address("198.51.100.1".parse().unwrap()));
    // The administrator changes his mind, and again.
    all.world.host.shell("nft 'chain inet fw input { policy accept; }'");
    all.eventually(8080, (true, true));
    assert_eq!(reach("0.0.0.0:8080"), Reach::Anywhere);
    all.world.host.shell("nft add rule inet fw input reject");
    all.eventually(8080, (false, false));
    all.world.host.shell("nft delete table inet fw");
    all.eventually(8080, (true, true));
    all.world.host.shell(CLOSED);
    all.eventually(8080, (false, false));
    all.inside_reaches();
}

#[test]
fn one_family_may_be_closed_alone() {
    let script = "nft 'table ip6 fw { chain input { type filter hook input priority 0; policy drop;
        iif lo accept; ct state established,related accept; meta l4proto ipv6-icmp accept; }; }'";
    let all = published(World::prepared(script, |_| {}));
    all.eventually(8080, (true, false));
    all.inside_reaches();
}

#[test]
fn what_is_allowed_by_name_is_open() {
    let allow = |ports, source: Option<&str>, interface: Option<&str>| Opening {
        protocol: None,
        ports: Some((ports, ports)),
        source: source.map(|text| text.parse().unwrap()),
        interface: interface.map(str::to_owned),
    };
    let cases = [
        (allow(8080, None, None), (true, true)),
        (allow(8080, Some("198.51.100.0/24"), None), (true, false)),
        (allow(8080, Some("2001:db8::2/128"), None), (false, true)),
        (allow(8080, Some("203.0.113.0/24"), None), (false, false)),
        (allow(8080, None, Some("uplink")), (true, true)),
        (allow(8080, None, Some("other")), (false, false)),
    ];
    for (opening, wanted) in cases {
        let world = World::prepared(CLOSED, |settings| settings.publish_allow = vec![opening.clone()]);
        let all = published(world);
        all.eventually(8080, wanted);
        assert_eq!(all.remote_reaches(8081), (false, false));
        let reach = all.world.plane.reach(&tcp("0.0.0.0:8080", "10.81.1.2:80"));
        match (&opening.source, &opening.interface) {
            (None, None) => assert_eq!(reach, Reach::Anywhere),
            (Some(source), _) if source.addr().is_ipv6() => {
                assert!(matches!(reach, Reach::HostOnly { .. }));
            }
            _ => assert_eq!(reach, Reach::Some(vec![opening])),
        }
    }
}

#[test]
fn dockers_way_is_open() {
    let all = published(World::prepared(CLOSED, |settings| settings.publish_policy = PublishPolicy::Open));
    all.eventually(8080, (true, true));
    assert_eq!(all.world.plane.reach(&tcp("0.0.0.0:8080", "10.81.1.2:80")), Reach::Anywhere);
}

/// As ufw sets it up, in small.
#[test]
fn what_ufw_allows_is_open() {
    let script = "for t in iptables ip6tables; do
        $t-nft -P INPUT DROP; $t-nft -N ufw-before-input; $t-nft -A INPUT -j ufw-before-input
        $t-nft -A ufw-before-input -i lo -j ACCEPT
        $t-nft -A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; done
        ip6tables-nft -A ufw-before-input -p ipv6-icmp -j ACCEPT";
    let all = published(World::prepared(script, |_| {}));
    assert_eq!(all.remote_reaches(8080), (false, false));
    all.inside_reaches();
    let directory = all.world.settings.host_root.join("etc/ufw");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("user.rules"), "-A ufw-user-input -p tcp --dport 8080 -j ACCEPT\n")
        .unwrap();
    // ufw then loads its rules.
    all.world.host.shell("iptables-nft -N ufw-user-input");
    all.eventually(8080, (true, true));
    assert_eq!(all.remote_reaches(8081), (false, false));
}

/// Runs a program that keeps its files in `/etc` with private ones, which the plane finds below its root.
fn with_private_etc(world: &World, directory: &str, script: &str) -> String {
    let root = world.settings.host_root.display();
    world.host.shell(&format!(
        "mkdir -p {root}/etc; test -e {root}/etc/{directory} || cp -a /etc/{directory} {root}/etc/{directory}
         exec unshare -m sh -ec 'mount --make-rprivate /; mount --bind {root}/etc/{directory} /etc/{directory}
         mount -t tmpfs tmpfs /run
         {script}'"
    ))
}

fn is_installed(program: &str) -> bool {
    let found = std::path::Path::new("/usr/sbin").join(program).exists();
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

/// Both ways past the table: what containers send, and what comes to published ports.
fn works_as_configured(all: &Setting) {
    let out = || {
        all.neighbour.space.ask_within("198.51.100.2:80", SILENCE).is_some()
            && all.neighbour.space.ask_within("[2001:db8::2]:80", SILENCE).is_some()
    };
    let start = Instant::now();
    while !out() {
        assert!(
            start.elapsed() < PATIENCE,
            "containers never get out: {}",
            all.world.host.shell("nft list ruleset")
        );
    }
    all.inside_reaches();
}

#[test]
fn ufw_itself() {
    if !is_installed("ufw") {
        return;
    }
    let all = published(World::new());
    all.world.remote.serve(80);
    all.eventually(8080, (true, true));
    with_private_etc(&all.world, "ufw", "ufw --force enable");
    all.eventually(8080, (false, false));
    works_as_configured(&all);
    with_private_etc(&all.world, "ufw", "ufw allow 8080/tcp");
    all.eventually(8080, (true, true));
    assert_eq!(all.remote_reaches(8081), (false, false));
    with_private_etc(&all.world, "ufw", "ufw reload");
    all.eventually(8080, (true, true));
    works_as_configured(&all);
    with_private_etc(&all.world, "ufw", "ufw delete allow 8080/tcp");
    all.eventually(8080, (false, false));
    with_private_etc(&all.world, "ufw", "ufw disable");
    all.eventually(8080, (true, true));
}

/// firewalld with a message bus of its own, in a mount namespace of its own.
struct Firewalld(std::process::Child);

impl Firewalld {
    fn start(world: &World) -> Self {
        let root = world.settings.host_root.display();
        let script = format!(
            "mkdir -p {root}/etc {root}/usr/lib; cp -a /etc/firewalld {root}/etc/; cp -a /usr/lib/firewalld {root}/usr/lib/
             mount --make-rprivate /; mount --bind {root}/etc/firewalld /etc/firewalld
             mount -t tmpfs tmpfs /run; mkdir /run/dbus
             dbus-daemon --system --nofork --nopidfile &
             while ! test -S /run/dbus/system_bus_socket; do sleep 0.05; done
             exec firewalld --nofork --nopid"
        );
        let start = || {
            let mut command = std::process::Command::new("unshare");
            command.args(["-m", "--kill-child", "--fork", "-p", "--mount-proc", "sh", "-ec", &script]);
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
        };
        let this = Self(world.host.run(start));
        let start = Instant::now();
        while this.command(world, "--state || true").trim() != "running" {
            assert!(start.elapsed() < PATIENCE * 6, "firewalld does not start");
            std::thread::sleep(Duration::from_millis(100));
        }
        this
    }

    fn command(&self, world: &World, arguments: &str) -> String {
        let pid = self.0.id();
        world.host.shell(&format!(
            "inside=$(pgrep -P {pid} | head -1); nsenter -m -t $inside sh -c \"firewall-cmd {arguments} 2>&1\""
        ))
    }
}

impl Drop for Firewalld {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn firewalld_itself() {
    if !is_installed("firewalld") {
        return;
    }
    let all = published(World::new());
    all.world.remote.serve(80);
    let firewalld = Firewalld::start(&all.world);
    all.eventually(8080, (false, false));
    works_as_configured(&all);
    firewalld.command(&all.world, "--permanent --add-port=8080/tcp");
    firewalld.command(&all.world, "--reload");
    all.eventually(8080, (true, true));
    assert_eq!(all.remote_reaches(8081), (false, false));
    works_as_configured(&all);
    firewalld.command(&all.world, "--permanent --remove-port=8080/tcp");
    firewalld.command(&all.world, "--reload");
    all.eventually(8080, (false, false));
}
