//! Both programs beside sidecars, as members of a mesh: at static addresses and in Consul, with and without TLS and
//! tokens.

use std::path::Path;

use contracts::recommendations::v1::NoteWatchedRequest;
use harness::{
    Collector, Consul, Curl, Exported, Grpcurl, Process, RawCall, Secured, command, eventually, python, python_with,
    root, unconventional, uuid,
};
use prost::Message as _;
use serde_json::json;

use super::{PACKAGES, RATINGS, RECOMMENDATIONS, alone, names};

const NOTE: &str = "recommendations.v1.RecommendationsService/NoteWatched";
const LIST: &str = "recommendations.v1.RecommendationsService/ListRecommendations";

/// The command of a shell that becomes a program.
fn shell(python: &Path, program: &str) -> String {
    format!("exec '{}' -B '{}'", python.display(), root().join(program).display())
}

/// What the configuration of the sidecar of each has, beside its addresses: see examples/*/sidecar.toml.
const OF_RATINGS: [(&str, &str); 2] = [("MESH__SIDECAR__PROTOCOL", "http1"), ("MESH__SIDECAR__HEALTH", "/healthz")];
const OF_RECOMMENDATIONS: [(&str, &str); 1] = [("MESH__SIDECAR__PEERS", "ratings")];

/// A way to start a process: a binary, or the sidecar of a program.
trait Start {
    fn binary(&self, name: &str, settings: &[(&str, &str)]) -> Process;
    fn sidecar(&self, service: &str, settings: &[(&str, &str)], app: &str) -> Process;
}

/// Without TLS, and nobody is asked who calls.
struct Open;

impl Start for Open {
    fn binary(&self, name: &str, settings: &[(&str, &str)]) -> Process {
        Process::start(name, settings)
    }

    fn sidecar(&self, service: &str, settings: &[(&str, &str)], app: &str) -> Process {
        Process::start_sidecar(service, settings, Some(app))
    }
}

impl Start for Secured {
    fn binary(&self, name: &str, settings: &[(&str, &str)]) -> Process {
        self.start(name, settings)
    }

    fn sidecar(&self, service: &str, settings: &[(&str, &str)], app: &str) -> Process {
        self.start_sidecar(service, settings, Some(app))
    }
}

/// The processes. The programs in Python end with their sidecars.
struct Mesh {
    catalog: Process,
    ratings: Process,
    recommendations: Process,
    tv: Process,
    gateway: Process,
}

/// `None`, with a note, if something is not installed.
fn programs() -> Option<[String; 2]> {
    let python = python_with(PACKAGES).filter(|_| Curl::installed() && Grpcurl::installed())?;
    Some([RATINGS, RECOMMENDATIONS].map(|program| shell(&python, program)))
}

impl Mesh {
    /// At static addresses.
    fn at_addresses(start: &impl Start, more: &[(&str, &str)]) -> Option<Self> {
        Some(Self::of(programs()?, start, more))
    }

    /// With these commands of ratings and of recommendations. A service finds those that stand before it.
    fn of([ratings, recommendations]: [String; 2], start: &impl Start, more: &[(&str, &str)]) -> Self {
        let address = |process: &Process| process.address.to_string();
        let with = |peers: &[(&'static str, &str)], own: &[(&'static str, &'static str)]| -> Vec<(String, String)> {
            let all = [&[("MESH__REGISTRY", "static")], peers, own].concat();
            let all = all.into_iter().chain(more.iter().copied());
            all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        fn pairs(settings: &[(String, String)]) -> Vec<(&str, &str)> {
            settings.iter().map(|(name, value)| (&**name, &**value)).collect()
        }
        let catalog = start.binary("catalog", &pairs(&with(&[], &[])));
        let ratings = start.sidecar("ratings", &pairs(&with(&[], &OF_RATINGS)), &ratings);
        let (at_catalog, at_ratings) = (address(&catalog), address(&ratings));
        let peers = [("MESH__STATIC__CATALOG", &*at_catalog), ("MESH__STATIC__RATINGS", &*at_ratings)];
        let settings = with(&peers, &OF_RECOMMENDATIONS);
        let recommendations = start.sidecar("recommendations", &pairs(&settings), &recommendations);
        let at_recommendations = address(&recommendations);
        let peers = [("MESH__STATIC__CATALOG", &*at_catalog), ("MESH__STATIC__RECOMMENDATIONS", &*at_recommendations)];
        let tv = start.binary("tv", &pairs(&with(&peers, &[("MESH__SERVICES__TV__RECOMMENDATIONS", "true")])));
        let at_tv = address(&tv);
        let gateway =
            start.binary("gateway", &pairs(&with(&[&peers[..], &[("MESH__STATIC__TV", &at_tv)]].concat(), &[])));
        Self { catalog, ratings, recommendations, tv, gateway }
    }

    /// Found through an agent, which checks health at the admin listeners.
    fn in_consul(start: &impl Start, consul: &Consul) -> Option<Self> {
        let [ratings, recommendations] = programs()?;
        let registry = consul.registry();
        let found = [("MESH__REGISTRY", &*registry), ("MESH__ADMIN__LISTEN", "127.0.0.1:0")];
        let with = |own: &[(&'static str, &'static str)]| [&found[..], own].concat();
        Some(Self {
            catalog: start.binary("catalog", &found),
            ratings: start.sidecar("ratings", &with(&OF_RATINGS), &ratings),
            recommendations: start.sidecar("recommendations", &with(&OF_RECOMMENDATIONS), &recommendations),
            tv: start.binary("tv", &with(&[("MESH__SERVICES__TV__RECOMMENDATIONS", "true")])),
            gateway: start.binary("gateway", &found),
        })
    }
}

/// The certificates of all processes.
fn secured() -> Secured {
    Secured::new(&["catalog", "ratings", "recommendations", "tv", "gateway"])
}

/// Creates a title; returns its id.
fn create(curl: &Curl, name: &str) -> String {
    let title = json!({"requestId": uuid(), "name": name, "year": 1927, "priceCents": "399"});
    let title = eventually("the catalog is found", || {
        let title = curl.json("POST", "/v1/titles", &title);
        (title.status == 200).then_some(title)
    });
    title.json()["titleId"].as_str().expect("an id").to_owned()
}

/// Notes that a viewer, or the user of the token, has watched a title.
fn note(curl: &Curl, viewer: Option<&str>, title: &str) {
    let request = json!({"requestId": uuid(), "viewerId": viewer.unwrap_or_default()});
    eventually("recommendations is found", || {
        let noted = curl.json("POST", &format!("/v1/titles/{title}:noteWatched"), &request);
        (noted.status == 200).then_some(())
    });
}

/// The status and the reason of a refusal.
fn refusal(page: &harness::Page) -> (u16, String) {
    let body = page.json();
    let mut details = body["details"].as_array().expect("details").iter();
    (page.status, details.find_map(|detail| detail["reason"].as_str()).expect("a reason").to_owned())
}

/// What every topology must do. `curl` may act for all viewers.
fn recommends(curl: &Curl) {
    let [seen, liked, rare] = ["Seen", "Liked", "Rare"].map(|name| create(curl, name));
    for (viewer, title) in
        [("ann", &seen), ("bob", &seen), ("bob", &liked), ("carl", &seen), ("carl", &liked), ("carl", &rare)]
    {
        note(curl, Some(viewer), title);
    }
    // Both languages know of the call: what Python asked of the catalog and of ratings is in the answer.
    let whole = eventually("ratings is found", || {
        let list = curl.get("/v1/recommendations?viewer_id=ann").json();
        (list["unreachable"] == json!([])).then_some(list)
    });
    assert_eq!(names(&whole), ["Liked", "Rare"]);
    assert_eq!(whole["recommendations"][0]["viewers"], 2);
    // And Rust asks Python.
    let home = eventually("tv finds recommendations", || {
        let home = curl.get("/v1/tv/home?viewer_id=ann").json();
        (home["unreachable"] == json!(["services/artwork", "services/library"])).then_some(home)
    });
    assert_eq!((&home["rows"][0]["name"], &home["rows"][1]["name"]), (&json!("Others watched"), &json!("1920s")));
    assert_eq!(home["rows"][0]["tiles"][0]["name"], "Liked");
    // Errors pass as they are.
    let unknown = json!({"requestId": uuid(), "viewerId": "ann"});
    let unknown = curl.json("POST", &format!("/v1/titles/{}:noteWatched", uuid()), &unknown);
    assert_eq!(refusal(&unknown), (404, "TITLE_NOT_FOUND".to_owned()));
    let bad = curl.get("/v1/recommendations?viewer_id=%20&page_size=-1");
    assert_eq!(refusal(&bad), (400, "INVALID_FIELDS".to_owned()));
}

#[test]
#[ignore = "needs packages of Python: .ci/full"]
fn programs_are_members_at_static_addresses() {
    let Some(mesh) = Mesh::at_addresses(&Open, &[]) else { return };
    recommends(&mesh.gateway.curl());
    let metrics = mesh.catalog.http("/metrics");
    let asked = |line: &str| line.starts_with("grpc_server_handled_total") && line.contains("BatchGetTitles");
    assert!(metrics.lines().any(asked), "Python asks the catalog in batches: {metrics}");
    // Stars of one caller: the last ones count.
    let title = create(&mesh.gateway.curl(), "Rated");
    let rate = |stars: i32| mesh.ratings.curl().json("PUT", &format!("/ratings/{title}"), &json!({"stars": stars}));
    assert_eq!(rate(3).json(), json!({"average": 3.0, "count": 1}));
    assert_eq!(rate(5).json(), json!({"average": 5.0, "count": 1}));
    note(&mesh.gateway.curl(), Some("dora"), &title);
    for watched in [&title, &create(&mesh.gateway.curl(), "Other")] {
        note(&mesh.gateway.curl(), Some("emil"), watched);
    }
    let rated = create(&mesh.gateway.curl(), "Rated, too");
    mesh.ratings.curl().json("PUT", &format!("/ratings/{rated}"), &json!({"stars": 4}));
    note(&mesh.gateway.curl(), Some("emil"), &rated);
    let list = mesh.gateway.curl().get("/v1/recommendations?viewer_id=dora").json();
    let ratings = list["recommendations"].as_array().expect("a list").iter();
    let ratings: Vec<_> = ratings.filter_map(|one| one.get("rating")).collect();
    assert_eq!(ratings, [&json!({"average": 4.0, "count": 1})], "{list}");
}

#[test]
#[ignore = "needs packages of Python: .ci/full"]
fn programs_are_members_with_tls_and_tokens() {
    let secured = secured();
    let Some(mesh) = Mesh::at_addresses(&secured, &[]) else { return };
    let operator = secured.token("olga", &["catalog.write", "mesh.operator"]);
    recommends(&mesh.gateway.curl().with_token(&operator));
}

#[test]
#[ignore = "needs packages of Python and Consul: .ci/full"]
fn programs_are_members_in_consul() {
    let Some(consul) = Consul::start() else { return };
    let Some(mesh) = Mesh::in_consul(&Open, &consul) else { return };
    recommends(&mesh.gateway.curl());
    // Consul, `mesh services` and the metrics show them as any other service.
    for service in ["ratings", "recommendations", "catalog"] {
        consul.passing(service, 1);
    }
    let listed =
        command("mesh").args(["--consul", &consul.address.to_string(), "services"]).output().expect("mesh runs");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for service in ["ratings", "recommendations"] {
        let row = listed.lines().find(|line| line.starts_with(&format!("{service} ")));
        assert!(row.is_some_and(|row| row.contains("passing") && row.contains("127.0.0.1:")), "{listed}");
    }
    let admin = Curl::to(mesh.recommendations.listener("admin"));
    let metrics = admin.get("/metrics").text().to_owned();
    let counted = |name: &str, labels: [&str; 3]| {
        metrics.lines().any(|line| line.starts_with(name) && labels.iter().all(|label| line.contains(label)))
    };
    let served = [r#"grpc_method="ListRecommendations""#, r#"grpc_code="OK""#, "RecommendationsService"];
    assert!(counted("grpc_server_handled_total", served), "{metrics}");
    let called = [r#"grpc_method="BatchGetTitles""#, r#"grpc_code="OK""#, "CatalogService"];
    assert!(counted("grpc_client_handled_total", called), "{metrics}");
    // A program that leaves is gone.
    mesh.ratings.signal("TERM");
    assert_eq!(consul.passing("ratings", 0).len(), 0);
    let without = eventually("its ratings are missing", || {
        let list = mesh.gateway.curl().get("/v1/recommendations?viewer_id=ann").json();
        (list["unreachable"] == json!(["services/ratings"])).then_some(list)
    });
    assert_eq!(names(&without), ["Liked", "Rare"]);
}

#[test]
#[ignore = "needs packages of Python and Consul: .ci/full"]
fn programs_are_members_with_tls_and_tokens_in_consul() {
    let Some(consul) = Consul::start() else { return };
    let secured = secured();
    let Some(mesh) = Mesh::in_consul(&secured, &consul) else { return };
    let operator = secured.token("olga", &["catalog.write", "mesh.operator"]);
    recommends(&mesh.gateway.curl().with_token(&operator));
}

#[test]
#[ignore = "needs packages of Python: .ci/full"]
fn subject_of_a_token_arrives_in_python() {
    let secured = secured();
    let Some(mesh) = Mesh::at_addresses(&secured, &[]) else { return };
    let user = |name: &str| mesh.gateway.curl().with_token(&secured.token(name, &[]));
    let editor = mesh.gateway.curl().with_token(&secured.token("olga", &["catalog.write"]));
    let [seen, liked] = ["Seen", "Liked"].map(|name| create(&editor, name));
    // Slashes, signs of percent and letters beyond ASCII stay what they are.
    let names_of_users = ["alice", "a/b%2Fc", "größe"];
    for name in names_of_users {
        note(&user(name), None, &seen);
    }
    note(&user("bob"), None, &seen);
    note(&user("bob"), None, &liked);
    for name in names_of_users {
        assert_eq!(names(&user(name).get("/v1/recommendations").json()), ["Liked"], "{name}");
        let rows = user(name).get("/v1/tv/home").json();
        assert_eq!(rows["rows"][0]["name"], "Others watched", "{name}: {rows}");
    }
    let alice = user("alice");
    assert_eq!(names(&alice.get("/v1/recommendations?viewer_id=alice").json()), ["Liked"]);
    let not_caller = (403, "VIEWER_NOT_CALLER".to_owned());
    assert_eq!(refusal(&alice.get("/v1/recommendations?viewer_id=bob")), not_caller);
    assert_eq!(refusal(&alice.get("/v1/tv/home?viewer_id=bob")), not_caller);
    let nobody = mesh.gateway.curl().get("/v1/recommendations");
    assert_eq!(refusal(&nobody), (401, "TOKEN_MISSING".to_owned()));
}

/// A program that notes who calls, and answers with nothing.
const NOTES: &str = r#"
import http.server, os
class Notes(http.server.BaseHTTPRequestHandler):
    wbufsize = -1
    def do_GET(self):
        with open("callers", "a") as callers:
            print(self.headers["mesh-caller"], self.headers["mesh-passport"] is not None, file=callers)
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
host, port = os.environ["SIDECAR_APP"].split(":")
http.server.ThreadingHTTPServer((host, int(port)), Notes).serve_forever()
"#;

#[test]
#[ignore = "needs packages of Python: .ci/full"]
fn user_travels_through_python_to_the_next_program() {
    let secured = secured();
    let Some([_, recommendations]) = programs() else { return };
    let python = python_with(PACKAGES).expect("as above");
    let notes = format!("exec '{}' -c '{NOTES}'", python.display());
    let mesh = Mesh::of([notes, recommendations], &secured, &[]);
    let user = |name: &str| mesh.gateway.curl().with_token(&secured.token(name, &[]));
    let editor = mesh.gateway.curl().with_token(&secured.token("olga", &["catalog.write"]));
    let [seen, liked] = ["Seen", "Liked"].map(|name| create(&editor, name));
    for (viewer, title) in [("alice", &seen), ("bob", &seen), ("bob", &liked)] {
        note(&user(viewer), None, title);
    }
    assert_eq!(names(&user("alice").get("/v1/recommendations").json()), ["Liked"]);
    let callers = std::fs::read_to_string(mesh.ratings.folder.path().join("callers")).expect("it was called");
    let calls = callers.lines().filter(|line| line.starts_with("user/"));
    assert_eq!(calls.collect::<Vec<_>>(), ["user/https://issuer.dev.mesh/alice True"], "{callers}");
}

#[test]
#[ignore = "needs packages of Python: .ci/full"]
fn service_without_an_intention_is_refused() {
    let secured = secured();
    // One file for all processes, which know ratings by its name alone.
    let file = intentions(
        &secured,
        r#"
            catalog = ["gateway", "recommendations", "tv"]
            ratings = ["tv"]
            recommendations = ["gateway"]
            tv = ["gateway"]
        "#,
    );
    let settings = [("MESH__AUTH__INTENTIONS", &*file), ("MESH__SIDECAR__PEERS", "ratings")];
    let Some(mesh) = Mesh::at_addresses(&secured, &settings) else { return };
    let operator = secured.token("olga", &["catalog.write", "mesh.operator"]);
    let curl = mesh.gateway.curl().with_token(&operator);
    let [seen, liked] = ["Seen", "Liked"].map(|name| create(&curl, name));
    for (viewer, title) in [("ann", &seen), ("bob", &seen), ("bob", &liked)] {
        note(&curl, Some(viewer), title);
    }
    // The gateway may call recommendations, which may not call ratings.
    let list = curl.get("/v1/recommendations?viewer_id=ann").json();
    assert_eq!((names(&list), &list["unreachable"]), (vec!["Liked"], &json!(["services/ratings"])));
    assert!(mesh.ratings.log().contains("CALLER_NOT_ALLOWED"), "{}", mesh.ratings.log());
}

/// Writes a file of intentions; returns its path.
fn intentions(secured: &Secured, text: &str) -> String {
    let file = secured.folder.path().join("intentions.toml");
    std::fs::write(&file, text).expect("a file");
    file.display().to_string()
}

#[test]
fn call_without_an_intention_does_not_reach_the_app() {
    if !Grpcurl::installed() {
        return;
    }
    let (secured, app) = (secured(), Collector::start());
    let (address, file) = (app.address.to_string(), intentions(&secured, r#"recommendations = ["gateway"]"#));
    let settings = [
        ("MESH__REGISTRY", "static"),
        ("MESH__SIDECAR__APP", &*address),
        ("MESH__SIDECAR__HEALTH", "tcp"),
        ("MESH__SIDECAR__PEERS", "client"),
        ("MESH__AUTH__INTENTIONS", &*file),
    ];
    let sidecar = secured.start_sidecar("recommendations", &settings, None);
    let client = secured.grpcurl(&sidecar, &secured.token("ann", &[]));
    let call = || client.call(LIST, &json!({}));
    assert_eq!(call().failure(), ("PermissionDenied".to_owned(), "CALLER_NOT_ALLOWED".to_owned()));
    let callers = || app.headers(&format!("/{LIST}"), "mesh-caller");
    assert_eq!(callers(), []);
    intentions(&secured, r#"recommendations = ["client"]"#);
    eventually("the new intention is in use", || (!call().failed()).then_some(()));
    assert_eq!(callers(), [Some("user/https://issuer.dev.mesh/ann".to_owned())]);
}

/// The grpc-timeout of a header, in milliseconds.
fn milliseconds(timeout: &str) -> u128 {
    let (number, unit) = timeout.split_at(timeout.len() - 1);
    let number: u128 = number.parse().expect("a number");
    match unit {
        "S" => number * 1000,
        "m" => number,
        "u" => number / 1000,
        "n" => number / 1_000_000,
        other => panic!("an unexpected unit: {other}"),
    }
}

#[test]
#[ignore = "needs packages of Python: .ci/full"]
fn deadline_shrinks_and_headers_travel_through_python() {
    let Some([_, recommendations]) = programs() else { return };
    // In the place of the catalog: it keeps its requests, and has every title.
    let catalog = Collector::start();
    let address = catalog.address.to_string();
    let settings = [("MESH__REGISTRY", "static"), ("MESH__STATIC__CATALOG", &*address)];
    let sidecar = Process::start_sidecar("recommendations", &settings, Some(&recommendations));
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let (parent, cause) = (format!("00-{trace}-b7ad6b7169203331-01"), format!("{trace}-{trace}-3"));
    let headers = [
        ("traceparent", &*parent),
        ("tracestate", "one=1"),
        ("mesh-cause", &cause),
        ("grpc-timeout", "1500m"),
        ("x-other", "stays"),
    ];
    let request =
        NoteWatchedRequest { request_id: uuid(), viewer_id: "ann".to_owned(), title_id: uuid() }.encode_to_vec();
    let noted = RawCall::begin(sidecar.address, &format!("/{NOTE}"), &headers).finish(&request);
    assert_eq!(noted.code, "0");

    let seen = |name: &str| {
        let mut headers = catalog.headers("/catalog.v1.CatalogService/GetTitle", name);
        assert_eq!(headers.len(), 1);
        headers.remove(0)
    };
    let left = milliseconds(&seen("grpc-timeout").expect("a deadline"));
    assert!((1..1500).contains(&left), "{left} ms are left");
    assert!(seen("traceparent").is_some_and(|trace_of| trace_of[3..35] == *trace && trace_of != parent));
    assert_eq!(seen("tracestate").as_deref(), Some("one=1"));
    assert_eq!(seen("mesh-cause").as_deref(), Some(&*cause));
    assert_eq!(seen("x-other"), None, "the program copies what it should, and no more");
    assert_eq!(seen("mesh-caller"), None);
}

#[test]
#[ignore = "needs packages of Python: .ci/full"]
fn one_trace_covers_both_languages() {
    let collector = Collector::start();
    let endpoint = format!("http://{}", collector.address);
    let Some(mesh) = Mesh::at_addresses(&Open, &[("MESH__OTLP__ENDPOINT", &endpoint)]) else { return };
    let curl = mesh.gateway.curl();
    let [seen, liked] = ["Seen", "Liked"].map(|name| create(&curl, name));
    for (viewer, title) in [("ann", &seen), ("bob", &seen), ("bob", &liked)] {
        note(&curl, Some(viewer), title);
    }
    let trace = uuid().replace('-', "");
    let parent = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01");
    let home =
        mesh.tv.grpcurl().run(&["-rpc-header", &parent, "-d", r#"{"viewer_id": "ann"}"#], &["tv.v1.TvService/GetHome"]);
    assert_eq!(home.json()["rows"][0]["name"], "Others watched");

    let serves = |spans: &[Exported], service: &str, name: &str| {
        let mut found = spans.iter().filter(|one| one.service == service && one.span.name == name);
        found.next().cloned()
    };
    let batch = "catalog.v1.CatalogService/BatchGetTitles";
    // Served by recommendations in Python, whose call went on to the catalog in Rust.
    let chain = eventually("the spans of both languages", || {
        let spans = collector.spans(&trace);
        Some([
            serves(&spans, "tv", "tv.v1.TvService/GetHome")?,
            serves(&spans, "tv", LIST)?,
            serves(&spans, "recommendations", LIST)?,
            serves(&spans, "recommendations", batch)?,
            serves(&spans, "catalog", batch)?,
        ])
    });
    for pair in chain.windows(2) {
        assert_eq!(pair[1].parent(), pair[0].id(), "{} of {}", pair[1].span.name, pair[1].service);
    }
    // Ratings speak HTTP.
    let spans = eventually("spans of HTTP", || {
        let spans = collector.all_spans();
        spans.iter().any(|one| one.text("http.request.method").is_some()).then_some(spans)
    });
    assert_eq!(unconventional(&spans), [""; 0]);
}

/// A supervisor starts both again, on the same data.
#[test]
fn program_ends_with_a_sidecar_that_is_killed() {
    let Some(python) = python().filter(|_| Curl::installed()) else { return };
    let command = format!("{} -B {}", python.display(), root().join(RATINGS).display());
    let more = [("MESH__REGISTRY", "static"), ("MESH__SIDECAR__COMMAND", &*command)];
    let settings = [&OF_RATINGS[..], &more].concat();
    let ratings = Process::start_sidecar("ratings", &settings, None);
    let rated = ratings.curl().json("PUT", "/ratings/a", &json!({"stars": 5}));
    assert_eq!(rated.status, 200, "{rated:?}");
    let program = ratings.listener("app");
    let folder = ratings.kill();
    eventually("the program ends", || std::net::TcpStream::connect(program).is_err().then_some(()));
    // Its lock is free, and its data is there.
    let database = folder.path().join("data/ratings.db").display().to_string();
    let again = alone(&python, RATINGS, &[("RATINGS_DATABASE", &database)]);
    assert_eq!(again.curl().get("/ratings/a").json(), json!({"average": 5.0, "count": 1}));
}

#[test]
fn ratings_are_a_member_with_the_standard_library_alone() {
    let Some(python) = python().filter(|_| Curl::installed()) else { return };
    let settings = [&[("MESH__REGISTRY", "static")], &OF_RATINGS[..]].concat();
    let mut ratings = Process::start_sidecar("ratings", &settings, Some(&shell(&python, RATINGS)));
    let curl = ratings.curl();
    // What a client says of identities does not arrive.
    let forged = ["--request", "PUT", "--header", "mesh-caller: user/https://issuer/alice", "--data-binary", "@-"];
    for (stars, count) in [("1", 1), ("5", 1)] {
        let rated = curl.send("/ratings/a", &forged, format!("{{\"stars\": {stars}}}").as_bytes());
        assert_eq!(rated.json()["count"], count, "both came from nobody: {rated:?}");
    }
    assert_eq!(curl.get("/ratings/b").status, 404);
    let metrics = Curl::to(ratings.listener("admin")).get("/metrics").text().to_owned();
    assert!(metrics.lines().any(|line| line.starts_with("grpc_server_handled_total") && line.contains("ratings")));
    ratings.signal("TERM");
    assert!(ratings.ended().0.success(), "{}", ratings.log());
}
