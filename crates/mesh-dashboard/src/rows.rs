//! Rows of the page's state, from what processes say of themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_proto::mesh::inspect::v1::{
    Edge, Endpoint, Follower, GetProcessResponse, KeptCall, ServiceHealth, Side, UnmetCall,
};
use mesh_runtime::settings::parse::time;
use serde_json::{Map, Value, json};
use transcode::code_name;

use crate::known::{Clock, Condition, Reachability, millis};
use crate::members::CALLER;

/// The packages whose calls are about the process itself. They would be mostly those of the page.
const OWN: [&str; 4] = ["mesh.inspect.", "mesh.release.", "grpc.health.", "grpc.reflection."];
/// The longest name, in bytes.
const LONGEST: usize = 256;
/// The packages by which the page follows long work.
const FOLLOWED: [&str; 2] = ["google.longrunning.", "mesh.operations."];
/// The packages of contracts that services call without a declaration.
const SHARED: [&str; 3] = ["mesh.", "google.", "grpc."];

/// The row of a process.
pub(crate) fn process(
    id: &str,
    condition: &Condition,
    health: &BTreeMap<String, ServiceHealth>,
    unmet: &[UnmetCall],
) -> Value {
    let reported = &condition.process;
    let services = reported.services.iter().map(|service| {
        let health = health.get(&service.name);
        json!({
            "name": service.name, "contracts": service.contracts, "database": service.database, "follows": service.follows,
            "ready": health.is_some_and(|health| health.ready),
            "why": health.map_or("", |health| &health.why),
        })
    });
    let listeners = reported.listeners.iter().map(|it| json!({"name": it.name, "address": it.address}));
    let unmet =
        unmet.iter().map(|it| json!({"caller": it.caller, "peer": it.peer, "method": it.method, "why": it.why}));
    json!({
        "key": id, "id": id, "process": reported.process, "start": reported.start_id, "started": millis(reported.started_at.as_ref()),
        "version": reported.version, "digest": reported.digest, "address": id, "listeners": listeners.collect::<Vec<_>>(),
        "state": condition.state.name(), "why": condition.why(), "since": condition.since, "slow": slow(reported),
        "services": services.collect::<Vec<_>>(), "known": condition.services, "unmet": unmet.collect::<Vec<_>>(),
    })
}

/// From how many seconds on a call is slow there: `dashboard.slow`. `None` before the process has said it.
fn slow(process: &GetProcessResponse) -> Option<f64> {
    let setting = process.configuration.iter().find(|setting| setting.key == "dashboard.slow")?;
    // As a file has it.
    Some(time(Duration::ZERO, Duration::MAX)(setting.value.trim_matches('"'))?.as_secs_f64())
}

/// The key of an edge of a process, and its row. `None`: the call is about the process itself.
///
/// `at` is when it was measured, here.
pub(crate) fn edge(
    id: &str,
    process: &GetProcessResponse,
    edge: &Edge,
    at: u64,
    clock: Clock,
) -> Option<(String, Value)> {
    let side = side(edge.side());
    let caller = name(if edge.caller.is_empty() { &edge.claimed_caller } else { &edge.caller });
    if is_own(&edge.method, caller) {
        return None;
    }
    // What a reader tries is a call from outside.
    let caller = if caller == CALLER { "" } else { caller };
    let start = &process.start_id;
    // By what was measured: two edges may be shown under one caller.
    let [proven, claimed, callee, method] =
        [&edge.caller, &edge.claimed_caller, &edge.callee, &edge.method].map(|it| name(it));
    let ends = format!("{proven} {claimed} {callee} {method} {}", edge.memory);
    let key = format!("{id} {start} {side} {ends}");
    let shared = SHARED.iter().any(|package| edge.method.starts_with(package));
    let declares = |it: &mesh_proto::mesh::inspect::v1::DeclaredCall| it.caller == *caller && it.method == edge.method;
    let declares_some = process.services.iter().any(|service| service.name == *caller);
    let declared = shared || side == "server" || !declares_some || process.calls.iter().any(declares);
    let codes = edge.codes.iter().map(|it| (code_name(it.code).to_owned(), json!(it.count)));
    let buckets: Vec<_> = edge.buckets.iter().map(|it| json!([it.number, it.count])).collect();
    let last = edge.last_failure.as_ref().map(|it| {
        json!({
            "code": code_name(it.code), "reason": reason(&it.reason, it.code), "trace": it.trace,
            "at": clock.here(millis(it.ended_at.as_ref())),
        })
    });
    let row = json!({
        "key": key, "process": id, "start": start, "side": side, "caller": caller, "callee": callee,
        "method": method, "memory": edge.memory, "codes": Map::from_iter(codes), "sum": seconds(edge.sum.as_ref()),
        "buckets": buckets, "inFlight": edge.in_flight, "retries": edge.retries, "at": at, "last": last,
        "declared": declared,
    });
    Some((key, row))
}

/// A name, which is cut if it is longer than any.
fn name(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST)]
}

/// Whether a call is one about the process itself, or of this page.
fn is_own(method: &str, caller: &str) -> bool {
    let of = |packages: &[&str]| packages.iter().any(|package| method.starts_with(package));
    of(&OWN) || caller == CALLER && of(&FOLLOWED)
}

/// The key of an instance of a peer, as a process knows it, and its row.
pub(crate) fn endpoint(id: &str, it: &Endpoint) -> (String, Value) {
    let key = format!("{id} {} {}", it.peer, it.address);
    let row = json!({
        "key": key, "process": id, "peer": it.peer, "address": it.address, "picks": it.picks, "ejections": it.ejections,
    });
    (key, row)
}

/// The key of a copy of what another service publishes, and its row.
pub(crate) fn follower(id: &str, it: &Follower) -> (String, Value) {
    let key = format!("{id} {} {}", it.service, it.source);
    let lag = (it.lag >= 0).then_some(it.lag);
    let row = json!({
        "key": key, "process": id, "service": it.service, "source": it.source, "lag": lag, "parked": it.parked,
        "connected": it.connected,
    });
    (key, row)
}

/// The rows of services, by what runs them and what calls them.
pub(crate) fn services<'a>(
    conditions: impl Iterator<Item = (&'a Condition, &'a BTreeMap<String, ServiceHealth>)>,
) -> BTreeMap<String, Value> {
    #[derive(Default)]
    struct Service {
        instances: u32,
        ready: u32,
        versions: Vec<String>,
        why: Vec<String>,
    }
    let mut services: BTreeMap<String, Service> = BTreeMap::new();
    for (condition, health) in conditions {
        let reported = &condition.process;
        let names = if reported.services.is_empty() {
            condition.services.clone()
        } else {
            reported.services.iter().map(|service| service.name.clone()).collect()
        };
        for call in &reported.calls {
            services.entry(call.callee.clone()).or_default();
        }
        for name in names {
            let service = services.entry(name.clone()).or_default();
            if !condition.state.is_there() {
                if matches!(condition.state, Reachability::Drained | Reachability::Gone) {
                    service.why.push(condition.why.clone());
                }
                continue;
            }
            let ready = condition.state.answers() && health.get(&name).is_some_and(|health| health.ready);
            service.instances += 1;
            service.ready += u32::from(ready);
            if !reported.version.is_empty() && !service.versions.contains(&reported.version) {
                service.versions.push(reported.version.clone());
            }
            if !ready {
                let own = health.get(&name).map(|health| health.why.clone()).filter(|_| condition.state.answers());
                service.why.push(own.unwrap_or_else(|| condition.why.clone()));
            }
        }
    }
    let row = |(name, service): (String, Service)| {
        let mut why: Vec<_> = service.why.into_iter().filter(|why| !why.is_empty()).collect();
        why.dedup();
        // One that is gone has been replaced.
        if service.instances > 0 && service.ready == service.instances {
            why.clear();
        }
        if service.instances == 0 && why.is_empty() {
            why.push("no instance of it was found".to_owned());
        }
        let row = json!({
            "key": name, "name": name, "instances": service.instances, "ready": service.ready, "versions": service.versions,
            "known": service.instances > 0, "why": why.join("; "),
        });
        (name, row)
    };
    services.into_iter().map(row).collect()
}

/// The rows of the calls that services declare.
pub(crate) fn declared<'a>(conditions: impl Iterator<Item = &'a Condition>) -> BTreeMap<String, Value> {
    let calls = conditions.flat_map(|condition| &condition.process.calls);
    let row = |it: &mesh_proto::mesh::inspect::v1::DeclaredCall| {
        let key = format!("{} {} {}", it.caller, it.callee, it.method);
        let row = json!({
            "key": key, "caller": it.caller, "callee": it.callee, "method": it.method, "optional": it.optional,
        });
        (key, row)
    };
    calls.map(row).collect()
}

/// A call that a process has kept. `None`: it is about the process itself.
pub(crate) fn call(id: &str, it: &KeptCall) -> Option<Value> {
    let key = format!("{id} {} {}", side(it.side()), it.span);
    let row = json!({
        "key": key, "process": id, "side": side(it.side()), "trace": it.trace, "span": it.span, "parent": it.parent,
        "caller": it.caller, "callee": it.callee, "method": it.method, "memory": it.memory,
        "start": it.started_at.as_ref().map_or(0.0, |at| at.seconds as f64 * 1e3 + f64::from(at.nanos) / 1e6),
        "took": seconds(it.took.as_ref()), "code": code_name(it.code), "reason": reason(&it.reason, it.code), "attempts": it.attempts, "slow": it.slow,
    });
    (!is_own(&it.method, &it.caller)).then_some(row)
}

/// The reason of a failure; without one, the name of its code.
fn reason(reason: &str, code: i32) -> &str {
    if reason.is_empty() && code != 0 { code_name(code) } else { reason }
}

fn seconds(time: Option<&prost_types::Duration>) -> f64 {
    let time = time.and_then(|time| Duration::try_from(*time).ok());
    time.unwrap_or_default().as_secs_f64()
}

fn side(side: Side) -> &'static str {
    if side == Side::Client { "client" } else { "server" }
}
