//! Names that are none of ours: asked of other servers, and of none from inside an internal network.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::Test;
use crate::host::{Container, Instance, run, set_servers};
use crate::upstream::{Asked, Upstream};

pub const TESTS: &[Test] = &[
    ("forwarding::from_the_container_or_the_host", from_the_container_or_the_host),
    ("forwarding::servers_that_fail_are_replaced", servers_that_fail_are_replaced),
    ("forwarding::packets_are_kept", packets_are_kept),
    ("forwarding::internal_networks_leak_nothing", internal_networks_leak_nothing),
    ("forwarding::the_hosts_file_is_followed", the_hosts_file_is_followed),
    ("forwarding::the_containers_own_servers", the_containers_own_servers),
    ("forwarding::too_many_questions_are_refused", too_many_questions_are_refused),
];

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn from_the_container_or_the_host() {
    let instance = Instance::start();
    let web = Container::start(&instance, 1, "web");
    web.link();
    let (near, far) = (Upstream::start(LOOPBACK, 1), Upstream::start(web.host(), 2));
    let asked = |from, tcp, name: &str| Asked { from, tcp, name: name.to_owned(), edns: true };

    // The host's loopback can only be reached from the host.
    assert_eq!(web.ask(&["example.com"]), ["192.0.2.1"]);
    assert_eq!(near.asked(), [asked(LOOPBACK, false, "example.com.")]);
    assert_eq!(web.ask(&["+tcp", "example.com"]), ["192.0.2.1"]);
    assert_eq!(near.asked(), [asked(LOOPBACK, true, "example.com.")]);

    set_servers("nameserver 10.9.1.1\n");
    follows(&web, "192.0.2.2");
    drop((near.asked(), far.asked()));
    assert_eq!(web.ask(&["example.com"]), ["192.0.2.2"]);
    assert_eq!(web.ask(&["+tcp", "example.com"]), ["192.0.2.2"]);
    let from = web.address();
    assert_eq!(far.asked(), [asked(from, false, "example.com."), asked(from, true, "example.com.")]);
    assert!(near.asked().is_empty());
    assert!(web.dig(&["missing.org"]).contains("status: NXDOMAIN"));
    assert_eq!(web.ask(&["forged.org"]), ["192.0.2.2"]);
    assert_eq!(instance.helper.stats().unwrap().waiting, 0);
}

/// Waits until the host's file was read again, by the answers of the server it names.
fn follows(web: &Container, answer: &str) {
    crate::host::eventually("the new server is asked", || web.ask(&["example.com"]) == [answer]);
}

fn servers_that_fail_are_replaced() {
    let instance = Instance::start();
    let web = Container::start(&instance, 1, "web");
    web.link();
    let (first, second) = (Upstream::start(LOOPBACK, 1), Upstream::start(web.host(), 2));
    run("ip", &["addr", "add", "10.9.1.77/32", "dev", "lo"]);
    let silent = Upstream::start(IpAddr::from([10, 9, 1, 77]), 0);
    // The first hears questions and says nothing, nobody listens at the second one.
    set_servers("nameserver 10.9.1.77\nnameserver 127.0.0.9\nnameserver 10.9.1.1\n");
    follows(&web, "192.0.2.2");
    // The silent one is known by now: others are asked first, and answer.
    drop(silent.asked());
    assert_eq!(web.ask(&["example.org"]), ["192.0.2.2"]);
    assert_eq!(web.ask(&["+tcp", "example.com"]), ["192.0.2.2"]);
    assert!(silent.asked().is_empty());

    set_servers("nameserver 127.0.0.1\nnameserver 10.9.1.1\n");
    follows(&web, "192.0.2.1");
    drop((first.asked(), second.asked()));
    // Each has said no once, and is not asked again.
    for (name, code) in [("failing.org", "SERVFAIL"), ("refused.org", "REFUSED")] {
        let answer = web.dig(&[name]);
        assert!(answer.contains(&format!("status: {code}")), "{answer}");
        assert_eq!((first.asked().len(), second.asked().len()), (1, 1));
    }
    // Silence of all takes its time, and is an answer.
    let answer = web.dig(&["silent.org"]);
    assert!(answer.contains("status: SERVFAIL"), "{answer}");
    assert_eq!((first.asked().len(), second.asked().len()), (2, 1));
    assert_eq!(instance.helper.stats().unwrap().waiting, 0);
}

fn packets_are_kept() {
    let instance = Instance::start();
    let web = Container::start(&instance, 1, "web");
    let upstream = Upstream::start(LOOPBACK, 1);
    assert_eq!(web.ask(&["large.org"]).len(), 200);
    assert!(upstream.asked().iter().map(|asked| asked.tcp).eq([false, true]));
    let strange = web.ask(&["strange.org", "TYPE65400"]);
    assert_eq!(strange, ["\\# 4 77686174"]);
    web.ask(&["+noedns", "example.com"]);
    assert!(upstream.asked().last().is_some_and(|asked| !asked.edns));
    assert_eq!(web.ask(&["ExAmPle.com"]), ["192.0.2.1"]);
    assert_eq!(upstream.asked()[0].name, "ExAmPle.com.");
}

fn internal_networks_leak_nothing() {
    let instance = Instance::start();
    let web = Container::start(&instance, 1, "web");
    let upstream = Upstream::start(LOOPBACK, 1);
    let mut names = web.names("web");
    names.endpoints[0].internal = true;
    instance.helper.set_names(&web.owner, &names).unwrap();
    for question in [&["example.com"][..], &["+tcp", "example.com"], &["web", "CH"], &["-x", "192.0.2.1"]] {
        let answer = web.dig(question);
        assert!(!answer.contains("192.0.2."), "{answer}");
    }
    assert!(web.dig(&["example.com"]).contains("status: SERVFAIL"));
    assert_eq!(web.ask(&["web"]), ["10.9.1.2"]);
    assert!(upstream.asked().is_empty());
    names.endpoints[0].internal = false;
    names.ndots = true;
    instance.helper.set_names(&web.owner, &names).unwrap();
    assert!(web.dig(&["bare"]).contains("status: NOERROR") && upstream.asked().is_empty());
    assert_eq!(web.ask(&["example.com"]), ["192.0.2.1"]);
}

fn the_hosts_file_is_followed() {
    let instance = Instance::start();
    let web = Container::start(&instance, 1, "web");
    let _one = Upstream::start(LOOPBACK, 1);
    let _two = Upstream::start(IpAddr::from([127, 0, 0, 2]), 2);
    for (server, answer) in
        [("127.0.0.1", "192.0.2.1"), ("127.0.0.2", "192.0.2.2"), ("127.0.0.1", "192.0.2.1")]
    {
        set_servers(&format!("nameserver {server}\n"));
        follows(&web, answer);
    }
}

fn the_containers_own_servers() {
    let instance = Instance::start();
    let web = Container::start(&instance, 1, "web");
    web.link();
    let (host, own) = (Upstream::start(LOOPBACK, 1), Upstream::start(web.host(), 2));
    let inside = web.enter(|| Upstream::start(LOOPBACK, 3));
    let mut names = web.names("web");
    names.servers = vec![web.host()];
    instance.helper.set_names(&web.owner, &names).unwrap();
    assert_eq!(web.ask(&["example.com"]), ["192.0.2.2"]);
    assert_eq!(own.asked()[0].from, web.address());
    // A loopback address that the user gave is the container's.
    names.servers = vec![LOOPBACK];
    instance.helper.set_names(&web.owner, &names).unwrap();
    assert_eq!(web.ask(&["example.com"]), ["192.0.2.3"]);
    assert_eq!((inside.asked().len(), host.asked().len()), (1, 0));
    // Over IPv6.
    let six = Upstream::start("fd09:1::1".parse().unwrap(), 6);
    names.servers = vec!["fd09:1::1".parse().unwrap()];
    instance.helper.set_names(&web.owner, &names).unwrap();
    assert_eq!(web.ask(&["example.com"]), ["192.0.2.6"]);
    assert_eq!(six.asked()[0].from, "fd09:1::2".parse::<IpAddr>().unwrap());
}

fn too_many_questions_are_refused() {
    let instance = Instance::start();
    let web = Container::start(&instance, 1, "web");
    let db = Container::start(&instance, 2, "db");
    let _upstream = Upstream::start(LOOPBACK, 1);
    let asker = web.asker();
    let mut question = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 6];
    question.extend_from_slice(b"silent\x03org\x00\x00\x01\x00\x01");
    for number in 0..400_u16 {
        question[..2].copy_from_slice(&number.to_be_bytes());
        asker.send(&question).unwrap();
        if number % 20 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let mut answer = [0; 512];
    // At most 256 wait; the others are told at once, and other containers are served all the time.
    for _ in 0..100 {
        asker.recv(&mut answer).unwrap();
        assert_eq!(answer[3] & 15, 2);
    }
    assert!(instance.helper.stats().unwrap().waiting <= 256);
    assert_eq!(db.ask(&["example.com"]), ["192.0.2.1"]);
    crate::host::eventually("all are answered", || instance.helper.stats().unwrap().waiting == 0);
}
