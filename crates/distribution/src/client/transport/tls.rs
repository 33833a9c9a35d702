//! Whom to believe: the host's authorities, those of `certs.d`, or anybody.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
};
use tokio::sync::OnceCell;
use wharf_oci::digest::Digest;

use super::certs::{self, HostCerts};
use super::x509;

/// The one place where the implementation of cryptography is chosen.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    Arc::clone(&PROVIDER)
}

/// How a host's certificate is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Trust {
    /// The registry whose `certs.d` counts.
    pub(crate) registry: String,
    /// Whether any certificate will do.
    pub(crate) insecure: bool,
    /// Whether the registry's client certificate may be shown; only to the registry itself.
    pub(crate) identify: bool,
}

/// Makes TLS settings, from the host's authorities read once.
#[derive(Debug)]
pub(crate) struct Tls {
    directories: Vec<PathBuf>,
    host: OnceCell<Arc<HostRoots>>,
    /// The settings where nothing is special, shared so that sessions are resumed.
    plain: OnceCell<Arc<ClientConfig>>,
}

#[derive(Debug, Clone)]
struct HostRoots {
    store: Arc<RootCertStore>,
    trusted: HashSet<Digest>,
}

impl HostRoots {
    fn load() -> Self {
        let mut roots = Self { store: Arc::new(RootCertStore::empty()), trusted: HashSet::new() };
        let native = rustls_native_certs::load_native_certs();
        for error in &native.errors {
            tracing::debug!(%error, "a certificate of the host cannot be read");
        }
        roots.add(&native.certs);
        if roots.store.is_empty() {
            Arc::make_mut(&mut roots.store).extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        roots
    }

    fn add(&mut self, certificates: &[CertificateDer<'static>]) {
        let store = Arc::make_mut(&mut self.store);
        for certificate in certificates {
            // A certificate that cannot be an authority may still be the registry's own.
            let _ = store.add(certificate.clone());
            self.trusted.insert(Digest::of(certificate));
        }
    }
}

impl Tls {
    pub(crate) fn new(directories: Vec<PathBuf>) -> Self {
        Self { directories, host: OnceCell::new(), plain: OnceCell::new() }
    }

    /// The settings for a connection that is looked at as `trust` says.
    ///
    /// # Errors
    /// Which certificate or key cannot be used.
    pub(crate) async fn config(&self, trust: &Trust) -> Result<Arc<ClientConfig>, String> {
        let special = certs::load(&self.directories, &trust.registry).await?;
        let identity = special.identity.is_some() && trust.identify;
        if !trust.insecure && special.authorities.is_empty() && !identity {
            let make = || async { Ok(Arc::new(self.build(trust, special).await?)) };
            return self.plain.get_or_try_init(make).await.cloned();
        }
        Ok(Arc::new(self.build(trust, special).await?))
    }

    async fn build(&self, trust: &Trust, special: HostCerts) -> Result<ClientConfig, String> {
        let believed =
            if trust.insecure { Believed::Anybody } else { Believed::known(self.roots(&special).await?)? };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier { believed, provider: provider() }));
        match special.identity.filter(|_| trust.identify) {
            Some((chain, key)) => builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| format!("client certificate of {}: {error}", trust.registry)),
            None => Ok(builder.with_no_client_auth()),
        }
    }

    async fn roots(&self, special: &HostCerts) -> Result<HostRoots, String> {
        let load = || async { tokio::task::spawn_blocking(|| Arc::new(HostRoots::load())).await };
        let host = self.host.get_or_try_init(load).await.map_err(|error| error.to_string())?;
        let mut roots = HostRoots::clone(host);
        if !special.authorities.is_empty() {
            roots.add(&special.authorities);
        }
        Ok(roots)
    }
}

/// Whose certificates are believed.
#[derive(Debug)]
enum Believed {
    /// Those that an authority signed, and those that were configured themselves.
    ///
    /// The second is how registries with a self-signed certificate are used everywhere, and webpki alone takes no
    /// certificate that is marked as an authority for a server's, as OpenSSL makes them by default.
    Known { webpki: Arc<WebPkiServerVerifier>, trusted: HashSet<Digest> },
    /// Whoever holds the key of the certificate shown: insecure registries.
    Anybody,
}

impl Believed {
    fn known(roots: HostRoots) -> Result<Self, String> {
        let webpki = WebPkiServerVerifier::builder_with_provider(roots.store, provider())
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self::Known { webpki, trusted: roots.trusted })
    }
}

/// Looks at what a server shows.
#[derive(Debug)]
struct Verifier {
    believed: Believed,
    provider: Arc<CryptoProvider>,
}

fn verify_own(
    certificate: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<(), rustls::Error> {
    rustls::client::verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
    let validity = x509::validity(certificate).ok_or(CertificateError::BadEncoding)?;
    if now.as_secs() < validity.not_before {
        let not_before = UnixTime::since_unix_epoch(std::time::Duration::from_secs(validity.not_before));
        return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
    }
    if now.as_secs() > validity.not_after {
        let not_after = UnixTime::since_unix_epoch(std::time::Duration::from_secs(validity.not_after));
        return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
    }
    Ok(())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Believed::Known { webpki, trusted } = &self.believed else {
            return Ok(ServerCertVerified::assertion());
        };
        if trusted.contains(&Digest::of(end_entity)) {
            verify_own(end_entity, server_name, now)?;
            return Ok(ServerCertVerified::assertion());
        }
        let verified = webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        verified.map_err(|error| match error {
            // A self-signed certificate that nobody configured: to a user the same as an unknown signer.
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(cause)))
                if cause.to_string() == "CaUsedAsEndEntity" =>
            {
                CertificateError::UnknownIssuer.into()
            }
            other => other,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
