//! Where a container's output goes: from Docker's driver names and options to what a supervisor takes.

use std::collections::BTreeMap;

use wharf_shim::protocol::LogConfig;

use super::record::Record;
use crate::config::EngineConfig;

/// Bytes after which a log is rotated where nothing else is asked for.
const MAX_SIZE: u64 = 20_000_000;
/// How many files are kept then.
const MAX_FILE: u32 = 5;

/// What the supervisor of `record` is told about its log. Options were checked at create.
pub(super) fn of(config: &EngineConfig, record: &Record) -> LogConfig {
    let asked = &record.host_config.log_config;
    let Some(path) = config.log_path(&record.id, &asked.r#type) else { return LogConfig::None };
    let empty = BTreeMap::new();
    let options = asked.config.as_ref().unwrap_or(&empty);
    let max_size = match options.get("max-size").map(String::as_str) {
        None => Some(MAX_SIZE),
        Some("-1") => None,
        Some(text) => size(text).filter(|bytes| *bytes > 0).or(Some(MAX_SIZE)),
    };
    let max_file = match options.get("max-file").and_then(|text| text.parse().ok()) {
        Some(files) => u32::max(files, 1),
        // As Docker does: who sets a size alone keeps one file.
        None if options.contains_key("max-size") && asked.r#type == "json-file" => 1,
        None => MAX_FILE,
    };
    if asked.r#type == "local" {
        return LogConfig::Local { path, max_size, max_file };
    }
    LogConfig::JsonFile { path, max_size, max_file, attrs: attributes(options, record) }
}

/// Whether the rotated files of `record`'s log are compressed; the default is each driver's own, as in Docker.
pub(super) fn compresses(record: &Record) -> bool {
    let asked = &record.host_config.log_config;
    let option = asked.config.as_ref().and_then(|options| options.get("compress"));
    let option = option.map(|text| matches!(text.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"));
    match asked.r#type.as_str() {
        "json-file" => option.unwrap_or(false),
        "local" => option.unwrap_or(true),
        _ => false,
    }
}

/// A size as people write it: digits and an optional `k`, `m` or `g`, powers of 1000.
pub(super) fn size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let text = text.strip_suffix('b').unwrap_or(&text);
    let (digits, unit) = match text.as_bytes().last()? {
        b'k' => (&text[..text.len() - 1], 1_000.0),
        b'm' => (&text[..text.len() - 1], 1e6),
        b'g' => (&text[..text.len() - 1], 1e9),
        b't' => (&text[..text.len() - 1], 1e12),
        _ => (text, 1.0),
    };
    let number: f64 = digits.trim().parse().ok()?;
    let bytes = number * unit;
    // Saturates, and nobody's log reaches that.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be positive and finite"
    )]
    (bytes.is_finite() && bytes >= 0.0).then_some(bytes as u64)
}

/// The labels and variables that every line carries, as the options `labels`, `env` and `tag` choose them.
fn attributes(options: &BTreeMap<String, String>, record: &Record) -> BTreeMap<String, String> {
    let mut chosen = BTreeMap::new();
    let words =
        |name: &str| options.get(name).map(|list| list.split(',').collect::<Vec<_>>()).unwrap_or_default();
    let labels = record.config.labels.iter().flatten();
    let wanted = words("labels");
    let pattern = |name: &str| options.get(name).and_then(|text| regex::Regex::new(text).ok());
    let (label_pattern, env_pattern) = (pattern("labels-regex"), pattern("env-regex"));
    for (name, value) in labels {
        let matched = label_pattern.as_ref().is_some_and(|pattern| pattern.is_match(name));
        if matched || wanted.contains(&name.as_str()) {
            chosen.insert(name.clone(), value.clone());
        }
    }
    let wanted = words("env");
    for variable in record.config.env.iter().flatten() {
        let Some((name, value)) = variable.split_once('=') else { continue };
        let matched = env_pattern.as_ref().is_some_and(|pattern| pattern.is_match(name));
        if matched || wanted.contains(&name) {
            chosen.insert(name.to_owned(), value.to_owned());
        }
    }
    if let Some(tag) = options.get("tag") {
        chosen.insert("tag".to_owned(), expand(tag, record));
    }
    chosen
}

/// A tag with Docker's placeholders filled in.
fn expand(tag: &str, record: &Record) -> String {
    let image_id = record.image_id.strip_prefix("sha256:").unwrap_or(&record.image_id);
    let known = [
        ("{{.ID}}", record.short_id()),
        ("{{.FullID}}", &record.id),
        ("{{.Name}}", &record.name),
        ("{{.ImageID}}", &image_id[..12.min(image_id.len())]),
        ("{{.ImageFullID}}", &record.image_id),
        ("{{.ImageName}}", &record.config.image),
        ("{{.DaemonName}}", "docker"),
    ];
    known.iter().fold(tag.to_owned(), |text, (placeholder, value)| text.replace(placeholder, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_decimal() {
        assert_eq!(size("10m"), Some(10_000_000));
        assert_eq!(size("1.5k"), Some(1_500));
        assert_eq!(size("2GB"), Some(2_000_000_000));
        assert_eq!(size("17"), Some(17));
        assert_eq!(size("x"), None);
        assert_eq!(size(""), None);
    }
}
