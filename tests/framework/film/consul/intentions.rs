//! Intentions of Consul: they deny and allow, also open streams, and hold while it is away.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::{Consul, Curl, Grpcurl, Page, Process, Secured, eventually, root};
use serde_json::{Value, json};

use super::access::{guarded, token_for};
use super::{SLACK, times};
use crate::film::sidecar::catalog;
use crate::film::users::{get, refusal, rest, work_belongs_to_its_user};

/// How late a change may be in force.
const IN_FORCE: Duration = Duration::from_secs(1);
const INTENTIONS: (&str, &str) = ("MESH__AUTH__INTENTIONS", "consul");
const NOT_ALLOWED: &str = "CALLER_NOT_ALLOWED";
const UNKNOWN: &str = "INTENTIONS_UNAVAILABLE";

/// A process that has its intentions in Consul.
fn start(mesh: &Secured, binary: &str, consul: &Consul, more: &[(&str, &str)]) -> Process {
    let registry = consul.registry();
    let settings = [("MESH__REGISTRY", &*registry), ("MESH__ADMIN__LISTEN", "127.0.0.1:0"), INTENTIONS];
    mesh.start(binary, &[&settings[..], more].concat())
}

fn intend(consul: &Consul, action: &str, from: &str, to: &str) {
    consul.run(&["intention", "create", "-replace", action, from, to]);
}

fn readyz(process: &Process) -> impl Fn() -> Page + use<> {
    let admin = Curl::to(process.listener("admin"));
    move || admin.get("/readyz")
}

/// A catalog that the service `client` calls.
struct Called<'a> {
    mesh: &'a Secured,
    catalog: &'a Process,
    token: String,
}

impl<'a> Called<'a> {
    fn new(mesh: &'a Secured, catalog: &'a Process) -> Self {
        Self { mesh, catalog, token: mesh.token("alice", &[]) }
    }

    /// The reason of a refusal; empty if the call was made.
    fn answer(&self) -> String {
        let called =
            self.mesh.grpcurl(self.catalog, &self.token).call("catalog.v1.CatalogService/ListTitles", &json!({}));
        if called.failed() { called.failure().1 } else { String::new() }
    }

    /// Waits for an answer, and returns when it came.
    fn until(&self, answer: &str) -> Duration {
        let begun = Instant::now();
        eventually(&format!("the answer is `{answer}`"), || (self.answer() == answer).then_some(()));
        begun.elapsed()
    }
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn intention_revoked_in_consul_ends_streams_and_calls() {
    let Some(consul) = Consul::start().filter(|_| Curl::installed()) else { return };
    let mesh = Secured::new(&["catalog", "artwork", "gateway"]);
    let [_catalog, artwork, gateway] =
        ["catalog", "artwork", "gateway"].map(|binary| start(&mesh, binary, &consul, &[]));
    consul.passing("catalog", 1);
    consul.passing("artwork", 1);
    let (curl, alice) = (gateway.curl(), mesh.token("alice", &[]));
    let titles = || get(&gateway.curl(), &alice, "/v1/titles");
    let operations = || get(&gateway.curl(), &alice, "/v1/services/artwork/operations");
    eventually("no intention denies", || (refusal(&titles()) == (403, NOT_ALLOWED.to_owned())).then_some(()));
    for (from, to) in [("gateway", "catalog"), ("gateway", "artwork"), ("artwork", "catalog")] {
        intend(&consul, "-allow", from, to);
    }
    eventually("they are allowed", || ([titles().status, operations().status] == [200; 2]).then_some(()));
    work_belongs_to_its_user(&curl, mesh.folder.path());

    let bearer = format!("Authorization: Bearer {alice}");
    let accept = ["--header", &*bearer, "--header", "Accept: text/event-stream", "--max-time", "30"];
    let streams: Vec<_> = (0..20).map(|_| curl.open("/v1/services/artwork/operations:subscribe", &accept)).collect();
    let admin = Curl::to(artwork.listener("admin"));
    eventually("the streams are open", || {
        let metrics = admin.get("/metrics").text();
        let open = |line: &&str| line.contains("in_flight{") && line.contains("Subscribe") && line.ends_with(" 20");
        metrics.lines().find(open).map(drop)
    });
    let done = AtomicBool::new(false);
    let (ends, revoked, calls) = std::thread::scope(|scope| {
        let calls = || {
            let mut seen = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let begun = Instant::now();
                seen.push((begun, operations()));
            }
            seen
        };
        // Few: each call is a process, and what is measured needs the processor, too.
        let callers: Vec<_> = (0..4).map(|_| scope.spawn(calls)).collect();
        intend(&consul, "-deny", "gateway", "artwork");
        let revoked = Instant::now();
        let ends: Vec<_> = streams.into_iter().map(|stream| (rest(stream), revoked.elapsed())).collect();
        done.store(true, Ordering::Relaxed);
        (ends, revoked, callers.into_iter().flat_map(|caller| caller.join().expect("a caller")).collect::<Vec<_>>())
    });
    println!("{} calls; the last stream ended after {:?}", calls.len(), ends[ends.len() - 1].1);
    for (text, after) in ends {
        assert!(text.contains("PEER_FAILED") || text.contains(NOT_ALLOWED), "{text}");
        assert!(after < IN_FORCE + SLACK, "{after:?}");
    }
    assert_eq!(titles().status, 200, "others are not affected");
    for (begun, page) in &calls {
        let is_denied = || refusal(page) == (403, NOT_ALLOWED.to_owned());
        assert!(page.status == 200 || is_denied(), "{page:?}");
        assert!(page.status != 200 || *begun < revoked + IN_FORCE, "{:?} after it was revoked", *begun - revoked);
    }
    assert!(calls.iter().any(|(_, page)| page.status == 200));
    let denied = operations();
    assert_eq!(refusal(&denied), (403, NOT_ALLOWED.to_owned()));
    intend(&consul, "-allow", "gateway", "artwork");
    eventually("it is allowed again", || (operations().status == 200).then_some(()));
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn intentions_of_consul_hold_while_it_is_away() {
    let Some(mut consul) = Consul::start().filter(|_| Curl::installed() && Grpcurl::installed()) else { return };
    let mesh = Secured::new(&["catalog"]);
    // The index grows so far that the restarted agent does not reach it for long.
    for _ in 0..30 {
        intend(&consul, "-deny", "*", "catalog");
    }
    intend(&consul, "-allow", "client", "catalog");
    let catalog = start(&mesh, "catalog", &consul, &[]);
    let ready = readyz(&catalog);
    let called = Called::new(&mesh, &catalog);
    called.until("");
    assert_eq!(ready().status, 200);

    consul.kill();
    eventually("the outage is logged", || (times(&catalog.log(), "Consul is away") == 1).then_some(()));
    assert_eq!((called.answer(), ready().status), (String::new(), 200), "the last intentions hold");
    eventually("it says so", || {
        ready().text().contains("degraded: catalog: the last intentions are in use").then_some(())
    });
    let late = start(&mesh, "catalog", &consul, &[]);
    let late_ready = readyz(&late);
    let page = late_ready();
    assert!(page.status == 503 && page.text().contains("there are no intentions"), "{page:?}");
    assert_eq!(Called::new(&mesh, &late).answer(), UNKNOWN, "none are known");

    // It has lost its data: nothing is allowed any more.
    consul.restart();
    let after = called.until(NOT_ALLOWED);
    println!("denied after {after:?}");
    assert!(after < Duration::from_secs(2) + SLACK, "{after:?}");
    eventually("it is ready", || (late_ready().status == 200).then_some(()));
    for (action, answer) in [("-allow", ""), ("-deny", NOT_ALLOWED), ("-allow", "")] {
        intend(&consul, action, "client", "catalog");
        let after = called.until(answer);
        println!("in force after {after:?}");
        assert!(after < IN_FORCE + SLACK, "{after:?}");
    }
    assert_eq!(times(&catalog.log(), "Consul is back"), 1, "{}", catalog.log());
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn token_without_intentions_read_is_named_and_denies() {
    let Some(consul) = guarded().filter(|_| Curl::installed() && Grpcurl::installed()) else { return };
    let mesh = Secured::new(&["catalog"]);
    intend(&consul, "-allow", "client", "catalog");
    let policy = root().join("deploy/consul/policies/catalog.hcl");
    let policy = std::fs::read_to_string(policy).expect("a policy");
    let without = policy.replacen("policy = \"write\"", "policy = \"write\"\n  intentions = \"deny\"", 1);
    let token = token_for(&consul, "blind", &without);
    let catalog = start(&mesh, "catalog", &consul, &[("MESH__CONSUL__TOKEN", &token)]);
    let error = eventually("the refusal is logged", || {
        catalog.log().lines().find(|line| line.contains("Consul does not let us read intentions")).map(str::to_owned)
    });
    assert!(error.contains("intentions:read on catalog") && error.contains("MESH__CONSUL__TOKEN"), "{error}");
    let ready = readyz(&catalog);
    let page = eventually("it is not ready", || Some(ready()).filter(|page| page.status == 503));
    let text = page.text();
    assert!(text.contains("there are no intentions") && text.contains("intentions:read on catalog"), "{text}");
    let called = Called::new(&mesh, &catalog);
    assert_eq!(called.answer(), UNKNOWN);

    // The policy of the folder is enough.
    let policies = consul.get("/v1/acl/policies");
    let blind = policies.as_array().expect("a list").iter().find(|it| it["Name"] == "blind").expect("the policy");
    let id = blind["ID"].as_str().expect("an id");
    let _: Value = consul.put(&format!("/v1/acl/policy/{id}"), &json!({"Name": "blind", "Rules": policy}));
    called.until("");
    eventually("it is ready", || (ready().status == 200).then_some(()));
    assert_eq!(times(&catalog.log(), "Consul does not let us read intentions"), 1, "{}", catalog.log());
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn intentions_of_consul_hold_for_an_app_behind_a_sidecar() {
    let Some(consul) = Consul::start().filter(|_| Grpcurl::installed()) else { return };
    let mesh = Secured::new(&["catalog"]);
    let registry = consul.registry();
    // The app is no process of the mesh: it asks nobody.
    let app =
        format!("unset $(env | sed -n 's/^\\(MESH__[A-Z_]*\\)=.*/\\1/p')\nexport MESH__REGISTRY=local\n{}", catalog());
    let sidecar = mesh.start_sidecar("catalog", &[("MESH__REGISTRY", &registry), INTENTIONS], Some(&app));
    let called = Called::new(&mesh, &sidecar);
    called.until(NOT_ALLOWED);
    intend(&consul, "-allow", "client", "catalog");
    called.until("");
    intend(&consul, "-deny", "*", "*");
    assert_eq!(called.answer(), "", "the exact one goes before");
    intend(&consul, "-deny", "client", "catalog");
    assert!(called.until(NOT_ALLOWED) < IN_FORCE + SLACK);
}

/// An agent of a later version than that of Debian: it has these intentions for each service, and nothing else.
fn agent_with(intentions: &Value) -> SocketAddr {
    let matched = json!({"catalog": intentions}).to_string();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    // The threads end with the test's process.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let matched = matched.clone();
            std::thread::spawn(move || {
                let mut head = [0; 4096];
                let read = stream.read(&mut head).unwrap_or_default();
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                let (status, body) = match head.split(' ').nth(1).unwrap_or_default() {
                    path if path.starts_with("/v1/connect/intentions/match") => ("200 OK", &*matched),
                    "/v1/connect/intentions" => ("200 OK", "[]"),
                    // Nothing changes: the query is held until the client gives up.
                    path if path.starts_with("/v1/connect/intentions?") => return drop(stream.read(&mut [0])),
                    _ => ("500 Internal Server Error", "No cluster leader"),
                };
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\nX-Consul-Index: 7\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
                let _ = stream.write_all(answer.as_bytes());
            });
        }
    });
    address
}

#[test]
fn permissions_of_an_intention_allow_single_methods() {
    if !Grpcurl::installed() {
        return;
    }
    let list =
        json!({"Action": "allow", "HTTP": {"PathExact": "/catalog.v1.CatalogService/ListTitles", "Methods": ["POST"]}});
    let others = json!({"Action": "allow", "HTTP": {"PathRegex": "/catalog[.]v1.*"}});
    let agent = agent_with(&json!([{"SourceName": "client", "SourceNS": "default", "DestinationName": "catalog",
        "DestinationNS": "default", "SourceType": "consul", "Precedence": 9, "Permissions": [list, others]}]));
    let mesh = Secured::new(&["catalog"]);
    let registry = format!("consul://{agent}");
    let settings = [("MESH__REGISTRY", &*registry), ("MESH__ADMIN__LISTEN", "127.0.0.1:0"), INTENTIONS];
    let catalog = mesh.start("catalog", &settings);
    let called = Called::new(&mesh, &catalog);
    called.until("");
    let get =
        mesh.grpcurl(&catalog, &called.token).call("catalog.v1.CatalogService/GetTitle", &json!({"title_id": "a"}));
    assert_eq!(get.failure().1, NOT_ALLOWED);
    let named = |line: &&str| line.contains("WARN") && line.contains("client to catalog: PathRegex");
    assert_eq!(catalog.log().lines().filter(named).count(), 1, "{}", catalog.log());
}
