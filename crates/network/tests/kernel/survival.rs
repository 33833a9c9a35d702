//! What others do to the ruleset, and what deaths do.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use wharf_network::types::Network;

use crate::world::*;

/// A published port and a remote host that also knows the way to the container's own address.
fn published() -> (World, Network, Container) {
    let world = World::new();
    let network = bridge(&["10.80.1.0/24", "fd80:1::/64"]);
    world.network(&network);
    let ports = [tcp("0.0.0.0:8080", "10.80.1.2:80"), tcp("[::]:8080", "[fd80:1::2]:80")];
    let container = world.publishing(&network, &["10.80.1.2/24", "fd80:1::2/64"], &ports);
    container.space.serve(80);
    world
        .remote
        .shell("ip route add 10.80.1.0/24 via 198.51.100.1; ip route add fd80:1::/64 via 2001:db8::1");
    (world, network, container)
}

/// Packets sent without pause, in both families, to where none may arrive.
struct Probes {
    stop: Arc<AtomicBool>,
    arrived: Arc<AtomicU32>,
    threads: Vec<std::thread::JoinHandle<u32>>,
}

impl Probes {
    fn start(from: &Space, into: &Container, addresses: &[&str]) -> Self {
        let (stop, arrived) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let socket = into.space.run(|| UdpSocket::bind("[::]:9999").unwrap());
        let counter = Arc::clone(&arrived);
        std::thread::spawn(move || {
            while socket.recv(&mut [0; 64]).is_ok() {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        let threads = addresses
            .iter()
            .map(|address| {
                let (stop, address) = (Arc::clone(&stop), (*address).to_owned());
                from.spawn(move || {
                    let any = if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
                    let mut sent = 0;
                    while sent == 0 || !stop.load(Ordering::Relaxed) {
                        // A new socket each time: no packet belongs to what was let through before.
                        let socket = UdpSocket::bind(any).unwrap();
                        sent += u32::from(socket.send_to(b"x", &address).is_ok());
                        std::thread::sleep(Duration::from_micros(300));
                    }
                    sent
                })
            })
            .collect();
        Self { stop, arrived, threads }
    }

    /// How many arrived of how many.
    fn end(self) -> (u32, u32) {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        std::thread::sleep(Duration::from_millis(100));
        (self.arrived.load(Ordering::Relaxed), sent)
    }
}

#[test]
fn a_foreign_flush_opens_nothing() {
    let (world, _, container) = published();
    let probes = Probes::start(&world.remote, &container, &["10.80.1.2:9999", "[fd80:1::2]:9999"]);
    for _ in 0..30 {
        world.host.shell("nft flush ruleset; nft add table inet other; nft delete table inet other");
    }
    assert!(world.remote.ask("198.51.100.1:8080").is_some());
    assert!(world.remote.ask("[2001:db8::1]:8080").is_some());
    let (arrived, sent) = probes.end();
    assert!(arrived == 0 && sent > 0, "{arrived} of {sent}");
    let table = format!("inet wharf-{}", world.settings.instance);
    let refused = world.host.shell(&format!("nft delete table {table} 2>&1 || true"));
    assert!(refused.contains("Operation not permitted"), "{refused}");
}

#[test]
fn a_new_daemon_changes_nothing_for_connections() {
    let (mut world, network, container) = published();
    let listener = container.space.run(|| TcpListener::bind("10.80.1.2:81").unwrap());
    let port = [tcp("0.0.0.0:8081", "10.80.1.2:81")];
    let mut attached = container.attached.clone();
    world.host.run(|| world.plane.publish(&mut attached, &port).unwrap());
    let mut client = world.remote.run(|| TcpStream::connect("198.51.100.1:8081").unwrap());
    let (mut server, _) = listener.accept().unwrap();
    let probes = Probes::start(&world.remote, &container, &["10.80.1.2:9999", "[fd80:1::2]:9999"]);
    for _ in 0..10 {
        let done = world.reopen(std::slice::from_ref(&network), std::slice::from_ref(&attached));
        assert_eq!(done, wharf_network::types::Reconciled::default());
    }
    let (arrived, sent) = probes.end();
    assert!(arrived == 0 && sent > 0, "{arrived} of {sent}");
    client.write_all(b"still").unwrap();
    let mut text = [0; 5];
    server.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"still");
    assert!(world.remote.ask("198.51.100.1:8080").is_some());
    let seen = world.host.shell("ip addr");
    assert_eq!(seen.matches("10.80.1.1/24").count(), 1, "{seen}");
    // Ports can be taken back by who did not publish them.
    world.host.run(|| world.plane.unpublish(&mut attached, &port).unwrap());
    assert!(world.remote.is_shut("198.51.100.1:8081"));
}

#[test]
fn the_table_outlives_all_its_owners() {
    let (mut world, network, container) = published();
    if !world.host.run(|| world.plane.capabilities().persistent_table) {
        eprintln!("skipped: the kernel has no persistent tables");
        return;
    }
    let probes = Probes::start(&world.remote, &container, &["10.80.1.2:9999", "[fd80:1::2]:9999"]);
    world.kill_owners();
    assert!(world.remote.ask("198.51.100.1:8080").is_some());
    world.revive(&[network], std::slice::from_ref(&container.attached));
    assert!(world.remote.ask("198.51.100.1:8080").is_some());
    let (arrived, sent) = probes.end();
    assert!(arrived == 0 && sent > 0, "{arrived} of {sent}");
    let ports = container.attached.ports.clone();
    let mut attached = container.attached.clone();
    world.host.run(|| world.plane.unpublish(&mut attached, &ports).unwrap());
    assert!(world.remote.is_shut("198.51.100.1:8080"));
}

#[test]
fn leftovers_are_swept_and_losses_told() {
    let (mut world, network, container) = published();
    let gone = bridge(&["10.80.2.0/24"]);
    world.network(&gone);
    let stray = world.container(&network, &["10.80.1.9/24"]);
    let lost = world.container(&network, &["10.80.1.10/24"]);
    lost.space.shell("ip link del eth0");
    let keep = [container.attached.clone(), lost.attached.clone()];
    let done = world.reopen(std::slice::from_ref(&network), &keep);
    let mut wanted =
        vec![stray.attached.host_interface.clone().unwrap(), gone.bridge().unwrap().interface.clone()];
    wanted.sort();
    let mut swept = done.swept.clone();
    swept.sort();
    assert_eq!(swept, wanted);
    assert_eq!(done.lost, std::slice::from_ref(&lost.attached.endpoint));
    assert!(world.remote.ask("198.51.100.1:8080").is_some());
    let links = world.host.shell("ip link");
    assert!(!wanted.iter().any(|name| links.contains(name.as_str())), "{links}");
}

/// Waits until something holds; how long that took.
fn eventually(what: &str, holds: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    start.elapsed()
}

fn reaches_the_world(container: &Container) -> bool {
    container.space.ask("198.51.100.2:80").is_some() && container.space.ask("[2001:db8::2]:80").is_some()
}

#[test]
fn a_foreign_chain_that_drops_lets_ours_through() {
    let script = "nft 'table inet fw { chain forth { type filter hook forward priority 0; policy drop; }; }'";
    let world = World::prepared(script, |_| {});
    let network = bridge(&["10.80.3.0/24", "fd80:3::/64"]);
    world.network(&network);
    let ports = [tcp("0.0.0.0:8080", "10.80.3.2:80")];
    let container = world.publishing(&network, &["10.80.3.2/24", "fd80:3::2/64"], &ports);
    container.space.serve(80);
    world.remote.serve(80);
    assert!(reaches_the_world(&container));
    assert!(world.remote.ask("198.51.100.1:8080").is_some());
    let list = || world.host.shell("nft list chain inet fw forth");
    let tag = format!("wharf:{}", world.settings.instance);
    assert_eq!(list().matches(&tag).count(), 1, "{}", list());
    // Its owner rewrites it, or puts something before.
    world.host.shell("nft flush chain inet fw forth");
    eventually("the rule comes back", || list().contains(&tag));
    world.host.shell("nft insert rule inet fw forth drop");
    eventually("the rule is at the head", || {
        let text = list();
        text.find(&tag) < text.find("\t\tdrop") && text.matches(&tag).count() == 1
    });
    assert!(reaches_the_world(&container));
    // One that comes later.
    world.host.shell(
        "nft 'table ip late { chain forth { type filter hook forward priority 5; counter; reject; }; }'",
    );
    eventually("the late chain is met", || world.host.shell("nft list table ip late").contains(&tag));
    assert!(reaches_the_world(&container));
    world.host.run(|| world.plane.dismantle().unwrap());
    assert!(!world.host.shell("nft list ruleset").contains("wharf"));
}

#[test]
fn iptables_understands_our_rule() {
    let script = "for t in iptables ip6tables; do
        $t-nft -P FORWARD DROP; $t-nft -N DOCKER-USER; $t-nft -A DOCKER-USER -j RETURN
        $t-nft -A FORWARD -j DOCKER-USER; done";
    let world = World::prepared(script, |_| {});
    let network = bridge(&["10.80.4.0/24", "fd80:4::/64"]);
    world.network(&network);
    let container = world.container(&network, &["10.80.4.2/24", "fd80:4::2/64"]);
    world.remote.serve(80);
    assert!(reaches_the_world(&container));
    let wanted = format!(
        "-A DOCKER-USER -m mark --mark 0x2000000/0x2000000 -m comment --comment \"wharf:{}\" -j ACCEPT",
        world.settings.instance
    );
    for program in ["iptables-nft", "ip6tables-nft"] {
        let list = || world.host.shell(&format!("{program} -S"));
        assert!(list().contains(&wanted), "{}", list());
        world.host.shell(&format!("{program} -F DOCKER-USER"));
        let took = eventually("the rule comes back", || list().contains(&wanted));
        println!("{program}: back after {took:?}");
        // What is saved can be restored.
        world.host.shell(&format!("{program}-save | {program}-restore"));
        assert_eq!(list().matches("wharf:").count(), 1, "{}", list());
    }
    assert!(reaches_the_world(&container));
    world.host.run(|| world.plane.dismantle().unwrap());
    assert!(!world.host.shell("iptables-nft -S; ip6tables-nft -S").contains("wharf"));
}

/// Ours pass, nobody else does: the foreign firewall stays what it was.
#[test]
fn the_rule_lets_nobody_else_through() {
    let far = Space::new();
    let (pid, fd) = (std::process::id(), std::os::fd::AsRawFd::as_raw_fd(far.fd()));
    let world = World::prepared(
        &format!(
            "ip link add far type veth peer name far netns /proc/{pid}/fd/{fd}
             ip link set far up; ip addr add 203.0.113.1/24 dev far; sysctl -qw net.ipv4.ip_forward=1
             nft 'table inet fw {{ chain forth {{ type filter hook forward priority 0; policy drop; }}; }}'"
        ),
        |_| {},
    );
    far.shell("ip link set far up; ip addr add 203.0.113.2/24 dev far; ip route add default via 203.0.113.1");
    far.serve(80);
    world.remote.shell("ip route add 203.0.113.0/24 via 198.51.100.1");
    assert!(world.remote.is_shut("203.0.113.2:80"));
    let network = bridge(&["10.80.5.0/24"]);
    world.network(&network);
    let container = world.container(&network, &["10.80.5.2/24"]);
    let seen: Option<IpAddr> = container.space.ask("203.0.113.2:80");
    assert_eq!(seen, Some("203.0.113.1".parse().unwrap()));
}

/// firewalld owns its table where it can (2.3 and Linux 6.9): then nobody else writes there, and it is told.
#[test]
fn an_owned_chain_that_drops_is_told() {
    use std::io::BufRead;
    let world = World::new();
    assert!(world.plane.obstacles().is_empty());
    let mut nft = world.host.run(|| {
        std::process::Command::new("nft")
            .arg("-i")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    });
    let script = "add table inet owned { flags owner; }
        add chain inet owned forth { type filter hook forward priority 0; policy drop; }
        list tables\n";
    nft.stdin.as_mut().unwrap().write_all(script.as_bytes()).unwrap();
    let mut lines = std::io::BufReader::new(nft.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("inet owned")));
    eventually("it is told", || !world.plane.obstacles().is_empty());
    let told = world.plane.obstacles();
    assert!(told[0].starts_with("inet owned forth drops what containers send: "), "{told:?}");
    nft.kill().unwrap();
    nft.wait().unwrap();
    // The kernel tells nobody of a table that goes with its owner; the next change of anything does.
    world.host.shell("nft add table inet other");
    eventually("it is over", || world.plane.obstacles().is_empty());
}
