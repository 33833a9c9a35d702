//! Filters of lists and prunes.
//!
//! On the wire they are JSON, `{"label":{"a=b":true}}` or, from old clients, `{"label":["a=b"]}`. Values of one
//! key are alternatives (but for labels, all of which must match); keys all must match.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// A filter that makes no sense; all are answered with 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The parameter is not a filter document.
    #[error("invalid filter")]
    Syntax,
    /// A key that this list does not know.
    #[error("invalid filter '{0}'")]
    Key(String),
    /// A value that its key does not take.
    #[error("invalid filter '{key}={values}'")]
    Value {
        /// The key.
        key: String,
        /// All its values, as Go prints a list.
        values: String,
    },
}

/// A set of filters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters {
    keys: BTreeMap<String, BTreeSet<String>>,
}

impl Filters {
    /// Reads the query parameter `filters`; empty text is no filter.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let mut filters = Self::default();
        if text.is_empty() {
            return Ok(filters);
        }
        let document: BTreeMap<String, Value> =
            serde_json::from_str(text).map_err(|_| FilterError::Syntax)?;
        for (key, values) in document {
            let words: Vec<String> = match values {
                Value::Object(values) => {
                    if values.values().any(|wanted| !wanted.is_boolean()) {
                        return Err(FilterError::Syntax);
                    }
                    values
                        .into_iter()
                        .filter(|(_, wanted)| *wanted == Value::Bool(true))
                        .map(|(word, _)| word)
                        .collect()
                }
                Value::Array(values) => values
                    .into_iter()
                    .map(|value| value.as_str().map(str::to_owned).ok_or(FilterError::Syntax))
                    .collect::<Result<_, _>>()?,
                Value::Null => Vec::new(),
                _ => return Err(FilterError::Syntax),
            };
            filters.keys.entry(key).or_default().extend(words);
        }
        Ok(filters)
    }

    /// The filters as clients send them.
    pub fn to_json(&self) -> String {
        let document: BTreeMap<&String, BTreeMap<&String, bool>> = self
            .keys
            .iter()
            .map(|(key, values)| (key, values.iter().map(|value| (value, true)).collect()))
            .collect();
        serde_json::to_string(&document).unwrap_or_default()
    }

    /// Adds a value.
    pub fn add(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.keys.entry(key.into()).or_default().insert(value.into());
    }

    /// Refuses keys that are not in `known`.
    pub fn check(&self, known: &[&str]) -> Result<(), FilterError> {
        match self.keys.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(FilterError::Key(key.clone())),
            None => Ok(()),
        }
    }

    /// Whether there is no filter at all.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether there is a filter on `key`.
    pub fn contains(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// The values of `key`, sorted.
    pub fn get(&self, key: &str) -> impl Iterator<Item = &str> {
        self.keys.get(key).into_iter().flatten().map(String::as_str)
    }

    /// The one value of `key`; refuses several.
    pub fn single(&self, key: &str) -> Result<Option<&str>, FilterError> {
        let mut values = self.get(key);
        let first = values.next();
        if values.next().is_some() { Err(self.refuse(key)) } else { Ok(first) }
    }

    /// The truth that `key` asks for, `None` without such a filter.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, FilterError> {
        let Some(values) = self.keys.get(key) else { return Ok(None) };
        let truth = |word: &str| values.contains(word);
        match (truth("1") || truth("true"), truth("0") || truth("false")) {
            (true, false) => Ok(Some(true)),
            (false, true) => Ok(Some(false)),
            _ => Err(self.refuse(key)),
        }
    }

    /// The error for a value of `key` that makes no sense.
    pub fn refuse(&self, key: &str) -> FilterError {
        let values: Vec<&str> = self.get(key).collect();
        FilterError::Value { key: key.to_owned(), values: format!("[{}]", values.join(" ")) }
    }

    /// Whether `value` is one of `key`'s; true without such a filter.
    pub fn exact(&self, key: &str, value: &str) -> bool {
        self.keys.get(key).is_none_or(|values| values.is_empty() || values.contains(value))
    }

    /// Whether one of `key`'s values starts `value`; true without such a filter.
    pub fn prefix(&self, key: &str, value: &str) -> bool {
        self.keys.get(key).is_none_or(|values| {
            values.is_empty() || values.iter().any(|word| value.starts_with(word.as_str()))
        })
    }

    /// Whether `labels` carry all labels that `key` asks for (`name` or `name=value`).
    pub fn labels(&self, key: &str, labels: &BTreeMap<String, String>) -> bool {
        self.get(key).all(|wanted| has_label(labels, wanted))
    }

    /// What `label` and `label!` ask for together, as in prunes.
    pub fn labels_and_not(&self, labels: &BTreeMap<String, String>) -> bool {
        let refused = self.contains("label!") && self.labels("label!", labels);
        self.labels("label", labels) && !refused
    }
}

fn has_label(labels: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((name, value)) => labels.get(name).is_some_and(|found| found == value),
        None => labels.contains_key(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_encodings_are_read() {
        let new = Filters::parse(r#"{"label":{"a":true,"b=c":true,"no":false}}"#).unwrap();
        let old = Filters::parse(r#"{"label":["a","b=c"]}"#).unwrap();
        assert_eq!(new, old);
        assert_eq!(Filters::parse(&new.to_json()), Ok(new));
        assert_eq!(Filters::parse("{x").unwrap_err(), FilterError::Syntax);
        assert_eq!(Filters::parse(r#"{"a":"b"}"#).unwrap_err(), FilterError::Syntax);
    }

    #[test]
    fn unknown_keys_and_values_are_refused_by_name() {
        let filters = Filters::parse(r#"{"dangling":["maybe","true"],"zz":["1"]}"#).unwrap();
        assert_eq!(filters.check(&["dangling"]).unwrap_err().to_string(), "invalid filter 'zz'");
        let filters = Filters::parse(r#"{"dangling":["maybe"]}"#).unwrap();
        assert_eq!(filters.boolean("dangling").unwrap_err().to_string(), "invalid filter 'dangling=[maybe]'");
    }

    #[test]
    fn all_labels_must_match() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
        let matches = |text| Filters::parse(text).unwrap().labels_and_not(&labels);
        assert!(matches(r#"{"label":["a","b=2"]}"#));
        assert!(!matches(r#"{"label":["a","b=3"]}"#));
        assert!(!matches(r#"{"label!":["a"]}"#));
        assert!(matches(r#"{"label!":["c"]}"#));
    }
}
