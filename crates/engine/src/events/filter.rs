//! Which events a listener wants, by Docker's rules (moby `daemon/events/filter.go`).

use wharf_api::Filters;
use wharf_oci::Reference;

use super::{Event, Kind};

/// Values by key: values of one key are alternatives (labels must all match), keys must all match. Keys that
/// Docker does not know match everything.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    filters: Filters,
}

impl From<Filters> for EventFilter {
    fn from(filters: Filters) -> Self {
        Self { filters }
    }
}

impl EventFilter {
    /// Whether the listener wants `event`.
    pub fn includes(&self, event: &Event) -> bool {
        self.action(event)
            && self.filters.exact("type", event.kind.name())
            && self.filters.exact("scope", "local")
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
            && self.filters.labels("label", &event.attributes)
    }

    fn asks_for(&self, key: &str) -> bool {
        self.filters.get(key).next().is_some()
    }

    /// Health and exec actions carry a detail after a colon; asking for the bare action means all of them.
    fn action(&self, event: &Event) -> bool {
        let bare = ["health_status", "exec_create", "exec_start"];
        if self.filters.get("event").any(|action| bare.contains(&action)) {
            return self.filters.prefix("event", &event.action);
        }
        self.filters.exact("event", &event.action)
    }

    /// By the start of an id or a name. Only events of that kind can match.
    fn named(&self, key: &str, event: &Event) -> bool {
        if !self.asks_for(key) {
            return true;
        }
        let name = event.attributes.get("name").map_or("", String::as_str);
        event.kind.name() == key && (self.filters.prefix(key, &event.id) || self.filters.prefix(key, name))
    }

    /// By an image's id or name, with or without tag; containers match by the image they were made from.
    fn image(&self, event: &Event) -> bool {
        if !self.asks_for("image") {
            return true;
        }
        let key = if event.kind == Kind::Image { "name" } else { "image" };
        let name = event.attributes.get(key).map_or("", String::as_str);
        let wanted = |name: &str| self.filters.exact("image", name);
        [event.id.as_str(), name].into_iter().any(|name| wanted(name) || wanted(&untagged(name)))
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
        let mut filters = Filters::default();
        for (key, values) in pairs {
            values.iter().for_each(|value| filters.add(*key, *value));
        }
        EventFilter::from(filters)
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
