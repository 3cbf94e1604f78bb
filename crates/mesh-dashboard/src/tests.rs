//! The page before processes that say what a test wants.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full};
use mesh_proto::mesh::inspect::v1::inspect_service_server::{InspectService, InspectServiceServer};
use mesh_proto::mesh::inspect::v1::*;
use mesh_rpc::call::error::draining;
use mesh_rpc::telemetry::FAULTS;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::{Status, async_trait};
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use crate::files::Files;
use crate::follow::{self, IDLE, REMEMBERED};
use crate::guard::Guard;
use crate::hub::{Hub, Own};
use crate::known::{Clock, Followed, Reachability};
use crate::members::{Channel, Listed, Member, Members};
use crate::routes::Routes;
use crate::rows;
use crate::settings::Mode;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A process with so many calls has another edge.
const LATE: i64 = 100;
/// A process with so many calls drains.
const DRAINS: i64 = 1000;
/// The start of a process that has drained.
const ENDED: u32 = 0;

/// A process that a test changes.
#[derive(Clone)]
struct Process {
    name: &'static str,
    /// What discovery knows it by.
    id: &'static str,
    /// Its start, and how many calls it has made. `None`: it is stopped, and answers nothing.
    calls: watch::Sender<Option<(u32, i64)>>,
    watched: Arc<AtomicUsize>,
}

impl Process {
    fn new(name: &'static str) -> Self {
        Self { name, id: name, calls: watch::Sender::new(Some((1, 0))), watched: Arc::default() }
    }

    fn set(&self, start: u32, calls: i64) {
        self.calls.send_replace(Some((start, calls)));
    }

    fn stop(&self) {
        self.calls.send_replace(None);
    }

    async fn now(&self) -> (u32, i64) {
        let mut calls = self.calls.subscribe();
        calls.wait_for(Option::is_some).await.unwrap().unwrap()
    }

    fn channel(&self) -> Channel {
        let server = InspectServiceServer::new(self.clone());
        BoxCloneSyncService::new(ServiceExt::<Request<Body>>::map_err(server, |never| match never {}))
    }

    fn frame(&self, (start, calls): (u32, i64)) -> WatchResponse {
        let edge = Edge {
            side: Side::Client.into(),
            caller: self.name.to_owned(),
            callee: "catalog".to_owned(),
            method: "catalog.v1.CatalogService/GetTitle".to_owned(),
            codes: vec![CodeCount { code: 0, count: calls }],
            ..Edge::default()
        };
        let own = Edge { method: "mesh.inspect.v1.InspectService/Watch".to_owned(), ..edge.clone() };
        let late = Edge { method: "catalog.v1.CatalogService/CreateTitle".to_owned(), ..edge.clone() };
        let late = Some(late).filter(|_| calls >= LATE);
        let health = ServiceHealth { service: self.name.to_owned(), ready: true, why: String::new() };
        WatchResponse {
            start_id: format!("{} {start}", self.name),
            edges: [edge, own].into_iter().chain(late).collect(),
            services: vec![health],
            draining: calls >= DRAINS,
            ..WatchResponse::default()
        }
    }
}

/// Counts open streams.
struct Watching(Arc<AtomicUsize>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl InspectService for Process {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;
    type TailLogsStream = Pin<Box<dyn Stream<Item = Result<TailLogsResponse, Status>> + Send>>;

    async fn get_process(
        &self,
        _: tonic::Request<GetProcessRequest>,
    ) -> Result<tonic::Response<GetProcessResponse>, Status> {
        let (start, _) = self.now().await;
        if start == ENDED {
            return Err(Status::unavailable("connection refused"));
        }
        let call = DeclaredCall {
            caller: self.name.to_owned(),
            callee: "catalog".to_owned(),
            method: "catalog.v1.CatalogService/GetTitle".to_owned(),
            optional: false,
        };
        let setting = |key: &str, value: &str, secret| Setting {
            key: key.to_owned(),
            value: value.to_owned(),
            origin: "default".to_owned(),
            secret,
        };
        Ok(tonic::Response::new(GetProcessResponse {
            process: self.name.to_owned(),
            start_id: format!("{} {start}", self.name),
            version: "1.0.0".to_owned(),
            digest: "d".to_owned(),
            services: vec![Service { name: self.name.to_owned(), ..Service::default() }],
            calls: vec![call],
            configuration: vec![
                setting("listen", "127.0.0.1:0", false),
                setting("database", "set", true),
                setting("dashboard.slow", "\"1m 30s\"", false),
            ],
            ..GetProcessResponse::default()
        }))
    }

    async fn watch(&self, _: tonic::Request<WatchRequest>) -> Result<tonic::Response<Self::WatchStream>, Status> {
        self.watched.fetch_add(1, Ordering::Relaxed);
        let (process, first) = (self.clone(), self.now().await.0);
        let watching = Watching(Arc::clone(&self.watched));
        let frames = stream::unfold((process, watching, true), move |(process, watching, at_once)| async move {
            if !at_once {
                sleep(Duration::from_secs(1)).await;
            }
            let now = process.now().await;
            let frame = match now.0 {
                start if start == first => Ok(process.frame(now)),
                ENDED => Err(draining("it drains")),
                _ => Err(Status::unavailable("it has ended")),
            };
            Some((frame, (process, watching, false)))
        });
        Ok(tonic::Response::new(Box::pin(frames)))
    }

    async fn list_calls(
        &self,
        request: tonic::Request<ListCallsRequest>,
    ) -> Result<tonic::Response<ListCallsResponse>, Status> {
        self.now().await;
        if request.get_ref().method == "nonsense" {
            return Err(Status::invalid_argument("method"));
        }
        Ok(tonic::Response::new(ListCallsResponse { calls: vec![kept(self.name)], kept_since: None }))
    }

    async fn get_trace(
        &self,
        request: tonic::Request<GetTraceRequest>,
    ) -> Result<tonic::Response<GetTraceResponse>, Status> {
        self.now().await;
        if request.get_ref().trace != TRACE {
            return Err(Status::not_found("no call of this trace was kept"));
        }
        Ok(tonic::Response::new(GetTraceResponse { calls: vec![kept(self.name)] }))
    }

    async fn tail_logs(
        &self,
        _: tonic::Request<TailLogsRequest>,
    ) -> Result<tonic::Response<Self::TailLogsStream>, Status> {
        self.now().await;
        let line = |number| LogLine { number, text: format!("{} {number}", self.name), ..LogLine::default() };
        let frame = TailLogsResponse { lines: vec![line(1), line(2)], missed: 0 };
        Ok(tonic::Response::new(Box::pin(stream::iter([Ok(frame)]))))
    }
}

fn kept(process: &str) -> KeptCall {
    KeptCall { trace: TRACE.to_owned(), caller: process.to_owned(), ..KeptCall::default() }
}

/// The processes that discovery knows.
#[derive(Clone)]
struct Known(watch::Sender<Vec<Process>>);

impl Members for Known {
    fn list(&self) -> Pin<Box<dyn Future<Output = Listed> + Send + '_>> {
        let member = |process: &Process| Member {
            id: process.id.to_owned(),
            services: vec![process.name.to_owned()],
            why: String::new(),
            channel: process.channel(),
        };
        let members = self.0.borrow().iter().map(member).collect();
        Box::pin(async { Listed { members, notes: vec!["a note".to_owned()] } })
    }
}

/// The page before processes.
struct Page {
    routes: Routes,
    known: Known,
}

impl Page {
    fn new(processes: &[Process]) -> Self {
        Self::with(processes, Mode::Call, None)
    }

    fn with(processes: &[Process], mode: Mode, token: Option<&str>) -> Self {
        let known = Known(watch::Sender::new(processes.to_vec()));
        let own = Own {
            process: "test".to_owned(),
            version: "1".to_owned(),
            registry: "local".to_owned(),
            links: vec![("/docs".to_owned(), "documentation".to_owned())],
        };
        let hub = Hub::new(Box::new(known.clone()), own, mode);
        tokio::spawn(follow::run(Arc::clone(&hub)));
        let site = mesh_edge::Site::new("127.0.0.1:8080".parse().unwrap(), &[]);
        let guard = Guard::new(site, token.map(str::to_owned));
        Self { routes: Routes::new(hub, guard, CancellationToken::new()), known }
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response<Body> {
        let request = Request::builder().method(method).uri(path).header("host", "localhost:8080");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let (head, ()) = request.body(()).unwrap().into_parts();
        self.routes.answer(&head, Full::new(Bytes::from(body.to_owned()))).await
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let response = self.send("GET", path, &[], "").await;
        (response.status(), body(response).await)
    }

    /// The next events of a page.
    async fn open(&self) -> Events {
        let (head, ()) = Request::get("/dashboard/events").header("host", "localhost").body(()).unwrap().into_parts();
        let response = self.routes.answer(&head, Empty::new()).await;
        Events { body: response.into_body(), state: Value::Null }
    }
}

async fn body(response: Response<Body>) -> Value {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// A page, which merges what it gets as a page does.
struct Events {
    body: Body,
    state: Value,
}

impl Events {
    /// Waits until the state is as it should be.
    async fn until(&mut self, is: impl Fn(&Value) -> bool) {
        let mut frames = 0;
        while !is(&self.state) {
            frames += 1;
            assert!(frames < 60, "after a minute it is {:#}", self.state);
            let data = self.body.frame().await.expect("the stream goes on").unwrap().into_data().unwrap();
            let text = String::from_utf8(data.to_vec()).unwrap();
            let Some((name, json)) =
                text.trim_end().strip_prefix("event: ").and_then(|text| text.split_once("\ndata: "))
            else {
                continue;
            };
            let json: Value = serde_json::from_str(json).unwrap();
            if name == "state" {
                self.state = json;
            } else {
                self.merge(&json);
            }
        }
    }

    /// The edges, by their keys.
    fn edges(&self) -> Vec<Value> {
        let mut edges = self.state["edges"].as_array().unwrap().clone();
        edges.sort_by_key(|edge| edge["key"].to_string());
        edges
    }

    fn merge(&mut self, changes: &Value) {
        for (section, rows) in changes.as_object().unwrap().iter().filter(|(name, _)| *name != "at" && *name != "gone")
        {
            let own = self.state[section].as_array_mut().unwrap();
            for row in rows.as_array().unwrap() {
                own.retain(|old| old["key"] != row["key"]);
                own.push(row.clone());
            }
        }
        for (section, keys) in changes["gone"].as_object().unwrap() {
            self.state[section].as_array_mut().unwrap().retain(|row| !keys.as_array().unwrap().contains(&row["key"]));
        }
    }
}

fn row<'a>(state: &'a Value, section: &str, key: &str) -> &'a Value {
    let rows = state[section].as_array().map(Vec::as_slice).unwrap_or_default();
    rows.iter().find(|row| row["key"].as_str().is_some_and(|it| it.starts_with(key))).unwrap_or(&Value::Null)
}

#[tokio::test(start_paused = true)]
async fn page_gets_what_processes_say() {
    let artwork = Process::new("artwork");
    let page = Page::new(std::slice::from_ref(&artwork));
    let mut events = page.open().await;
    events.until(|state| row(state, "edges", "artwork")["codes"] == json!({"OK": 0})).await;
    artwork.set(1, 7);
    events.until(|state| row(state, "edges", "artwork")["codes"] == json!({"OK": 7})).await;
    let state = &events.state;
    assert_eq!(state["hub"]["mode"], "call");
    assert_eq!(state["hub"]["links"], json!([{"url": "/docs", "name": "documentation"}]));
    assert_eq!(state["edges"].as_array().unwrap().len(), 1, "calls about the process itself are left out");
    let process = row(state, "processes", "artwork");
    assert_eq!((&process["state"], &process["slow"]), (&json!("up"), &json!(90.0)));
    let services = |name| (&row(state, "services", name)["ready"], &row(state, "services", name)["known"]);
    assert_eq!(services("artwork"), (&json!(1), &json!(true)));
    assert_eq!(services("catalog"), (&json!(0), &json!(false)), "it is called, and no instance is known");
    assert_eq!(row(state, "declared", "artwork")["callee"], "catalog");
    assert_eq!(row(state, "notes", "a note")["text"], "a note");
}

#[tokio::test(start_paused = true)]
async fn process_that_hangs_delays_no_other() {
    let (artwork, library) = (Process::new("artwork"), Process::new("library"));
    let page = Page::new(&[artwork.clone(), library.clone()]);
    library.stop();
    let mut events = page.open().await;
    events.until(|state| row(state, "processes", "library")["why"] == "did not answer for 3 s").await;
    assert_eq!(row(&events.state, "processes", "artwork")["state"], "up");
    assert_eq!(row(&events.state, "services", "library")["ready"], 0);
    library.set(1, 3);
    events.until(|state| row(state, "processes", "library")["state"] == "up").await;
    library.stop();
    let asked = page.get("/dashboard/api/calls").await.1;
    let silent = json!([{"process": "library", "why": "did not answer within 2 s"}]);
    assert_eq!((asked["calls"].as_array().unwrap().len(), &asked["silent"]), (1, &silent));
}

#[tokio::test(start_paused = true)]
async fn restart_begins_the_counters_again() {
    let artwork = Process::new("artwork");
    artwork.set(1, 9);
    let page = Page::new(std::slice::from_ref(&artwork));
    let mut events = page.open().await;
    events.until(|state| row(state, "edges", "artwork")["codes"] == json!({"OK": 9})).await;
    artwork.set(2, 1);
    events.until(|state| row(state, "edges", "artwork")["codes"] == json!({"OK": 1})).await;
    assert_eq!(row(&events.state, "edges", "artwork")["start"], "artwork 2");
    assert_eq!(events.state["edges"].as_array().unwrap().len(), 1, "the old edge is gone");
}

#[tokio::test(start_paused = true)]
async fn edge_that_comes_later_says_since_when_it_has_calls() {
    let artwork = Process::new("artwork");
    let page = Page::new(std::slice::from_ref(&artwork));
    let mut events = page.open().await;
    let has = |state: &Value, count: usize| state["edges"].as_array().is_some_and(|edges| edges.len() == count);
    events.until(|state| has(state, 1)).await;
    artwork.set(1, LATE);
    events.until(|state| has(state, 2)).await;
    let since = |edge: &Value| edge["since"].as_u64().unwrap();
    let edges = events.edges();
    let [late, first] = [0, 1].map(|at| &edges[at]);
    assert_eq!(late["method"], "catalog.v1.CatalogService/CreateTitle");
    assert_eq!(since(first), 0, "the calls of what comes at first are older");
    assert!(since(late) > 0 && since(late) <= late["at"].as_u64().unwrap(), "{late}");
}

#[tokio::test(start_paused = true)]
async fn process_that_discovery_forgets_is_shown_while_it_answers() {
    let artwork = Process::new("artwork");
    let page = Page::new(std::slice::from_ref(&artwork));
    let mut events = page.open().await;
    events.until(|state| row(state, "processes", "artwork")["state"] == "up").await;
    page.known.0.send_replace(Vec::new());
    artwork.set(1, 5);
    events.until(|state| row(state, "edges", "artwork")["codes"] == json!({"OK": 5})).await;
    sleep(Duration::from_secs(30)).await;
    artwork.set(1, 6);
    events.until(|state| row(state, "edges", "artwork")["codes"] == json!({"OK": 6})).await;
    artwork.stop();
    events.until(|state| row(state, "processes", "artwork")["state"] == "silent").await;
    sleep(REMEMBERED).await;
    events.until(|state| row(state, "processes", "artwork").is_null()).await;
    assert!(row(&events.state, "edges", "artwork").is_null());
}

#[tokio::test(start_paused = true)]
async fn process_that_drains_is_not_taken_for_one_that_died() {
    let artwork = Process::new("artwork");
    let page = Page::new(std::slice::from_ref(&artwork));
    let mut events = page.open().await;
    events.until(|state| row(state, "processes", "artwork")["state"] == "up").await;
    artwork.set(1, DRAINS);
    events.until(|state| row(state, "processes", "artwork")["state"] == "draining").await;
    artwork.set(ENDED, 0);
    events.until(|state| row(state, "processes", "artwork")["state"] == "drained").await;
    // Its address refuses connections now.
    sleep(Duration::from_secs(30)).await;
    events.until(|state| row(state, "services", "artwork")["known"] == false).await;
    assert_eq!(row(&events.state, "processes", "artwork")["state"], "drained");
    let why = row(&events.state, "services", "artwork")["why"].as_str().unwrap();
    assert!(why.contains("drained"), "{why}");
    artwork.set(2, 0);
    events.until(|state| row(state, "processes", "artwork")["state"] == "up").await;
}

#[test]
fn process_that_does_not_answer_says_when_it_answered_last() {
    let member = Member {
        id: String::new(),
        services: Vec::new(),
        why: String::new(),
        channel: Process::new("artwork").channel(),
    };
    let mut condition = Followed::new(&member).condition;
    condition.enter(Reachability::Gone, "refused", 500);
    assert_eq!(condition.since, 0, "it never answered");
    for (at, is, since) in [
        (1000, Reachability::Up, 1000),
        (2000, Reachability::Up, 1000),
        (5000, Reachability::Silent, 2000),
        (9000, Reachability::Gone, 2000),
        (9500, Reachability::Up, 9500),
    ] {
        condition.enter(is, "", at);
        assert_eq!(condition.since, since, "{is:?} at {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn second_address_of_a_process_is_not_shown() {
    let (artwork, mut other) = (Process::new("artwork"), Process::new("artwork"));
    other.id = "by another address";
    let page = Page::new(&[artwork, other]);
    let mut events = page.open().await;
    events.until(|state| row(state, "processes", "artwork")["state"] == "up").await;
    sleep(Duration::from_secs(10)).await;
    events.until(|state| row(state, "services", "artwork")["ready"] == 1).await;
    assert!(row(&events.state, "processes", "by another").is_null(), "{:#}", events.state);
    assert_eq!(row(&events.state, "services", "artwork")["instances"], 1);
    assert_eq!(page.get("/dashboard/api/calls").await.1["calls"].as_array().unwrap().len(), 1);
}

#[test]
fn edges_that_are_shown_under_one_caller_have_a_key_each() {
    let process = GetProcessResponse::default();
    let edge = |caller: &str, claimed: &str| {
        let edge = Edge { caller: caller.to_owned(), claimed_caller: claimed.to_owned(), ..Edge::default() };
        rows::edge("id", &process, &edge, 0, Clock::default()).unwrap()
    };
    let ((proven, first), (claimed, second)) = (edge("artwork", ""), edge("", "artwork"));
    assert!(proven != claimed && first["caller"] == second["caller"]);
    let ((tried, first), (outside, second)) = (edge("dashboard", ""), edge("", ""));
    assert!(tried != outside && first["caller"] == "" && second["caller"] == "");
}

#[tokio::test(start_paused = true)]
async fn pages_share_one_watch_and_the_last_one_ends_it() {
    let artwork = Process::new("artwork");
    let page = Page::new(std::slice::from_ref(&artwork));
    for _ in 0..1000 {
        page.open().await;
    }
    let mut kept = page.open().await;
    kept.until(|state| row(state, "processes", "artwork")["state"] == "up").await;
    assert_eq!(artwork.watched.load(Ordering::Relaxed), 1);
    drop(kept);
    sleep(IDLE * 2).await;
    assert_eq!(artwork.watched.load(Ordering::Relaxed), 0);
    let mut again = page.open().await;
    again.until(|state| row(state, "processes", "artwork")["state"] == "up").await;
}

#[tokio::test(start_paused = true)]
async fn stream_ends_with_a_drain() {
    let page = Page::new(&[]);
    let mut events = page.open().await;
    assert!(events.body.frame().await.is_some());
    page.routes.draining.cancel();
    let ended = async { while events.body.frame().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(1), ended).await.expect("the stream has ended");
}

#[tokio::test(start_paused = true)]
async fn questions_are_asked_of_all() {
    let page = Page::new(&[Process::new("artwork"), Process::new("library")]);
    let (status, trace) = page.get(&format!("/dashboard/api/traces/{TRACE}")).await;
    assert_eq!((status, trace["calls"].as_array().unwrap().len()), (StatusCode::OK, 2));
    let (status, unknown) = page.get("/dashboard/api/traces/0").await;
    assert_eq!((status, &unknown["error"]["code"]), (StatusCode::NOT_FOUND, &json!("NOT_FOUND")));
    let (status, _) = page.get("/dashboard/api/calls?method=nonsense").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(page.get("/dashboard/api/calls?order=nonsense").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(page.get("/dashboard/api/calls?order=slowest").await.0, StatusCode::OK);
    for limit in ["0", "-1", "1001", "x"] {
        let (status, _) = page.get(&format!("/dashboard/api/calls?limit={limit}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{limit}");
    }
    let (_, logs) = page.get("/dashboard/api/logs?process=artwork&after=artwork~1").await;
    assert_eq!((&logs["lines"][0]["text"], &logs["next"]), (&json!("artwork 2"), &json!({"artwork": 2})));
    let (_, all) = page.get("/dashboard/api/logs").await;
    assert_eq!(all["lines"].as_array().unwrap().len(), 4);
    assert_eq!(page.get("/dashboard/api/logs?after=1").await.0, StatusCode::BAD_REQUEST);
    let (_, configuration) = page.get("/dashboard/api/processes/artwork/configuration").await;
    assert_eq!(
        configuration["settings"][1],
        json!({"key": "database", "value": "set", "origin": "default", "secret": true})
    );
    assert_eq!(page.get("/dashboard/api/processes/none/configuration").await.0, StatusCode::NOT_FOUND);
    assert_eq!(page.get("/dashboard/api/none").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn strangers_are_refused() {
    let page = Page::new(&[]);
    let sent = async |method: &str, path: &str, headers: &[(&str, &str)]| {
        page.send(method, path, headers, "{}").await.status().as_u16()
    };
    assert_eq!(sent("GET", "/dashboard/", &[]).await, 200);
    for foreign in [("origin", "http://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")] {
        assert_eq!(sent("GET", "/dashboard/", &[foreign]).await, 403, "{foreign:?}");
    }
    let link = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    assert_eq!(sent("GET", "/dashboard/", &link).await, 200, "a link on another page");
    assert_eq!(sent("GET", "/dashboard/api/calls", &link).await, 403);
    let (head, ()) = Request::get("/dashboard/").header("host", "evil.example").body(()).unwrap().into_parts();
    assert_eq!(page.routes.answer(&head, Empty::new()).await.status(), 421);
    let json = ("content-type", "application/json");
    assert_eq!(sent("POST", "/dashboard/", &[]).await, 405);
    assert_eq!(sent("GET", "/dashboard/api/call", &[]).await, 405);
    assert_eq!(sent("POST", "/dashboard/api/call", &[("x-dashboard", "1")]).await, 415);
    assert_eq!(sent("POST", "/dashboard/api/call", &[json]).await, 403, "without the header of the page");
    assert_eq!(sent("POST", "/dashboard/api/call", &[json, ("x-dashboard", "1")]).await, 404, "no such method");
    let page = Page::with(&[], Mode::Read, None);
    let response = page.send("POST", "/dashboard/api/call", &[json, ("x-dashboard", "1")], "{}").await;
    assert_eq!(body(response).await["error"]["reason"], "READ_ONLY");
}

#[tokio::test(start_paused = true)]
async fn link_is_good_once_and_its_cookie_opens_the_page() {
    let token = "0123456789abcdef0123456789abcdef";
    let page = Page::with(&[], Mode::Call, Some(token));
    for path in ["/dashboard/", "/dashboard/events", "/dashboard/api/calls", "/dashboard/app.js"] {
        assert_eq!(page.send("GET", path, &[], "").await.status(), 401, "{path}");
    }
    assert_eq!(page.send("POST", "/dashboard/link", &[("authorization", "Bearer nonsense")], "").await.status(), 401);
    let bearer = format!("Bearer {token}");
    let response = page.send("POST", "/dashboard/link", &[("authorization", &bearer)], "").await;
    let path = body(response).await["path"].as_str().unwrap().to_owned();
    assert_ne!(page.send("HEAD", &path, &[], "").await.status(), 303, "a preview of a link does not use it");
    let opened = page.send("GET", &path, &[], "").await;
    assert_eq!(opened.status(), 303);
    let cookie = opened.headers()["set-cookie"].to_str().unwrap();
    assert!(cookie.ends_with("; HttpOnly; SameSite=Strict") && !cookie.contains(token), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    assert_eq!(page.send("GET", "/dashboard/", &[("cookie", &format!("a=b; {cookie}"))], "").await.status(), 200);
    assert_eq!(page.send("GET", "/dashboard/", &[("cookie", "mesh_dashboard_8080=0")], "").await.status(), 401);
    assert_eq!(page.send("GET", &path, &[], "").await.status(), 401, "a link is good once");
    assert_eq!(page.send("GET", "/dashboard/", &[("authorization", &bearer)], "").await.status(), 200);
}

#[test]
fn page_obeys_its_policy() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() <= 12, "{} files", files.len());
    let mut size = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        size += text.len();
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "https://",
            " style=\"",
        ] {
            assert!(!text.contains(forbidden), "{} has {forbidden}", file.display());
        }
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let path = if name == "index.html" { "" } else { &name };
        let (head, ()) = Request::get("/").body(()).unwrap().into_parts();
        let answered = Files::new().answer(path, &head).unwrap_or_else(|| panic!("{name} is not in the program"));
        assert!(answered.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
    }
    assert!(size <= 84_500, "{size} bytes");
}

#[test]
fn faults_are_the_same_for_the_page_and_for_alerts() {
    let (_, page) = include_str!("../page/model.js").split_once("const FAULTS = [").unwrap();
    let page: Vec<String> = serde_json::from_str(&format!("[{}]", page.split(']').next().unwrap())).unwrap();
    let faults = FAULTS.map(|code| transcode::code_name(code as i32));
    assert_eq!(page, [&faults[..], &["RESOURCE_EXHAUSTED"]].concat());
    // Its owner may delete deploy/.
    let deploy = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    for path in ["prometheus/alerts.yml", "grafana/overview.json"] {
        let Ok(text) = std::fs::read_to_string(deploy.join(path)) else { continue };
        let quotes = ['"', '\\'];
        let lists: Vec<_> = text.split("grpc_code=~").skip(1).map(|rest| rest.trim_start_matches(quotes)).collect();
        assert!(!lists.is_empty(), "{path} has no rule of failed calls");
        for list in lists {
            let codes = list.split(quotes).next().unwrap();
            assert_eq!(codes, FAULTS.map(|code| format!("{code:?}")).join("|"), "{path}");
        }
    }
}
