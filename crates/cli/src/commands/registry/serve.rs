//! `wharf registry serve`: runs until SIGTERM or SIGINT; SIGHUP reads certificates and names again.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use wharf_distribution::client::Credentials;
use wharf_distribution::server::{Config, Keep, Server, Tls, Upstream};

use crate::commands::Outcome;
use crate::connect::Target;
use crate::error::{CliError, say};

#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// Address and port to listen on; ":5000" means every address
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5000", value_parser = address)]
    listen: SocketAddr,
    /// Folder that everything is kept in
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Certificate of this server and those that lead to its authority (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Let in only clients with a certificate of one of these authorities (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    client_ca: Option<PathBuf>,
    /// Let in only who is in this file of names and bcrypt hashes (htpasswd -B)
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
    /// Allow tags, manifests and blobs to be deleted
    #[arg(long)]
    delete: bool,
    /// Allow nothing to be changed
    #[arg(long)]
    read_only: bool,
    /// Cache this registry: fetch from it what is not here; nothing can be pushed
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Name to log in with at the cached registry
    #[arg(long, value_name = "NAME", requires = "proxy", requires = "proxy_password_file")]
    proxy_username: Option<String>,
    /// File with the password for it
    #[arg(long, value_name = "FILE", requires = "proxy_username")]
    proxy_password_file: Option<PathBuf>,
    /// How long a tag of the cached registry is believed before it is asked about again
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration, requires = "proxy")]
    proxy_ttl: Duration,
    /// How often garbage is collected while serving; "0" means never
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
    gc_interval: Duration,
    /// How long what nothing refers to is kept, so that pushes under way lose nothing
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    gc_grace: Duration,
    /// Let garbage collection also remove manifests that no tag, index or subject holds
    #[arg(long)]
    gc_untagged: bool,
    /// Do not write a line for each request
    #[arg(short, long)]
    quiet: bool,
}

impl Serve {
    pub(crate) async fn run(self, _target: &Target) -> Outcome {
        let mut signals = Signals::new()?;
        let scheme = if self.tls_cert.is_some() { "https" } else { "http" };
        let config = self.config()?;
        let server = on_own_thread(move || Server::start(config)).await?;
        let server = server.map_err(|error| CliError::new(error.to_string()))?;
        say(&format!("serving {scheme}://{}", server.address()));
        while signals.next().await == Asked::Reload {
            match server.reload() {
                Ok(()) => say("certificates and names were read again"),
                Err(error) => say(&format!("nothing changed: {error}")),
            }
        }
        on_own_thread(move || server.stop()).await?;
        Ok(0)
    }

    fn config(self) -> Result<Config, CliError> {
        let tls = self.tls_cert.zip(self.tls_key);
        Ok(Config {
            listen: self.listen,
            tls: tls.map(|(certificate, key)| Tls { certificate, key, client_ca: self.client_ca }),
            htpasswd: self.htpasswd,
            delete: self.delete,
            read_only: self.read_only,
            proxy: match self.proxy {
                Some(url) => {
                    let credentials = credentials(self.proxy_username, self.proxy_password_file)?;
                    Some(Upstream { credentials, ttl: self.proxy_ttl, ..Upstream::new(url) })
                }
                None => None,
            },
            gc_interval: Some(self.gc_interval).filter(|interval| !interval.is_zero()),
            keep: Keep { young: self.gc_grace, untagged: !self.gc_untagged },
            access_log: !self.quiet,
            ..Config::new(self.root)
        })
    }
}

fn credentials(username: Option<String>, file: Option<PathBuf>) -> Result<Credentials, CliError> {
    let Some((username, path)) = username.zip(file) else { return Ok(Credentials::Anonymous) };
    let password = std::fs::read_to_string(&path)
        .map_err(|error| CliError::new(format!("{}: {}", path.display(), crate::error::reason(&error))))?;
    let password = password.trim_end_matches(['\n', '\r']).to_owned();
    Ok(Credentials::Password { username, password })
}

/// The server has a runtime of its own, which neither starts nor ends inside another.
async fn on_own_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, CliError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| CliError::new(error.to_string()))
}

/// What a signal asks for.
#[derive(PartialEq, Eq)]
enum Asked {
    Reload,
    End,
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, CliError> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.terminate.recv() => Asked::End,
            _ = self.interrupt.recv() => Asked::End,
        }
    }
}

/// `HOST:PORT` by number, `:PORT` for every address, `localhost:PORT`.
fn address(text: &str) -> Result<SocketAddr, String> {
    let refuse = |_| format!("{text:?} is no address and port: write 127.0.0.1:5000, [::1]:5000 or :5000");
    if let Some(port) = text.strip_prefix(':') {
        let port = port.parse().map_err(|_| ()).map_err(refuse)?;
        return Ok(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    }
    text.replacen("localhost:", "127.0.0.1:", 1).parse().map_err(|_| ()).map_err(refuse)
}

/// Go's way to write a duration: `1h30m`, `45s`, `500ms`, `0`.
fn duration(text: &str) -> Result<Duration, String> {
    let refuse = || format!("{text:?} is no duration: write 90s, 5m or 1h30m");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut total, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(refuse)?;
        let count: u32 = rest[..digits].parse().map_err(|_| refuse())?;
        let after = &rest[digits..];
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let unit = match &after[..end] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => return Err(refuse()),
        };
        total = unit.checked_mul(count).and_then(|part| total.checked_add(part)).ok_or_else(refuse)?;
        rest = &after[end..];
    }
    if text.is_empty() { Err(refuse()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_durations_as_people_write_them() {
        assert_eq!(address(":5000").unwrap().to_string(), "[::]:5000");
        assert_eq!(address("localhost:1").unwrap().to_string(), "127.0.0.1:1");
        assert!(address("5000").is_err());
        assert_eq!(duration("1h30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(duration("0").unwrap(), Duration::ZERO);
        for bad in ["", "5", "m", "1x", "-1s", "99999999999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
