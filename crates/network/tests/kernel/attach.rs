//! Networks and endpoints.

use crate::world::*;

#[test]
fn a_container_reaches_its_neighbour_and_the_world() {
    let world = World::new();
    let network = bridge(&["10.77.1.0/24", "fd77:1::/64"]);
    world.network(&network);
    let first = world.container(&network, &["10.77.1.2/24", "fd77:1::2/64"]);
    let second = world.container(&network, &["10.77.1.3/24", "fd77:1::3/64"]);
    second.space.serve(80);
    world.remote.serve(80);
    println!("{}", world.host.shell("nft list ruleset; ip addr; ip neigh; bridge -d link"));
    println!("{}", first.space.shell("ip addr; ip route; ip -6 route; ip neigh"));
    let ip = |text: &str| Some(text.parse().unwrap());
    assert_eq!(first.space.ask("10.77.1.3:80"), ip("10.77.1.2"));
    assert_eq!(first.space.ask("[fd77:1::3]:80"), ip("fd77:1::2"));
    assert_eq!(first.space.ask("198.51.100.2:80"), ip("198.51.100.1"));
    assert_eq!(first.space.ask("[2001:db8::2]:80"), ip("2001:db8::1"));
}
