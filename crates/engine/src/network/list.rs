//! Lists of networks.

use std::collections::BTreeMap;

use wharf_api::{Filters, Network};

use super::BUILT_IN;
use crate::error::{Error, Result};

pub(super) fn list(networks: &[Network], filters: &Filters) -> Result<Vec<Network>> {
    let known = ["dangling", "driver", "id", "label", "name", "scope", "type"];
    filters.check(&known).map_err(|error| Error::invalid(error.to_string()))?;
    let dangling = filters.boolean("dangling").map_err(|_| {
        Error::invalid(
            "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")",
        )
    })?;
    if let Some(kind) = filters.get("type").find(|kind| !matches!(*kind, "custom" | "builtin")) {
        return Err(Error::internal(format!("invalid filter: 'type'='{kind}'")));
    }
    let part = |key: &str, value: &str| {
        let mut words = filters.get(key).peekable();
        words.peek().is_none() || words.any(|word| value.contains(word))
    };
    let none = BTreeMap::new();
    let passes = |network: &&Network| {
        let kind = if BUILT_IN.contains(&network.name.as_str()) { "builtin" } else { "custom" };
        // A built-in network is never dangling.
        (dangling != Some(true) || kind == "custom")
            && filters.exact("driver", &network.driver)
            && filters.exact("scope", &network.scope)
            && filters.exact("type", kind)
            && part("id", &network.id)
            && part("name", &network.name)
            && filters.labels("label", network.labels.as_ref().unwrap_or(&none))
    };
    Ok(networks.iter().filter(passes).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(filters: &str) -> Result<Vec<String>> {
        let networks = super::super::Networks::open("wharf", std::path::Path::new("/tmp"));
        let found = networks.list(&Filters::parse(filters).unwrap())?;
        Ok(found.into_iter().map(|network| network.name).collect())
    }

    #[test]
    fn filters_are_dockers() {
        assert_eq!(names("").unwrap(), BUILT_IN);
        assert_eq!(names(r#"{"name":["o"],"driver":["host"]}"#).unwrap(), ["host"]);
        assert_eq!(names(r#"{"type":["custom"]}"#).unwrap(), Vec::<String>::new());
        assert_eq!(names(r#"{"scope":["x"]}"#).unwrap(), Vec::<String>::new());
        assert_eq!(names(r#"{"foo":["x"]}"#).unwrap_err().message(), "invalid filter 'foo'");
        assert_eq!(names(r#"{"type":["x"]}"#).unwrap_err().message(), "invalid filter: 'type'='x'");
        assert!(names(r#"{"dangling":["x"]}"#).is_err());
    }
}
