//! Watching resources: server-sent events, until the client leaves, its right ends or the server stops.

use std::time::Duration;

use bytes::Bytes;
use hyper::{
    Response,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue},
};
use mcpctl_core::{
    Error, Principal,
    registry::{ListQuery, Watch},
    resource::{Kind, view},
};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use crate::{
    app::App,
    respond::{Body, Refusal},
};

/// Events that wait for a client at most; then what happens is gathered.
const AHEAD: usize = 16;
/// How long a client may take nothing in: by then its right to what waits for it may be gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a silent stream shows that it is alive.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

pub(super) async fn watch(
    app: &App,
    who: &Principal,
    kind: Kind,
    query: ListQuery,
) -> Result<Response<Body>, Refusal> {
    if query.limit.is_some() || query.after.is_some() {
        return Err(Error::invalid("watch: does not go with limit or continue").into());
    }
    let Ok(place) = app.watchers.clone().try_acquire_owned() else {
        let message = "too many clients watch already; try again later";
        return Err(Error::rate_limited(message, Duration::from_secs(5)).into());
    };
    let watch = app.registry.watch(who, kind, query).await?;
    let (events, inbox) = mpsc::channel(AHEAD);
    let mut stopping = app.stopping.subscribe();
    tokio::spawn(async move {
        tokio::select! {
            () = tell(watch, &events) => {}
            () = events.closed() => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
        drop(place);
    });
    let mut response = Response::new(Body::Events(inbox));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

/// Tells what happens until the caller may no longer know, or has left.
async fn tell(mut watch: Watch, events: &mpsc::Sender<Bytes>) {
    let mut alive = interval(SIGN_OF_LIFE);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let happened = tokio::select! {
            happened = watch.next() => happened,
            _ = alive.tick() => {
                if events.send_timeout(Bytes::from_static(b": alive\n\n"), PATIENCE).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let happened = match happened {
            Ok(happened) => happened,
            Err(error) => {
                let _ = events.send_timeout(last(&error), PATIENCE).await;
                return;
            }
        };
        for (what, object) in happened {
            if events
                .send_timeout(event(what.as_str(), &Value::Object(view(&object))), PATIENCE)
                .await
                .is_err()
            {
                return;
            }
        }
    }
}

fn event(name: &str, data: &Value) -> Bytes {
    format!("event: {name}\ndata: {data}\n\n").into()
}

fn last(error: &Error) -> Bytes {
    event("ERROR", &json!({"error": error.message()}))
}
