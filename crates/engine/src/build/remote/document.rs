//! The documents of a cache: BuildKit's, with keys that only this engine's builds have.
//!
//! A record's digest is made of a step's key; its results are chains of layers. What others wrote has other digests, and is
//! never found. Two fields are this engine's own: `base` says which layers of a result came with a base image, and so are
//! here already wherever that key comes up; `made` lets a step be found that looks into what other steps make, where the
//! results of those were not written.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wharf_oci::{Descriptor, DiffId, Digest, Hasher};

/// The media type of a cache's config.
pub(super) const CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";
/// The largest document of a cache, bytes.
pub(super) const LIMIT: u64 = 8 << 20;
/// The longest chain of layers.
const DEPTH: usize = 500;

/// A cache's config.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct CacheConfig {
    #[serde(default)]
    pub(super) layers: Vec<CacheLayer>,
    #[serde(default)]
    pub(super) records: Vec<CacheRecord>,
}

/// A layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct CacheLayer {
    pub(super) blob: Digest,
    /// The layer below, where records name the topmost alone: here they name all.
    #[serde(default)]
    pub(super) parent: i64,
    #[serde(default)]
    pub(super) annotations: Option<LayerAnnotations>,
}

/// What is known of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LayerAnnotations {
    #[serde(default)]
    pub(super) media_type: String,
    #[serde(rename = "diffID")]
    pub(super) diff_id: DiffId,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) created_at: Option<String>,
}

/// A result of a step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct CacheRecord {
    pub(super) digest: Digest,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) chains: Vec<CacheChain>,
    /// Places in `layers` of the cache, not of the chain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) base: Vec<usize>,
    /// What the result was made of, and the key of the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) made: Option<Made>,
}

/// What a step's result was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Made {
    pub(super) of: Digest,
    pub(super) key: Digest,
}

/// A tree: its layers, base first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct CacheChain {
    pub(super) layers: Vec<usize>,
    #[serde(rename = "createdAt", default, skip_serializing_if = "Option::is_none")]
    pub(super) created_at: Option<String>,
}

/// The digest of a record: of a step's key and the number of its result.
pub(super) fn slot(key: &Digest, result: usize) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(format!("wharf build cache {key} {result}").as_bytes());
    hasher.finish()
}

/// A layer that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) blob: Descriptor,
    pub(super) diff_id: DiffId,
    /// Milliseconds since 1970.
    pub(super) created: i64,
}

/// What a cache has, checked as far as it can be without a layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) layers: Vec<Remote>,
    /// By slot: places in `layers`, and whether a layer came with a base image.
    pub(super) records: BTreeMap<Digest, Vec<(usize, bool)>>,
    /// Keys by what their results were made of.
    pub(super) recipes: BTreeMap<Digest, Digest>,
}

impl Known {
    /// Reads a config; `blobs` are the layers that its manifest names. What makes no sense is left out.
    pub(super) fn of(config: CacheConfig, blobs: &[Descriptor]) -> Self {
        let by_digest: BTreeMap<Digest, &Descriptor> = blobs.iter().map(|blob| (blob.digest, blob)).collect();
        let layers = config.layers.into_iter().map(|layer| {
            let annotations = layer.annotations?;
            let named = by_digest.get(&layer.blob).map(|blob| (*blob).clone());
            let blob = named.unwrap_or_else(|| Descriptor::new(&annotations.media_type, layer.blob, 0));
            let created = annotations.created_at.as_deref().and_then(milliseconds).unwrap_or_default();
            Some(Remote { blob, diff_id: annotations.diff_id, created })
        });
        Self::from_records(layers.collect(), config.records)
    }

    /// The records over layers; records that name a layer nothing is known of are left out.
    pub(super) fn from_records(layers: Vec<Option<Remote>>, records: Vec<CacheRecord>) -> Self {
        let mut known = Self::default();
        let mut places = Vec::with_capacity(layers.len());
        for layer in layers {
            places.push(layer.is_some().then_some(known.layers.len()));
            known.layers.extend(layer);
        }
        for record in records {
            let Some(chain) = record.chains.into_iter().next().filter(|chain| chain.layers.len() <= DEPTH)
            else {
                continue;
            };
            let place = |at: &usize| Some((places.get(*at).copied().flatten()?, record.base.contains(at)));
            let created = chain.created_at.as_deref().and_then(milliseconds);
            let Some(chain) = chain.layers.iter().map(place).collect::<Option<Vec<_>>>() else { continue };
            // The time of a result is that of its last layer: the history of an image need not have one for each.
            if let (Some(created), Some((last, false))) = (created, chain.last()) {
                known.layers[*last].created = created;
            }
            known.recipes.extend(record.made.map(|made| (made.of, made.key)));
            known.records.entry(record.digest).or_insert(chain);
        }
        known
    }
}

/// A time in text, milliseconds since 1970.
pub(super) fn milliseconds(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

/// A time as text.
pub(super) fn text(milliseconds: i64) -> Option<String> {
    Timestamp::from_millisecond(milliseconds).ok().map(|time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str) -> CacheLayer {
        let annotations = LayerAnnotations {
            media_type: "application/vnd.oci.image.layer.v1.tar+gzip".to_owned(),
            diff_id: DiffId(Digest::of(name.as_bytes())),
            size: 1,
            created_at: Some("2020-01-01T00:00:00.5Z".to_owned()),
        };
        CacheLayer { blob: Digest::of(b"blob"), parent: -1, annotations: Some(annotations) }
    }

    fn record(name: &str, layers: &[usize]) -> CacheRecord {
        let chains = vec![CacheChain { layers: layers.to_vec(), created_at: None }];
        CacheRecord { digest: Digest::of(name.as_bytes()), chains, base: vec![0], made: None }
    }

    #[test]
    fn a_config_comes_back_as_it_was_and_what_makes_no_sense_is_left_out() {
        let unknown = CacheLayer { annotations: None, ..layer("x") };
        let records = vec![
            record("good", &[0, 2]),
            record("no such layer", &[0, 9]),
            record("nothing is known of its layer", &[1]),
            record("too long", &vec![0; DEPTH + 1]),
            CacheRecord { chains: Vec::new(), ..record("none", &[]) },
        ];
        let config = CacheConfig { layers: vec![layer("a"), unknown, layer("b")], records };
        let bytes = serde_json::to_vec(&config).unwrap();
        let known = Known::of(serde_json::from_slice(&bytes).unwrap(), &[]);
        assert_eq!(known.layers.len(), 2);
        assert_eq!(known.layers[1].diff_id, DiffId(Digest::of(b"b")));
        assert_eq!(known.layers[1].created, milliseconds("2020-01-01T00:00:00.5Z").unwrap());
        let records: Vec<_> = known.records.into_iter().collect();
        assert_eq!(records, [(Digest::of(b"good"), vec![(0, true), (1, false)])]);
    }

    #[test]
    fn what_buildkit_writes_is_read_and_gives_nothing() {
        let digest = Digest::of(b"x");
        let text = format!(
            r#"{{"layers":[{{"blob":"{digest}","parent":-1,"annotations":{{"mediaType":"a","diffID":"{digest}","size":5,
            "createdAt":"2024-01-01T00:00:00Z"}}}}],"records":[{{"layers":[{{"layer":0,"createdAt":"2024-01-01T00:00:00Z"}}],
            "digest":"{digest}","inputs":[[{{"selector":"s","link":7}}]]}}]}}"#
        );
        let known = Known::of(serde_json::from_str(&text).unwrap(), &[]);
        assert_eq!((known.layers.len(), known.records.len()), (1, 0));
    }

    #[test]
    fn slots_differ_by_key_and_result() {
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        assert!(slot(&one, 0) != slot(&two, 0) && slot(&one, 0) != slot(&one, 1));
    }
}
