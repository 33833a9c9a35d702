//! Lists of networks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use wharf_api::{Filters, Network};

use super::{BUILT_IN, Networks};
use crate::error::{Error, Result};

impl Networks {
    /// All networks that pass the filters, without their containers.
    ///
    /// # Errors
    /// Invalid, for filters that are none.
    pub async fn list(self: &Arc<Self>, filters: &Filters) -> Result<Vec<Network>> {
        // What is known can be told whatever the kernel refuses.
        if let Err(error) = self.ready().await {
            tracing::warn!("{error}");
        }
        let state = self.state();
        let networks: Vec<Network> = state.known.values().map(|known| known.document().clone()).collect();
        let used: BTreeSet<&str> = state
            .sandboxes
            .values()
            .flat_map(|sandbox| sandbox.endpoints.iter().map(|endpoint| endpoint.network.as_str()))
            .collect();
        filtered(&networks, &used, filters)
    }
}

fn filtered(networks: &[Network], used: &BTreeSet<&str>, filters: &Filters) -> Result<Vec<Network>> {
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
        let is_dangling = kind == "custom" && !used.contains(network.id.as_str());
        dangling.is_none_or(|wanted| wanted == is_dangling || (!wanted && kind == "builtin"))
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
    use super::super::testing;
    use super::*;
    use crate::config::EngineConfig;

    fn names(filters: &str) -> Result<Vec<String>> {
        let (_folder, networks) = testing::networks(EngineConfig::default());
        let all: Vec<Network> =
            networks.state().known.values().map(|known| known.document().clone()).collect();
        let found = filtered(&all, &BTreeSet::new(), &Filters::parse(filters).unwrap())?;
        let mut names: Vec<String> = found.into_iter().map(|network| network.name).collect();
        names.sort();
        Ok(names)
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
