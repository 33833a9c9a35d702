//! A server and a client of an engine, and where they live.

use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;

use super::super::connection::Connection;
use super::super::{Engine, life};
use super::field;

/// Where traffic begins and ends.
#[derive(Debug, Clone)]
pub(super) struct Side {
    /// Files of the network namespaces.
    pub(super) host: String,
    pub(super) server: String,
    pub(super) client: String,
    /// The server's address on its bridge.
    pub(super) address: String,
    /// An address of the host that is not loopback.
    pub(super) host_address: String,
    /// What the server is called; nobody answers that on the path made by hand.
    pub(super) name: &'static str,
    /// Whom the client asks for names.
    pub(super) resolver: String,
}

impl Side {
    /// The server's ports, which are published under the same numbers: throughput, requests.
    pub(super) const PORTS: &'static str = "15201, 15202";
}

/// Two containers in a network of their own.
#[derive(Debug)]
pub(super) struct Pair {
    _made: Made,
    side: Side,
}

/// What an engine was asked for; it goes with this, whatever failed.
#[derive(Debug)]
struct Made {
    connection: Connection,
    containers: Vec<String>,
}

impl Drop for Made {
    fn drop(&mut self) {
        for container in &self.containers {
            // What cannot be removed is told by what is in its way the next time.
            let _ = self.connection.ask("DELETE", &format!("/containers/{container}?force=1"), "");
        }
        let _ = self.connection.ask("DELETE", "/networks/benchnet", "");
    }
}

impl Pair {
    pub(super) fn new(engine: &Engine) -> Result<Self> {
        let mut connection = engine.connect()?;
        connection.ask("POST", "/networks/create", r#"{"Name":"benchnet"}"#)?;
        let mut made = Made { connection, containers: Vec::new() };
        let connection = &mut made.connection;
        let ports: Vec<&str> = Side::PORTS.split(", ").collect();
        let exposed: Vec<String> = ports.iter().map(|port| format!("\"{port}/tcp\":{{}}")).collect();
        let bound: Vec<String> =
            ports.iter().map(|port| format!("\"{port}/tcp\":[{{\"HostPort\":\"{port}\"}}]")).collect();
        let body = |publish: bool| {
            let (exposed, bound) =
                if publish { (exposed.join(","), bound.join(",")) } else { Default::default() };
            format!(
                r#"{{"Image":"busybox","Cmd":["sleep","100000"],"ExposedPorts":{{{exposed}}},"HostConfig":{{"NetworkMode":"benchnet","PortBindings":{{{bound}}}}},"NetworkingConfig":{{"EndpointsConfig":{{"benchnet":{{"Aliases":["benchname"]}}}}}}}}"#
            )
        };
        let server = life::create(connection, &body(true))?;
        made.containers.push(server.clone());
        let client = life::create(connection, &body(false).replace("benchname", "benchclient"))?;
        made.containers.push(client.clone());
        for container in [&server, &client] {
            connection.ask("POST", &format!("/containers/{container}/start"), "")?;
        }
        let answer = connection.ask("GET", &format!("/containers/{server}/json"), "")?;
        let document: Value = serde_json::from_slice(&answer.body)?;
        let host = format!("/proc/{}/ns/net", engine.pid()?);
        let side = Side {
            host_address: host_address(&host)?,
            host,
            server: space(&server)?,
            resolver: resolver(&space(&client)?)?,
            client: space(&client)?,
            address: field(&document, "/NetworkSettings/Networks/benchnet/IPAddress")?,
            name: "benchname",
        };
        Ok(Self { _made: made, side })
    }

    pub(super) fn side(&self) -> Side {
        self.side.clone()
    }
}

/// The namespace of a container's process, found by its control group: engines may live in namespaces of their own.
fn space(container: &str) -> Result<String> {
    for entry in fs::read_dir("/proc")?.flatten() {
        let path = entry.path();
        let groups = fs::read_to_string(path.join("cgroup")).unwrap_or_default();
        let line = fs::read(path.join("cmdline")).unwrap_or_default();
        if groups.contains(container) && line.starts_with(b"sleep\0") {
            return Ok(path.join("ns/net").to_string_lossy().into_owned());
        }
    }
    anyhow::bail!("no process of container {container}")
}

/// The first name server of the container whose namespace this is.
fn resolver(space: &str) -> Result<String> {
    let path = space.replace("ns/net", "root/etc/resolv.conf");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let address = text.lines().find_map(|line| line.strip_prefix("nameserver "));
    address.map(|address| address.trim().to_owned()).with_context(|| format!("{path} names no server"))
}

/// An address of a host that is not loopback and no bridge's.
fn host_address(space: &str) -> Result<String> {
    let output = std::process::Command::new("nsenter")
        .arg(format!("--net={space}"))
        .args(["ip", "-4", "-o", "route", "get", "192.0.2.1"])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let source = text.split_whitespace().skip_while(|word| *word != "src").nth(1);
    source.map(str::to_owned).context("the host has no address but loopback")
}
