//! Which containers a list takes.

use std::collections::HashSet;

use regex::Regex;
use wharf_api::Filters;
use wharf_shim::protocol::Timestamp;

use super::ListOptions;
use crate::container::record::View;
use crate::container::spec::points::Point;
use crate::container::{Container, Containers};
use crate::error::{Error, Result};

const KEYS: [&str; 15] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
const HEALTH: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];

/// The options of a list, understood.
#[derive(Debug)]
pub(super) struct Selection<'a> {
    pub(super) limit: Option<usize>,
    all: bool,
    filters: &'a Filters,
    names: Vec<Regex>,
    ids: Vec<Regex>,
    exited: Vec<i32>,
    /// `None`: any image.
    images: Option<HashSet<String>>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    publish: Vec<Ports>,
    expose: Vec<Ports>,
}

/// A range of ports of one protocol.
#[derive(Debug, PartialEq, Eq)]
struct Ports {
    first: u16,
    last: u16,
    protocol: String,
}

impl<'a> Selection<'a> {
    /// Understands `options`, or says what of them makes no sense.
    pub(super) fn new(containers: &Containers, options: &'a ListOptions) -> Result<Self> {
        let filters = &options.filters;
        let refused = |error: wharf_api::filters::FilterError| Error::invalid(error.to_string());
        filters.check(&KEYS).map_err(refused)?;
        filters.boolean("is-task").map_err(refused)?;
        one_of(filters, "status", &STATES)?;
        one_of(filters, "health", &HEALTH)?;
        let limit = options.limit.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
        Ok(Self {
            limit,
            all: options.all || limit.is_some() || filters.contains("status"),
            filters,
            names: patterns(filters, "name"),
            ids: patterns(filters, "id"),
            exited: exited(filters)?,
            images: images(containers, filters),
            before: created(containers, filters, "before")?,
            since: created(containers, filters, "since")?,
            publish: ports(filters, "publish")?,
            expose: ports(filters, "expose")?,
        })
    }

    pub(super) fn takes(&self, containers: &Containers, container: &Container, view: &View) -> bool {
        let (record, state) = (&view.record, view.state());
        let labels = record.config.labels.as_ref();
        (self.all || state.is_active())
            && self.filters.exact("status", state.name())
            && matches_any(&self.ids, &[&record.id])
            && (self.names.is_empty()
                || matches_any(&self.names, &[&record.name, &format!("/{}", record.name)]))
            && labels.map_or(!self.filters.contains("label"), |labels| self.filters.labels("label", labels))
            && self.before.is_none_or(|before| record.created < before)
            && self.since.is_none_or(|since| record.created > since)
            && (self.exited.is_empty() || self.has_exited(view))
            && self.images.as_ref().is_none_or(|images| images.contains(&record.image_id))
            && !matches!(self.filters.boolean("is-task"), Ok(Some(true)))
            && self.health(container)
            && self.volume(&record.mounts)
            && self.network(containers, view)
            && self.ports(containers, view)
    }

    fn has_exited(&self, view: &View) -> bool {
        let run = view.state().last_run();
        !view.state().is_active() && run.started_at.is_some() && self.exited.contains(&run.code)
    }

    fn health(&self, container: &Container) -> bool {
        if !self.filters.contains("health") {
            return true;
        }
        let health = container.health();
        self.filters.exact("health", health.as_ref().map_or("none", |health| &health.status))
    }

    fn volume(&self, mounts: &[Point]) -> bool {
        let mut wanted = self.filters.get("volume").peekable();
        wanted.peek().is_none()
            || wanted.any(|wanted| {
                mounts.iter().any(|point| {
                    let source = if point.name.is_empty() { &point.source } else { &point.name };
                    source == wanted || point.destination == wanted
                })
            })
    }

    fn network(&self, containers: &Containers, view: &View) -> bool {
        if !self.filters.contains("network") {
            return true;
        }
        let settings = containers.shown(view, false).networks;
        settings.iter().any(|(name, one)| {
            self.filters.get("network").any(|wanted| {
                name == wanted || (!one.network_id.is_empty() && one.network_id.starts_with(wanted))
            })
        })
    }

    fn ports(&self, containers: &Containers, view: &View) -> bool {
        if self.publish.is_empty() && self.expose.is_empty() {
            return true;
        }
        let all = super::ports(&containers.shown(view, false).ports);
        let within = |ranges: &[Ports], port: u16, protocol: &str| {
            ranges
                .iter()
                .any(|range| range.protocol == protocol && (range.first..=range.last).contains(&port))
        };
        all.iter().any(|port| within(&self.publish, port.public_port, &port.r#type))
            || all.iter().any(|port| within(&self.expose, port.private_port, &port.r#type))
    }
}

fn one_of(filters: &Filters, key: &str, known: &[&str]) -> Result<()> {
    let Some(wrong) = filters.get(key).find(|value| !known.contains(value)) else { return Ok(()) };
    let kind = if key == "status" { "state" } else { key };
    Err(Error::invalid(format!(
        "invalid filter '{key}={wrong}': invalid value for {kind} ({wrong}): must be one of {}",
        known.join(", ")
    )))
}

/// The values of `key` as patterns; what is none matches itself only.
fn patterns(filters: &Filters, key: &str) -> Vec<Regex> {
    let pattern = |text: &str| Regex::new(text).or_else(|_| Regex::new(&regex::escape(text))).ok();
    filters.get(key).filter_map(pattern).collect()
}

fn matches_any(patterns: &[Regex], texts: &[&str]) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| texts.iter().any(|text| pattern.is_match(text)))
}

fn exited(filters: &Filters) -> Result<Vec<i32>> {
    let refused = |code: &str| {
        Error::invalid(format!(
            "invalid filter 'exited={code}': strconv.Atoi: parsing {code:?}: invalid syntax"
        ))
    };
    filters.get("exited").map(|code| code.parse().map_err(|_| refused(code))).collect()
}

fn images(containers: &Containers, filters: &Filters) -> Option<HashSet<String>> {
    let ancestors = || filters.get("ancestor");
    ancestors().next()?;
    Some(ancestors().flat_map(|ancestor| containers.descendants(ancestor)).collect())
}

fn created(containers: &Containers, filters: &Filters, key: &str) -> Result<Option<Timestamp>> {
    let mut found = None;
    for asked in filters.get(key) {
        found = Some(containers.find(asked)?.view().record.created);
    }
    Ok(found)
}

fn ports(filters: &Filters, key: &str) -> Result<Vec<Ports>> {
    filters.get(key).map(port_range).collect()
}

fn port_range(text: &str) -> Result<Ports> {
    let refused = || Error::invalid(format!("filter '{text}' does not name a port"));
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let first = first.parse().map_err(|_| refused())?;
    let last = last.parse().map_err(|_| refused())?;
    Ok(Ports { first, last, protocol: protocol.to_ascii_lowercase() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_single_or_ranges() {
        let ports = |first, last, protocol: &str| Ports { first, last, protocol: protocol.to_owned() };
        assert_eq!(port_range("80").unwrap(), ports(80, 80, "tcp"));
        assert_eq!(port_range("53/UDP").unwrap(), ports(53, 53, "udp"));
        assert_eq!(port_range("8000-8010/tcp").unwrap(), ports(8000, 8010, "tcp"));
        assert!(port_range("http").is_err());
    }

    #[test]
    fn names_match_as_patterns_or_as_they_are() {
        let filters = Filters::parse(r#"{"name":["^web","a("]}"#).unwrap();
        let patterns = patterns(&filters, "name");
        assert!(matches_any(&patterns, &["web1"]));
        assert!(matches_any(&patterns, &["a(b"]));
        assert!(!matches_any(&patterns, &["my-web"]));
    }
}
