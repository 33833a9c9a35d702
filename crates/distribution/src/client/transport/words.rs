//! Failures of the network in the words of Go's libraries, which Docker's users and their scripts know.

use std::error::Error as _;
use std::io;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError};

use super::x509::show;
use crate::client::error::TransportError;

/// The kernel's word for `error`: `connection refused`.
pub(crate) fn kernel(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// What a failure while reading or writing means; sessions fail late too, when the other side looks at our certificate.
pub(crate) fn of_io(error: &io::Error) -> TransportError {
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return of_tls(tls);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => TransportError::Closed,
        io::ErrorKind::BrokenPipe => TransportError::Io("write: broken pipe".to_owned()),
        io::ErrorKind::ConnectionReset => TransportError::Io("read: connection reset by peer".to_owned()),
        _ => TransportError::Io(kernel(error)),
    }
}

/// What a failure of an exchange means.
pub(crate) fn of_hyper(error: &hyper::Error) -> TransportError {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return of_io(io);
        }
        cause = inner.source();
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return TransportError::Closed;
    }
    if error.is_parse_too_large() {
        return TransportError::Malformed("net/http: server response headers exceeded the limit".to_owned());
    }
    if error.is_parse() {
        return TransportError::Malformed(format!("malformed HTTP response: {error}"));
    }
    TransportError::Io(error.to_string())
}

/// What a failure of a session means.
pub(crate) fn of_tls(error: &rustls::Error) -> TransportError {
    TransportError::Tls(match error {
        rustls::Error::InvalidCertificate(error) => {
            format!("tls: failed to verify certificate: {}", certificate(error))
        }
        rustls::Error::AlertReceived(alert) => format!("remote error: tls: {}", alert_text(*alert)),
        rustls::Error::InvalidMessage(_) => "tls: first record does not look like a TLS handshake".to_owned(),
        other => format!("tls: {other}"),
    })
}

fn certificate(error: &CertificateError) -> String {
    const EXPIRED: &str = "x509: certificate has expired or is not yet valid";
    match error {
        CertificateError::UnknownIssuer => "x509: certificate signed by unknown authority".to_owned(),
        CertificateError::ExpiredContext { time, not_after } => {
            format!("{EXPIRED}: current time {} is after {}", show(*time), show(*not_after))
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            format!("{EXPIRED}: current time {} is before {}", show(*time), show(*not_before))
        }
        CertificateError::Expired | CertificateError::NotValidYet => EXPIRED.to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => wrong_name(expected, presented),
        other => format!("x509: {other}"),
    }
}

fn wrong_name(expected: &ServerName<'_>, presented: &[String]) -> String {
    let inside = |kind: &str| -> Vec<&str> {
        let names = presented.iter().filter_map(|name| name.strip_prefix(kind)?.strip_suffix(')'));
        names.map(|name| name.trim_matches('"')).collect()
    };
    let (wanted, valid) = match expected {
        ServerName::IpAddress(address) => {
            let wanted = std::net::IpAddr::from(*address).to_string();
            let valid = inside("IpAddress(");
            if valid.is_empty() {
                return format!(
                    "x509: cannot validate certificate for {wanted} because it doesn't contain any IP SANs"
                );
            }
            (wanted, valid)
        }
        name => (name.to_str().into_owned(), inside("DnsName(")),
    };
    if valid.is_empty() {
        return format!("x509: certificate is not valid for any names, but wanted to match {wanted}");
    }
    format!("x509: certificate is valid for {}, not {wanted}", valid.join(", "))
}

fn alert_text(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::BadCertificate => "bad certificate".to_owned(),
        AlertDescription::CertificateRequired => "certificate required".to_owned(),
        AlertDescription::HandshakeFailure => "handshake failure".to_owned(),
        AlertDescription::InternalError => "internal error".to_owned(),
        AlertDescription::ProtocolVersion => "protocol version not supported".to_owned(),
        AlertDescription::UnknownCA => "unknown certificate authority".to_owned(),
        AlertDescription::UnrecognisedName => "unrecognized name".to_owned(),
        other => format!("{other:?}"),
    }
}
