//! Flows: bytes with `iperf3`, requests and name lookups with this program itself in another namespace.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::super::Row;
use super::path::Side;

/// The ports of servers.
const BYTES: u16 = 15201;
const REQUESTS: u16 = 15202;
/// Connections and lookups at a time.
const AT_A_TIME: usize = 8;
/// Questions that a client has open at a time.
const WINDOWS: [u16; 2] = [1, 8];

/// What this program does in a namespace.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Role {
    /// Answers HTTP requests
    #[command(hide = true)]
    Serve { port: u16 },
    /// Sends requests, and says how many were answered in a second
    #[command(hide = true)]
    Request { to: SocketAddr, seconds: u64 },
    /// Asks for a name, and says how many answers came in a second
    #[command(hide = true)]
    Lookup { server: IpAddr, name: String, seconds: u64, window: u16 },
}

/// Plays a role.
pub(super) fn play(role: &Role) -> Result<String> {
    match role {
        Role::Serve { port } => serve(*port),
        Role::Request { to, seconds } => rate(*seconds, |until| request(*to, until)),
        Role::Lookup { server, name, seconds, window } => {
            rate(*seconds, |until| lookup(*server, name, *window, until))
        }
    }
}

fn serve(port: u16) -> Result<String> {
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || drop(answer(stream)));
    }
    Ok(String::new())
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 1024];
    while stream.read(&mut buffer)? > 0 {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
    }
    Ok(())
}

/// Runs `work` on several threads until the time is over; how often a second it was done.
fn rate(seconds: u64, work: impl Fn(Instant) -> Result<u64> + Sync) -> Result<String> {
    let until = Instant::now() + Duration::from_secs(seconds);
    let total: u64 = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(|| work(until))).collect();
        let counts = workers.into_iter().map(|worker| worker.join().expect("a worker does not panic"));
        counts.sum::<Result<u64>>()
    })?;
    #[expect(clippy::cast_precision_loss, reason = "some millions")]
    let rate = total as f64 / Duration::from_secs(seconds).as_secs_f64();
    Ok(format!("{rate}"))
}

fn request(to: SocketAddr, until: Instant) -> Result<u64> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (mut count, mut buffer) = (0, [0; 1024]);
    while Instant::now() < until {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")?;
        if stream.read(&mut buffer)? == 0 {
            bail!("the server went away");
        }
        count += 1;
    }
    Ok(count)
}

/// Asks `window` questions, reads as many answers, and so on.
fn lookup(server: IpAddr, name: &str, window: u16, until: Instant) -> Result<u64> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect((server, 53))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    // A question for an IPv4 address (RFC 1035, 4.1).
    let mut question = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len())?);
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, 1, 0, 1]);
    let (mut count, mut buffer) = (0_u64, [0; 512]);
    while Instant::now() < until {
        for number in 0..window {
            question[..2].copy_from_slice(&number.to_be_bytes());
            socket.send(&question)?;
        }
        for _ in 0..window {
            let length = socket.recv(&mut buffer)?;
            if length < 12 || buffer[7] == 0 {
                bail!("{name} has no address");
            }
        }
        count += u64::from(window);
    }
    Ok(count)
}

/// A child that is killed at the end.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn inside(space: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={space}")).stdin(Stdio::null());
    command
}

fn own(space: &str, words: &[&str]) -> Result<Command> {
    let mut command = inside(space);
    command.arg(std::env::current_exe()?).args(["bench", "network"]).args(words);
    Ok(command)
}

/// Servers in each side's server namespace.
fn servers(sides: &[Side], kind: &str) -> Result<Vec<Server>> {
    let start = |side: &Side| -> Result<Server> {
        let mut command = if kind == "throughput" {
            let mut command = inside(&side.server);
            command.args(["iperf3", "-s", "-p", &BYTES.to_string()]);
            command
        } else {
            own(&side.server, &["serve", &REQUESTS.to_string()])?
        };
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Ok(Server(child.context("start a server")?))
    };
    let servers = sides.iter().map(start).collect::<Result<Vec<_>>>()?;
    std::thread::sleep(Duration::from_millis(500));
    Ok(servers)
}

/// The paths: where from, and to which address.
fn paths(side: &Side) -> [(&'static str, &str, &str); 4] {
    [
        ("bridge", &side.client, &side.address),
        ("hairpin", &side.client, &side.host_address),
        ("host address", &side.host, &side.host_address),
        ("127.0.0.1", &side.host, "127.0.0.1"),
    ]
}

/// Bytes or requests over every path, in turns; and each sample as a part of the first side's in the same round,
/// which is what another load of the machine changes least.
pub(super) fn flows(kind: &str, sides: &[Side], seconds: u64, rounds: u32) -> Result<Vec<Row>> {
    let unit = if kind == "throughput" { "Gbit/s" } else { "/s" };
    let _servers = servers(sides, kind)?;
    let mut rows: Vec<Row> = Vec::new();
    for at in 0..4 {
        let (path, ..) = paths(&sides[0])[at];
        let mut row = Row::new(format!("{kind}, {path}"), unit, sides.len());
        let mut parts = Row::new("  of the first in the same round", "1", sides.len());
        for _ in 0..rounds {
            let mut first = None;
            for (index, side) in sides.iter().enumerate() {
                let (_, from, to) = paths(side)[at];
                match sample(kind, from, to, seconds) {
                    Ok(sample) => {
                        let first = *first.get_or_insert(sample);
                        row.samples[index].push(sample);
                        parts.samples[index].push(sample / first);
                    }
                    // The other paths are worth knowing all the same.
                    Err(error) => eprintln!("{kind}, {path} to {to} of column {}: {error:#}", index + 1),
                }
            }
        }
        rows.extend([row, parts]);
    }
    Ok(rows)
}

fn sample(kind: &str, from: &str, to: &str, seconds: u64) -> Result<f64> {
    if kind == "throughput" {
        return throughput(from, to, seconds);
    }
    number(own(from, &["request", &format!("{to}:{REQUESTS}"), &seconds.to_string()])?)
}

fn throughput(from: &str, to: &str, seconds: u64) -> Result<f64> {
    let mut command = inside(from);
    command.args(["iperf3", "-J", "-c", to, "-p", &BYTES.to_string(), "-t", &seconds.to_string()]);
    let output = command.output().context("run iperf3")?;
    let document: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("read iperf3's answer")?;
    let rate = document.pointer("/end/sum_received/bits_per_second").and_then(serde_json::Value::as_f64);
    rate.map(|rate| rate / 1e9).with_context(|| format!("iperf3: {}", document["error"]))
}

fn number(mut command: Command) -> Result<f64> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    said.trim().parse().with_context(|| String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// The same on the first processor alone.
fn on_one_processor(command: &Command) -> Command {
    let mut pinned = Command::new("taskset");
    pinned.args(["--cpu-list", "0"]).arg(command.get_program()).args(command.get_args());
    pinned.stdin(Stdio::null());
    pinned
}

/// Lookups of a container's name: by clients that wait for each answer, and by such that keep several questions
/// open, as `dnsperf` does, so that it is the resolver that has to be waited for. The clients share one processor: a
/// resolver has the others, and is not measured by what they take from it.
pub(super) fn lookups(sides: &[Side], seconds: u64, rounds: u32) -> Result<Vec<Row>> {
    let row = |window: u16| {
        Row::new(format!("name lookups, {AT_A_TIME} clients, {window} open each"), "/s", sides.len())
    };
    let mut rows = Vec::new();
    for window in WINDOWS {
        let mut row = row(window);
        for _ in 0..rounds {
            for (index, side) in sides.iter().enumerate() {
                let words = ["lookup", &side.resolver, side.name, &seconds.to_string(), &window.to_string()];
                row.samples[index].push(number(on_one_processor(&own(&side.client, &words)?))?);
            }
        }
        rows.push(row);
    }
    Ok(rows)
}
