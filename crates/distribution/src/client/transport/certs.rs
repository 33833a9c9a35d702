//! `certs.d`: certificates that count for one registry only.
//!
//! `DIRECTORY/HOST[:PORT]/` holds authorities as `*.crt` and pairs `NAME.cert`, `NAME.key` that a registry may ask for.

use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate file is a few kilobytes; one that is larger is something else.
const FILE_LIMIT: u64 = 1 << 20;

/// What one host's directory holds.
#[derive(Debug, Default)]
pub(crate) struct HostCerts {
    /// Authorities, trusted beside the host's own.
    pub(crate) authorities: Vec<CertificateDer<'static>>,
    /// Chain and key to show when asked.
    pub(crate) identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

/// Reads the first directory of `roots` that has a subdirectory for `host`; without one there is nothing special.
///
/// # Errors
/// Which file cannot be used, in dockerd's words.
pub(crate) async fn load(roots: &[PathBuf], host: &str) -> Result<HostCerts, String> {
    for root in roots {
        let directory = root.join(host);
        if host.contains('/') || host.starts_with('.') || !directory.is_dir() {
            continue;
        }
        return tokio::task::spawn_blocking(move || read_directory(&directory))
            .await
            .map_err(|error| error.to_string())?;
    }
    Ok(HostCerts::default())
}

fn read_directory(directory: &Path) -> Result<HostCerts, String> {
    let failed = |error: std::io::Error| format!("read {}: {error}", directory.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        names.extend(entry.map_err(failed)?.file_name().into_string().ok());
    }
    names.sort();
    let mut certs = HostCerts::default();
    for name in &names {
        let path = directory.join(name);
        if name.ends_with(".crt") {
            certs.authorities.extend(read_chain(&path)?);
        } else if let Some(stem) = name.strip_suffix(".cert") {
            let key = format!("{stem}.key");
            if !names.contains(&key) {
                return Err(format!(
                    "missing key {key} for client certificate {name}. CA certificates must use the extension .crt"
                ));
            }
            let pair = (read_chain(&path)?, read_key(&directory.join(key))?);
            certs.identity.get_or_insert(pair);
        } else if let Some(stem) = name.strip_suffix(".key") {
            let cert = format!("{stem}.cert");
            if !names.contains(&cert) {
                return Err(format!("missing client certificate {cert} for key {name}"));
            }
        }
    }
    Ok(certs)
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let failed = |error: std::io::Error| format!("open {}: {error}", path.display());
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(failed)?.take(FILE_LIMIT).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read_bounded(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(format!("{}: no certificate in PEM form", path.display())),
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(&read_bounded(path)?)
        .map_err(|_| format!("{}: no private key in PEM form", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pairs_must_be_complete_and_the_first_directory_counts() {
        let (own, docker) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let roots = [own.path().to_owned(), docker.path().to_owned()];
        assert!(load(&roots, "host:5000").await.unwrap().authorities.is_empty());

        let made = rcgen::generate_simple_self_signed(vec!["host".to_owned()]).unwrap();
        let directory = docker.path().join("host:5000");
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("ca.crt"), made.cert.pem()).unwrap();
        std::fs::write(directory.join("me.cert"), made.cert.pem()).unwrap();
        let error = load(&roots, "host:5000").await.unwrap_err();
        assert!(error.starts_with("missing key me.key for client certificate me.cert."), "{error}");

        std::fs::write(directory.join("me.key"), made.signing_key.serialize_pem()).unwrap();
        let certs = load(&roots, "host:5000").await.unwrap();
        assert_eq!(certs.authorities.len(), 1);
        assert!(certs.identity.is_some());

        std::fs::create_dir(own.path().join("host:5000")).unwrap();
        assert!(load(&roots, "host:5000").await.unwrap().identity.is_none());
        assert!(load(&roots, "../host:5000").await.unwrap().authorities.is_empty());
    }
}
