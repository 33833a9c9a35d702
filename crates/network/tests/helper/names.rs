//! Names of containers, as programs in containers ask for them.

use std::net::{TcpListener, UdpSocket};

use wharf_network::names::Link;

use crate::Test;
use crate::host::{Container, Instance};

pub const TESTS: &[Test] = &[
    ("names::containers_find_each_other", containers_find_each_other),
    ("names::tcp_and_many_at_once", tcp_and_many_at_once),
    ("names::changes_are_seen_at_once", changes_are_seen_at_once),
    ("names::beside_a_name_server_of_the_container", beside_a_name_server_of_the_container),
    ("names::beside_a_firewall_of_the_container", beside_a_firewall_of_the_container),
    ("names::where_the_loopback_interface_has_no_hook", where_the_loopback_interface_has_no_hook),
    ("names::other_programs_ask_too", other_programs_ask_too),
    ("names::a_resolver_for_a_namespace_made_without", a_resolver_for_a_namespace_made_without),
];

fn containers_find_each_other() {
    let instance = Instance::start();
    let web = Container::start(&instance, 1, "web");
    let db = Container::start(&instance, 2, "db");
    assert_eq!(web.ask(&["db"]), ["10.9.2.2"]);
    assert_eq!(web.ask(&["DB.net."]), ["10.9.2.2"]);
    assert_eq!(db.ask(&["web", "A"]), ["10.9.1.2"]);
    assert_eq!(db.ask(&["all"]), ["10.9.1.2", "10.9.2.2"]);
    assert_eq!(db.ask(&["-x", "10.9.1.2"]), ["web.net."]);

    let answer = web.dig(&["db", "AAAA"]);
    assert!(answer.contains("status: NOERROR") && answer.contains("ANSWER: 0"), "{answer}");
    let answer = web.dig(&["Db"]);
    assert!(
        answer.contains("flags: qr rd ra;") && answer.contains("Db.\t\t\t600\tIN\tA\t10.9.2.2"),
        "{answer}"
    );

    let mut names = web.names("web");
    names.links = vec![Link { alias: "store".into(), target: "db".into(), network: "id-net".into() }];
    instance.helper.set_names(&web.owner, &names).unwrap();
    assert_eq!(web.ask(&["store"]), ["10.9.2.2"]);
}

fn tcp_and_many_at_once() {
    let instance = Instance::start();
    let web = Container::start(&instance, 1, "web");
    let db = Container::start(&instance, 2, "db");
    assert_eq!(web.ask(&["+tcp", "db"]), ["10.9.2.2"]);
    assert_eq!(web.ask(&["+tcp", "+keepopen", "db", "web"]), ["10.9.1.2", "10.9.2.2"]);
    // More addresses than fit into 512 bytes, or into what is said with EDNS.
    let mut names = db.names("db");
    names.endpoints[0].addresses = (0..200).map(|n| std::net::IpAddr::from([10, 8, 0, n])).collect();
    instance.helper.set_names(&db.owner, &names).unwrap();
    assert_eq!(web.ask(&["db"]).len(), 200);
    assert_eq!(web.ask(&["+noedns", "db"]).len(), 200);
    let cut = web.dig(&["+noedns", "+ignore", "db"]);
    assert!(cut.contains("flags: qr tc rd ra"), "{cut}");
    // The first address is not always the same one.
    let first =
        || web.inside("dig", &["@127.0.0.11", "+short", "+tcp", "db"]).lines().next().map(str::to_owned);
    let one = first();
    assert!((0..20).any(|_| first() != one));
}

fn changes_are_seen_at_once() {
    let instance = Instance::start();
    let web = Container::start(&instance, 1, "web");
    let db = Container::start(&instance, 2, "db");
    for round in 0..50_u8 {
        let mut names = db.names("db");
        names.endpoints[0].addresses = vec![[10, 7, 0, round].into()];
        instance.helper.set_names(&db.owner, &names).unwrap();
        assert_eq!(web.ask(&["db"]), [format!("10.7.0.{round}")]);
    }
    instance.helper.remove_names(&db.owner).unwrap();
    let answer = web.dig(&["db"]);
    assert!(answer.contains("status: SERVFAIL"), "{answer}");
    // Without a record it is told nothing at all.
    assert!(db.dig(&["web"]).contains("status: SERVFAIL"));
    assert_eq!(instance.helper.stats().unwrap().names, 1);
}

fn beside_a_name_server_of_the_container() {
    let instance = Instance::start();
    let web = Container::start(&instance, 1, "web");
    let (_udp, _tcp) =
        web.enter(|| (UdpSocket::bind("0.0.0.0:53").unwrap(), TcpListener::bind("0.0.0.0:53").unwrap()));
    assert_eq!(web.ask(&["web"]), ["10.9.1.2"]);
    assert_eq!(web.ask(&["+tcp", "web"]), ["10.9.1.2"]);
}

/// A container that tracks its connections and drops what belongs to none sees port 53 on both ways.
fn beside_a_firewall_of_the_container() {
    let instance = Instance::start();
    let web = Container::start(&instance, 1, "web");
    behind_a_firewall(&web);
    // From another address than a loopback one.
    web.link();
    assert_eq!(web.ask(&["-b", "10.9.1.2", "web"]), ["10.9.1.2"]);
}

fn behind_a_firewall(web: &Container) {
    let rules = "table inet own {
        chain in { type filter hook input priority 0; policy drop;
            ct state invalid drop
            ct state established accept
            ip daddr 127.0.0.11 meta l4proto udp ct original proto-dst 53 accept
            ip daddr 127.0.0.11 meta l4proto tcp ct original proto-dst 53 accept
        }
        chain out { type filter hook output priority 0; policy drop;
            ct state invalid drop
            ip daddr 127.0.0.11 udp dport 53 accept
            ip daddr 127.0.0.11 tcp dport 53 accept
            ip saddr 127.0.0.11 udp sport 53 ct state established accept
            ip saddr 127.0.0.11 tcp sport 53 ct state established accept
        }
    }";
    std::fs::write("/run/rules", rules).unwrap();
    web.inside("nft", &["-f", "/run/rules"]);
    assert_eq!(web.ask(&["web"]), ["10.9.1.2"]);
    assert_eq!(web.ask(&["+tcp", "web"]), ["10.9.1.2"]);
}

/// Where questions cannot be met as they come in by the loopback interface, as without CONFIG_NF_TABLES_NETDEV: a chain
/// that stands where the helper wants its own makes the kernel refuse it here, too.
fn where_the_loopback_interface_has_no_hook() {
    let instance = Instance::start();
    let web = refused_at_loopback(&instance, 1, "web");
    let db = refused_at_loopback(&instance, 2, "db");
    let rules = web.inside("nft", &["list", "table", "ip", "wharf"]);
    assert!(rules.contains("chain questions") && rules.contains("hook output priority 300"), "{rules}");
    assert_eq!(web.ask(&["db"]), ["10.9.2.2"]);
    assert_eq!(web.ask(&["+tcp", "db"]), ["10.9.2.2"]);
    assert_eq!(db.ask(&["-x", "10.9.1.2"]), ["web.net."]);
    // More than a packet carries at once, beside a name server and a firewall of the container.
    let mut names = db.names("db");
    names.endpoints[0].addresses = (0..200).map(|n| std::net::IpAddr::from([10, 8, 0, n])).collect();
    instance.helper.set_names(&db.owner, &names).unwrap();
    assert_eq!(web.ask(&["db"]).len(), 200);
    let (_udp, _tcp) =
        web.enter(|| (UdpSocket::bind("0.0.0.0:53").unwrap(), TcpListener::bind("0.0.0.0:53").unwrap()));
    behind_a_firewall(&web);
    web.link();
    assert_eq!(web.ask(&["-b", "10.9.1.2", "web"]), ["10.9.1.2"]);
}

fn refused_at_loopback(instance: &Instance, number: u8, name: &str) -> Container {
    let owner = format!("container-{name}");
    let plain = instance.helper.namespace(&owner, false, None).unwrap();
    let container = Container { space: plain, owner, number };
    // A kernel that has no such tables refuses by itself.
    let stand = "nft 'table netdev wharf { chain questions { }; }' || true";
    container.inside("sh", &["-c", stand]);
    let space = instance.helper.resolver(&container.owner).unwrap();
    let container = Container { space, ..container };
    instance.helper.set_names(&container.owner, &container.names(name)).unwrap();
    container
}

fn other_programs_ask_too() {
    let instance = Instance::start();
    let web = Container::start(&instance, 1, "web");
    let _db = Container::start(&instance, 2, "db");
    std::fs::write("/etc/resolv.conf", "nameserver 127.0.0.11\noptions ndots:0\n").unwrap();
    let found = web.inside("getent", &["ahosts", "db"]);
    assert!(found.contains("10.9.2.2"), "{found}");
    let found = web.inside("getent", &["hosts", "10.9.2.2"]);
    assert!(found.contains("db.net"), "{found}");
    let rules = web.inside("nft", &["list", "ruleset"]);
    assert!(rules.contains("table ip wharf") && !rules.contains("nat"), "{rules}");
}

fn a_resolver_for_a_namespace_made_without() {
    let instance = Instance::start();
    let plain = instance.helper.namespace("container-a", false, None).unwrap();
    assert!(plain.resolver.is_none());
    let with = instance.helper.resolver("container-a").unwrap();
    assert!(with.resolver.is_some());
    assert!(instance.helper.resolver("nobody").is_err());
    let container = Container { space: with, owner: "container-a".into(), number: 3 };
    instance.helper.set_names("container-a", &container.names("solo")).unwrap();
    assert_eq!(container.ask(&["solo"]), ["10.9.3.2"]);
    drop(instance.helper.route("container-a").unwrap());
    instance.helper.release("container-a").unwrap();
    assert!(instance.helper.route("container-a").is_err());
}
