//! Which events a listener wants, by Docker's rules (moby `daemon/events/filter.go`).

use std::collections::{BTreeMap, BTreeSet};

use wharf_oci::Reference;

use super::{Event, Kind};

/// Values by key: values of one key are alternatives (labels must all match), keys must all match. Keys that
/// Docker does not know match everything.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    values: BTreeMap<String, BTreeSet<String>>,
}

impl EventFilter {
    /// A filter from the API's `filters`.
    pub fn new<K, V, S>(filters: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<String>,
        V: IntoIterator<Item = S>,
        S: Into<String>,
    {
        let set = |values: V| values.into_iter().map(Into::into).collect();
        Self { values: filters.into_iter().map(|(key, values)| (key.into(), set(values))).collect() }
    }

    /// Whether the listener wants `event`.
    pub fn includes(&self, event: &Event) -> bool {
        self.action(event)
            && self.exact("type", event.kind.name())
            && self.exact("scope", "local")
            && self.named("daemon", event)
            && self.named("container", event)
            && self.named("plugin", event)
            && self.named("volume", event)
            && self.named("network", event)
            && self.named("node", event)
            && self.named("service", event)
            && self.named("secret", event)
            && self.named("config", event)
            && self.image(event)
            && self.labels(&event.attributes)
    }

    fn of(&self, key: &str) -> Option<&BTreeSet<String>> {
        self.values.get(key).filter(|values| !values.is_empty())
    }

    fn exact(&self, key: &str, value: &str) -> bool {
        self.of(key).is_none_or(|wanted| wanted.contains(value))
    }

    fn prefix(&self, key: &str, value: &str) -> bool {
        self.of(key).is_none_or(|wanted| wanted.iter().any(|start| value.starts_with(start)))
    }

    /// Health and exec actions carry a detail after a colon; asking for the bare action means all of them.
    fn action(&self, event: &Event) -> bool {
        let Some(wanted) = self.of("event") else { return true };
        let bare = ["health_status", "exec_create", "exec_start"];
        if bare.iter().any(|action| wanted.contains(*action)) {
            return self.prefix("event", &event.action);
        }
        wanted.contains(&event.action)
    }

    /// By the start of an id or a name. Only events of that kind can match.
    fn named(&self, key: &str, event: &Event) -> bool {
        if self.of(key).is_none() {
            return true;
        }
        let name = event.attributes.get("name").map_or("", String::as_str);
        event.kind.name() == key && (self.prefix(key, &event.id) || self.prefix(key, name))
    }

    /// By an image's id or name, with or without tag; containers match by the image they were made from.
    fn image(&self, event: &Event) -> bool {
        let Some(wanted) = self.of("image") else { return true };
        let key = if event.kind == Kind::Image { "name" } else { "image" };
        let name = event.attributes.get(key).map_or("", String::as_str);
        [event.id.as_str(), name]
            .into_iter()
            .any(|name| wanted.contains(name) || wanted.contains(&untagged(name)))
    }

    fn labels(&self, attributes: &BTreeMap<String, String>) -> bool {
        let Some(wanted) = self.of("label") else { return true };
        wanted.iter().all(|label| match label.split_once('=') {
            Some((key, value)) => attributes.get(key).is_some_and(|present| present == value),
            None => attributes.contains_key(label),
        })
    }
}

/// The familiar name without tag and digest; the text itself where it is not a reference.
fn untagged(name: &str) -> String {
    Reference::parse(name).map_or_else(|_| name.to_owned(), |reference| reference.familiar_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: Kind, action: &str, id: &str, attributes: &[(&str, &str)]) -> Event {
        let attributes = attributes.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        Event { sequence: 1, time: 0, kind, action: action.into(), id: id.into(), attributes }
    }

    fn filter(pairs: &[(&str, &[&str])]) -> EventFilter {
        EventFilter::new(pairs.iter().map(|(key, values)| (*key, values.iter().copied())))
    }

    #[test]
    fn details_after_a_colon_match_by_the_bare_action() {
        let exec = event(Kind::Container, "exec_create: true ", "c", &[]);
        assert!(filter(&[("event", &["exec_create"])]).includes(&exec));
        assert!(filter(&[("event", &["die", "exec_create: true "])]).includes(&exec));
        assert!(!filter(&[("event", &["exec"])]).includes(&exec));
        assert!(!filter(&[("event", &["exec_start"])]).includes(&exec));
    }

    #[test]
    fn objects_match_by_the_start_of_id_or_name() {
        let start = event(Kind::Container, "start", "abcdef", &[("name", "web1")]);
        assert!(filter(&[("container", &["abc"])]).includes(&start));
        assert!(filter(&[("container", &["web"])]).includes(&start));
        assert!(!filter(&[("container", &["b"])]).includes(&start));
        assert!(!filter(&[("network", &["abc"])]).includes(&start));
        let connect = event(Kind::Network, "connect", "abcdef", &[("name", "web1")]);
        assert!(!filter(&[("container", &["abc"])]).includes(&connect));
    }

    #[test]
    fn images_match_with_and_without_tag() {
        let start = event(Kind::Container, "start", "c", &[("image", "busybox:1.36")]);
        assert!(filter(&[("image", &["busybox"])]).includes(&start));
        assert!(filter(&[("image", &["busybox:1.36"])]).includes(&start));
        assert!(!filter(&[("image", &["busybox:1.37"])]).includes(&start));
        let tag = event(Kind::Image, "tag", "sha256:00", &[("name", "host:5000/a/b:v1")]);
        assert!(filter(&[("image", &["host:5000/a/b"])]).includes(&tag));
    }

    #[test]
    fn labels_must_all_match_and_unknown_keys_do_not_count() {
        let start = event(Kind::Container, "start", "c", &[("a", "1"), ("b", "")]);
        assert!(filter(&[("label", &["a=1", "b"])]).includes(&start));
        assert!(!filter(&[("label", &["a=1", "c"])]).includes(&start));
        assert!(filter(&[("bogus", &["x"])]).includes(&start));
        assert!(filter(&[("type", &["image", "container"]), ("scope", &["local"])]).includes(&start));
        assert!(!filter(&[("type", &["image"])]).includes(&start));
    }
}
