//! Follows one process: what it is, once, and what changes, each second.

use std::sync::Arc;
use std::time::Duration;

use mesh_proto::mesh::inspect::v1::inspect_service_client::InspectServiceClient;
use mesh_proto::mesh::inspect::v1::{GetProcessRequest, GetProcessResponse, WatchRequest, WatchResponse};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use crate::hub::Hub;
use crate::known::{Answering, millis, now};
use crate::members::{LARGEST, Member};
use crate::rows;
use crate::state::Section;

/// The time between two messages of a process.
const INTERVAL: Duration = Duration::from_secs(1);
/// A process that says nothing for so long is silent. The kernel keeps the connections of one that is stopped.
const SILENT: Duration = Duration::from_secs(3);
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
    let knows_digest = !process.digest.is_empty();
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

/// The state of a process that answers with `status`, and why.
fn said(status: &Status) -> (Answering, String) {
    match status.code() {
        Code::Unimplemented => (
            Answering::Silent,
            "it does not serve mesh.inspect.v1: it is another program, or of an older version".to_owned(),
        ),
        Code::PermissionDenied | Code::Unauthenticated => {
            (Answering::Silent, format!("it refuses to be inspected: {}", status.message()))
        }
        Code::DeadlineExceeded => (Answering::Silent, status.message().to_owned()),
        _ => (Answering::Gone, root(status)),
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
            // Its rows are those of the other address.
            drop(known);
            self.state().remove(Section::Processes, |key| key == id);
            return false;
        }
        let restarted = followed.condition.process.start_id != process.start_id;
        followed.condition.process = process;
        followed.condition.state = Answering::Up;
        followed.condition.why.clear();
        if restarted {
            followed.condition.since = now();
            followed.health.clear();
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
        let is = if frame.draining { Answering::Draining } else { Answering::Up };
        if condition.state != is {
            (condition.state, condition.since) = (is, now());
            condition.why = if frame.draining { "it finishes its calls and ends".to_owned() } else { String::new() };
        }
        for health in &frame.services {
            followed.health.insert(health.service.clone(), health.clone());
        }
        followed.unmet = frame.unmet.clone();
        let at = millis(frame.measured_at.as_ref());
        let mut state = self.state();
        for edge in &frame.edges {
            if let Some((key, row)) = rows::edge(id, &condition.process, edge, at) {
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
    fn condition(&self, id: &str, is: Answering, why: &str) {
        let mut known = self.known();
        let Some(followed) = known.get_mut(id) else { return };
        let condition = &mut followed.condition;
        if condition.state == is && condition.why == why {
            return;
        }
        // Each failed attempt has words of its own.
        if condition.state != is {
            condition.since = now();
        }
        (condition.state, condition.why) = (is, why.to_owned());
        let row = rows::process(id, condition, &followed.health, &followed.unmet);
        self.state().put(Section::Processes, id, row);
    }
}
