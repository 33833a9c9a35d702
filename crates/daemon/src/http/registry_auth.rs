//! Credentials for registries, as clients send them along.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use wharf_api::AuthConfig;
use wharf_engine::registry::RegistryCredentials;

use crate::http::call::Call;

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);

impl Call {
    /// What `X-Registry-Auth` carries. As with Docker, what cannot be read counts as nothing: whether that suffices,
    /// the registry says.
    pub(crate) fn credentials(&self) -> RegistryCredentials {
        parse(self.header("x-registry-auth"))
    }
}

fn parse(header: &str) -> RegistryCredentials {
    wharf_api::from_slice(&bytes(header)).map_or(RegistryCredentials::Anonymous, |auth| of(&auth))
}

fn bytes(header: &str) -> Vec<u8> {
    let header = header.trim();
    URL_SAFE.decode(header).or_else(|_| STANDARD.decode(header)).unwrap_or_default()
}

/// The document that a header carries; the zero value where it cannot be read.
pub(crate) fn decoded<T: serde::de::DeserializeOwned + Default>(header: &str) -> T {
    wharf_api::from_slice(&bytes(header)).unwrap_or_default()
}

/// Credentials out of the document that clients keep them in.
pub(crate) fn of(auth: &AuthConfig) -> RegistryCredentials {
    if !auth.registrytoken.is_empty() {
        return RegistryCredentials::Bearer(auth.registrytoken.clone());
    }
    if !auth.identitytoken.is_empty() {
        let (username, token) = (auth.username.clone(), auth.identitytoken.clone());
        return RegistryCredentials::Identity { username, token };
    }
    let (mut username, mut password) = (auth.username.clone(), auth.password.clone());
    if username.is_empty()
        && let Ok(pair) = STANDARD.decode(&auth.auth)
        && let Some((name, secret)) = String::from_utf8_lossy(&pair).split_once(':')
    {
        (username, password) = (name.to_owned(), secret.trim_end_matches('\0').to_owned());
    }
    match (username.as_str(), password.as_str()) {
        ("", "") => RegistryCredentials::Anonymous,
        // The name under which some helpers hand out identity tokens.
        ("<token>", _) => RegistryCredentials::Identity { username: String::new(), token: password },
        _ => RegistryCredentials::Password { username, password },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_alphabet_with_or_without_padding() {
        let text = r#"{"username":"a?>","password":"b"}"#;
        let wanted = RegistryCredentials::Password { username: "a?>".into(), password: "b".into() };
        for engine in [&base64::engine::general_purpose::URL_SAFE, &base64::engine::general_purpose::STANDARD]
        {
            let header = engine.encode(text);
            assert_eq!(parse(&header), wanted);
            assert_eq!(parse(header.trim_end_matches('=')), wanted);
        }
    }

    #[test]
    fn what_cannot_be_read_is_nobody() {
        for header in ["", "zzzz", "e30=", "bm9wZQ=="] {
            assert_eq!(parse(header), RegistryCredentials::Anonymous, "{header}");
        }
    }

    #[test]
    fn tokens_go_before_passwords() {
        let auth = AuthConfig {
            username: "me".into(),
            password: "x".into(),
            identitytoken: "t".into(),
            ..AuthConfig::default()
        };
        assert_eq!(of(&auth), RegistryCredentials::Identity { username: "me".into(), token: "t".into() });
        let auth = AuthConfig { auth: "bWU6c2VjcmV0".into(), ..AuthConfig::default() };
        assert_eq!(
            of(&auth),
            RegistryCredentials::Password { username: "me".into(), password: "secret".into() }
        );
    }
}
