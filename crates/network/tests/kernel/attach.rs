//! Networks and endpoints.

use std::net::IpAddr;

use wharf_network::Error;
use wharf_network::plane::Gateway;
use wharf_network::types::{Driver, Endpoint, IpvlanFlag, IpvlanMode, MacvlanMode, Network, Subnet};

use crate::world::*;

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn a_container_reaches_its_neighbour_and_the_world() {
    for call in [0, 1] {
        let world = World::prepared(&bridge_nf(call), |_| {});
        let network = bridge(&["10.77.1.0/24", "fd77:1::/64"]);
        world.network(&network);
        let first = world.container(&network, &["10.77.1.2/24", "fd77:1::2/64"]);
        let second = world.container(&network, &["10.77.1.3/24", "fd77:1::3/64"]);
        second.space.serve(80);
        world.remote.serve(80);
        assert_eq!(first.space.ask("10.77.1.3:80"), ip("10.77.1.2"));
        assert_eq!(first.space.ask("[fd77:1::3]:80"), ip("fd77:1::2"));
        assert_eq!(first.space.ask("198.51.100.2:80"), ip("198.51.100.1"));
        assert_eq!(first.space.ask("[2001:db8::2]:80"), ip("2001:db8::1"));
        assert_eq!(world.host.ask("10.77.1.3:80"), ip("10.77.1.1"));
    }
}

#[test]
fn the_interface_inside_is_what_was_asked_for() {
    let world = World::prepared("ip link set uplink mtu 1400; ip route add default via 198.51.100.2", |_| {});
    let network = bridge(&["10.77.2.0/24"]);
    world.network(&network);
    let endpoint = Endpoint {
        interface: "net7".into(),
        mac: Some("02:42:0a:4d:02:09".parse().unwrap()),
        sysctls: vec![("net.ipv4.conf.IFNAME.log_martians".into(), "1".into())],
        ..endpoint(&network, &["10.77.2.9/24", "169.254.7.7/16"], &[])
    };
    let container = Container::new(&world, &endpoint);
    let text =
        container.space.shell("ip addr show net7; ip route; cat /proc/sys/net/ipv4/conf/net7/log_martians");
    for wanted in [
        "mtu 1400",
        "link/ether 02:42:0a:4d:02:09",
        "inet 10.77.2.9/24 brd 10.77.2.255 scope global net7",
        "inet 169.254.7.7/16 brd 169.254.255.255 scope link net7",
        "default via 10.77.2.1 dev net7 \n",
        "\n1\n",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    // A network without IPv6 gives none.
    assert!(!text.contains("inet6"), "{text}");
}

#[test]
fn wrong_sysctls_leave_nothing_behind() {
    let world = World::new();
    let network = bridge(&["10.77.3.0/24"]);
    world.network(&network);
    let space = Space::new();
    let route = space.run(|| wharf_sys::netlink::Socket::open(wharf_sys::netlink::Family::Route).unwrap());
    let wrong = Endpoint {
        sysctls: vec![("net.ipv4.conf.IFNAME.nonsense".into(), "1".into())],
        ..endpoint(&network, &["10.77.3.2/24"], &[tcp("0.0.0.0:80", "10.77.3.2:80")])
    };
    use std::os::fd::AsFd;
    let target = wharf_network::plane::Target { namespace: space.fd().as_fd(), route: route.as_fd() };
    let error = world.host.run(|| world.plane.attach(&wrong, target).unwrap_err());
    assert!(error.to_string().contains("net.ipv4.conf.IFNAME.nonsense"), "{error}");
    assert!(!space.shell("ip link").contains("eth0"));
    assert!(!world.host.shell("ip link; ip neigh; nft list ruleset").contains("10.77.3.2"));
    // The name and place are free again.
    let right = Endpoint { sysctls: vec![], ..wrong };
    assert!(world.host.run(|| world.plane.attach(&right, target)).is_ok());
}

#[test]
fn two_networks_connected_and_disconnected_live() {
    let world = World::new();
    let (one, two) = (bridge(&["10.77.4.0/24"]), bridge(&["10.77.5.0/24"]));
    world.network(&one);
    world.network(&two);
    let container = world.container(&one, &["10.77.4.2/24"]);
    let second =
        Endpoint { interface: "eth1".into(), gateways: vec![], ..endpoint(&two, &["10.77.5.2/24"], &[]) };
    let other = world.host.run(|| world.plane.attach(&second, container.target()).unwrap());
    let routes = || container.space.shell("ip route");
    assert!(routes().contains("default via 10.77.4.1 dev eth0"));
    let via = |address: &str| Gateway::Via(address.parse().unwrap());
    let plane = &world.plane;
    world.host.run(|| plane.set_gateways(&[(&other, via("10.77.5.1"))], container.target()).unwrap());
    assert!(routes().contains("default via 10.77.5.1 dev eth1"), "{}", routes());
    assert_eq!(routes().matches("default").count(), 1);
    world.host.run(|| plane.detach(&other, container.target()).unwrap());
    assert!(!container.space.shell("ip link").contains("eth1"));
    world
        .host
        .run(|| plane.set_gateways(&[(&container.attached, via("10.77.4.1"))], container.target()).unwrap());
    assert!(routes().contains("default via 10.77.4.1 dev eth0"));
    world.host.run(|| plane.set_gateways(&[], container.target()).unwrap());
    assert!(!routes().contains("default"));
}

#[test]
#[ignore = "a thousand interfaces delay every other test"]
fn a_full_bridge_says_so() {
    let world = World::new();
    let network = bridge(&["10.77.0.0/16"]);
    world.network(&network);
    let space = Space::new();
    let route = space.run(|| wharf_sys::netlink::Socket::open(wharf_sys::netlink::Family::Route).unwrap());
    use std::os::fd::AsFd;
    let target = wharf_network::plane::Target { namespace: space.fd().as_fd(), route: route.as_fd() };
    world.host.run(|| {
        let mut endpoints = vec![];
        for number in 0..1023 {
            let address = format!("10.77.{}.{}/16", 1 + number / 250, 1 + number % 250);
            let wanted = Endpoint {
                interface: format!("eth{number}"),
                gateways: vec![],
                ..endpoint(&network, &[&address], &[])
            };
            endpoints.push(world.plane.attach(&wanted, target).unwrap());
        }
        let one_more =
            Endpoint { interface: "eth1023".into(), ..endpoint(&network, &["10.77.200.1/16"], &[]) };
        let error = world.plane.attach(&one_more, target).unwrap_err();
        assert!(matches!(error, Error::Full { limit: 1023, .. }), "{error}");
        world.plane.detach(&endpoints[0], target).unwrap();
        world.plane.attach(&one_more, target).unwrap();
    });
}

fn on_parent(driver: Driver, subnet: &str) -> Network {
    let mut network = bridge(&[]);
    network.driver = driver;
    network.subnets = vec![Subnet { net: subnet.parse().unwrap(), gateway: None }];
    network
}

#[test]
fn macvlan_sits_on_the_uplink() {
    let world = World::new();
    let driver = Driver::Macvlan { parent: Some("uplink".into()), mode: MacvlanMode::Bridge };
    let network = on_parent(driver, "198.51.100.0/24");
    world.network(&network);
    let first = world.container(&network, &["198.51.100.11/24"]);
    let second = world.container(&network, &["198.51.100.12/24"]);
    second.space.serve(80);
    world.remote.serve(80);
    assert_eq!(first.space.ask("198.51.100.2:80"), ip("198.51.100.11"));
    assert_eq!(first.space.ask("198.51.100.12:80"), ip("198.51.100.11"));
    assert_eq!(world.remote.ask("198.51.100.12:80"), ip("198.51.100.2"));
    world.host.run(|| world.plane.remove_network(&network.id).unwrap());
    assert!(world.host.shell("ip link").contains("uplink"));
}

#[test]
fn macvlan_without_a_parent_leads_nowhere() {
    let world = World::new();
    let network = on_parent(Driver::Macvlan { parent: None, mode: MacvlanMode::Bridge }, "10.77.6.0/24");
    world.network(&network);
    let first = world.container(&network, &["10.77.6.2/24"]);
    let second = world.container(&network, &["10.77.6.3/24"]);
    second.space.serve(80);
    assert_eq!(first.space.ask("10.77.6.3:80"), ip("10.77.6.2"));
    world.host.run(|| world.plane.remove_network(&network.id).unwrap());
    assert!(!world.host.shell("ip link").contains("dm-"));
}

#[test]
fn what_the_kernel_lacks_is_named() {
    let world = World::new();
    let has = |kind: &str| {
        let probe = format!("ip link add probe link uplink type {kind} 2>&1 && ip link del probe || true");
        !world.host.shell(&probe).contains("Unknown device type")
    };
    let refuse = |network: &Network, wanted: &str| {
        let error = world.host.run(|| world.plane.create_network(network).unwrap_err());
        assert!(error.to_string().contains(wanted), "{error}");
    };
    let ipvlan =
        Driver::Ipvlan { parent: Some("uplink".into()), mode: IpvlanMode::L2, flag: IpvlanFlag::Bridge };
    let network = on_parent(ipvlan, "198.51.100.0/24");
    if has("ipvlan") {
        world.network(&network);
        let container = world.container(&network, &["198.51.100.21/24"]);
        world.remote.serve(80);
        assert_eq!(container.space.ask("198.51.100.2:80"), ip("198.51.100.21"));
    } else {
        refuse(&network, "the kernel has no ipvlan interfaces");
    }
    let macvlan = |parent: &str| {
        on_parent(Driver::Macvlan { parent: Some(parent.into()), mode: MacvlanMode::Bridge }, "10.77.7.0/24")
    };
    if has("vlan id 50") {
        let network = macvlan("uplink.50");
        world.network(&network);
        world.host.run(|| world.plane.remove_network(&network.id).unwrap());
        assert!(!world.host.shell("ip link").contains("uplink.50"));
    } else {
        refuse(&macvlan("uplink.50"), "the kernel has no VLAN interfaces");
    }
    refuse(&macvlan("nosuch"), "the parent interface nosuch was not found");
    refuse(&macvlan("nosuch.7"), "the parent interface nosuch was not found");
}

#[test]
fn a_network_leaves_nothing() {
    let world = World::new();
    // The first network with IPv6 makes the host forward that, with all that follows.
    let first = bridge(&["fd77:9::/64"]);
    world.network(&first);
    world.host.run(|| world.plane.remove_network(&first.id).unwrap());
    // Not what state the others are in: the kernel tells of that late.
    let look = || world.host.shell("ip -o link | cut -d: -f1,2; nft list ruleset");
    let before = look();
    let network = bridge(&["10.77.8.0/24", "fd77:8::/64"]);
    world.network(&network);
    let ports = [tcp("0.0.0.0:80", "10.77.8.2:80"), udp("[::]:53", "[fd77:8::2]:53")];
    let container = world.publishing(&network, &["10.77.8.2/24", "fd77:8::2/64"], &ports);
    world.host.run(|| world.plane.detach(&container.attached, container.target()).unwrap());
    assert_eq!(world.host.shell("ip neigh show nud permanent"), "");
    world.host.run(|| world.plane.remove_network(&network.id).unwrap());
    assert_eq!(look(), before);
    world.host.run(|| world.plane.dismantle().unwrap());
    assert!(!world.host.shell("nft list ruleset").contains("table"));
}

#[test]
fn the_host_is_looked_at() {
    let world = World::prepared("ip link set uplink mtu 1450; ip route add default via 198.51.100.2", |_| {});
    world.host.run(|| {
        assert_eq!(world.plane.uplink_mtu().unwrap(), 1450);
        let subnets = world.plane.host_subnets().unwrap();
        assert!(subnets.contains(&"198.51.100.0/24".parse().unwrap()), "{subnets:?}");
        let can = world.plane.capabilities();
        assert!(can.ipv6 && can.forwards4);
    });
}
