//! Containers.

use bytes::Bytes;
use hyper::StatusCode;
use wharf_api::shape::Document;
use wharf_api::{ApiVersion, CreateRequest, UpdateRequest};
use wharf_engine::container::list::ListOptions;
use wharf_engine::container::logs::LogOptions;
use wharf_engine::container::wait::WaitCondition;
use wharf_engine::{ByteStream, Error, Result};

use crate::http::answer::{self, Answer, JSON, MULTIPLEXED, RAW};
use crate::http::call::Call;
use crate::http::query::Query;
use crate::routes::absent::not_available;
use crate::routes::adjust;

pub(crate) async fn list(call: Call) -> Result<Answer> {
    let query = &call.query;
    let options = ListOptions {
        all: query.flag("all"),
        limit: query.number("limit")?,
        size: query.flag("size"),
        filters: query.filters()?,
    };
    let list = call.engine().containers.list(&options).await?;
    if call.version >= ApiVersion::MAX {
        return Ok(answer::json_text(list.to_json()?));
    }
    answer::shaped(Document::ContainerList, &list, call.version)
}

pub(crate) async fn create(mut call: Call) -> Result<Answer> {
    let mut request: CreateRequest = call.json_required().await?;
    adjust::create(&mut request, call.version)?;
    adjust::owners(&mut request, call.caller)?;
    let platform = Some(call.query.get("platform")).filter(|_| call.version.at_least(41));
    let created = call.engine().containers.create(Some(call.query.get("name")), platform, request).await?;
    answer::json_with(StatusCode::CREATED, &created)
}

pub(crate) async fn inspect(call: Call) -> Result<Answer> {
    let found = call.engine().containers.inspect(call.id(), call.query.flag("size")).await?;
    answer::shaped(Document::ContainerInspect, &found, call.version)
}

pub(crate) async fn start(call: Call) -> Result<Answer> {
    // The body once carried a host configuration; up to seven bytes ("{}", "null") are what clients send for none.
    if call.body_length().is_none_or(|length| length > 7) {
        let text = "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24";
        return Err(Error::invalid(text));
    }
    if !call.query.get("checkpoint").is_empty() {
        return Err(not_available("checkpoint"));
    }
    call.engine().containers.start(call.id()).await?;
    answer::no_content()
}

/// The signal and the seconds of a stop; the signal came with 1.42.
fn stop_options(call: &Call) -> Result<(Option<&str>, Option<i64>)> {
    let signal =
        Some(call.query.get("signal")).filter(|signal| call.version.at_least(42) && !signal.is_empty());
    Ok((signal, call.query.number("t")?))
}

pub(crate) async fn stop(call: Call) -> Result<Answer> {
    let (signal, seconds) = stop_options(&call)?;
    call.engine().containers.stop(call.id(), signal, seconds).await?;
    answer::no_content()
}

pub(crate) async fn restart(call: Call) -> Result<Answer> {
    let (signal, seconds) = stop_options(&call)?;
    call.engine().containers.restart(call.id(), signal, seconds).await?;
    answer::no_content()
}

pub(crate) async fn kill(call: Call) -> Result<Answer> {
    call.engine().containers.kill(call.id(), call.query.get("signal")).await?;
    answer::no_content()
}

pub(crate) async fn pause(call: Call) -> Result<Answer> {
    call.engine().containers.pause(call.id()).await?;
    answer::no_content()
}

pub(crate) async fn unpause(call: Call) -> Result<Answer> {
    call.engine().containers.unpause(call.id()).await?;
    answer::no_content()
}

pub(crate) async fn rename(call: Call) -> Result<Answer> {
    call.engine().containers.rename(call.id(), call.query.get("name")).await?;
    answer::no_content()
}

pub(crate) async fn update(mut call: Call) -> Result<Answer> {
    let mut request: UpdateRequest = call.json_required().await?;
    if !call.version.at_least(40) {
        request.pids_limit = None;
    }
    answer::json(&call.engine().containers.update(call.id(), request).await?)
}

pub(crate) async fn remove(call: Call) -> Result<Answer> {
    let query = &call.query;
    call.engine()
        .containers
        .remove(call.id(), query.flag("force"), query.flag("v"), query.flag("link"))
        .await?;
    answer::no_content()
}

pub(crate) async fn prune(call: Call) -> Result<Answer> {
    let filters = call.query.filters()?;
    answer::json(&call.engine().containers.prune(&filters).await?)
}

pub(crate) async fn wait(call: Call) -> Result<Answer> {
    let conditions = call.version.at_least(30);
    let condition = if conditions {
        WaitCondition::parse(call.query.get("condition"))?
    } else {
        WaitCondition::NotRunning
    };
    let ticket = call.engine().containers.wait(call.id(), condition)?;
    if !conditions {
        return answer::json(&ticket.done().await?);
    }
    // The status goes out now: it tells the client that it is registered, and may start the container.
    let (sender, stream) = ByteStream::channel();
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = ticket.done() => ended,
            () = sender.closed() => return,
        };
        match ended.and_then(|ended| line(&ended)) {
            // A client that is gone does not want it any more.
            Ok(line) => drop(sender.send(line).await),
            Err(error) => sender.fail(error).await,
        }
    });
    Ok(answer::stream(JSON, stream))
}

/// A document and a line end.
pub(crate) fn line<T: serde::Serialize>(document: &T) -> Result<Bytes> {
    let mut text = serde_json::to_vec(document).map_err(|error| Error::internal(error.to_string()))?;
    text.push(b'\n');
    Ok(text.into())
}

/// The size of a terminal, height first; both sides must be given.
pub(crate) fn terminal_size(query: &Query) -> Result<(u16, u16)> {
    let side = |name: &str, what: &str| -> Result<u16> {
        let text = query.get(name);
        let digits = text.strip_prefix('-').unwrap_or(text);
        let why = match digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.is_empty() {
            true => "value out of range",
            false => "invalid syntax",
        };
        let number: u32 =
            text.parse().map_err(|_| Error::invalid(format!("invalid resize {what} \"{text}\": {why}")))?;
        // The kernel's terminals have 16 bits for each; what is wider is as wide as that.
        Ok(u16::try_from(number).unwrap_or(u16::MAX))
    };
    Ok((side("h", "height")?, side("w", "width")?))
}

pub(crate) async fn resize(call: Call) -> Result<Answer> {
    let (height, width) = terminal_size(&call.query)?;
    call.engine().containers.resize(call.id(), height, width).await?;
    Ok(answer::empty(StatusCode::OK))
}

pub(crate) async fn top(call: Call) -> Result<Answer> {
    let arguments = if call.query.has("ps_args") { call.query.get("ps_args") } else { "" };
    answer::json(&call.engine().containers.top(call.id(), arguments).await?)
}

pub(crate) async fn logs(call: Call) -> Result<Answer> {
    let query = &call.query;
    let options = LogOptions {
        follow: query.flag("follow"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        since: query.get("since").to_owned(),
        until: query.get("until").to_owned(),
        timestamps: query.flag("timestamps"),
        details: query.flag("details"),
        tail: query.get("tail").to_owned(),
    };
    options.check()?;
    let logs = call.engine().containers.logs(call.id(), &options).await?;
    let multiplexed = !logs.tty && call.version.at_least(42);
    Ok(answer::stream(if multiplexed { MULTIPLEXED } else { RAW }, logs.stream))
}

pub(crate) async fn stats(call: Call) -> Result<Answer> {
    let query = &call.query;
    let stream = query.flag_or("stream", true);
    let one_shot = call.version.at_least(41) && query.flag("one-shot");
    if stream && one_shot {
        return Err(Error::invalid("cannot have stream=true and one-shot=true"));
    }
    let containers = &call.engine().containers;
    if !stream {
        return answer::json(&containers.stats_once(call.id(), one_shot).await?);
    }
    let mut samples = containers.stats(call.id())?;
    let (sender, stream) = ByteStream::channel();
    tokio::spawn(async move {
        loop {
            let next = tokio::select! {
                next = samples.next() => next,
                () = sender.closed() => return,
            };
            let sent = match next.map(|sample| line(&sample?)) {
                None => return,
                Some(Ok(line)) => sender.send(line).await,
                Some(Err(error)) => return sender.fail(error).await,
            };
            if sent.is_err() {
                return;
            }
        }
    });
    Ok(answer::stream(JSON, stream))
}
