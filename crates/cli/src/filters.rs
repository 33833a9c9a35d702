//! `--filter key=value` flags as the query the API wants.

use std::collections::BTreeMap;

use wharf_api::client::escape;

use crate::error::CliError;

/// The value of the `filters` query parameter, escaped; empty without filters.
pub(crate) fn query(flags: &[String]) -> Result<String, CliError> {
    if flags.is_empty() {
        return Ok(String::new());
    }
    let mut filters: BTreeMap<&str, BTreeMap<&str, bool>> = BTreeMap::new();
    for flag in flags {
        let (key, value) = flag
            .split_once('=')
            .ok_or_else(|| CliError::new(format!("invalid argument \"{flag}\" for \"-f, --filter\" flag: bad format of filter (expected name=value)")).with_code(125))?;
        filters.entry(key.trim()).or_default().insert(value.trim(), true);
    }
    Ok(escape(&serde_json::to_string(&filters)?))
}

/// `path` with the query parameters that have a value.
pub(crate) fn path(path: &str, parameters: &[(&str, &str)]) -> String {
    let query: Vec<String> = parameters
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_a_document() {
        assert_eq!(query(&["label=a=b".into()]).unwrap(), escape(r#"{"label":{"a=b":true}}"#));
        assert!(query(&["wrong".into()]).is_err());
        assert_eq!(path("/x", &[("a", "1"), ("b", "")]), "/x?a=1");
    }
}
