//! The route table: every method and path of the API, and who answers.

use std::pin::Pin;

use hyper::Method;
use wharf_engine::Result;

use crate::buildkit;
use crate::http::answer::Answer;
use crate::http::call::Call;
use crate::routes::{absent, build, container, exec, files, image, io, network, system, volume};

/// What answers a route.
pub(crate) type Handler = fn(Call) -> Pin<Box<dyn Future<Output = Result<Answer>> + Send>>;

/// How a request is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Dropped when its client goes away.
    Read,
    /// Finished whether or not its client is still there.
    Change,
    /// Like `Read`; its body is data, never parameters.
    Body,
}

/// One route. In patterns, `{x}` is one part of a path, `{x*}` any number of them.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) pattern: &'static str,
    pub(crate) kind: Kind,
    pub(crate) handler: Handler,
}

macro_rules! routes {
    ($($method:ident $pattern:literal $kind:ident $handler:path;)*) => {
        &[$(Route {
            method: Method::$method,
            pattern: $pattern,
            kind: Kind::$kind,
            handler: |call| Box::pin($handler(call)),
        }),*]
    };
}

/// All routes; the first that matches answers, so that fixed paths stand before those with placeholders.
pub(crate) static TABLE: &[Route] = routes! {
    HEAD "/_ping" Read system::ping;
    GET "/_ping" Read system::ping;
    GET "/version" Read system::version;
    GET "/info" Read system::info;
    GET "/events" Read system::events;
    GET "/system/df" Read system::disk_usage;
    POST "/system/check" Change system::check;
    POST "/auth" Read system::auth;

    GET "/containers/json" Read container::list;
    POST "/containers/create" Change container::create;
    POST "/containers/prune" Change container::prune;
    GET "/containers/{id*}/json" Read container::inspect;
    GET "/containers/{id*}/reach" Read network::reach;
    GET "/containers/{id*}/top" Read container::top;
    GET "/containers/{id*}/logs" Read container::logs;
    GET "/containers/{id*}/changes" Read files::changes;
    GET "/containers/{id*}/export" Read files::export;
    GET "/containers/{id*}/stats" Read container::stats;
    POST "/containers/{id*}/resize" Change container::resize;
    POST "/containers/{id*}/start" Change container::start;
    POST "/containers/{id*}/stop" Change container::stop;
    POST "/containers/{id*}/restart" Change container::restart;
    POST "/containers/{id*}/kill" Change container::kill;
    POST "/containers/{id*}/update" Change container::update;
    POST "/containers/{id*}/rename" Change container::rename;
    POST "/containers/{id*}/pause" Change container::pause;
    POST "/containers/{id*}/unpause" Change container::unpause;
    POST "/containers/{id*}/attach" Body io::attach;
    GET "/containers/{id*}/attach/ws" Read io::attach_websocket;
    POST "/containers/{id*}/wait" Read container::wait;
    HEAD "/containers/{id*}/archive" Read files::stat_path;
    GET "/containers/{id*}/archive" Read files::get_archive;
    PUT "/containers/{id*}/archive" Body files::put_archive;
    GET "/containers/{id*}/checkpoints" Read absent::checkpoints;
    POST "/containers/{id*}/checkpoints" Read absent::checkpoints;
    DELETE "/containers/{id}/checkpoints/{checkpoint}" Read absent::checkpoints;
    DELETE "/containers/{id*}" Change container::remove;
    POST "/commit" Change files::commit;

    POST "/containers/{id*}/exec" Change exec::create;
    POST "/exec/{id}/start" Read io::start_exec;
    POST "/exec/{id}/resize" Change exec::resize;
    GET "/exec/{id}/json" Read exec::inspect;

    GET "/images/json" Read image::list;
    GET "/images/search" Read image::search;
    GET "/images/get" Read image::save_many;
    GET "/images/{name*}/get" Read image::save;
    GET "/images/{name*}/json" Read image::inspect;
    GET "/images/{name*}/history" Read image::history;
    GET "/images/{name*}/attestations" Read image::attestations;
    POST "/images/load" Body image::load;
    POST "/images/create" Body image::create;
    POST "/images/bootstrap" Read image::bootstrap;
    POST "/images/prune" Change image::prune;
    POST "/images/{name*}/push" Read image::push;
    POST "/images/{name*}/tag" Change image::tag;
    DELETE "/images/{name*}" Change image::remove;
    GET "/distribution/{name*}/json" Read image::distribution;

    POST "/build" Body build::build;
    POST "/build/prune" Change build::prune;
    POST "/build/cancel" Change build::cancel;
    POST "/session" Read buildkit::session;
    POST "/grpc" Read buildkit::grpc;

    GET "/networks" Read network::list;
    GET "/networks/" Read network::list;
    POST "/networks/create" Change network::create;
    POST "/networks/prune" Change network::prune;
    POST "/networks/{id*}/connect" Change network::connect;
    POST "/networks/{id*}/disconnect" Change network::disconnect;
    POST "/networks/{id*}/update" Change network::update;
    GET "/networks/{id*}" Read network::inspect;
    DELETE "/networks/{id*}" Change network::remove;

    GET "/volumes" Read volume::list;
    POST "/volumes/create" Change volume::create;
    POST "/volumes/prune" Change volume::prune;
    GET "/volumes/{name*}/export" Read volume::export;
    POST "/volumes/{name*}/import" Body volume::import;
    POST "/volumes/{name*}/clone" Change volume::duplicate;
    POST "/volumes/{name*}/rename" Change volume::rename;
    GET "/volumes/{name*}" Read volume::inspect;
    PUT "/volumes/{name*}" Read volume::update;
    DELETE "/volumes/{name*}" Change volume::remove;

    GET "/plugins" Read absent::plugins;
    GET "/plugins/privileges" Read absent::plugin_privileges;
    POST "/plugins/pull" Body absent::plugin_install;
    POST "/plugins/create" Body absent::plugin_install;
    GET "/plugins/{name*}/json" Read absent::plugin;
    POST "/plugins/{name*}/enable" Read absent::plugin;
    POST "/plugins/{name*}/disable" Read absent::plugin;
    POST "/plugins/{name*}/upgrade" Read absent::plugin;
    POST "/plugins/{name*}/push" Read absent::plugin;
    POST "/plugins/{name*}/set" Read absent::plugin;
    DELETE "/plugins/{name*}" Read absent::plugin;

    GET "/swarm" Read absent::swarm;
    GET "/swarm/unlockkey" Read absent::swarm;
    POST "/swarm/init" Read absent::swarm_init;
    POST "/swarm/join" Read absent::swarm_init;
    POST "/swarm/leave" Read absent::swarm_leave;
    POST "/swarm/update" Read absent::swarm;
    POST "/swarm/unlock" Read absent::swarm;
    GET "/nodes" Read absent::swarm;
    GET "/nodes/{id}" Read absent::swarm;
    DELETE "/nodes/{id}" Read absent::swarm;
    POST "/nodes/{id}/update" Read absent::swarm;
    GET "/services" Read absent::swarm;
    POST "/services/create" Read absent::swarm;
    GET "/services/{id}" Read absent::swarm;
    DELETE "/services/{id}" Read absent::swarm;
    POST "/services/{id}/update" Read absent::swarm;
    GET "/services/{id}/logs" Read absent::swarm;
    GET "/tasks" Read absent::swarm;
    GET "/tasks/{id}" Read absent::swarm;
    GET "/tasks/{id}/logs" Read absent::swarm;
    GET "/secrets" Read absent::swarm;
    POST "/secrets/create" Read absent::swarm;
    GET "/secrets/{id}" Read absent::swarm;
    DELETE "/secrets/{id}" Read absent::swarm;
    POST "/secrets/{id}/update" Read absent::swarm;
    GET "/configs" Read absent::swarm;
    POST "/configs/create" Read absent::swarm;
    GET "/configs/{id}" Read absent::swarm;
    DELETE "/configs/{id}" Read absent::swarm;
    POST "/configs/{id}/update" Read absent::swarm;
};

/// Takes `/v1.NN` off a path. What only looks like a version is part of the path.
pub(crate) fn split_version(path: &str) -> (Option<&str>, &str) {
    let Some(rest) = path.strip_prefix("/v") else { return (None, path) };
    let end = rest.find('/').unwrap_or(rest.len());
    let version = &rest[..end];
    let is_version = version.starts_with(|first: char| first.is_ascii_digit())
        && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_version { (Some(version), &rest[end..]) } else { (None, path) }
}

/// The route of a request, and what its placeholders stand for.
pub(crate) fn find(method: &Method, path: &str) -> Option<(&'static Route, Vec<String>)> {
    TABLE
        .iter()
        .filter(|route| route.method == *method)
        .find_map(|route| Some((route, matched(route.pattern, path)?)))
}

/// What the placeholders of `pattern` stand for in `path`, if it matches.
fn matched(pattern: &str, path: &str) -> Option<Vec<String>> {
    let Some(open) = pattern.find('{') else { return (pattern == path).then(Vec::new) };
    let rest = path.strip_prefix(&pattern[..open])?;
    let close = open + pattern[open..].find('}')?;
    let (tail, greedy) = (&pattern[close + 1..], pattern[..close].ends_with('*'));
    let value = if greedy { rest.strip_suffix(tail)? } else { &rest[..rest.find('/').unwrap_or(rest.len())] };
    if value.is_empty() {
        return None;
    }
    let mut values = vec![value.to_owned()];
    if !greedy {
        values.extend(matched(tail, &rest[value.len()..])?);
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern_of(method: &str, path: &str) -> Option<(&'static str, Vec<String>)> {
        find(&Method::from_bytes(method.as_bytes()).unwrap(), path)
            .map(|(route, params)| (route.pattern, params))
    }

    #[test]
    fn versions_are_taken_off() {
        assert_eq!(split_version("/v1.51/info"), (Some("1.51"), "/info"));
        assert_eq!(split_version("/volumes"), (None, "/volumes"));
        assert_eq!(split_version("/v1.x/info"), (None, "/v1.x/info"));
    }

    #[test]
    fn every_route_is_found_by_its_own_pattern() {
        for route in TABLE {
            let path =
                route.pattern.replace("{name*}", "a/b:c@sha256:0").replace("{id*}", "n").replace("{id}", "i");
            let path = path.replace("{checkpoint}", "c");
            let found = find(&route.method, &path).map(|(found, _)| found.pattern);
            assert_eq!(found, Some(route.pattern), "{} {path}", route.method);
        }
    }

    #[test]
    fn image_names_have_slashes_and_links_of_containers_too() {
        let name = "localhost:5000/library/busybox@sha256:00";
        assert_eq!(
            pattern_of("GET", &format!("/images/{name}/json")),
            Some(("/images/{name*}/json", vec![name.to_owned()]))
        );
        assert_eq!(pattern_of("DELETE", "/images/a/b"), Some(("/images/{name*}", vec!["a/b".to_owned()])));
        let link = vec!["a/b".to_owned()];
        assert_eq!(pattern_of("GET", "/containers/a/b/json"), Some(("/containers/{id*}/json", link)));
        assert_eq!(pattern_of("GET", "/containers/json"), Some(("/containers/json", Vec::new())));
        assert_eq!(pattern_of("PATCH", "/info"), None);
        assert_eq!(pattern_of("GET", "/images//json"), None);
        let both = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(
            pattern_of("DELETE", "/containers/a/checkpoints/b"),
            Some(("/containers/{id}/checkpoints/{checkpoint}", both))
        );
    }
}
