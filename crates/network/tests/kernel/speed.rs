//! What the hot path costs. Prints, asserts nothing about time.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use wharf_network::plane::Target;
use wharf_sys::netlink::{Family, Socket};

use crate::world::*;

#[test]
#[ignore = "a measurement: cargo test -p wharf-network --test kernel --release -- --ignored --nocapture speed"]
fn attach_and_publish() {
    let world = World::new();
    let network = bridge(&["10.90.0.0/16"]);
    world.network(&network);
    let count = 500;
    let spaces: Vec<_> = (0..count)
        .map(|_| {
            let space = Space::new();
            let route = space.run(|| Socket::open(Family::Route).unwrap());
            (space, route)
        })
        .collect();
    world.host.run(|| {
        let mut attached = vec![];
        let (mut times, mut busy) = (vec![], vec![]);
        for (number, (space, route)) in spaces.iter().enumerate() {
            let address = format!("10.90.{}.{}/16", 1 + number / 250, 1 + number % 250);
            let container = address.split('/').next().unwrap();
            let port = tcp(&format!("0.0.0.0:{}", 10_000 + number), &format!("{container}:80"));
            let wanted = endpoint(&network, &[&address], &[port]);
            let target = Target { namespace: space.fd().as_fd(), route: route.as_fd() };
            let (start, running) = (Instant::now(), on_processor());
            attached.push(world.plane.attach(&wanted, target).unwrap());
            times.push(start.elapsed());
            busy.push(on_processor() - running);
        }
        report("attach with one port, first 100", &times[..100]);
        report("attach with one port, last 100", &times[count - 100..]);
        report("of that on the processor, first 100", &busy[..100]);
        report("of that on the processor, last 100", &busy[count - 100..]);
        let ports: Vec<_> =
            (20_000..22_000).map(|port| tcp(&format!("0.0.0.0:{port}"), "10.90.1.1:80")).collect();
        let start = Instant::now();
        world.plane.publish(&mut attached[0], &ports).unwrap();
        println!("publish 2,000 ports at once: {:?}", start.elapsed());
        let times: Vec<_> = (0..100)
            .map(|number| {
                let port = [tcp(&format!("0.0.0.0:{}", 30_000 + number), "10.90.1.1:80")];
                let start = Instant::now();
                world.plane.publish(&mut attached[0], &port).unwrap();
                start.elapsed()
            })
            .collect();
        report("publish one more of 2,500", &times);
        let times: Vec<_> = attached
            .iter()
            .map(|attached| {
                let start = Instant::now();
                world.plane.forget(attached).unwrap();
                start.elapsed()
            })
            .collect();
        report("forget", &times);
    });
}

/// How long this thread has been on a processor, the kernel's work for it included: what is left when others
/// on the machine, who change interfaces too, are left out.
fn on_processor() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

fn report(what: &str, times: &[Duration]) {
    let mut sorted = times.to_vec();
    sorted.sort();
    let at = |part: usize| sorted[(sorted.len() - 1) * part / 100];
    println!("{what}: median {:?}, p90 {:?}, max {:?}", at(50), at(90), at(100));
}
