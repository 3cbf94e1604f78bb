//! What a page asks for once: calls, traces, logs, configuration and contracts, of all processes at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use mesh_proto::mesh::inspect::v1::inspect_service_client::InspectServiceClient;
use mesh_proto::mesh::inspect::v1::{
    GetProcessRequest, GetProcessResponse, GetTraceRequest, ListCallsRequest, LogLine, TailLogsRequest,
};
use serde_json::{Map, Value, json};
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::answer::cut;
use crate::contracts::Contracts;
use crate::described::{Described, Known};
use crate::hub::Hub;
use crate::known::millis;
use crate::members::{Channel, LARGEST};
use crate::rows;

/// The limit for the answer of a process.
const LIMIT: Duration = Duration::from_secs(2);
/// The processes whose contracts are read at once.
const AT_ONCE: usize = 4;
/// The calls that a process answers at once.
pub(crate) const MOST: i32 = 1000;
/// The lines of all processes that are answered at once.
const LINES: usize = 2000;

type Client = InspectServiceClient<Channel>;
/// What a process answered.
type Answered<T> = (String, Result<T, Status>);

/// Asks all processes at the same time.
async fn of_each<T, A>(hub: &Hub, ask: impl Fn(Client, String) -> A) -> Vec<Answered<T>>
where
    A: Future<Output = Result<T, Status>> + Send,
    T: Send,
{
    let asked = hub.asked().await.into_iter().map(|(id, channel)| {
        let client = channel.map(|channel| Client::new(channel).max_decoding_message_size(LARGEST));
        let asking = client.map(|client| ask(client, id.clone()));
        async move {
            let answer = match asking {
                Ok(asking) => timeout(LIMIT, asking).await,
                Err(why) => Ok(Err(Status::unavailable(why))),
            };
            let silent = |_| Err(Status::deadline_exceeded(format!("did not answer within {} s", LIMIT.as_secs())));
            (id, answer.unwrap_or_else(silent))
        }
    });
    join_all(asked).await
}

/// The answers, and the processes that gave none, with the reason. A code that is `none` is an answer without content.
fn parted<T>(answered: Vec<Answered<T>>, none: Option<Code>) -> (Vec<(String, T)>, Vec<Value>) {
    let (mut answers, mut silent) = (Vec::new(), Vec::new());
    for (process, answer) in answered {
        match answer {
            Ok(answer) => answers.push((process, answer)),
            Err(status) if Some(status.code()) == none => {}
            Err(status) => silent.push(json!({"process": process, "why": cut(status.message())})),
        }
    }
    (answers, silent)
}

/// What is asked of the calls that processes have kept.
pub(crate) struct Calls<'a> {
    /// Only those that failed or were slow.
    pub(crate) problems: bool,
    /// One method; empty for all.
    pub(crate) method: &'a str,
    /// The slowest first, of the newest that each process answers; else the newest.
    pub(crate) slowest_first: bool,
    pub(crate) limit: i32,
}

/// The calls that processes have kept.
///
/// # Errors
///
/// No process takes the request.
pub(crate) async fn calls(hub: &Hub, asked: &Calls<'_>) -> Result<Value, Status> {
    let Calls { problems, method, slowest_first, limit } = *asked;
    let page_size = if slowest_first { MOST } else { limit };
    let request = ListCallsRequest { page_size, problems, method: method.to_owned() };
    let ask = |mut client: Client, _| {
        let request = request.clone();
        async move { Ok(client.list_calls(request).await?.into_inner()) }
    };
    let answered = of_each(hub, ask).await;
    refused(&answered)?;
    let (answers, silent) = parted(answered, None);
    let since = answers.iter().map(|(_, answer)| millis(answer.kept_since.as_ref())).max();
    let calls = answers.iter().flat_map(|(id, answer)| answer.calls.iter().filter_map(|it| rows::call(id, it)));
    let mut calls: Vec<_> = calls.collect();
    let rank = |call: &Value| if slowest_first { took(call) } else { start(call) };
    calls.sort_by(|a, b| rank(b).total_cmp(&rank(a)));
    calls.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(json!({"calls": calls, "since": since, "silent": silent}))
}

/// The calls of a trace, of all processes.
///
/// # Errors
///
/// It is no trace, or no process has kept a call of it.
pub(crate) async fn trace(hub: &Hub, trace: &str) -> Result<Value, Status> {
    let request = GetTraceRequest { trace: trace.to_owned() };
    let ask = |mut client: Client, _| {
        let request = request.clone();
        async move { Ok(client.get_trace(request).await?.into_inner()) }
    };
    let answered = of_each(hub, ask).await;
    refused(&answered)?;
    let unknown =
        answered.iter().find_map(|(_, answer)| answer.as_ref().err().filter(|it| it.code() == Code::NotFound).cloned());
    let (answers, silent) = parted(answered, Some(Code::NotFound));
    let calls = answers.iter().flat_map(|(id, answer)| answer.calls.iter().filter_map(|it| rows::call(id, it)));
    let mut calls: Vec<_> = calls.collect();
    if let (true, Some(unknown)) = (calls.is_empty() && silent.is_empty(), unknown) {
        return Err(unknown);
    }
    calls.sort_by(|a, b| start(a).total_cmp(&start(b)));
    Ok(json!({"trace": trace, "calls": calls, "silent": silent}))
}

fn start(call: &Value) -> f64 {
    call["start"].as_f64().unwrap_or_default()
}

fn took(call: &Value) -> f64 {
    call["took"].as_f64().unwrap_or_default()
}

/// A mistake in the request is one for all.
fn refused<T>(answered: &[Answered<T>]) -> Result<(), Status> {
    let mistake =
        answered.iter().find_map(|(_, answer)| answer.as_ref().err().filter(|it| it.code() == Code::InvalidArgument));
    mistake.map_or(Ok(()), |status| Err(status.clone()))
}

/// What is asked of the logs.
pub(crate) struct Logs<'a> {
    /// One process; empty for all.
    pub(crate) process: &'a str,
    pub(crate) level: &'a str,
    pub(crate) trace: &'a str,
    /// By the process: the last line that the page has.
    pub(crate) after: BTreeMap<&'a str, i64>,
}

/// Lines of the logs, oldest first.
///
/// # Errors
///
/// A process refuses the request.
pub(crate) async fn logs(hub: &Hub, asked: &Logs<'_>) -> Result<Value, Status> {
    let request = TailLogsRequest { level: asked.level.to_owned(), trace: asked.trace.to_owned(), end: true };
    let ask = |mut client: Client, id: String| {
        let is_asked = asked.process.is_empty() || id == asked.process;
        let (request, after) = (request.clone(), asked.after.get(&*id).copied().unwrap_or_default());
        async move {
            let mut lines = Vec::new();
            if is_asked {
                let mut stream = client.tail_logs(request).await?.into_inner();
                while let Some(frame) = stream.message().await? {
                    lines.extend(frame.lines.into_iter().filter(|line| line.number > after));
                }
            }
            Ok(lines)
        }
    };
    let answered = of_each(hub, ask).await;
    refused(&answered)?;
    let (answers, silent) = parted(answered, None);
    let mut next: Map<String, Value> =
        asked.after.iter().map(|(id, number)| ((*id).to_owned(), json!(number))).collect();
    next.extend(answers.iter().filter_map(|(id, lines)| Some((id.clone(), json!(lines.last()?.number)))));
    let mut lines: Vec<_> = answers
        .iter()
        .flat_map(|(id, lines)| lines.iter().map(|line| (millis(line.at.as_ref()), row(id, line))))
        .collect();
    lines.sort_by_key(|(at, _)| *at);
    let newest = lines.len().saturating_sub(LINES);
    let lines: Vec<_> = lines.into_iter().skip(newest).map(|(_, row)| row).collect();
    Ok(json!({"lines": lines, "silent": silent, "next": next}))
}

fn row(id: &str, line: &LogLine) -> Value {
    json!({
        "process": id, "number": line.number, "at": millis(line.at.as_ref()), "level": line.level, "target": line.target,
        "trace": line.trace, "text": cut(&line.text),
    })
}

/// The configuration in force in a process.
///
/// # Errors
///
/// There is no such process, or it does not answer.
pub(crate) async fn configuration(hub: &Hub, id: &str) -> Result<Value, Status> {
    let channel = hub.asked().await.into_iter().find(|(known, _)| known == id).map(|(_, channel)| channel);
    let channel = channel.ok_or_else(|| Status::not_found("no process has this address"))?;
    let channel = channel.map_err(Status::unavailable)?;
    let process = process(channel).await?;
    let settings = process
        .configuration
        .iter()
        .map(|it| json!({"key": it.key, "value": cut(&it.value), "origin": it.origin, "secret": it.secret}));
    Ok(json!({"settings": settings.collect::<Vec<_>>()}))
}

async fn process(channel: Channel) -> Result<GetProcessResponse, Status> {
    let mut client = Client::new(channel).max_decoding_message_size(LARGEST);
    let answer = timeout(LIMIT, client.get_process(GetProcessRequest {})).await;
    let silent = |_| Err(Status::deadline_exceeded(format!("did not answer within {} s", LIMIT.as_secs())));
    Ok(answer.unwrap_or_else(silent)?.into_inner())
}

/// The contracts of all processes.
pub(crate) async fn contracts(hub: &Hub) -> Value {
    let asked = hub.asked().await.into_iter().map(|(id, channel)| async move {
        let channel = match channel {
            Ok(channel) => channel,
            Err(why) => return (id, Err(Status::unavailable(why))),
        };
        let process = process(channel.clone()).await;
        (id, process.map(|process| (process, channel)))
    });
    let (answers, mut silent) = parted(join_all(asked).await, None);
    let (mut serving, mut declared) = (BTreeMap::new(), BTreeMap::<_, BTreeSet<_>>::new());
    // One process of each build: the contracts of a large mesh are megabytes.
    let mut builds = BTreeMap::new();
    for (id, (process, channel)) in answers {
        let build = if process.digest.is_empty() { process.start_id } else { process.process + &process.digest };
        builds.entry(build).or_insert((id, channel));
        for service in process.services {
            serving.extend(service.contracts.into_iter().map(|contract| (contract, service.name.clone())));
        }
        for call in process.calls {
            declared.entry(call.method).or_default().insert(call.caller);
        }
    }
    let known = Known { serving: &serving, declared: &declared };
    let mut described = Described::default();
    let read = builds.into_values().map(|(id, channel)| async move {
        let late = |_| Err(Status::deadline_exceeded("did not answer in time"));
        (id, timeout(LIMIT, Contracts::of(&channel)).await.unwrap_or_else(late))
    });
    let mut read = stream::iter(read).buffer_unordered(AT_ONCE);
    while let Some((id, contracts)) = read.next().await {
        match contracts {
            Ok(contracts) => described.add(&contracts, &known),
            Err(status) => silent.push(json!({"process": id, "why": cut(status.message())})),
        }
    }
    let mut json = described.json();
    json["silent"] = json!(silent);
    json
}
