//! Certificates: whom one believes, in whose directory.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use wharf_distribution::client::{Client, Config, Error, Target};

use crate::script::{Script, answer};
use crate::{hasty, manifest, repository};

/// An authority of one's own.
pub(crate) struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

pub(crate) fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Authority { certificate, issuer: Issuer::new(params, key) }
}

type Pair = (CertificateDer<'static>, PrivateKeyDer<'static>);

fn server_config(pair: Pair, clients: Option<&Authority>) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.certificate.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    Arc::new(builder.with_single_cert(vec![pair.0], pair.1).unwrap())
}

impl Authority {
    fn issue(
        &self,
        names: &[&str],
        change: impl Fn(&mut CertificateParams),
    ) -> (rcgen::Certificate, KeyPair) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn pair(&self, names: &[&str], change: impl Fn(&mut CertificateParams)) -> Pair {
        let (certificate, key) = self.issue(names, change);
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    pub(crate) fn server(&self, names: &[&str]) -> Arc<ServerConfig> {
        server_config(self.pair(names, |_| {}), None)
    }

    /// A `certs.d` in which it counts for `hosts`.
    pub(crate) fn certs_d(&self, hosts: &[&str]) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        for host in hosts {
            std::fs::create_dir(directory.path().join(host)).unwrap();
            std::fs::write(directory.path().join(host).join("ca.crt"), self.certificate.pem()).unwrap();
        }
        directory
    }
}

fn rule(_: &crate::script::Seen) -> crate::script::Reply {
    answer("200 OK", &[], manifest().as_bytes())
}

/// A pull from `registry.test` (at a proxy's end, so that loopback does not make it insecure) with `certs`.
async fn pull(registry: &Script, certs: &TempDir) -> Result<(), Error> {
    let proxy = crate::proxy::forwarder(registry.address).await;
    let settings =
        Config { certificates: vec![certs.path().to_owned()], proxies: proxy.settings(), ..hasty() };
    let client = Client::new(settings).unwrap();
    repository(&client, "registry.test/a").manifest(&Target::Tag("x".into()), None).await.map(|_| ())
}

async fn refused(config: Arc<ServerConfig>, certs: &TempDir) -> String {
    let registry = Script::start_tls(config, rule).await;
    let error = pull(&registry, certs).await.unwrap_err().to_string();
    error.strip_prefix("Get \"https://registry.test/v2/\": ").expect(&error).to_owned()
}

#[tokio::test]
async fn an_authority_counts_for_its_host_only() {
    let authority = authority();
    let registry = Script::start_tls(authority.server(&["registry.test"]), rule).await;
    pull(&registry, &authority.certs_d(&["registry.test"])).await.unwrap();
    let error = refused(authority.server(&["registry.test"]), &authority.certs_d(&["other.test"])).await;
    assert_eq!(error, "tls: failed to verify certificate: x509: certificate signed by unknown authority");
}

#[tokio::test]
async fn names_and_times_are_looked_at() {
    let authority = authority();
    let certs = authority.certs_d(&["registry.test"]);
    assert_eq!(
        refused(authority.server(&["a.test", "b.test"]), &certs).await,
        "tls: failed to verify certificate: x509: certificate is valid for a.test, b.test, not registry.test"
    );
    let old = authority.pair(&["registry.test"], |params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    let error = refused(server_config(old, None), &certs).await;
    assert!(
        error.starts_with(
            "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time 20"
        ) && error.ends_with("Z is after 2002-01-01T00:00:00Z"),
        "{error}"
    );
}

#[tokio::test]
async fn a_self_signed_certificate_may_be_its_own_authority() {
    let mut params = CertificateParams::new(vec!["registry.test".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let own = params.self_signed(&key).unwrap();
    let pair = || (own.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap());
    let certs = tempfile::tempdir().unwrap();
    std::fs::create_dir(certs.path().join("registry.test")).unwrap();
    let error = refused(server_config(pair(), None), &certs).await;
    assert_eq!(error, "tls: failed to verify certificate: x509: certificate signed by unknown authority");
    std::fs::write(certs.path().join("registry.test/own.crt"), own.pem()).unwrap();
    let registry = Script::start_tls(server_config(pair(), None), rule).await;
    pull(&registry, &certs).await.unwrap();
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_who_asks() {
    let authority = authority();
    let config = server_config(authority.pair(&["registry.test"], |_| {}), Some(&authority));
    let certs = authority.certs_d(&["registry.test"]);
    let registry = Script::start_tls(config, rule).await;
    let error = pull(&registry, &certs).await.unwrap_err().to_string();
    assert!(error.ends_with("remote error: tls: certificate required"), "{error}");

    let (certificate, key) = authority.issue(&[], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let directory = certs.path().join("registry.test");
    std::fs::write(directory.join("client.cert"), certificate.pem()).unwrap();
    std::fs::write(directory.join("client.key"), key.serialize_pem()).unwrap();
    pull(&registry, &certs).await.unwrap();
}

#[tokio::test]
async fn insecure_registries_may_show_anything_or_nothing() {
    // Loopback is insecure by itself: TLS that nobody vouches for, else none.
    let authority = authority();
    let registry = Script::start_tls(authority.server(&["other.test"]), rule).await;
    let client = crate::client();
    let target = Target::Tag("x".into());
    repository(&client, &format!("{}/a", registry.address)).manifest(&target, None).await.unwrap();

    let plain = Script::start(rule).await;
    for _ in 0..3 {
        repository(&client, &format!("{}/a", plain.address)).manifest(&target, None).await.unwrap();
    }
    // Asked once for its ways, by whoever comes later not again.
    assert_eq!(plain.seen().iter().filter(|seen| seen.path == "/v2/").count(), 1);
}

#[tokio::test]
async fn plain_http_where_tls_is_due_is_named() {
    // A server that speaks first in plain text, as Go's does to a TLS hello.
    let loud = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = loud.local_addr().unwrap();
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        while let Ok((mut stream, _)) = loud.accept().await {
            let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent a TLS hello\n").await;
        }
    });
    let proxy = crate::proxy::forwarder(address).await;
    let client = Client::new(Config { proxies: proxy.settings(), ..hasty() }).unwrap();
    let error =
        repository(&client, "registry.test/a").manifest(&Target::Tag("x".into()), None).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Get \"https://registry.test/v2/\": http: server gave HTTP response to HTTPS client"
    );
}
