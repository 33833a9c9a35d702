//! Query parameters and form bodies.

use wharf_api::Filters;
use wharf_engine::{Error, Result};

/// Parameters in the order given. Where a name comes several times, [`Query::get`] takes the first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads `a=b&c=d`, percent-encoded, `+` for blanks.
    pub(crate) fn parse(text: &str) -> Self {
        let mut query = Self::default();
        query.extend(text);
        query
    }

    /// Adds the pairs of a form body behind those that are there.
    pub(crate) fn extend(&mut self, text: &str) {
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            self.pairs.push((decode(name, true), decode(value, true)));
        }
    }

    /// The first value of `name`; empty when there is none.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.pairs.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// Whether `name` is given at all.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(key, _)| key == name)
    }

    /// All values of `name`.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        self.pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }

    /// The truth of `name`: everything but nothing, `0`, `no`, `false` and `none` is true.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.flag_or(name, false)
    }

    /// The same, with a truth for when it is not given.
    pub(crate) fn flag_or(&self, name: &str, default: bool) -> bool {
        if !self.has(name) {
            return default;
        }
        let value = self.get(name).trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// The number `name`; `None` when it is not given or empty. `500` as Docker answers, for want of a class there.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>> {
        let text = self.get(name);
        if text.is_empty() {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|_| Error::internal(format!("strconv.Atoi: parsing {text:?}: invalid syntax")))
    }

    /// The parameter `filters`.
    pub(crate) fn filters(&self) -> Result<Filters> {
        Filters::parse(self.get("filters")).map_err(|error| Error::invalid(error.to_string()))
    }
}

/// Undoes percent-encoding; bytes that are no UTF-8 become U+FFFD.
pub(crate) fn decode(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| *byte == b'%' || (plus && *byte == b'+')) {
        return text.to_owned();
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = || Some(16 * digit(*bytes.get(at + 1)?)? + digit(*bytes.get(at + 2)?)?);
        match bytes[at] {
            b'+' if plus => out.push(b' '),
            b'%' => match hex() {
                Some(byte) => {
                    out.push(byte);
                    at += 2;
                }
                None => out.push(b'%'),
            },
            other => out.push(other),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_and_flags_have_their_words() {
        let query = Query::parse("a=x%20y+z&b=None&c&d=anything&names=p&names=q&e=0&f=50%25%zz");
        assert_eq!(query.get("a"), "x y z");
        assert!(
            !query.flag("b")
                && !query.flag("c")
                && query.flag("d")
                && !query.flag("e")
                && !query.flag("missing")
        );
        assert!(query.flag_or("missing", true) && !query.flag_or("c", true));
        assert_eq!(query.all("names"), ["p", "q"]);
        assert_eq!(query.get("f"), "50%%zz");
        assert_eq!(
            query.number("a").unwrap_err().message(),
            "strconv.Atoi: parsing \"x y z\": invalid syntax"
        );
    }
}
