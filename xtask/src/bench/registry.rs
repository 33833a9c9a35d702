//! Registries beside each other: clients that push and pull blobs, over plain HTTP on this machine.
//!
//! `cargo xtask bench registry --program target/release/wharf --peer build/clients/docker-registry`. Both serve from
//! folders on the same file system; rounds are interleaved; blobs and their digests are made before the clock starts.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::{Row, Wanted, table_of};

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The wharf program
    #[arg(long)]
    program: PathBuf,
    /// Debian's docker-registry
    #[arg(long, default_value = "build/clients/docker-registry")]
    peer: PathBuf,
    /// Rounds
    #[arg(short = 'n', long, default_value_t = 5)]
    rounds: usize,
    /// Clients at once
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// Size of a blob in MB
    #[arg(long, default_value_t = 10)]
    size: usize,
    /// Blobs a client pushes, and pulls, in a round
    #[arg(long, default_value_t = 4)]
    blobs: usize,
    /// Where the folders are made
    #[arg(long, default_value = "/var/tmp")]
    roots: PathBuf,
}

/// A registry under measurement; killed when dropped, its folder removed.
struct Registry {
    child: Child,
    address: SocketAddr,
    root: PathBuf,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

impl Registry {
    fn start(name: &str, arguments: &Arguments) -> Result<Self> {
        let root = arguments.roots.join(format!("bench-registry-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&root)?;
        // The port is free for a moment; nobody else on this machine is likely to take it.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = if name == "wharf" {
            let mut command = Command::new(&arguments.program);
            command
                .args(["registry", "serve", "--quiet", "--listen", &address.to_string(), "--root"])
                .arg(&root);
            command
        } else {
            let config = root.join("config.yml");
            std::fs::write(&config, peer_config(&root, address))?;
            let mut command = Command::new(&arguments.peer);
            command.arg("serve").arg(config);
            command
        };
        let child =
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("start a registry")?;
        let registry = Self { child, address, root };
        for _ in 0..500 {
            if TcpStream::connect(address).is_ok() {
                return Ok(registry);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("{name} does not listen")
    }

    /// Processor time in seconds.
    fn cpu(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
        Ok((ticks(11) + ticks(12)) / 100.0)
    }

    /// A line of `/proc/PID/status` in MB.
    fn memory(&self, line: &str) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let found = status.lines().find_map(|text| text.strip_prefix(line)?.split_whitespace().next());
        Ok(found.and_then(|kb| kb.parse::<f64>().ok()).context("a line of the status")? / 1024.0)
    }
}

fn peer_config(root: &Path, address: SocketAddr) -> String {
    format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
        root.display()
    )
}

/// Runs the bench and gives the table.
pub(crate) fn run(arguments: &Arguments) -> Result<String> {
    let names = ["wharf", "docker-registry"];
    let registries = names.iter().map(|name| Registry::start(name, arguments)).collect::<Result<Vec<_>>>()?;
    let row = |what: &str, unit| Row::new(what, unit, names.len());
    let (mut push, mut pull, mut both) =
        (row("push", "MB/s"), row("pull", "MB/s"), row("push and pull", "MB/s").wants(Wanted::More(2.0)));
    let (mut pushing, mut pulling) = (row("cpu per GB pushed", "s"), row("cpu per GB pulled", "s"));
    let (mut cpu, mut peak, mut anonymous) = (
        row("cpu per GB moved", "s"),
        row("memory, peak", "MB").wants(Wanted::Less(4.0)),
        row("memory, anonymous", "MB"),
    );
    let mut seed = 0;
    for _ in 0..arguments.rounds {
        for (index, registry) in registries.iter().enumerate() {
            let before = registry.cpu()?;
            let first = blobs(arguments, &mut seed);
            let second = blobs(arguments, &mut seed);
            let gigabytes = (arguments.size * arguments.blobs * arguments.clients) as f64 / 1000.0;
            push.samples[index].push(measure(registry, &first, true, false)?);
            let pushed = registry.cpu()?;
            pushing.samples[index].push((pushed - before) / gigabytes);
            pull.samples[index].push(measure(registry, &first, false, true)?);
            pulling.samples[index].push((registry.cpu()? - pushed) / gigabytes);
            both.samples[index].push(mixed(registry, &second, &first)?);
            cpu.samples[index].push((registry.cpu()? - before) / (4.0 * gigabytes));
            peak.samples[index].push(registry.memory("VmHWM:")?);
            anonymous.samples[index].push(registry.memory("RssAnon:")?);
        }
    }
    Ok(table_of(&names, &[push, pull, both, pushing, pulling, cpu, peak, anonymous]))
}

/// What one client sends and fetches: each blob with its digest.
type Load = Vec<(Vec<u8>, String)>;

fn blobs(arguments: &Arguments, seed: &mut u64) -> Vec<Load> {
    let mut one = || {
        *seed += 1;
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(std::process::id());
        let mut bytes = Vec::with_capacity(arguments.size * 1_000_000 + 8);
        while bytes.len() < arguments.size * 1_000_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(&bytes)));
        (bytes, digest)
    };
    (0..arguments.clients).map(|_| (0..arguments.blobs).map(|_| one()).collect()).collect()
}

fn size(loads: &[Load]) -> f64 {
    loads.iter().flatten().map(|(bytes, _)| bytes.len()).sum::<usize>() as f64 / 1e6
}

/// Megabytes a second of all clients together.
fn measure(registry: &Registry, loads: &[Load], push: bool, pull: bool) -> Result<f64> {
    let failed = Mutex::new(None);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for load in loads {
            let failed = &failed;
            scope.spawn(move || {
                if let Err(error) = client(registry.address, load, push, pull) {
                    *failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
                }
            });
        }
    });
    let took = begun.elapsed().as_secs_f64();
    match failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(size(loads) / took),
    }
}

/// Half of the clients push what is new, the other half pulls what is there; then the other way round.
fn mixed(registry: &Registry, new: &[Load], known: &[Load]) -> Result<f64> {
    let failed = Mutex::new(None);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for (at, (new, known)) in new.iter().zip(known).enumerate() {
            let failed = &failed;
            scope.spawn(move || {
                let push = || client(registry.address, new, true, false);
                let pull = || client(registry.address, known, false, true);
                let outcome =
                    if at % 2 == 0 { push().and_then(|()| pull()) } else { pull().and_then(|()| push()) };
                if let Err(error) = outcome {
                    *failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
                }
            });
        }
    });
    let took = begun.elapsed().as_secs_f64();
    match failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok((size(new) + size(known)) / took),
    }
}

fn client(address: SocketAddr, load: &Load, push: bool, pull: bool) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 256 << 10];
    for (bytes, digest) in load {
        if push {
            let begin = "POST /v2/bench/blobs/uploads/ HTTP/1.1\r\nhost: bench\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(begin.as_bytes())?;
            let (status, location, _) = answer(&mut stream, &mut buffer)?;
            let path = location
                .split_once("://")
                .map_or(location.as_str(), |(_, rest)| &rest[rest.find('/').unwrap_or(0)..]);
            let joint = if path.contains('?') { '&' } else { '?' };
            if status != 202 {
                bail!("begin an upload: {status}");
            }
            let head = format!(
                "PUT {path}{joint}digest={digest} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/octet-stream\r\ncontent-length: {}\r\n\r\n",
                bytes.len()
            );
            stream.write_all(head.as_bytes())?;
            stream.write_all(bytes)?;
            let (status, ..) = answer(&mut stream, &mut buffer)?;
            if status != 201 {
                bail!("push: {status}");
            }
        }
        if pull {
            let head = format!("GET /v2/bench/blobs/{digest} HTTP/1.1\r\nhost: bench\r\n\r\n");
            stream.write_all(head.as_bytes())?;
            let (status, _, length) = answer(&mut stream, &mut buffer)?;
            if status != 200 || length != bytes.len() {
                bail!("pull: {status}, {length} bytes");
            }
        }
    }
    Ok(())
}

/// Reads an answer and throws its body away: its status, location and length.
fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<(u16, String, usize)> {
    let mut filled = 0;
    let end = loop {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            bail!("the connection ended");
        }
        filled += read;
        if let Some(end) = buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("a status")?;
    let header = |name: &str| {
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    let length = header("content-length:").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut left = length - (filled - end);
    while left > 0 {
        let most = left.min(buffer.len());
        let read = stream.read(&mut buffer[..most])?;
        if read == 0 {
            bail!("the body broke off");
        }
        left -= read;
    }
    Ok((status, header("location:").unwrap_or_default(), length))
}
