//! The dashboard of services that call each other: in one process, and in several that end and stand still.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use harness::film::{create, render, small_picture, smallest_picture, wait};
use harness::{Curl, Grpcurl, Process, command};
use serde_json::{Value, json};

use crate::dashboard::Events;

const GET: &str = "catalog.v1.CatalogService/GetTitle";

fn installed() -> bool {
    Grpcurl::installed() && Curl::installed()
}

/// A call by the page.
fn attempt(curl: &Curl, call: &Value) -> harness::Page {
    let headers = ["--header", "Content-Type: application/json", "--header", "x-dashboard: 1", "--data-binary", "@-"];
    curl.send("/dashboard/api/call", &headers, call.to_string().as_bytes())
}

/// `mesh dashboard` for processes at addresses.
struct Dashboard {
    child: std::process::Child,
    curl: Curl,
}

impl Dashboard {
    fn of(processes: &[&Process], options: &[&str]) -> Self {
        let mut command: Command = command("mesh");
        command.args(["dashboard", "--listen=127.0.0.1:0"]).args(options).stdout(Stdio::piped());
        for process in processes {
            command.arg(format!("--at={}", process.address));
        }
        let mut child = command.spawn().expect("mesh starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("dashboard at http://").and_then(|rest| rest.split('/').next());
        let address = address.unwrap_or_else(|| panic!("no address: {line}")).parse().expect("an address");
        Self { child, curl: Curl::to(address) }
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn dashboard_counts_as_metrics_do() {
    if !installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    let (grpcurl, curl) = (process.grpcurl(), process.curl());
    for _ in 0..7 {
        let title = create(&grpcurl, "Metropolis");
        wait(&grpcurl, &render(&grpcurl, &title["titleId"], &smallest_picture()));
    }
    let mut events = Events::open(&curl);
    let count = |caller: &'static str, side: &'static str, method: &'static str| {
        move |events: &Events| {
            let mut edges = events.rows("edges", "method", method);
            let edge = edges.find(|edge| edge["caller"] == caller && edge["side"] == side)?;
            edge["codes"]["OK"].as_u64().filter(|count| *count >= 7)
        }
    };
    let made = events.until("GetTitle is counted", count("artwork", "client", GET));
    let created = events.until("CreateTitle is counted", count("", "server", "catalog.v1.CatalogService/CreateTitle"));
    let page = process.http("/metrics");
    let of = |series: &str| {
        let line = page.lines().find_map(|line| line.strip_prefix(series));
        let line = line.unwrap_or_else(|| panic!("no {series} in {page}"));
        line.trim().parse::<f64>().expect("a number")
    };
    let server = r#"{grpc_service="catalog.v1.CatalogService",grpc_method="CreateTitle",grpc_code="OK"}"#;
    let server = of(&format!("grpc_server_handled_total{server}"));
    let client = r#"{grpc_service="catalog.v1.CatalogService",grpc_method="GetTitle",grpc_code="OK",caller="artwork"}"#;
    let client = of(&format!("grpc_client_handled_total{client}"));
    assert_eq!((made, created, server, client), (7, 7, 7.0, 7.0));
    let declared = events.rows("declared", "caller", "artwork").any(|call| call["method"] == GET);
    let services: Vec<_> = events.rows("services", "name", "catalog").collect();
    assert!(declared && services.len() == 1 && services[0]["ready"] == 1, "{services:?}");
}

#[test]
fn dashboard_follows_long_work() {
    if !installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    let (grpcurl, curl) = (process.grpcurl(), process.curl());
    let mut events = Events::open(&curl);
    events.until("the process is up", |events| events.rows("processes", "state", "up").next().map(drop));
    let title = create(&grpcurl, "Metropolis");
    let name = render(&grpcurl, &title["titleId"], &small_picture());
    let done = events.until("the rendering has succeeded", |events| {
        let row = events.rows("work", "name", &name).next()?;
        (row["state"] == "SUCCEEDED").then(|| row.clone())
    });
    assert_eq!(
        (&done["kind"], &done["percent"], &done["service"]),
        (&json!("RenderArtwork"), &json!(100.0), &json!("artwork"))
    );
    let action = |name: &str, action: &str| {
        let headers =
            ["--header", "Content-Type: application/json", "--header", "x-dashboard: 1", "--data-binary", "@-"];
        let body = json!({"name": name, "action": action}).to_string();
        curl.send("/dashboard/api/operations", &headers, body.as_bytes())
    };
    assert_eq!(action(&name, "retry").status, 400, "it has not failed");
    assert_eq!(action(&name, "nonsense").status, 400);
    assert_eq!(action("services/artwork/operations/none", "cancel").status, 400);
    let unknown = action("services/artwork/operations/01890a5d-ac96-774b-bcce-b302099a8057", "cancel");
    assert_eq!((unknown.status, &unknown.json()["error"]["reason"]), (404, &json!("OPERATION_NOT_FOUND")));
}

#[test]
fn dashboard_makes_calls_that_change_something_after_a_second_click() {
    if !installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    let curl = process.curl();
    let create = json!({"requestId": harness::uuid(), "name": "Metropolis", "year": 1927, "priceCents": 399});
    let call = |confirmed: bool| {
        let create =
            json!({"method": "catalog.v1.CatalogService/CreateTitle", "request": create, "confirmed": confirmed});
        attempt(&curl, &create)
    };
    assert_eq!(call(false).status, 400);
    let created = call(true).json();
    assert_eq!((&created["code"], &created["response"]["title"]["name"]), (&json!(0), &json!("Metropolis")));
    let get = json!({"method": GET, "request": {"titleId": "none"}});
    let failed = attempt(&curl, &get).json();
    assert_eq!((&failed["name"], &failed["reason"]), (&json!("INVALID_ARGUMENT"), &json!("INVALID_FIELDS")));
    let trace = curl.get(&format!("/dashboard/api/traces/{}", failed["trace"].as_str().expect("a trace"))).json();
    assert_eq!(trace["calls"][0]["reason"], "INVALID_FIELDS", "{trace}");
    assert_eq!(attempt(&curl, &json!({"method": GET, "request": {"nonsense": 1}})).status, 400);
    assert_eq!(attempt(&curl, &json!({"method": "made.up.Service/Get", "request": {}})).status, 404);
    let contracts = curl.get("/dashboard/api/contracts").json();
    let catalog =
        contracts["services"].as_array().expect("services").iter().find(|it| it["name"] == "catalog.v1.CatalogService");
    let methods = catalog.expect("catalog")["methods"].as_array().expect("methods");
    let get = methods.iter().find(|method| method["full"] == GET).expect("GetTitle");
    assert!(get["declaredBy"].as_array().expect("callers").contains(&json!("artwork")), "{get}");
    assert_eq!((&get["access"], &get["idempotency"]), (&json!("public"), &json!("NO_SIDE_EFFECTS")));
}

#[test]
fn dashboard_shows_which_service_is_down_and_why() {
    if !installed() {
        return;
    }
    let catalog = Process::start("catalog", &[]);
    let peer = catalog.address.to_string();
    let artwork = Process::start("artwork", &[("MESH__REGISTRY", "static"), ("MESH__STATIC__CATALOG", &peer)]);
    let title = create(&catalog.grpcurl(), "Metropolis");
    wait(&artwork.grpcurl(), &render(&artwork.grpcurl(), &title["titleId"], &smallest_picture()));

    let dashboard = Dashboard::of(&[&catalog, &artwork], &[]);
    let mut events = Events::open(&dashboard.curl);
    events.until("both are up", |events| (events.rows("processes", "state", "up").count() == 2).then_some(()));
    let before = events.until("it has an edge", |events| {
        events.rows("edges", "process", &peer).next().map(|edge| edge["start"].clone())
    });

    let stopped = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_millis();
    catalog.signal("STOP");
    let silent =
        events.until("the catalog is silent", |events| events.rows("processes", "state", "silent").next().cloned());
    assert!(silent["why"].as_str().expect("why").contains("did not answer"), "{silent}");
    let answered = u128::from(silent["since"].as_u64().expect("a time"));
    assert!((stopped - 2000..stopped + 1000).contains(&answered), "{answered} is not its last answer: {stopped}");
    assert_eq!(events.rows("processes", "state", "up").count(), 1, "the other goes on");
    catalog.signal("CONT");
    events.until("the catalog answers", |events| (events.rows("processes", "state", "up").count() == 2).then_some(()));

    let folder = catalog.kill();
    let gone = events.until("the catalog is gone", |events| events.rows("processes", "state", "gone").next().cloned());
    assert_eq!(gone["id"], peer, "{gone}");
    let service = events.until("its service is down", |events| {
        events.rows("services", "name", "catalog").find(|it| it["ready"] == 0).cloned()
    });
    assert!(service["why"].as_str().is_some_and(|why| !why.is_empty()), "{service}");
    let _ = artwork.grpcurl().call(
        "artwork.v1.ArtworkService/RenderArtwork",
        &harness::film::request(&title["titleId"], &smallest_picture()),
    );
    let last = events.until("the edge says why", |events| {
        let mut edges = events.rows("edges", "method", GET);
        edges.find(|edge| edge["side"] == "client" && edge["last"].is_object()).map(|edge| edge["last"].clone())
    });
    assert_eq!((&last["code"], &last["reason"]), (&json!("UNAVAILABLE"), &json!("ENDPOINT_UNREACHABLE")), "{last}");
    let trace =
        dashboard.curl.get(&format!("/dashboard/api/traces/{}", last["trace"].as_str().expect("a trace"))).json();
    let calls = trace["calls"].as_array().expect("calls");
    assert!(
        calls.iter().any(|call| call["reason"] == "ENDPOINT_UNREACHABLE" && call["callee"] == "catalog"),
        "{trace}"
    );

    // At the same address, with counters from 0.
    let mut again = command("catalog");
    again.args(["--listen", &peer]);
    let again = Process::spawn(again, folder, "catalog", &[]);
    assert_eq!(again.address.to_string(), peer);
    events.until("the catalog is up again", |events| {
        (events.rows("processes", "state", "up").count() == 2).then_some(())
    });
    create(&again.grpcurl(), "Metropolis");
    events.until("its edges are new", |events| {
        let mut edges = events.rows("edges", "process", &peer).peekable();
        (edges.peek().is_some() && edges.all(|edge| edge["start"] != before)).then_some(())
    });
    drop(again);
}

#[test]
fn dashboard_shows_a_drain_as_no_failure() {
    if !installed() {
        return;
    }
    let mut catalog = Process::start("catalog", &[("MESH__DRAIN_DELAY", "3s"), ("MESH__DASHBOARD__SLOW", "250ms")]);
    let dashboard = Dashboard::of(&[&catalog], &[]);
    let mut events = Events::open(&dashboard.curl);
    let state = |events: &Events, state| events.rows("processes", "state", state).next().cloned();
    let up = events.until("it is up", |events| state(events, "up"));
    assert_eq!(up["slow"], 0.25, "{up}");
    catalog.signal("TERM");
    let drains = events.until("it drains", |events| state(events, "draining"));
    assert_eq!(drains["why"], "it finishes its calls and ends");
    assert!(catalog.ended().0.success());
    let ended = events.until("it has drained", |events| state(events, "drained"));
    assert!(ended["why"].as_str().expect("why").contains("was stopped"), "{ended}");
}

#[test]
fn dashboard_of_mesh_says_what_it_needs() {
    let refused = |arguments: &[&str]| {
        let output = command("mesh").arg("dashboard").args(arguments).output().expect("mesh starts");
        assert!(!output.status.success());
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    let open = refused(&["--at=127.0.0.1:1", "--listen=0.0.0.0:0"]);
    assert!(open.contains("--token-file") && open.lines().count() == 1, "{open}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let taken = refused(&["--at=127.0.0.1:1", "--listen", &address]);
    assert!(taken.contains(&address) && taken.contains("--listen") && taken.lines().count() == 1, "{taken}");
}
