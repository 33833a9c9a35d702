//! Which daemon a command speaks to: `-H`, then `WHARF_HOST`, then `DOCKER_HOST`, then the docker context, then
//! the default socket, where a daemon is started when none answers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use wharf_api::client::{Client, ClientError, Endpoint};

use crate::autostart;
use crate::contexts;
use crate::error::CliError;

/// The socket of the default instance.
pub(crate) const DEFAULT_SOCKET: &str = "/run/wharf/wharf.sock";

/// The global flags that say where the daemon is.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Target {
    /// Daemon socket to connect to
    #[arg(short = 'H', long = "host", value_name = "ADDRESS")]
    host: Option<String>,
    /// Name of the docker context to use
    #[arg(short = 'c', long, value_name = "NAME")]
    context: Option<String>,
    /// Location of client config files
    #[arg(long, value_name = "FOLDER")]
    config: Option<PathBuf>,
    /// Use TLS; implied by --tlsverify
    #[arg(long)]
    tls: bool,
    /// Use TLS and verify the remote
    #[arg(long)]
    tlsverify: bool,
    /// Trust certs signed only by this CA
    #[arg(long, value_name = "FILE")]
    tlscacert: Option<PathBuf>,
    /// Path to TLS certificate file
    #[arg(long, value_name = "FILE")]
    tlscert: Option<PathBuf>,
    /// Path to TLS key file
    #[arg(long, value_name = "FILE")]
    tlskey: Option<PathBuf>,
    /// Enable debug mode
    #[arg(short = 'D', long)]
    debug: bool,
    /// Set the logging level (accepted for Docker's sake)
    #[arg(short = 'l', long = "log-level", value_name = "LEVEL")]
    log_level: Option<String>,
}

impl Target {
    /// The folder of Docker's client configuration.
    pub(crate) fn config_folder(&self) -> PathBuf {
        let environment =
            || std::env::var_os("DOCKER_CONFIG").filter(|value| !value.is_empty()).map(PathBuf::from);
        let home =
            || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".docker");
        self.config.clone().or_else(environment).unwrap_or_else(home)
    }

    /// The key sequence that detaches: what a flag says, or else the configuration.
    pub(crate) fn settle_detach_keys(&self, given: &mut String) {
        if given.is_empty()
            && let Some(keys) = contexts::setting(&self.config_folder(), "detachKeys")
        {
            *given = keys;
        }
    }

    /// Connects, starting a daemon on the default socket if none is there.
    pub(crate) async fn connect(&self) -> Result<Client, CliError> {
        let Some(address) = self.address()? else {
            return Self::connect_default().await;
        };
        Ok(Client::connect(self.endpoint(&address)?).await?)
    }

    async fn connect_default() -> Result<Client, CliError> {
        let endpoint = Endpoint::Unix(DEFAULT_SOCKET.into());
        match Client::connect(endpoint.clone()).await {
            Err(ClientError::Unreachable { .. }) if autostart::wanted() => {
                autostart::start().await?;
                Ok(Client::connect(endpoint).await?)
            }
            other => Ok(other?),
        }
    }

    /// The address asked for; `None` is the default socket.
    fn address(&self) -> Result<Option<String>, CliError> {
        if self.host.is_some() && self.context.is_some() {
            return Err(CliError::new("conflicting options: cannot specify both --host and --context"));
        }
        if let Some(host) = self.host.clone() {
            return Ok(Some(host));
        }
        if self.context.is_none()
            && let Some(name) = contexts::overriding()
        {
            return Ok(std::env::var(name).ok());
        }
        match self.context_name() {
            name if name == contexts::DEFAULT => Ok(None),
            name => Ok(Some(contexts::read(&self.config_folder(), &name)?.host)),
        }
    }

    /// The name of the context in use.
    pub(crate) fn context_name(&self) -> String {
        let environment = || std::env::var("DOCKER_CONTEXT").ok().filter(|value| !value.is_empty());
        let stored =
            || if contexts::overriding().is_some() { None } else { contexts::current(&self.config_folder()) };
        self.context.clone().or_else(environment).or_else(stored).unwrap_or_else(|| contexts::DEFAULT.into())
    }

    /// Whether `--debug` was given.
    pub(crate) fn debug(&self) -> bool {
        self.debug
    }

    /// The address of the default context.
    pub(crate) fn default_address(&self) -> String {
        let environment = contexts::overriding().and_then(|name| std::env::var(name).ok());
        self.host.clone().or(environment).unwrap_or_else(|| format!("unix://{DEFAULT_SOCKET}"))
    }

    fn endpoint(&self, address: &str) -> Result<Endpoint, CliError> {
        if let Some(path) = address.strip_prefix("unix://") {
            return Ok(Endpoint::Unix(path.into()));
        }
        if let Some(host) = address.strip_prefix("ssh://") {
            return Ok(Endpoint::Command(ssh(host)));
        }
        let Some(rest) = address.strip_prefix("tcp://") else {
            return Err(CliError::new(format!("unable to parse docker host `{address}`")));
        };
        let (host, port) = rest.trim_end_matches('/').rsplit_once(':').unwrap_or((rest, "2375"));
        let port = port
            .parse()
            .map_err(|_| CliError::new(format!("unable to parse docker host `{address}`: no port")))?;
        let host = if host.is_empty() { "127.0.0.1" } else { host };
        Ok(Endpoint::Tcp { host: host.to_owned(), port, tls: self.tls()? })
    }

    fn tls(&self) -> Result<Option<Arc<rustls::ClientConfig>>, CliError> {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let verify = self.tlsverify || set("DOCKER_TLS_VERIFY");
        if !verify && !self.tls && !set("DOCKER_TLS") {
            return Ok(None);
        }
        let folder = std::env::var_os("DOCKER_CERT_PATH").map_or_else(|| self.config_folder(), PathBuf::from);
        let file = |given: &Option<PathBuf>, name: &str| given.clone().unwrap_or_else(|| folder.join(name));
        let wrong = |path: &Path, error: &dyn std::fmt::Display| {
            CliError::new(format!("{}: {error}", path.display()))
        };
        let mut roots = rustls::RootCertStore::empty();
        let authority = file(&self.tlscacert, "ca.pem");
        for certificate in
            CertificateDer::pem_file_iter(&authority).map_err(|error| wrong(&authority, &error))?
        {
            roots
                .add(certificate.map_err(|error| wrong(&authority, &error))?)
                .map_err(|error| wrong(&authority, &error))?;
        }
        let builder =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| CliError::new(error.to_string()))?
                .with_root_certificates(roots);
        let (certificate, key) = (file(&self.tlscert, "cert.pem"), file(&self.tlskey, "key.pem"));
        if !certificate.exists() {
            return Ok(Some(Arc::new(builder.with_no_client_auth())));
        }
        let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&certificate)
            .map_err(|error| wrong(&certificate, &error))?
            .collect();
        let chain = chain.map_err(|error| wrong(&certificate, &error))?;
        let secret = PrivateKeyDer::from_pem_file(&key).map_err(|error| wrong(&key, &error))?;
        let config =
            builder.with_client_auth_cert(chain, secret).map_err(|error| wrong(&certificate, &error))?;
        Ok(Some(Arc::new(config)))
    }
}

/// `ssh://[USER@]HOST[:PORT]` as the command that reaches the daemon there.
fn ssh(rest: &str) -> Vec<String> {
    let host = rest.trim_end_matches('/');
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, Some(port)),
        _ => (host, None),
    };
    let mut words: Vec<String> = vec!["ssh".into(), "-o".into(), "ConnectTimeout=30".into(), "-T".into()];
    if let Some(port) = port {
        words.extend(["-p".into(), port.into()]);
    }
    words.extend(["--".into(), host.into(), "docker".into(), "system".into(), "dial-stdio".into()]);
    words
}

#[cfg(test)]
mod tests {
    use super::ssh;

    #[test]
    fn ssh_addresses_become_commands() {
        assert_eq!(
            ssh("me@there:2222").join(" "),
            "ssh -o ConnectTimeout=30 -T -p 2222 -- me@there docker system dial-stdio"
        );
    }
}
