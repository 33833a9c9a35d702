//! Bandwidth, measured with iperf3 as users would.

use std::process::{Child, Command};

use wharf_network::types::{Bandwidth, Endpoint};

use crate::world::*;

/// Other tests take the processor away from this one: a sender that does not run sends less.
const BUSY: f64 = 0.8;

/// How often the least is tried for.
const ATTEMPTS: usize = 10;

/// A server that takes one test after the other.
struct Iperf(Child);

impl Iperf {
    fn start(space: &Space) -> Self {
        let mut child = space.run(|| {
            Command::new("iperf3")
                .args(["-s", "-p", "5201"])
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        });
        let listening = || space.shell("ss -Hltn sport = :5201");
        while listening().is_empty() {
            assert!(child.try_wait().unwrap().is_none(), "the server ended");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Self(child)
    }
}

impl Drop for Iperf {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// What arrives, in bits a second: from the client to the server, or back.
fn rate(client: &Space, server: &str, seconds: u32, back: bool) -> f64 {
    let direction = if back { "-R" } else { "" };
    let text = client.shell(&format!("iperf3 -c {server} -p 5201 -t {seconds} {direction} -J"));
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap()
}

fn limited(limits: Bandwidth) -> (World, Container, Container) {
    let world = World::new();
    let network = bridge(&["10.82.1.0/24"]);
    world.network(&network);
    let wanted = Endpoint { bandwidth: limits, ..endpoint(&network, &["10.82.1.2/24"], &[]) };
    let container = Container::new(&world, &wanted);
    let other = world.container(&network, &["10.82.1.3/24"]);
    (world, container, other)
}

/// Never more than the limit, and as much as that: where the machine was busy with others, it is measured again.
fn near(measure: impl Fn() -> f64, wanted: u64, least: f64, what: &str) {
    let wanted = wanted as f64;
    for _ in 0..ATTEMPTS {
        let share = measure() / wanted;
        println!(
            "{what}: {:.2} of {:.0} Mbit/s ({:+.1} %)",
            share * wanted / 1e6,
            wanted / 1e6,
            (share - 1.0) * 100.0
        );
        assert!(share <= 1.05, "{what}: {share} of {wanted}");
        if share >= least {
            return;
        }
    }
    panic!("{what}: never {least} of {wanted}");
}

fn both_ways(world: &World, container: &mut Container, limits: Bandwidth, seconds: u32, least: f64) {
    let mut attached = container.attached.clone();
    world.host.run(|| world.plane.set_bandwidth(&mut attached, limits, container.target()).unwrap());
    assert_eq!(attached.bandwidth, limits);
    container.attached = attached;
    if let Some(egress) = limits.egress {
        near(|| rate(&container.space, "10.82.1.3", seconds, false), egress, least, "egress");
    }
    if let Some(ingress) = limits.ingress {
        near(|| rate(&container.space, "10.82.1.3", seconds, true), ingress, least, "ingress");
    }
}

#[test]
fn limits_hold_and_change_while_it_runs() {
    let limits = |egress, ingress| Bandwidth { egress, ingress };
    let (world, mut container, other) = limited(limits(Some(10_000_000), Some(50_000_000)));
    let _server = Iperf::start(&other.space);
    near(|| rate(&container.space, "10.82.1.3", 3, false), 10_000_000, BUSY, "egress");
    near(|| rate(&container.space, "10.82.1.3", 3, true), 50_000_000, BUSY, "ingress");
    both_ways(&world, &mut container, limits(Some(80_000_000), Some(20_000_000)), 3, BUSY);
    both_ways(&world, &mut container, limits(None, None), 1, BUSY);
    let queues = world.host.shell("tc qdisc show") + &container.space.shell("tc qdisc show");
    assert!(!queues.contains("tbf"), "{queues}");
    // More than the last limit let through.
    assert!((0..ATTEMPTS).any(|_| rate(&container.space, "10.82.1.3", 1, false) > 120e6));
}

#[test]
#[ignore = "takes two minutes of an idle machine"]
fn limits_hold_from_ten_megabits_to_a_gigabit() {
    let (world, mut container, other) = limited(Bandwidth::default());
    let _server = Iperf::start(&other.space);
    for megabits in [10, 30, 100, 300, 1000] {
        let rate = Some(megabits * 1_000_000);
        let limits = Bandwidth { egress: rate, ingress: rate };
        both_ways(&world, &mut container, limits, 10, 0.95);
    }
}
