//! Who does not reach whom.

use std::net::IpAddr;

use wharf_network::types::GatewayMode;

use crate::world::*;

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn networks_do_not_see_each_other() {
    for call in [0, 1] {
        let world = World::prepared(&bridge_nf(call), |_| {});
        let (one, two) = (bridge(&["10.79.1.0/24", "fd79:1::/64"]), bridge(&["10.79.2.0/24", "fd79:2::/64"]));
        world.network(&one);
        world.network(&two);
        let first = world.container(&one, &["10.79.1.2/24", "fd79:1::2/64"]);
        let second = world.container(&two, &["10.79.2.2/24", "fd79:2::2/64"]);
        second.space.serve(80);
        assert!(first.space.is_shut("10.79.2.2:80"));
        assert!(first.space.is_shut("[fd79:2::2]:80"));
    }
}

#[test]
fn internal_networks_lead_nowhere() {
    for call in [0, 1] {
        let world = World::prepared(&bridge_nf(call), |_| {});
        let mut network = bridge(&["10.79.3.0/24", "fd79:3::/64"]);
        network.internal = true;
        world.network(&network);
        let first = world.container(&network, &["10.79.3.2/24", "fd79:3::2/64"]);
        let second = world.container(&network, &["10.79.3.3/24", "fd79:3::3/64"]);
        second.space.serve(80);
        world.remote.serve(80);
        world.remote.shell("ip route add 10.79.3.0/24 via 198.51.100.1");
        assert_eq!(first.space.ask("10.79.3.3:80"), ip("10.79.3.2"));
        assert_eq!(first.space.ask("[fd79:3::3]:80"), ip("fd79:3::2"));
        assert_eq!(world.host.ask("10.79.3.3:80"), ip("10.79.3.1"));
        assert!(first.space.is_shut("198.51.100.2:80"));
        assert!(first.space.is_shut("[2001:db8::2]:80"));
        assert!(world.remote.is_shut("10.79.3.3:80"));
    }
}

#[test]
fn without_icc_only_what_is_published_is_reached() {
    for call in [0, 1] {
        let world = World::prepared(&bridge_nf(call), |_| {});
        let network = changed(bridge(&["10.79.4.0/24"]), |bridge| bridge.icc = false);
        world.network(&network);
        let first = world.container(&network, &["10.79.4.2/24"]);
        let ports = [tcp("0.0.0.0:8080", "10.79.4.3:80")];
        let second = world.publishing(&network, &["10.79.4.3/24"], &ports);
        second.space.serve(80);
        world.remote.serve(80);
        assert!(first.space.is_shut("10.79.4.3:80"), "bridge-nf {call}");
        assert_eq!(first.space.ask("198.51.100.1:8080"), ip("10.79.4.1"), "bridge-nf {call}");
        assert_eq!(first.space.ask("198.51.100.2:80"), ip("198.51.100.1"));
        // Allowed while they run, and forbidden again.
        let open = changed(network.clone(), |bridge| bridge.icc = true);
        world.host.run(|| world.plane.update_network(&open).unwrap());
        assert_eq!(first.space.ask("10.79.4.3:80"), ip("10.79.4.2"));
        world.host.run(|| world.plane.update_network(&network).unwrap());
        assert!(first.space.is_shut("10.79.4.3:80"));
    }
}

#[test]
fn routed_networks_are_reached_at_their_own_addresses() {
    let world = World::new();
    let network = changed(bridge(&["10.79.5.0/24", "fd79:5::/64"]), |bridge| {
        (bridge.mode4, bridge.mode6) = (GatewayMode::Routed, GatewayMode::Routed);
    });
    world.network(&network);
    let ports = [tcp("0.0.0.0:0", "10.79.5.2:80"), tcp("[::]:0", "[fd79:5::2]:80")];
    let container = world.publishing(&network, &["10.79.5.2/24", "fd79:5::2/64"], &ports);
    container.space.serve(80);
    container.space.serve(90);
    world.remote.serve(80);
    world
        .remote
        .shell("ip route add 10.79.5.0/24 via 198.51.100.1; ip route add fd79:5::/64 via 2001:db8::1");
    assert_eq!(world.remote.ask("10.79.5.2:80"), ip("198.51.100.2"));
    assert_eq!(world.remote.ask("[fd79:5::2]:80"), ip("2001:db8::2"));
    assert!(world.remote.is_shut("10.79.5.2:90"));
    assert!(world.remote.is_shut("[fd79:5::2]:90"));
    world.remote.shell("ping -c1 -W60 10.79.5.2 && ping -c1 -W60 fd79:5::2");
    assert_eq!(container.space.ask("198.51.100.2:80"), ip("10.79.5.2"));
}

#[test]
fn unprotected_networks_are_translated_and_open() {
    let world = World::new();
    let network = changed(bridge(&["10.79.6.0/24"]), |bridge| bridge.mode4 = GatewayMode::NatUnprotected);
    world.network(&network);
    let container = world.container(&network, &["10.79.6.2/24"]);
    container.space.serve(90);
    world.remote.serve(80);
    world.remote.shell("ip route add 10.79.6.0/24 via 198.51.100.1");
    assert_eq!(world.remote.ask("10.79.6.2:90"), ip("198.51.100.2"));
    assert_eq!(container.space.ask("198.51.100.2:80"), ip("198.51.100.1"));
}

#[test]
fn isolated_networks_do_without_the_host() {
    let world = World::new();
    let mut network = changed(bridge(&["10.79.7.0/24"]), |bridge| bridge.mode4 = GatewayMode::Isolated);
    network.internal = true;
    world.network(&network);
    let first = world.container(&network, &["10.79.7.2/24"]);
    let second = world.container(&network, &["10.79.7.3/24"]);
    second.space.serve(80);
    assert_eq!(first.space.ask("10.79.7.3:80"), ip("10.79.7.2"));
    assert!(!world.host.shell("ip addr").contains("10.79.7."));
    assert!(world.host.is_shut("10.79.7.3:80"));
}

#[test]
fn sources_become_what_was_asked_for() {
    let world = World::prepared("ip addr add 198.51.100.77/24 dev uplink", |_| {});
    world.remote.serve(80);
    let chosen = changed(bridge(&["10.79.8.0/24"]), |bridge| {
        bridge.source4 = Some("198.51.100.77".parse().unwrap());
    });
    let plain = changed(bridge(&["10.79.9.0/24"]), |bridge| bridge.masquerade = false);
    world.network(&chosen);
    world.network(&plain);
    let first = world.container(&chosen, &["10.79.8.2/24"]);
    let second = world.container(&plain, &["10.79.9.2/24"]);
    world.remote.shell("ip route add 10.79.9.0/24 via 198.51.100.1");
    assert_eq!(first.space.ask("198.51.100.2:80"), ip("198.51.100.77"));
    assert_eq!(second.space.ask("198.51.100.2:80"), ip("10.79.9.2"));
}

/// The host forwarded nothing before: between interfaces of others it still does not.
#[test]
fn the_host_becomes_nobodys_router() {
    let far = Space::new();
    let pid = std::process::id();
    let fd = std::os::fd::AsRawFd::as_raw_fd(far.fd());
    let wire = format!(
        "ip link add far type veth peer name far netns /proc/{pid}/fd/{fd}
         ip link set far up; ip addr add 203.0.113.1/24 dev far"
    );
    let reach = |world: &World| {
        far.shell("ip link set far up; ip addr replace 203.0.113.2/24 dev far; ip route replace default via 203.0.113.1");
        world.remote.shell("ip route replace 203.0.113.0/24 via 198.51.100.1");
        world.remote.ask_within("203.0.113.2:80", SILENCE * 3)
    };
    let off = format!("{wire}; sysctl -qw net.ipv4.ip_forward=0");
    far.serve(80);
    let world = World::prepared(&off, |_| {});
    assert!(world.host.run(|| world.plane.capabilities().forwards4));
    assert_eq!(reach(&world), None);
    drop(world);
    // The kernel takes a pair away in its own time.
    far.shell("for i in $(seq 100); do ip link show far >/dev/null 2>&1 || exit 0; sleep 0.1; done; exit 1");
    // Where it did so before, it is none of our business.
    let on = format!("{wire}; sysctl -qw net.ipv4.ip_forward=1");
    let world = World::prepared(&on, |_| {});
    assert_eq!(reach(&world), ip("198.51.100.2"));
}

#[test]
fn without_a_firewall_there_is_no_table() {
    let world = World::with(|settings| (settings.firewall4, settings.firewall6) = (false, false));
    let network = bridge(&["10.79.10.0/24"]);
    world.network(&network);
    let container = world.container(&network, &["10.79.10.2/24"]);
    container.space.serve(80);
    assert_eq!(world.host.shell("nft list ruleset"), "");
    assert_eq!(world.host.ask("10.79.10.2:80"), ip("10.79.10.1"));
}
