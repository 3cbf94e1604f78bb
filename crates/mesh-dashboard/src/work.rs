//! The long work of one service, as rows.
//!
//! A subscription says that something has changed. What is shown is the list of the newest, which has more: the kind of the
//! work, and what has ended. So a burst of changes costs one list a second.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use mesh_client::Subscription;
use mesh_client::operation::{metadata, reason};
use mesh_proto::google::longrunning::operations_client::OperationsClient;
use mesh_proto::google::longrunning::operations_server;
use mesh_proto::google::longrunning::{GetOperationRequest, ListOperationsRequest, Operation, operation};
use mesh_proto::mesh::inspect::v1::Service;
use mesh_proto::mesh::operations::v1::{OperationMetadata, Phase, State, Step};
use prost_types::Any;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::{Code, Status};

use crate::answer::cut;
use crate::contracts::Contracts;
use crate::hub::Hub;
use crate::known::millis;
use crate::members::{Channel, LARGEST};
use crate::state::Section;

/// The begin of the keys of notes about long work.
pub(crate) const NOTE: &str = "work ";
/// The operations of a service that are shown.
const SHOWN: i32 = 100;
/// The least time between two lists.
const PAUSE: Duration = Duration::from_secs(1);
/// Without a change, the list is read again after this time.
const AGAIN: Duration = Duration::from_secs(15);
/// The sagas whose steps are asked for at once.
const AT_ONCE: usize = 8;
/// The limit for an answer.
const LIMIT: Duration = Duration::from_secs(5);

/// Whether a service does long work.
pub(crate) fn does(service: &Service) -> bool {
    service.contracts.iter().any(|contract| contract == operations_server::SERVICE_NAME)
}

/// Follows the work of a service until the future is dropped.
pub(crate) async fn follow(hub: Arc<Hub>, service: String) {
    loop {
        if let Some(channel) = hub.serving(&service) {
            let status = follow_at(&hub, &service, channel).await;
            match status.code() {
                Code::PermissionDenied | Code::Unauthenticated => {
                    let text = format!("the long work of {service} is not shown: {}", status.message());
                    let key = note_key(&service);
                    hub.state().put(Section::Notes, &*key, json!({"key": key, "text": text}));
                    sleep(AGAIN).await;
                }
                _ => {}
            }
        }
        sleep(PAUSE).await;
    }
}

/// The key of the note that the work of a service is not shown.
fn note_key(service: &str) -> String {
    format!("{NOTE}{service}")
}

async fn follow_at(hub: &Hub, service: &str, channel: Channel) -> Status {
    let parent = format!("services/{service}");
    let types = timeout(LIMIT, Contracts::of(&channel)).await.ok().and_then(Result::ok);
    let mut steps = HashMap::new();
    let mut subscription = Subscription::new(channel.clone(), parent.clone(), Vec::new());
    loop {
        let listed = timeout(LIMIT, list(&channel, &parent, types.as_ref(), &mut steps)).await;
        let rows = match listed.unwrap_or_else(|_| Err(Status::deadline_exceeded("did not list its operations"))) {
            Ok(rows) => rows,
            Err(status) => return status,
        };
        let of = format!("{parent}/");
        {
            let mut state = hub.state();
            // The reader is allowed to see it, again.
            state.remove(Section::Notes, |key| key == note_key(service));
            state.remove(Section::Work, |key| key.starts_with(&of) && !rows.contains_key(key));
            for (key, row) in rows {
                state.put(Section::Work, key, row);
            }
        }
        let (next, again) = (Instant::now() + PAUSE, Instant::now() + AGAIN);
        tokio::select! {
            frame = subscription.next() => if let Err(status) = frame { return status },
            () = sleep_until(again) => {}
        }
        sleep_until(next).await;
        // What has come meanwhile is in the next list.
        while let Ok(frame) = timeout(Duration::ZERO, subscription.next()).await {
            if let Err(status) = frame {
                return status;
            }
        }
    }
}

/// The newest operations, by their names. `known` has the steps of sagas, by the revision that they are of.
async fn list(
    channel: &Channel,
    parent: &str,
    types: Option<&Contracts>,
    known: &mut HashMap<String, (i64, Vec<Step>)>,
) -> Result<BTreeMap<String, Value>, Status> {
    let client = OperationsClient::new(channel.clone()).max_decoding_message_size(LARGEST);
    let request = ListOperationsRequest { name: parent.to_owned(), page_size: SHOWN, ..Default::default() };
    let operations = client.clone().list_operations(request).await?.into_inner().operations;
    known.retain(|name, _| operations.iter().any(|operation| operation.name == *name));
    // A list has no steps.
    let changed = operations.iter().filter_map(|operation| {
        let (listed, name) = (metadata(operation), operation.name.clone());
        let is_known = known.get(&name).is_some_and(|(revision, _)| *revision == listed.revision);
        (listed.phase() != Phase::Unspecified && !is_known).then_some(name)
    });
    let asked = changed.collect::<Vec<_>>().into_iter().map(|name| {
        let mut client = client.clone();
        async move { client.get_operation(GetOperationRequest { name }).await }
    });
    let got: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
    for operation in got.into_iter().flatten().map(tonic::Response::into_inner) {
        let whole = metadata(&operation);
        known.insert(operation.name, (whole.revision, whole.steps));
    }
    let rows = operations.iter().map(|operation| {
        let mut listed = metadata(operation);
        listed.steps = known.get(&operation.name).map(|(_, steps)| steps.clone()).unwrap_or_default();
        (operation.name.clone(), row(parent, operation, &listed, types))
    });
    Ok(rows.collect())
}

fn row(parent: &str, operation: &Operation, it: &OperationMetadata, types: Option<&Contracts>) -> Value {
    let error = match &operation.result {
        Some(operation::Result::Error(error)) => {
            let reason = reason(operation).unwrap_or_else(|| transcode::code_name(error.code).to_owned());
            json!({"reason": reason, "message": cut(&error.message)})
        }
        _ => Value::Null,
    };
    let stuck = it.phase() == Phase::Stuck && !operation.done;
    json!({
        "key": operation.name, "name": operation.name, "service": parent.trim_start_matches("services/"), "kind": it.kind,
        "state": state(operation.done, it), "percent": it.progress.as_ref().and_then(|progress| percent(progress, types)),
        "phase": phase(operation.done, it),
        "attempt": it.attempt, "steps": it.steps.iter().map(step).collect::<Vec<_>>(), "error": error,
        "created": millis(it.create_time.as_ref()), "updated": millis(it.update_time.as_ref()),
        "canCancel": !operation.done && !it.cancel_requested && !stuck,
        "canRetry": operation.done && it.state() == State::Failed, "canResume": stuck,
    })
}

/// The state, or what a saga does in it.
fn state(done: bool, it: &OperationMetadata) -> &'static str {
    match it.phase() {
        Phase::Stuck if !done => "STUCK",
        Phase::Undoing if !done => "COMPENSATING",
        _ => it.state().as_str_name().trim_start_matches("STATE_"),
    }
}

/// What it does now, in words; empty if there is no more to say than its state.
fn phase(done: bool, it: &OperationMetadata) -> &'static str {
    match it.phase() {
        _ if done => "",
        Phase::Stuck => "is stuck: resume it",
        Phase::Undoing if it.cancel_requested => "was cancelled, undoes its steps",
        Phase::Undoing => "undoes its steps",
        Phase::Committed => "completes its steps",
        _ if it.cancel_requested => "is being cancelled",
        Phase::Unspecified => "",
        Phase::Forward => "makes its steps",
    }
}

fn step(it: &Step) -> Value {
    let error = it.error.as_ref().map(|error| format!("{}: {}", transcode::code_name(error.code), cut(&error.message)));
    json!({
        "name": it.name, "state": it.state().as_str_name().trim_start_matches("STEP_STATE_"), "attempt": it.attempt,
        "began": millis(it.begin_time.as_ref()), "ended": millis(it.end_time.as_ref()), "error": error,
    })
}

/// How far the work is, if its progress says so by the fields `done` and `total`, or `percent`.
fn percent(progress: &Any, types: Option<&Contracts>) -> Option<f64> {
    let (_, name) = progress.type_url.rsplit_once('/')?;
    let json = types?.json(name, &progress.value)?;
    let number = |name: &str| match json.get(name)? {
        Value::Number(number) => number.as_f64(),
        // 64 bits are text in JSON.
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let of_total = number("total").filter(|total| *total > 0.0).and_then(|total| Some(number("done")? / total * 100.0));
    of_total.or_else(|| number("percent")).map(|percent| percent.clamp(0.0, 100.0))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;

    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Request, Response};
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use tonic::body::Body;
    use tower::service_fn;
    use tower::util::BoxCloneSyncService;

    use super::*;
    use crate::hub::Own;
    use crate::members::{Listed, Members};
    use crate::settings::Mode;

    struct Nobody;

    impl Members for Nobody {
        fn list(&self) -> Pin<Box<dyn Future<Output = Listed> + Send + '_>> {
            Box::pin(async { Listed::default() })
        }
    }

    /// Answers each call with an empty message.
    fn empty() -> Channel {
        BoxCloneSyncService::new(service_fn(|_: Request<Body>| async {
            let mut end = HeaderMap::new();
            end.insert("grpc-status", HeaderValue::from_static("0"));
            let frames = [Frame::data(Bytes::from_static(&[0; 5])), Frame::trailers(end)].map(Ok::<_, Infallible>);
            let mut response = Response::new(Body::new(StreamBody::new(stream::iter(frames))));
            response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
            Ok(response)
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn note_goes_when_the_work_can_be_seen_again() {
        let own = Own { process: String::new(), version: String::new(), registry: String::new(), links: Vec::new() };
        let hub = Hub::new(Box::new(Nobody), own, Mode::Read);
        for service in ["a", "b"] {
            hub.state().put(Section::Notes, note_key(service), json!({"key": service}));
        }
        // It goes on until the service does not answer.
        let _ = timeout(Duration::from_secs(10), follow_at(&hub, "a", empty())).await;
        assert_eq!(hub.state().whole(0)["notes"], json!([{"key": "b"}]));
    }

    fn said(phase: Phase, state: State, cancel_requested: bool, done: bool) -> [String; 2] {
        let it = OperationMetadata {
            phase: phase.into(),
            state: state.into(),
            cancel_requested,
            ..OperationMetadata::default()
        };
        let row = row("services/a", &Operation { done, ..Operation::default() }, &it, None);
        ["state", "phase"].map(|name| row[name].as_str().unwrap().to_owned())
    }

    #[test]
    fn saga_says_in_words_what_it_does() {
        let words = |phase, cancel| said(phase, State::Running, cancel, false);
        assert_eq!(words(Phase::Unspecified, false), ["RUNNING", ""]);
        assert_eq!(words(Phase::Forward, false), ["RUNNING", "makes its steps"]);
        assert_eq!(words(Phase::Forward, true), ["RUNNING", "is being cancelled"]);
        assert_eq!(words(Phase::Undoing, false), ["COMPENSATING", "undoes its steps"]);
        assert_eq!(words(Phase::Undoing, true), ["COMPENSATING", "was cancelled, undoes its steps"]);
        assert_eq!(words(Phase::Stuck, false), ["STUCK", "is stuck: resume it"]);
    }

    #[test]
    fn saga_that_has_ended_is_what_its_service_says() {
        for state in [State::Failed, State::Cancelled] {
            let name = state.as_str_name().trim_start_matches("STATE_");
            assert_eq!(said(Phase::Undoing, state, true, true), [name, ""]);
        }
        assert_eq!(said(Phase::Committed, State::Succeeded, true, true)[0], "SUCCEEDED", "it was too late");
    }
}
