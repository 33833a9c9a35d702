//! Searching: the first version of Docker's registry API, which is all that there ever was for it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wharf_api::Filters;

use super::Images;
use crate::error::{Error, Result};

/// Found without a limit of the client's.
const USUAL: u32 = 25;
/// The most that an index is asked for.
const MOST: u32 = 100;
/// The most that is read of its answer, bytes.
const ANSWER_LIMIT: usize = 2 << 20;

/// An image that an index knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SearchResult {
    /// How many people like it.
    pub star_count: i64,
    /// Whether the index's owner made it.
    pub is_official: bool,
    /// Its name.
    pub name: String,
    /// Always false: nothing is built by indexes any more.
    #[serde(skip_deserializing)]
    pub is_automated: bool,
    /// In one line.
    #[serde(deserialize_with = "null_default")]
    pub description: String,
}

/// Where there is nothing to say, indexes say null.
fn null_default<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<String, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    results: Vec<SearchResult>,
}

/// What to leave out.
struct Wanted {
    official: Option<bool>,
    automated: Option<bool>,
    stars: i64,
}

impl Images {
    /// Asks the index of the settings for `term`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotImplemented`] without an index.
    pub async fn search(
        self: &Arc<Self>,
        term: &str,
        limit: Option<u32>,
        filters: &Filters,
    ) -> Result<Vec<SearchResult>> {
        let wanted = Wanted::read(filters)?;
        let limit = limit.filter(|limit| *limit > 0).unwrap_or(USUAL);
        if limit > MOST {
            return Err(Error::invalid(format!("limit {limit} is outside the range of [1, {MOST}]")));
        }
        let index = self.registries.search_index().ok_or_else(|| {
            Error::not_implemented(
                "there is no index to search: Wharf asks none by itself; name one with --search-index, or \"search-index\" \
                 in daemon.json",
            )
        })?;
        let term: String = url_words(term);
        let address = format!("{}/v1/search?q={term}&n={limit}", index.trim_end_matches('/'));
        let mut results = self.ask_index(&address).await?;
        results.retain(|result| wanted.takes(result));
        results.truncate(limit as usize);
        Ok(results)
    }

    async fn ask_index(&self, address: &str) -> Result<Vec<SearchResult>> {
        let mut remote = self.registries.client().fetch(address, None).await?;
        if !remote.status().is_success() {
            return Err(Error::internal(format!("Unexpected status code {}", remote.status().as_u16())));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = remote.chunk().await? {
            if bytes.len() + chunk.len() > ANSWER_LIMIT {
                return Err(Error::internal(format!("the index answers more than {ANSWER_LIMIT} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        let found: Found = serde_json::from_slice(&bytes)
            .map_err(|error| Error::internal(format!("error decoding search results: {error}")))?;
        Ok(found.results)
    }
}

impl Wanted {
    fn read(filters: &Filters) -> Result<Self> {
        filters.check(&["is-automated", "is-official", "stars"]).map_err(refused)?;
        let mut stars = 0;
        for text in filters.get("stars") {
            let count: i64 =
                text.parse().map_err(|_| Error::invalid(format!("invalid filter 'stars=[{text}]'")))?;
            stars = stars.max(count);
        }
        Ok(Self {
            official: filters.boolean("is-official").map_err(refused)?,
            automated: filters.boolean("is-automated").map_err(refused)?,
            stars,
        })
    }

    fn takes(&self, result: &SearchResult) -> bool {
        self.automated != Some(true)
            && self.official.is_none_or(|official| official == result.is_official)
            && result.star_count >= self.stars
    }
}

fn refused(error: wharf_api::filters::FilterError) -> Error {
    Error::invalid(error.to_string())
}

/// Text as a value in a query.
fn url_words(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out += &format!("%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_choose() {
        let result = |official, stars| SearchResult {
            is_official: official,
            star_count: stars,
            ..SearchResult::default()
        };
        let wanted = |text: &str| Wanted::read(&Filters::parse(text).unwrap());
        let both = wanted(r#"{"is-official":["true"],"stars":["3"]}"#).ok().unwrap();
        assert!(
            both.takes(&result(true, 3)) && !both.takes(&result(true, 2)) && !both.takes(&result(false, 9))
        );
        assert!(!wanted(r#"{"is-automated":["true"]}"#).ok().unwrap().takes(&result(true, 1)));
        assert!(wanted(r#"{"stars":["many"]}"#).is_err() && wanted(r#"{"colour":["red"]}"#).is_err());
        assert_eq!(url_words("a b/c&d"), "a%20b%2Fc%26d");
    }
}
