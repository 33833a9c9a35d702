//! `--platform` as the query the API wants: a JSON document.

use wharf_api::client::escape;

use crate::error::CliError;

/// The escaped value; empty stays empty.
pub(crate) fn query(text: &str) -> Result<String, CliError> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let platform: wharf_oci::Platform =
        text.parse().map_err(|error| CliError::new(format!("invalid platform: {error}")))?;
    Ok(escape(&serde_json::to_string(&platform)?))
}

#[cfg(test)]
mod tests {
    use super::query;

    #[test]
    fn platforms_become_documents() {
        assert_eq!(query("").unwrap(), "");
        assert!(query("linux/amd64").unwrap().contains("amd64"));
        assert!(query("a/b/c/d").is_err());
    }
}
