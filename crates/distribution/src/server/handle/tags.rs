//! Lists: the tags of a repository, the repositories of the registry.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::LINK;
use serde_json::json;

use super::{Reply, blocking, json as document, set};
use crate::server::Registry;
use crate::server::error::{Code, Refusal};
use crate::server::name::Repository;
use crate::server::route::{Query, encode};

/// How many names one answer holds when the client does not say, and at most.
const PAGE: usize = 10_000;

/// The part of sorted `names` that a query asks for, and the query of the next part.
fn page(names: Vec<String>, query: &Query) -> Result<(Vec<String>, Option<String>), Refusal> {
    let n = match query.get("n") {
        None => PAGE,
        Some(text) => text.parse::<usize>().map_err(|_| {
            Refusal::new(Code::PaginationNumberInvalid, "invalid number of results requested")
                .with_detail(json!({ "n": text }))
        })?,
    };
    let limit = n.min(PAGE);
    let last = query.get("last").unwrap_or_default();
    let start = names.partition_point(|name| !last.is_empty() && name.as_str() <= last);
    let left = names.len() - start;
    let part: Vec<String> = names.into_iter().skip(start).take(limit).collect();
    let next = part.last().filter(|_| left > limit).map(|last| format!("n={limit}&last={}", encode(last)));
    Ok((part, next))
}

pub(super) async fn list(registry: &Arc<Registry>, name: Repository, query: &Query) -> Reply {
    let tags = match &registry.proxy {
        Some(proxy) => proxy.tags(registry, &name).await?,
        None => local_tags(registry, &name).await?,
    };
    let Some(tags) = tags else {
        return Err(Refusal::new(Code::NameUnknown, "repository name not known to registry")
            .with_detail(json!({ "name": name.as_str() })));
    };
    let (tags, next) = page(tags, query)?;
    let mut response = document(StatusCode::OK, json!({ "name": name.as_str(), "tags": tags }).to_string());
    if let Some(next) = next {
        set(&mut response, LINK, &format!("</v2/{name}/tags/list?{next}>; rel=\"next\""));
    }
    Ok(response)
}

/// The tags that are kept here.
pub(crate) async fn local_tags(
    registry: &Arc<Registry>,
    name: &Repository,
) -> Result<Option<Vec<String>>, Refusal> {
    let (storage, name) = (registry.storage.clone(), name.clone());
    blocking("list tags", move || storage.tags(&name)).await
}

pub(super) async fn catalog(registry: &Arc<Registry>, query: &Query) -> Reply {
    let storage = registry.storage.clone();
    let names = blocking("list repositories", move || storage.repositories()).await?;
    let (names, next) = page(names.iter().map(ToString::to_string).collect(), query)?;
    let mut response = document(StatusCode::OK, json!({ "repositories": names }).to_string());
    if let Some(next) = next {
        set(&mut response, LINK, &format!("</v2/_catalog?{next}>; rel=\"next\""));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other() {
        let names: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        let page = |query: &str| page(names.clone(), &Query::parse(Some(query))).unwrap();
        assert_eq!(page(""), (names.clone(), None));
        assert_eq!(page("n=2"), (names[..2].to_vec(), Some("n=2&last=b".to_owned())));
        assert_eq!(page("n=2&last=b"), (names[2..].to_vec(), None));
        assert_eq!(page("n=3"), (names.clone(), None));
        assert_eq!(page("n=0"), (vec![], None));
        assert_eq!(page("last=bb"), (names[2..].to_vec(), None));
        assert!(super::page(names.clone(), &Query::parse(Some("n=x"))).is_err());
    }
}
