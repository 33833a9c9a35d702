//! How fast and how heavy it is; told, not judged.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use wharf_network::names::{Endpoint, Names};

use crate::Test;
use crate::host::{Container, Instance};
use crate::upstream::Upstream;
use crate::{ports, say};

pub const TESTS: &[Test] = &[
    ("measure::namespaces", namespaces),
    ("measure::lookups", lookups),
    ("measure::forwarded", forwarded),
    ("measure::ports", many_ports),
    ("measure::memory", memory),
];

fn each(what: &str, count: u32, mut work: impl FnMut(u32)) {
    let mut times: Vec<Duration> = (0..count)
        .map(|number| {
            let started = Instant::now();
            work(number);
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    say(&format!("{what}: median {median:?}, worst {worst:?} of {count}"));
}

fn namespaces() {
    let instance = Instance::start();
    for resolver in [false, true] {
        let name = |number| format!("{resolver}-{number}");
        each(&format!("namespace, one after the other, resolver {resolver}"), 100, |number| {
            drop(instance.helper.namespace(&name(number), resolver, None).unwrap());
        });
        each("release", 100, |number| instance.helper.release(&name(number)).unwrap());
        let mut times = Vec::new();
        for number in 0..50 {
            std::thread::sleep(Duration::from_millis(30));
            let started = Instant::now();
            drop(instance.helper.namespace(&name(number), resolver, None).unwrap());
            times.push(started.elapsed());
        }
        times.sort_unstable();
        say(&format!("namespace from the pool, resolver {resolver}: median {:?}", times[25]));
    }
    let started = Instant::now();
    for _ in 0..1000 {
        instance.helper.stats().unwrap();
    }
    say(&format!("an empty call: {:?}", started.elapsed() / 1000));
}

/// Questions with 16 always on their way.
fn rate(what: &str, web: &Container, name: &[u8]) {
    const WINDOW: usize = 16;
    let asker = web.asker();
    let question = [&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], name, &[0, 0, 1, 0, 1]].concat();
    let mut answer = [0; 512];
    for _ in 0..WINDOW {
        asker.send(&question).unwrap();
    }
    let (started, mut count) = (Instant::now(), 0_u32);
    while started.elapsed() < Duration::from_secs(3) {
        asker.recv(&mut answer).unwrap();
        asker.send(&question).unwrap();
        count += 1;
    }
    say(&format!("{what}: {:.0} a second", f64::from(count) / started.elapsed().as_secs_f64()));
    for _ in 0..WINDOW {
        asker.recv(&mut answer).unwrap();
    }
    each(&format!("{what}, one after the other"), 2000, |_| {
        asker.send(&question).unwrap();
        asker.recv(&mut answer).unwrap();
    });
}

fn lookups() {
    let instance = Instance::start();
    let web = Container::start(&instance, 1, "web");
    rate("names of containers", &web, b"\x03web");
}

fn forwarded() {
    let instance = Instance::start();
    let web = Container::start(&instance, 1, "web");
    let upstream = Upstream::start(IpAddr::from([127, 0, 0, 1]), 1);
    rate("names passed on", &web, b"\x07example\x03com");
    drop(upstream.asked());
}

fn many_ports() {
    let instance = Instance::start();
    each("reserve one of 2,000 ports", 2000, |number| {
        let port = 10_000 + u16::try_from(number).unwrap();
        instance.helper.reserve("a", &[ports::request(wharf_network::helper::Protocol::Tcp, port)]).unwrap();
    });
}

fn memory() {
    let instance = Instance::start();
    let own = |when: &str| {
        std::thread::sleep(Duration::from_millis(1200));
        let pid = instance.helper.pid().unwrap();
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let of = |field: &str| {
            let line = text.lines().find(|line| line.starts_with(field)).unwrap();
            line.split_ascii_whitespace().nth(1).unwrap().parse::<u32>().unwrap()
        };
        let private = of("Private_Clean:") + of("Private_Dirty:");
        say(&format!("memory {when}: private {private} KB, Rss {} KB, Pss {} KB", of("Rss:"), of("Pss:")));
    };
    own("when started");
    let web = Container::start(&instance, 1, "web");
    rate("warm-up", &web, b"\x03web");
    own("after lookups in one namespace");
    for number in 0..1000_u16 {
        let endpoint = Endpoint {
            network: format!("{:064}", number / 50),
            network_name: format!("network{}", number / 50),
            internal: false,
            addresses: vec![IpAddr::from([10, 1, (number >> 8) as u8, number as u8])],
            names: vec![
                format!("container-name-{number}"),
                format!("service{}", number / 5),
                format!("{number:012x}"),
            ],
        };
        let owner = format!("{number:064x}");
        let names = Names { endpoints: vec![endpoint], ..Names::default() };
        instance.helper.set_names(&owner, &names).unwrap();
    }
    own("with 1,000 containers' names");
    for number in 0..200_u16 {
        drop(instance.helper.namespace(&format!("{number:064x}"), true, None).unwrap());
    }
    own("with 200 namespaces more");
}
