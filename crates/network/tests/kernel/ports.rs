//! Published ports.

use std::net::IpAddr;

use wharf_network::types::Network;

use crate::world::*;

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

/// Two containers on one network, one on another; the first serves 80 and 53.
struct Setting {
    world: World,
    network: Network,
    first: Container,
    second: Container,
    elsewhere: Container,
}

fn setting(call: u8, ports: &[&str]) -> Setting {
    let world = World::prepared(&bridge_nf(call), |_| {});
    let network = bridge(&["10.78.1.0/24", "fd78:1::/64"]);
    let other = bridge(&["10.78.2.0/24", "fd78:2::/64"]);
    world.network(&network);
    world.network(&other);
    let ports: Vec<_> = ports
        .iter()
        .flat_map(|host| {
            let to = if host.starts_with('[') { "[fd78:1::2]:80" } else { "10.78.1.2:80" };
            [tcp(host, to), udp(host, to)]
        })
        .collect();
    let first = world.publishing(&network, &["10.78.1.2/24", "fd78:1::2/64"], &ports);
    let second = world.container(&network, &["10.78.1.3/24", "fd78:1::3/64"]);
    let elsewhere = world.container(&other, &["10.78.2.2/24", "fd78:2::2/64"]);
    first.space.serve(80);
    Setting { world, network, first, second, elsewhere }
}

#[test]
fn a_port_is_reached_from_everywhere_with_the_real_address() {
    for call in [0, 1] {
        let all = setting(call, &["0.0.0.0:8080", "[::]:8080"]);
        let Setting { world, first, second, elsewhere, .. } = &all;
        let cases = [
            (&world.remote, "198.51.100.1:8080", "198.51.100.2"),
            (&world.remote, "[2001:db8::1]:8080", "2001:db8::2"),
            (&world.host, "198.51.100.1:8080", "198.51.100.1"),
            (&world.host, "[2001:db8::1]:8080", "2001:db8::1"),
            (&world.host, "127.0.0.1:8080", "10.78.1.1"),
            (&world.host, "127.9.9.9:8080", "10.78.1.1"),
            (&second.space, "198.51.100.1:8080", "10.78.1.1"),
            (&second.space, "10.78.1.1:8080", "10.78.1.1"),
            (&second.space, "[2001:db8::1]:8080", "fd78:1::1"),
            (&first.space, "198.51.100.1:8080", "10.78.1.1"),
            (&first.space, "10.78.1.1:8080", "10.78.1.1"),
            (&first.space, "[2001:db8::1]:8080", "fd78:1::1"),
            (&elsewhere.space, "198.51.100.1:8080", "10.78.2.2"),
            (&elsewhere.space, "[2001:db8::1]:8080", "fd78:2::2"),
        ];
        for (from, to, seen) in cases {
            assert_eq!(from.ask(to), ip(seen), "tcp {to} seen as {seen}, bridge-nf {call}");
            assert_eq!(from.ask_udp(to, PATIENCE), ip(seen), "udp {to} seen as {seen}, bridge-nf {call}");
        }
    }
}

#[test]
fn an_address_goes_before_the_wildcard() {
    let world = World::new();
    let network = bridge(&["10.78.3.0/24"]);
    world.network(&network);
    let ports = [tcp("0.0.0.0:80", "10.78.3.2:80")];
    let wild = world.publishing(&network, &["10.78.3.2/24"], &ports);
    let ports = [tcp("198.51.100.1:80", "10.78.3.3:80"), tcp("127.0.0.1:81", "10.78.3.3:80")];
    let exact = world.publishing(&network, &["10.78.3.3/24"], &ports);
    exact.space.serve(80);
    assert_eq!(world.remote.ask("198.51.100.1:80"), ip("198.51.100.2"));
    assert!(world.host.is_shut("127.0.0.1:80"));
    wild.space.serve(80);
    assert!(world.host.ask("127.0.0.1:80").is_some());
    assert!(world.host.ask("127.0.0.1:81").is_some());
    assert!(world.remote.is_shut("198.51.100.1:81"));
}

#[test]
fn what_is_published_on_loopback_stays_there() {
    let all = setting(0, &["127.0.0.1:8080"]);
    assert!(all.world.host.ask("127.0.0.1:8080").is_some());
    // Neighbours on the wire and on the bridge who send there all the same.
    for space in [&all.world.remote, &all.second.space] {
        let gateway = if std::ptr::eq(space, &all.world.remote) { "198.51.100.1" } else { "10.78.1.1" };
        space.shell(&format!("ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.1/32 via {gateway}"));
        assert!(space.is_shut("127.0.0.1:8080"));
    }
    // And the host's own services on loopback.
    all.world.host.serve(9090);
    assert!(all.second.space.is_shut("127.0.0.1:9090"));
    assert!(all.world.host.ask("127.0.0.1:9090").is_some());
}

#[test]
fn nobody_gets_straight_to_a_container() {
    let all = setting(0, &["0.0.0.0:8080"]);
    all.first.space.serve(90);
    all.world
        .remote
        .shell("ip route add 10.78.1.0/24 via 198.51.100.1; ip route add fd78:1::/64 via 2001:db8::1");
    for to in ["10.78.1.2:80", "10.78.1.2:90", "[fd78:1::2]:80"] {
        assert!(all.world.remote.is_shut(to), "{to}");
    }
}

#[test]
fn ports_come_and_go_while_the_container_runs() {
    let mut all = setting(0, &[]);
    let (world, attached) = (&all.world, &mut all.first.attached);
    let port = [tcp("0.0.0.0:7000", "10.78.1.2:80"), udp("0.0.0.0:7000", "10.78.1.2:80")];
    assert!(world.remote.is_shut("198.51.100.1:7000"));
    assert!(world.remote.ask_udp("198.51.100.1:7000", SILENCE).is_none());
    world.host.run(|| world.plane.publish(attached, &port).unwrap());
    // Again is no error.
    world.host.run(|| world.plane.publish(attached, &port).unwrap());
    assert_eq!(attached.ports.len(), 2);
    assert!(world.remote.ask("198.51.100.1:7000").is_some());
    assert!(world.remote.ask_udp("198.51.100.1:7000", PATIENCE).is_some());
    assert!(all.first.space.ask("198.51.100.1:7000").is_some());
    world.host.run(|| world.plane.unpublish(attached, &port).unwrap());
    world.host.run(|| world.plane.unpublish(attached, &port).unwrap());
    assert!(world.remote.is_shut("198.51.100.1:7000"));
    let table = world.host.shell("nft list ruleset");
    assert!(!table.contains(". 7000"), "{table}");
}

/// A client that keeps its port sends on while the port changes hands: it must reach the new container, and
/// nobody when it is gone.
#[test]
fn udp_follows_its_port() {
    use std::cell::Cell;
    use std::net::UdpSocket;
    use std::time::{Duration, Instant};
    let mut all = setting(0, &[]);
    let world = &all.world;
    for space in [&all.first.space, &all.second.space] {
        let echo = space.run(|| UdpSocket::bind("0.0.0.0:81").unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 8];
            while let Ok((length, from)) = echo.recv_from(&mut buffer) {
                let _ = echo.send_to(&buffer[..length], from);
            }
        });
    }
    let client = world.remote.run(|| UdpSocket::bind("198.51.100.2:5000").unwrap());
    client.connect("198.51.100.1:7001").unwrap();
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let sent = Cell::new(0_u64);
    // Whether a packet of now comes back; one of before that was late says nothing.
    let answers_within = |patience: Duration| {
        let (start, first) = (Instant::now(), sent.get() + 1);
        loop {
            sent.set(sent.get() + 1);
            let _ = client.send(&sent.get().to_be_bytes());
            let mut number = [0; 8];
            if client.recv(&mut number).is_ok() && u64::from_be_bytes(number) >= first {
                return true;
            }
            if start.elapsed() > patience {
                return false;
            }
        }
    };
    let answers = || answers_within(PATIENCE);
    let is_silent = || !answers_within(SILENCE);
    // The host itself is asked first: nobody there, but a connection is tracked.
    assert!(is_silent());
    let to_first = [udp("0.0.0.0:7001", "10.78.1.2:81")];
    world.host.run(|| world.plane.publish(&mut all.first.attached, &to_first).unwrap());
    assert!(answers());
    world.host.run(|| world.plane.unpublish(&mut all.first.attached, &to_first).unwrap());
    assert!(is_silent());
    let to_second = [udp("0.0.0.0:7001", "10.78.1.3:81")];
    world.host.run(|| world.plane.publish(&mut all.second.attached, &to_second).unwrap());
    assert!(answers());
    let tracked = world.host.shell("conntrack -L -p udp 2>/dev/null || true");
    assert!(tracked.contains("10.78.1.3") && !tracked.contains("10.78.1.2"), "{tracked}");
}

#[test]
fn many_ports_are_elements_not_rules() {
    let mut all = setting(0, &[]);
    let world = &all.world;
    let rules = || {
        let text = world.host.shell("nft -s list ruleset");
        let inside =
            text.lines().filter(|line| line.starts_with("\t\t") && !line.contains("elements")).count();
        let elements = text.matches(" : 10.78.1.2").count();
        (inside - text.lines().filter(|line| line.starts_with("\t\t\t")).count(), elements)
    };
    let (before, _) = rules();
    let ports: Vec<_> =
        (10_000..12_000).map(|port| tcp(&format!("0.0.0.0:{port}"), "10.78.1.2:80")).collect();
    world.host.run(|| world.plane.publish(&mut all.first.attached, &ports).unwrap());
    let (after, elements) = rules();
    assert_eq!((after, elements), (before, 2000));
    for port in [10_000, 11_999] {
        assert!(world.remote.ask(format!("198.51.100.1:{port}").as_str()).is_some());
    }
    world.host.run(|| world.plane.forget(&all.first.attached).unwrap());
    assert_eq!(rules(), (before, 0));
}

#[test]
fn a_taken_port_fails_and_changes_nothing() {
    let mut all = setting(0, &["0.0.0.0:8080"]);
    let world = &all.world;
    let before = world.host.shell("nft list ruleset");
    let ports = [tcp("0.0.0.0:8081", "10.78.1.3:80"), tcp("0.0.0.0:8080", "10.78.1.3:80")];
    assert!(world.host.run(|| world.plane.publish(&mut all.second.attached, &ports)).is_err());
    assert!(all.second.attached.ports.is_empty());
    assert_eq!(world.host.shell("nft list ruleset"), before);
    let _ = &all.network;
}
