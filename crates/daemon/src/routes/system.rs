//! The engine as a whole.

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderName, HeaderValue, PRAGMA};
use wharf_api::shape::Document;
use wharf_api::{AuthConfig, AuthResponse, EventActor, EventMessage};
use wharf_engine::events::{Event, Kind, parse_timestamp};
use wharf_engine::system::Part;
use wharf_engine::{ByteStream, Error, Result};

use crate::http::answer::{self, Answer, JSON};
use crate::http::call::Call;
use crate::http::registry_auth;
use crate::routes::container::line;

/// Keys that filters of events know.
const EVENT_FILTERS: [&str; 14] = [
    "type",
    "event",
    "container",
    "image",
    "volume",
    "network",
    "daemon",
    "plugin",
    "service",
    "node",
    "secret",
    "config",
    "label",
    "scope",
];

pub(crate) async fn ping(_call: Call) -> Result<Answer> {
    let mut answer = answer::text(StatusCode::OK, "OK");
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    // 1: there is no BuildKit here, and a client that believed so would make containers for one.
    headers.insert(HeaderName::from_static("builder-version"), HeaderValue::from_static("1"));
    headers.insert(HeaderName::from_static("swarm"), HeaderValue::from_static("inactive"));
    Ok(answer)
}

pub(crate) async fn version(call: Call) -> Result<Answer> {
    let mut version = call.engine().system.version();
    let oldest = call.app.oldest.to_string();
    for component in &mut version.components {
        if let Some(detail) = component.details.get_mut("MinAPIVersion") {
            detail.clone_from(&oldest);
        }
    }
    version.min_api_version = oldest;
    answer::json(&version)
}

pub(crate) async fn info(call: Call) -> Result<Answer> {
    answer::shaped(Document::Info, &call.engine().system.info().await?, call.version)
}

pub(crate) async fn disk_usage(call: Call) -> Result<Answer> {
    let types = if call.version.at_least(42) { call.query.all("type") } else { Vec::new() };
    let parts: Vec<Part> = types.iter().map(|name| name.parse()).collect::<Result<_>>()?;
    let usage = call.engine().system.disk_usage(&parts).await?;
    answer::shaped(Document::DiskUsage, &usage, call.version)
}

/// Wharf's own: verifies all that is kept of images, and mends it if asked to.
pub(crate) async fn check(call: Call) -> Result<Answer> {
    answer::json(&call.engine().images.check(call.query.flag("repair"), call.query.flag("quick")).await?)
}

/// Tries credentials at their registry.
pub(crate) async fn auth(mut call: Call) -> Result<Answer> {
    let given: AuthConfig = call.json().await?;
    let login = call.engine().registries.login(&given.serveraddress, &registry_auth::of(&given)).await?;
    let status = "Login Succeeded".to_owned();
    answer::json(&AuthResponse { identity_token: login.identity_token, status })
}

pub(crate) async fn events(call: Call) -> Result<Answer> {
    let query = &call.query;
    let (since, until) = (parse_timestamp(query.get("since"))?, parse_timestamp(query.get("until"))?);
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        let text = format!(
            "`since` time ({}) cannot be after `until` time ({})",
            query.get("since"),
            query.get("until")
        );
        return Err(Error::invalid(text));
    }
    let filters = query.filters()?;
    filters.check(&EVENT_FILTERS).map_err(|error| Error::invalid(error.to_string()))?;
    let mut subscription = call.engine().events.subscribe(since, until, filters.into());
    let (sender, stream) = ByteStream::channel();
    tokio::spawn(async move {
        loop {
            let next = tokio::select! {
                next = subscription.next() => next,
                () = sender.closed() => return,
            };
            let sent = match next {
                None => return,
                Some(Ok(event)) => match line(&message(&event)) {
                    Ok(line) => sender.send(line).await,
                    Err(error) => return sender.fail(error).await,
                },
                Some(Err(error)) => return sender.fail(error).await,
            };
            if sent.is_err() {
                return;
            }
        }
    });
    Ok(answer::stream(JSON, stream))
}

/// An event as clients read it; those of containers and images say some of it twice, for old ones.
fn message(event: &Event) -> EventMessage {
    let repeated = matches!(event.kind, Kind::Container | Kind::Image);
    let once_more = |text: &str| if repeated { text.to_owned() } else { String::new() };
    EventMessage {
        status: once_more(&event.action),
        id: once_more(&event.id),
        from: match event.kind {
            Kind::Container => event.attributes.get("image").cloned().unwrap_or_default(),
            _ => String::new(),
        },
        r#type: event.kind.name().to_owned(),
        action: event.action.clone(),
        actor: EventActor { id: event.id.clone(), attributes: event.attributes.clone() },
        scope: "local".to_owned(),
        time: event.time.div_euclid(1_000_000_000),
        time_nano: event.time,
    }
}
