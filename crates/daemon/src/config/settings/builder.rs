//! `builder`: how much builds may keep on the disk.

use serde_json::{Map, Value};
use wharf_api::Filters;
use wharf_engine::build::{CachePolicy, PruneOptions};

use super::{Reader, SettingsError, bytes};

/// `builder.gc`.
pub(super) fn cache(values: &Reader) -> Result<CachePolicy, SettingsError> {
    let default = CachePolicy::default();
    let pairs = values.pairs("builder");
    let Some((_, Value::Object(gc))) = pairs.iter().find(|(name, _)| name == "gc") else {
        return Ok(default);
    };
    let rules = match gc.get("policy") {
        Some(Value::Array(rules)) => rules.iter().map(rule).collect::<Result<_, _>>()?,
        _ => Vec::new(),
    };
    Ok(CachePolicy {
        enabled: gc.get("enabled").and_then(Value::as_bool).unwrap_or(default.enabled),
        reserved: size(gc, &["defaultReservedSpace", "defaultKeepStorage"])?,
        most: size(gc, &["defaultMaxUsedSpace"])?,
        free: size(gc, &["defaultMinFreeSpace"])?,
        rules,
    })
}

fn rule(value: &Value) -> Result<PruneOptions, SettingsError> {
    let Value::Object(rule) = value else {
        return Err(SettingsError(format!("builder.gc.policy: {value} is no rule")));
    };
    let (mut filters, mut unused_for) = (Filters::default(), 0);
    for text in rule.get("filter").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        let (key, value) = text.split_once("==").or_else(|| text.split_once('=')).unwrap_or((text, "true"));
        match key {
            "unused-for" | "until" => {
                unused_for = duration(value)
                    .ok_or_else(|| SettingsError(format!("builder.gc.policy: invalid filter {text:?}")))?;
            }
            _ => filters.add(key, value),
        }
    }
    Ok(PruneOptions {
        all: rule.get("all").and_then(Value::as_bool).unwrap_or(false),
        filters,
        unused_for,
        reserved: size(rule, &["reservedSpace", "keepStorage"])?.unwrap_or(0),
        most: size(rule, &["maxUsedSpace"])?.unwrap_or(0),
        free: size(rule, &["minFreeSpace"])?.unwrap_or(0),
    })
}

/// The first of `names` that is there, in bytes.
fn size(object: &Map<String, Value>, names: &[&str]) -> Result<Option<u64>, SettingsError> {
    let Some((name, value)) = names.iter().find_map(|name| Some((name, object.get(*name)?))) else {
        return Ok(None);
    };
    let read = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) if text.is_empty() => return Ok(None),
        Value::String(text) => bytes(text).and_then(|size| u64::try_from(size).ok()),
        _ => None,
    };
    read.map(Some).ok_or_else(|| SettingsError(format!("builder.gc.{name}: invalid size: {value}")))
}

/// Seconds of hours, minutes and seconds: `48h`, `1h30m`.
fn duration(text: &str) -> Option<i64> {
    let (mut total, mut number) = (0_i64, String::new());
    for letter in text.chars() {
        let unit = match letter {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            digit if digit.is_ascii_digit() => {
                number.push(digit);
                continue;
            }
            _ => return None,
        };
        total += std::mem::take(&mut number).parse::<i64>().ok()?.checked_mul(unit)?;
    }
    number.is_empty().then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(gc: &str) -> Result<CachePolicy, SettingsError> {
        let value = serde_json::from_str(&format!("{{\"gc\": {gc}}}")).unwrap();
        cache(&Reader([("builder", value)].into()))
    }

    #[test]
    fn ceilings_and_rules_are_read() {
        let policy =
            of(r#"{"enabled": true, "defaultKeepStorage": "20GB", "defaultMaxUsedSpace": "1m"}"#).unwrap();
        assert_eq!((policy.reserved, policy.most, policy.free), (Some(20 << 30), Some(1 << 20), None));
        let policy = of(r#"{"policy": [{"keepStorage": "1k", "filter": ["unused-for=2h30m", "type==regular"]}, {"all": true, "maxUsedSpace": "5"}]}"#).unwrap();
        assert_eq!((policy.rules[0].unused_for, policy.rules[0].reserved), (9000, 1024));
        assert!(policy.rules[0].filters.contains("type") && policy.rules[1].all);
        assert_eq!(policy.rules(1).len(), 2);
        assert!(of(r#"{"defaultKeepStorage": "many"}"#).is_err());
    }
}
