//! A host made by hand: a namespace with a bridge, two more on it, and the rules that publish a port of one.

use std::process::Command;

use anyhow::{Result, bail};

use super::path::Side;

/// Where everything is; what engines make has addresses of its own.
const HOST: &str = "198.51.100.1";
const SERVER: &str = "10.250.0.2";

/// The namespaces; they go with it.
#[derive(Debug)]
pub(super) struct Hand {
    host: String,
    server: String,
    client: String,
}

fn shell(script: &str) -> Result<()> {
    let output = Command::new("sh").args(["-ec", script]).output()?;
    if !output.status.success() {
        bail!("{script}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

impl Hand {
    pub(super) fn new() -> Result<Self> {
        let number = std::process::id();
        let name = |what: &str| format!("bench{what}{number}");
        let hand = Self { host: name("h"), server: name("s"), client: name("c") };
        let Self { host, server, client } = &hand;
        for space in [host, server, client] {
            shell(&format!("ip netns add {space}; ip -n {space} link set lo up"))?;
        }
        shell(&format!(
            "ip -n {host} link add name out0 type bridge; ip -n {host} addr add {HOST}/24 dev out0
             ip -n {host} link set out0 up; ip -n {host} link add name br0 type bridge
             ip -n {host} addr add 10.250.0.1/24 dev br0; ip -n {host} link set br0 up"
        ))?;
        for (space, last) in [(server, 2), (client, 3)] {
            shell(&format!(
                "ip -n {host} link add v{last} type veth peer name eth0 netns {space}
                 ip -n {host} link set v{last} master br0 up
                 ip -n {space} addr add 10.250.0.{last}/24 dev eth0; ip -n {space} link set eth0 up
                 ip -n {space} route add default via 10.250.0.1"
            ))?;
        }
        let publish = format!("fib daddr type local tcp dport {{ {} }} dnat to {SERVER}", Side::PORTS);
        shell(&format!(
            "ip netns exec {host} sh -ec 'echo 1 >/proc/sys/net/ipv4/ip_forward
             echo 1 >/proc/sys/net/ipv4/conf/br0/route_localnet
             nft \"table ip hand {{
               chain pre {{ type nat hook prerouting priority -100; {publish}; }}
               chain out {{ type nat hook output priority -100; {publish}; }}
               chain post {{ type nat hook postrouting priority 100;
                 ip saddr 127.0.0.0/8 oif br0 masquerade
                 ip saddr 10.250.0.0/24 oif br0 ct status dnat masquerade
                 ip saddr 10.250.0.0/24 oif != br0 masquerade; }}; }}\"'"
        ))?;
        Ok(hand)
    }

    pub(super) fn side(&self) -> Side {
        let space = |name: &str| format!("/run/netns/{name}");
        Side {
            host: space(&self.host),
            server: space(&self.server),
            client: space(&self.client),
            address: SERVER.to_owned(),
            host_address: HOST.to_owned(),
            name: "",
            resolver: String::new(),
        }
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        for space in [&self.host, &self.server, &self.client] {
            // What was not made is not there.
            let _ = Command::new("ip").args(["netns", "delete", space]).output();
        }
    }
}
