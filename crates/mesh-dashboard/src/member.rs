//! Follows one process: what it is, once, and what changes, each second.

use std::sync::Arc;
use std::time::Duration;

use mesh_proto::mesh::inspect::v1::inspect_service_client::InspectServiceClient;
use mesh_proto::mesh::inspect::v1::{GetProcessRequest, GetProcessResponse, WatchRequest, WatchResponse};
use mesh_rpc::call::error::STREAM_DRAINING;
use serde_json::json;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use crate::answer::reason;
use crate::hub::Hub;
use crate::known::{Clock, Reachability, millis, now};
use crate::members::{LARGEST, Member};
use crate::rows;
use crate::state::Section;

/// The time between two messages of a process.
const INTERVAL: Duration = Duration::from_secs(1);
/// A process that says nothing for so long is silent. The kernel keeps the connections of one that is stopped.
const SILENT: Duration = Duration::from_secs(3);
/// The edges of a process that are shown: more than the contracts of a system have.
const EDGES: usize = 2000;
/// Why a process is in the state [`Reachability::Drained`]. It closes its listener before its last calls end.
const DRAINED: &str = "it has drained: it was stopped";
/// The pause before a process is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// Follows a process until the future is dropped.
pub(crate) async fn follow(hub: Arc<Hub>, member: Member) {
    loop {
        let status = follow_once(&hub, &member).await;
        let (state, why) = said(&status);
        hub.condition(&member.id, state, &why);
        sleep(PAUSE).await;
    }
}

/// Follows it until it does not answer any more, and returns why.
async fn follow_once(hub: &Hub, member: &Member) -> Status {
    let mut client = InspectServiceClient::new(member.channel.clone()).max_decoding_message_size(LARGEST);
    let asked = timeout(SILENT, client.get_process(GetProcessRequest {})).await;
    let process = match asked.unwrap_or_else(|_| Err(silent())) {
        Ok(answer) => answer.into_inner(),
        Err(status) => return status,
    };
    let (knows_digest, start) = (!process.digest.is_empty(), process.start_id.clone());
    if !hub.process(&member.id, process) {
        return Status::already_exists("another address leads to the same process");
    }
    let interval = prost_types::Duration::try_from(INTERVAL).ok();
    let opened = timeout(SILENT, client.watch(WatchRequest { interval })).await;
    let mut stream = match opened.unwrap_or_else(|_| Err(silent())) {
        Ok(stream) => stream.into_inner(),
        Err(status) => return status,
    };
    let mut frames = 0_u32;
    loop {
        match timeout(SILENT, stream.message()).await {
            Ok(Ok(Some(frame))) if frame.start_id != start => return Status::unavailable("it was started again"),
            Ok(Ok(Some(frame))) => hub.frame(&member.id, &frame),
            Ok(Ok(None)) => return Status::unavailable("it has ended the stream"),
            Ok(Err(status)) => return status,
            Err(_) => return silent(),
        }
        frames += 1;
        // It hashes its executable in the background.
        if !knows_digest
            && frames == 5
            && let Ok(Ok(answer)) = timeout(SILENT, client.get_process(GetProcessRequest {})).await
        {
            hub.process(&member.id, answer.into_inner());
        }
    }
}

fn silent() -> Status {
    Status::deadline_exceeded(format!("did not answer for {} s", SILENT.as_secs()))
}

/// The state of a process by the status of a call, and why.
fn said(status: &Status) -> (Reachability, String) {
    match status.code() {
        Code::Unimplemented => (
            Reachability::Silent,
            "it does not serve mesh.inspect.v1: it is another program, or of an older version".to_owned(),
        ),
        Code::PermissionDenied | Code::Unauthenticated => {
            (Reachability::Silent, format!("it refuses to be inspected: {}", status.message()))
        }
        Code::AlreadyExists => (Reachability::Same, String::new()),
        Code::DeadlineExceeded => (Reachability::Silent, status.message().to_owned()),
        Code::Unavailable if reason(status) == STREAM_DRAINING => (Reachability::Drained, DRAINED.to_owned()),
        _ => (Reachability::Gone, root(status)),
    }
}

/// The innermost cause of a status of the transport.
fn root(status: &Status) -> String {
    let mut cause = std::error::Error::source(status);
    let mut text = status.message().to_owned();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}

impl Hub {
    /// Notes what a process is. `false`: it is known by another address.
    fn process(&self, id: &str, process: GetProcessResponse) -> bool {
        let mut known = self.known();
        let same = known.iter().any(|(other, followed)| {
            other != id && followed.condition.state.answers() && followed.condition.process.start_id == process.start_id
        });
        let Some(followed) = known.get_mut(id) else { return false };
        if same {
            return false;
        }
        let restarted = followed.condition.process.start_id != process.start_id;
        followed.condition.process = process;
        // A drain ends with the process.
        if restarted || !matches!(followed.condition.state, Reachability::Draining | Reachability::Drained) {
            followed.condition.enter(Reachability::Up, "", now());
        }
        if restarted {
            followed.health.clear();
            followed.edges.clear();
            (followed.clock, followed.measured) = (Clock::default(), 0);
        }
        let mut state = self.state();
        if restarted {
            let of = format!("{id} ");
            for section in [Section::Edges, Section::Endpoints, Section::Followers] {
                state.remove(section, |key| key.starts_with(&of));
            }
        }
        state.put(Section::Processes, id, rows::process(id, &followed.condition, &followed.health, &followed.unmet));
        true
    }

    /// Applies what has changed in a process.
    fn frame(&self, id: &str, frame: &WatchResponse) {
        let mut known = self.known();
        let Some(followed) = known.get_mut(id) else { return };
        let condition = &mut followed.condition;
        let is = if frame.draining { Reachability::Draining } else { Reachability::Up };
        condition.enter(is, if frame.draining { "it finishes its calls and ends" } else { "" }, now());
        for health in &frame.services {
            followed.health.insert(health.service.clone(), health.clone());
        }
        followed.unmet = frame.unmet.clone();
        let measured = millis(frame.measured_at.as_ref());
        followed.clock.note(measured, now());
        let at = followed.clock.here(measured);
        // A process says all its edges at first. One that comes later had no calls when it said something before.
        let before = std::mem::replace(&mut followed.measured, at);
        let condition = &followed.condition;
        let mut state = self.state();
        for edge in frame.edges.iter().take(EDGES) {
            let edge = rows::edge(id, &condition.process, edge, at, followed.clock);
            let Some((key, mut row)) = edge else { continue };
            if followed.edges.contains_key(&key) || followed.edges.len() < EDGES {
                row["since"] = json!(followed.edges.entry(key.clone()).or_insert(before));
                state.put(Section::Edges, key, row);
            }
        }
        for endpoint in &frame.endpoints {
            let (key, row) = rows::endpoint(id, endpoint);
            if endpoint.gone {
                state.remove(Section::Endpoints, |other| other == key);
            } else {
                state.put(Section::Endpoints, key, row);
            }
        }
        for follower in &frame.followers {
            let (key, row) = rows::follower(id, follower);
            state.put(Section::Followers, key, row);
        }
        state.put(Section::Processes, id, rows::process(id, condition, &followed.health, &followed.unmet));
    }

    /// Notes that a process does not answer.
    fn condition(&self, id: &str, is: Reachability, why: &str) {
        let mut known = self.known();
        let Some(followed) = known.get_mut(id) else { return };
        let condition = &mut followed.condition;
        let ends = match condition.state {
            Reachability::Draining => is == Reachability::Gone,
            Reachability::Drained => matches!(is, Reachability::Gone | Reachability::Silent),
            _ => false,
        };
        let (is, why) = if ends { (Reachability::Drained, DRAINED) } else { (is, why) };
        if condition.state == is && condition.why == why {
            return;
        }
        condition.enter(is, why, now());
        if is == Reachability::Same {
            return self.state().remove(Section::Processes, |key| key == id);
        }
        let row = rows::process(id, condition, &followed.health, &followed.unmet);
        self.state().put(Section::Processes, id, row);
    }
}
