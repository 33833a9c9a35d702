//! The list of images and its filters.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use wharf_api::{Filters, ImageSummary};
use wharf_oci::{ChainId, Digest, Reference};
use wharf_store::Image;

use super::Images;
use super::history::{moment, unix};
use super::inspect::size;
use crate::error::{Error, Result};
use crate::events::parse_timestamp;

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Intermediate images too.
    pub all: bool,
    /// Compute what is shared with other images.
    pub shared_size: bool,
    /// What was received, and each platform in it.
    pub manifests: bool,
    /// As clients send them.
    pub filters: Filters,
}

const FILTERS: [&str; 7] = ["before", "dangling", "label", "label!", "reference", "since", "until"];

impl Images {
    /// The images that pass the filters, newest first.
    pub async fn list(self: &Arc<Self>, options: ListOptions) -> Result<Vec<ImageSummary>> {
        self.run(move |images| images.select(&options)).await
    }

    fn select(&self, options: &ListOptions) -> Result<Vec<ImageSummary>> {
        let filters = &options.filters;
        filters.check(&FILTERS).map_err(invalid)?;
        let dangling = filters.boolean("dangling").map_err(invalid)?;
        let window = self.window(filters)?;
        let patterns: Vec<&str> = filters.get("reference").collect();
        for pattern in &patterns {
            glob(pattern, "").map_err(Error::invalid)?;
        }
        let all = self.store.images();
        let parents: HashSet<Digest> = all.iter().filter_map(|image| image.parent).collect();
        let names = self.names_by_image();
        let users = self.users();
        let shared = options.shared_size.then(|| shared_layers(&all));
        let mut list = Vec::new();
        for image in &all {
            let created = moment(image.created.as_deref());
            if !window.contains(created) || !filters.labels_and_not(&image.labels) {
                continue;
            }
            let known: &[Reference] = names.get(&image.id).map_or(&[], Vec::as_slice);
            let shown: Vec<&Reference> = known.iter().filter(|name| matches(&patterns, name)).collect();
            let is_parent = parents.contains(&image.id);
            if is_parent && !options.all && known.is_empty()
                || !passes(&shown, dangling, &patterns, is_parent && !options.all)
            {
                continue;
            }
            let id = image.id.to_string();
            let of = |digest: bool| {
                shown
                    .iter()
                    .filter(|name| name.digest().is_some() == digest)
                    .map(|name| name.familiar())
                    .collect()
            };
            let summary = ImageSummary {
                containers: users
                    .iter()
                    .filter(|user| user.image == id && !user.mounted)
                    .count()
                    .try_into()
                    .unwrap_or(i64::MAX),
                created: unix(image.created.as_deref()),
                descriptor: options.manifests.then(|| image.target.clone()),
                labels: (!image.labels.is_empty()).then(|| image.labels.clone()),
                manifests: options.manifests.then(|| vec![self.manifest(image)]),
                parent_id: image.parent.map(|parent| parent.to_string()).unwrap_or_default(),
                repo_digests: of(true),
                repo_tags: of(false),
                shared_size: shared.as_ref().map_or(-1, |shared| shared_size(image, shared)),
                size: size(image),
                id,
            };
            list.push((created, summary));
        }
        list.sort_by(|(made, one), (other_made, other)| {
            other_made.cmp(made).then_with(|| one.id.cmp(&other.id))
        });
        Ok(list.into_iter().map(|(_, summary)| summary).collect())
    }

    fn names_by_image(&self) -> HashMap<Digest, Vec<Reference>> {
        let mut names: HashMap<Digest, Vec<Reference>> = HashMap::new();
        for (name, target) in self.store.names() {
            names.entry(target.image).or_default().push(name);
        }
        names
    }

    fn window(&self, filters: &Filters) -> Result<Window> {
        let mut window = Window::default();
        for name in filters.get("before") {
            window.before = Some(self.created_at(name)?);
        }
        for name in filters.get("since") {
            window.since = Some(self.created_at(name)?);
        }
        for until in filters.get("until") {
            let until = until_time(until)?;
            window.until = Some(window.until.map_or(until, |earlier| earlier.min(until)));
        }
        Ok(window)
    }

    fn created_at(&self, name: &str) -> Result<Timestamp> {
        Ok(moment(self.resolve(name)?.created.as_deref()))
    }
}

/// Which times of making are wanted.
#[derive(Debug, Default)]
struct Window {
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Window {
    fn contains(&self, created: Timestamp) -> bool {
        self.before.is_none_or(|before| created < before)
            && self.since.is_none_or(|since| created > since)
            && self.until.is_none_or(|until| created <= until)
    }
}

/// Docker's rules for images without names and for `dangling`.
fn passes(shown: &[&Reference], dangling: Option<bool>, patterns: &[&str], hidden: bool) -> bool {
    if shown.is_empty() {
        return !hidden && dangling != Some(false) && patterns.is_empty();
    }
    let tagged = shown.iter().any(|name| name.digest().is_none());
    !(dangling == Some(true) && tagged)
}

fn matches(patterns: &[&str], name: &Reference) -> bool {
    let hits = |pattern: &&str| {
        [name.familiar(), name.familiar_name()].iter().any(|text| glob(pattern, text).unwrap_or(false))
    };
    patterns.is_empty() || patterns.iter().any(hits)
}

/// How many images have each layer chain, and what its top layer takes.
fn shared_layers(images: &[Arc<Image>]) -> BTreeMap<ChainId, u64> {
    let mut counts: HashMap<ChainId, (u64, u32)> = HashMap::new();
    for image in images {
        for (chain, layer) in ChainId::chain(&image.diff_ids()).into_iter().zip(&image.layers) {
            counts.entry(chain).or_insert((layer.size, 0)).1 += 1;
        }
    }
    counts.into_iter().filter(|(_, (_, count))| *count > 1).map(|(chain, (size, _))| (chain, size)).collect()
}

fn shared_size(image: &Image, shared: &BTreeMap<ChainId, u64>) -> i64 {
    let chain = ChainId::chain(&image.diff_ids());
    chain.iter().filter_map(|id| shared.get(id)).sum::<u64>().try_into().unwrap_or(i64::MAX)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn invalid(error: wharf_api::filters::FilterError) -> Error {
    Error::invalid(error.to_string())
}

/// `until` of lists and prunes: a time or a duration before now.
pub(crate) fn until_time(text: &str) -> Result<Timestamp> {
    let refuse = || Error::invalid(format!("failed to parse value as time or duration: {text:?}"));
    if let Some(ago) = go_duration(text) {
        return Timestamp::now().checked_sub(SignedDuration::from_secs(ago)).map_err(|_| refuse());
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(Some(nanos)) = parse_timestamp(text) {
        return Timestamp::from_nanosecond(i128::from(nanos)).map_err(|_| refuse());
    }
    let midnight =
        text.parse::<jiff::civil::DateTime>().or_else(|_| text.parse::<jiff::civil::Date>().map(Into::into));
    let zoned =
        midnight.map_err(|_| refuse())?.to_zoned(jiff::tz::TimeZone::system()).map_err(|_| refuse())?;
    Ok(zoned.timestamp())
}

/// Seconds of a Go duration such as `1h30m`; none if it is not one.
fn go_duration(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total = 0.0_f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number
            * match &rest[..end] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[end..];
    }
    #[expect(clippy::cast_possible_truncation, reason = "saturates")]
    Some(total as i64)
}

/// Go's `path.Match`: `*` and `?` stop at slashes, `[…]` is a class.
pub(super) fn glob(pattern: &str, text: &str) -> Result<bool, &'static str> {
    const SYNTAX: &str = "syntax error in pattern";
    let mut regex = String::from("^(?:");
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' => regex.push_str("[^/]*"),
            '?' => regex.push_str("[^/]"),
            '\\' => regex.push_str(&regex::escape(&chars.next().ok_or(SYNTAX)?.to_string())),
            '[' => {
                regex.push('[');
                let mut first = true;
                loop {
                    match chars.next().ok_or(SYNTAX)? {
                        ']' if !first => break,
                        '^' if first => regex.push('^'),
                        '\\' => regex.push_str(&regex::escape(&chars.next().ok_or(SYNTAX)?.to_string())),
                        c @ ('[' | '&' | '~' | ']') => regex.extend(['\\', c]),
                        c => regex.push(c),
                    }
                    first = false;
                }
                regex.push(']');
            }
            c => regex.push_str(&regex::escape(&c.to_string())),
        }
    }
    regex.push_str(")$");
    Ok(regex::Regex::new(&regex).map_err(|_| SYNTAX)?.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_gos_do() {
        assert_eq!(glob("busy*", "busybox"), Ok(true));
        assert_eq!(glob("*", "a/b"), Ok(false));
        assert_eq!(glob("*/*:1.?", "a/b:1.2"), Ok(true));
        assert_eq!(glob("[a-c]x", "bx"), Ok(true));
        assert!(glob("[a", "").is_err());
    }

    #[test]
    fn durations_are_gos() {
        assert_eq!(go_duration("1h30m"), Some(5400));
        assert_eq!(go_duration("1.5s"), Some(1));
        assert_eq!(go_duration("10"), None);
        assert_eq!(go_duration("x"), None);
    }
}
