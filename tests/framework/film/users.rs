//! Users and services with `auth.mode = "required"`: who is let in, what each sees, and how both travel between
//! processes.

use std::io::Read as _;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use harness::film::small_picture;
use harness::{Curl, Grpcurl, Page, Process, Secured, eventually, token, uuid};
use serde_json::{Value, json};

const REQUIRED: (&str, &str) = ("MESH__AUTH__MODE", "required");

/// Sends JSON with a token.
fn send(curl: &Curl, token: &str, method: &str, path: &str, body: &Value) -> Page {
    let header = format!("Authorization: Bearer {token}");
    let arguments = ["--request", method, "--header", &header, "--header", "Content-Type: application/json"];
    curl.send(path, &[&arguments[..], &["--data-binary", "@-"]].concat(), body.to_string().as_bytes())
}

pub(super) fn get(curl: &Curl, token: &str, path: &str) -> Page {
    curl.send(path, &["--header", &format!("Authorization: Bearer {token}")], b"")
}

fn title() -> Value {
    json!({"requestId": uuid(), "name": "Metropolis", "year": 1927})
}

/// The status, and the reason in the details.
pub(super) fn refusal(page: &Page) -> (u16, String) {
    let body = page.json();
    let details = body["details"].as_array().expect("details");
    let reason = details.iter().find_map(|detail| detail["reason"].as_str()).expect("a reason").to_owned();
    (page.status, reason)
}

/// Starts the rendering of a picture for a new title, and returns the name of the operation.
fn render(curl: &Curl, token: &str) -> String {
    let created = send(curl, token, "POST", "/v1/titles", &title());
    assert_eq!(created.status, 200, "{created:?}");
    let title = created.json()["titleId"].as_str().expect("an id").to_owned();
    let (bearer, key) = (format!("Authorization: Bearer {token}"), format!("Idempotency-Key: {}", uuid()));
    let headers = ["--header", &bearer, "--header", &key, "--header", "Content-Type: image/png", "--data-binary", "@-"];
    let started = curl.send(&format!("/v1/titles/{title}/artwork:upload"), &headers, &small_picture());
    assert_eq!(started.status, 200, "{started:?}");
    started.json()["name"].as_str().expect("a name").to_owned()
}

/// What both topologies promise: users see their own work alone, and operators that of all.
pub(super) fn work_belongs_to_its_user(curl: &Curl, issuer: &Path) {
    let scopes = ["catalog.write", "artwork.write"];
    let [alice, bob] = ["alice", "bob"].map(|name| token(issuer, name, &scopes, "1h"));
    let operator = token(issuer, "olga", &["mesh.operator"], "1h");
    let name = render(curl, &alice);
    let done = get(curl, &alice, &format!("/v1/{name}:wait?timeout=30s")).json();
    assert!(done["done"] == true && done.get("error").is_none(), "{done}");
    assert_eq!(refusal(&get(curl, &bob, &format!("/v1/{name}"))), (404, "OPERATION_NOT_FOUND".to_owned()));
    let seen = |token| get(curl, token, "/v1/services/artwork/operations").text().contains(&name);
    assert_eq!((seen(&alice), seen(&bob), seen(&operator)), (true, false, true));
    assert_eq!(get(curl, &operator, &format!("/v1/{name}")).status, 200);
}

#[test]
fn monolith_asks_for_tokens_and_scopes() {
    if !Curl::installed() || !Grpcurl::installed() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let alice = token(folder.path(), "alice", &["catalog.write"], "1h");
    let monolith = Process::start_in(folder, "monolith", &[REQUIRED]);
    let (curl, folder) = (monolith.curl(), monolith.working_folder());
    assert_eq!(curl.get("/v1/titles").status, 200, "a public method");
    let missing = curl.json("POST", "/v1/titles", &title());
    assert_eq!(refusal(&missing), (401, "TOKEN_MISSING".to_owned()));
    assert_eq!(send(&curl, &alice, "POST", "/v1/titles", &title()).status, 200);
    let without = token(&folder, "alice", &["catalog.read"], "1h");
    let scope = send(&curl, &without, "POST", "/v1/titles", &title());
    assert_eq!(refusal(&scope), (403, "SCOPE_MISSING".to_owned()));
    assert!(scope.text().contains("catalog.write"), "{scope:?}");

    let foreign = tempfile::tempdir().expect("a temporary folder");
    let forged = token(foreign.path(), "alice", &["catalog.write"], "1h");
    let (head, _) = alice.rsplit_once('.').expect("a signature");
    for (what, token) in [("another key", forged), ("no signature", format!("{head}.")), ("no token", "x".to_owned())] {
        let refused = send(&curl, &token, "POST", "/v1/titles", &title());
        assert_eq!(refusal(&refused), (401, "TOKEN_INVALID".to_owned()), "{what}");
        assert!(!refused.text().contains("kid") && !refused.text().contains("signature"), "{what}: {refused:?}");
    }
    // What a client says of itself counts for nothing.
    let says = ["--header", "mesh-passport: anonymous", "--header", "x-forwarded-client-cert: URI=spiffe://a/b"];
    let headers = ["--request", "POST", "--header", "Content-Type: application/json", "--data-binary", "@-"];
    let spoofed = curl.send("/v1/titles", &[&headers[..], &says].concat(), title().to_string().as_bytes());
    assert_eq!(refusal(&spoofed), (401, "TOKEN_MISSING".to_owned()));

    // By gRPC: reflection is open on loopback, and what is the mesh's own is not.
    let grpcurl = monolith.grpcurl();
    assert!(grpcurl.run(&[], &["list"]).text().contains("catalog.v1.CatalogService"));
    let create = |header: &[&str]| {
        let request = json!({"request_id": uuid(), "name": "Metropolis", "year": 1927}).to_string();
        grpcurl.run(&[header, &["-d", &request]].concat(), &["catalog.v1.CatalogService/CreateTitle"])
    };
    assert_eq!(create(&[]).failure().0, "Unauthenticated");
    let bearer = format!("authorization: Bearer {alice}");
    assert!(!create(&["-H", &bearer]).failed());
    assert_eq!(create(&["-rpc-header", &bearer, "-rpc-header", &bearer]).failure().0, "Unauthenticated", "two tokens");
    let charge = grpcurl.run(&["-H", &bearer, "-d", "{}"], &["mesh.events.v1.EventsService/GetEvent"]);
    assert!(charge.failed(), "{charge:?}");
    work_belongs_to_its_user(&curl, &folder);

    let log = monolith.log();
    assert!(log.contains("a call was refused") && log.contains("TOKEN_INVALID"), "{log}");
    assert!(!log.contains(&alice) && !log.contains("alice"), "the log names no user: {log}");
    let denied = curl.get("/metrics").text();
    assert!(denied.contains(r#"mesh_calls_denied_total{grpc_service="catalog.v1.CatalogService",grpc_method="CreateTitle",rule="TOKEN_MISSING"}"#), "{denied}");
}

/// Processes that know each other by certificates, and users by an issuer's tokens.
struct Apart {
    mesh: Secured,
    catalog: Process,
    artwork: Process,
    gateway: Process,
}

impl Apart {
    fn start(more: &[(&str, &str)]) -> Self {
        let mesh = Secured::new(&["catalog", "artwork", "gateway"]);
        let all = [&[("MESH__REGISTRY", "static")], more].concat();
        let catalog = mesh.start("catalog", &all);
        let at_catalog = catalog.address.to_string();
        let all = [&all[..], &[("MESH__STATIC__CATALOG", &*at_catalog)]].concat();
        let artwork = mesh.start("artwork", &all);
        let at_artwork = artwork.address.to_string();
        let gateway = mesh.start("gateway", &[&all[..], &[("MESH__STATIC__ARTWORK", &*at_artwork)]].concat());
        Self { mesh, catalog, artwork, gateway }
    }
}

#[test]
fn users_travel_between_processes() {
    if !Curl::installed() {
        return;
    }
    let apart = Apart::start(&[]);
    let curl = apart.gateway.curl();
    let write = token(apart.mesh.folder.path(), "alice", &["catalog.write"], "1h");
    assert_eq!(send(&curl, &write, "POST", "/v1/titles", &title()).status, 200);
    assert_eq!(refusal(&curl.json("POST", "/v1/titles", &title())), (401, "TOKEN_MISSING".to_owned()));
    work_belongs_to_its_user(&curl, apart.mesh.folder.path());
    for process in [&apart.catalog, &apart.artwork] {
        assert!(!process.log().contains(&write) && !process.log().contains("a call was refused"), "{}", process.log());
    }
}

#[test]
fn gate_asks_peers_by_the_certificate_of_the_process() {
    let apart = Apart::start(&[("MESH__RELEASE__GATE", "hold")]);
    // The gateway calls services that are not here, too, and waits for them until its limit.
    eventually("the gate passes", || apart.artwork.log().contains("release.gate passed").then_some(()));
    assert!(!apart.artwork.log().contains("release.gate holds this process"), "{}", apart.artwork.log());
    eventually("the gate passes", || apart.gateway.log().contains("release.gate passed").then_some(()));
    let log = apart.gateway.log();
    let held: Vec<_> = log.lines().filter(|line| line.contains("release.gate holds this process")).collect();
    assert!(held.iter().all(|line| !line.contains("catalog") && !line.contains("artwork")), "{log}");
    for process in [&apart.catalog, &apart.artwork] {
        assert!(!process.log().contains("a call was refused"), "{}", process.log());
    }
}

/// As while a mesh is switched on process by process.
#[test]
fn gateway_that_asks_nobody_lends_its_identity_to_nobody() {
    if !Curl::installed() {
        return;
    }
    let apart = Apart::start(&[]);
    let (catalog, artwork) = (apart.catalog.address.to_string(), apart.artwork.address.to_string());
    let peers =
        [("MESH__REGISTRY", "static"), ("MESH__STATIC__CATALOG", &*catalog), ("MESH__STATIC__ARTWORK", &*artwork)];
    let gateway = apart.mesh.start_open("gateway", &peers);
    let open = gateway.curl();
    assert_eq!(open.get("/v1/titles").status, 200, "a public method");
    assert_eq!(refusal(&open.json("POST", "/v1/titles", &title())), (401, "TOKEN_MISSING".to_owned()));
    let alice = apart.mesh.token("alice", &["catalog.write"]);
    assert_eq!(send(&open, &alice, "POST", "/v1/titles", &title()).status, 401, "it has checked no token");
    assert_eq!(open.get("/v1/services/artwork/operations").status, 401);
}

/// The head of a stream's output and what follows it, read until it ends.
pub(super) fn rest(mut stream: Child) -> String {
    let mut text = String::new();
    stream.stdout.take().expect("piped").read_to_string(&mut text).expect("UTF-8");
    let _ = stream.wait();
    text
}

#[test]
fn revoked_intention_ends_streams_and_calls() {
    if !Curl::installed() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("intentions.toml");
    let allow = |callers: &str| {
        let text = format!("catalog = ['artwork', 'gateway']\nartwork = [{callers}]\n");
        let new = folder.path().join("new");
        std::fs::write(&new, text).expect("a file");
        std::fs::rename(new, &file).expect("a file");
    };
    allow("'gateway'");
    let path = file.display().to_string();
    let apart = Apart::start(&[("MESH__AUTH__INTENTIONS", &path)]);
    let curl = apart.gateway.curl();
    work_belongs_to_its_user(&curl, apart.mesh.folder.path());
    let alice = token(apart.mesh.folder.path(), "alice", &[], "1h");
    let bearer = format!("Authorization: Bearer {alice}");
    let accept = ["--header", &*bearer, "--header", "Accept: text/event-stream"];
    let streams: Vec<_> = (0..20).map(|_| curl.open("/v1/services/artwork/operations:subscribe", &accept)).collect();
    eventually("the streams are open", || {
        let metrics = apart.gateway.curl().get("/metrics").text();
        metrics
            .lines()
            .find(|line| line.contains(r#"in_flight{"#) && line.contains("Subscribe") && line.ends_with(" 20"))?;
        Some(())
    });

    allow("");
    let begun = Instant::now();
    for stream in streams {
        let text = rest(stream);
        assert!(text.contains("PEER_FAILED") || text.contains("CALLER_NOT_ALLOWED"), "{text}");
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let refused = get(&curl, &alice, "/v1/services/artwork/operations");
    assert_eq!(refused.status, 403, "{refused:?}");
    assert_eq!(get(&curl, &alice, "/v1/titles").status, 200, "others are not affected");
    assert!(apart.artwork.log().contains("the new intentions are in use"), "{}", apart.artwork.log());
    allow("'gateway'");
    eventually("it is allowed again", || {
        (get(&curl, &alice, "/v1/services/artwork/operations").status == 200).then_some(())
    });
}

#[test]
fn intentions_that_refuse_a_declared_call_are_one_warning() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("intentions.toml");
    std::fs::write(&file, "catalog = ['gateway']\nartwork = ['gateway']\n").expect("a file");
    let path = file.display().to_string();
    let apart = Apart::start(&[("MESH__AUTH__INTENTIONS", &path)]);
    let warnings = |log: String| {
        let of_it = |line: &&str| line.contains("auth.intentions refuses calls that the service declares");
        log.lines().filter(of_it).map(str::to_owned).collect::<Vec<_>>()
    };
    let warned = warnings(apart.artwork.log());
    let [warning] = &warned[..] else { panic!("{warned:?}") };
    assert!(warning.contains("catalog: catalog.v1.CatalogService/GetTitle"), "{warning}");
    assert_eq!(warnings(apart.catalog.log()), Vec::<String>::new(), "it declares no call");
}

#[test]
fn stream_ends_with_the_token_of_its_user() {
    if !Curl::installed() {
        return;
    }
    let apart = Apart::start(&[]);
    let alice = token(apart.mesh.folder.path(), "alice", &[], "2s");
    let bearer = format!("Authorization: Bearer {alice}");
    let accept = ["--header", &*bearer, "--header", "Accept: text/event-stream", "--max-time", "70"];
    let begun = Instant::now();
    let text = rest(apart.gateway.curl().open("/v1/services/artwork/operations:subscribe", &accept));
    let lasted = begun.elapsed();
    assert!(text.contains("TOKEN_EXPIRED"), "{text}");
    // Two seconds, and the difference of two clocks.
    assert!((Duration::from_secs(29)..Duration::from_secs(60)).contains(&lasted), "{lasted:?}");
    let again = get(&apart.gateway.curl(), &alice, "/v1/services/artwork/operations");
    assert_eq!(refusal(&again), (401, "TOKEN_EXPIRED".to_owned()));
    // Only a service of the mesh is asked for nothing more.
    assert_eq!(
        apart.mesh.authority.call(apart.catalog.address, Some(&apart.mesh.authority.service("artwork"))),
        Ok(())
    );
}

#[test]
fn mistakes_in_auth_stop_the_start_with_a_line_each() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let intentions = folder.path().join("intentions.toml");
    std::fs::write(&intentions, "catalog = ['nobody']\n").expect("a file");
    let file = format!("--set=auth.intentions={}", intentions.display());
    for (arguments, words) in [
        (vec!["--set=auth.mode=on"], vec!["`auth.mode`", "off or required"]),
        (vec!["--set=auth.mode=required"], vec!["`auth.mode`", "tls.mode to mutual"]),
        (vec!["--set=auth.issuers=https://a.test"], vec!["`auth.issuers`", "ISSUER AUDIENCE"]),
        (vec!["--set=auth.issuers=http://a.test mesh"], vec!["`auth.issuers`", "https"]),
        (vec!["--set=auth.vouchers=gatewya"], vec!["`auth.vouchers`", "gatewya"]),
        (vec![&*file, "--set=auth.mode=required"], vec!["`auth.intentions`", "unknown caller", "nobody"]),
        (vec![&*file], vec!["`auth.intentions`", "auth.mode is off"]),
        (
            vec!["--set=auth.intentions=consul", "--set=auth.mode=required", "--set=registry=static"],
            vec!["`auth.intentions`", "registry names no agent"],
        ),
        (
            vec!["--set=auth.issuers=https://a.test mesh", "--set=auth.mode=off"],
            vec!["`auth.mode`", "nobody would ask"],
        ),
        (
            vec![
                "--set=auth.mode=required",
                "--set=listen=0.0.0.0:0",
                "--set=tls.mode=plaintext",
                "--set=edge.enabled=true",
            ],
            vec!["`auth.mode`", "tls.mode to mutual"],
        ),
        (
            vec![
                "--set=auth.issuers=https://issuer.dev.mesh mesh keys.json",
                "--set=listen=0.0.0.0:0",
                "--set=tls.mode=plaintext",
            ],
            vec!["`auth.issuers`", "issuer of development"],
        ),
    ] {
        let output = harness::output("catalog", &arguments, |_| {});
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        let found = text.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "{arguments:?}: {words:?} not in {text}");
    }
}

/// Files that all processes read may name services that only some of them call.
#[test]
fn service_without_a_contract_is_known_by_the_key_of_its_name() {
    let mesh = Secured::new(&["catalog"]);
    let file = mesh.folder.path().join("intentions.toml");
    std::fs::write(&file, "catalog = ['gateway', 'scores']\nscores = ['catalog']\n").expect("a file");
    let file = file.display().to_string();
    let check = |peers: &str| {
        let mut catalog = mesh.command("catalog");
        catalog.env("MESH__AUTH__INTENTIONS", &file).env("MESH__STATIC__SCORES", "127.0.0.1:1");
        let checked = catalog.args(["--check-config", &format!("--set=sidecar.peers={peers}")]).output();
        let checked = checked.expect("the binary starts");
        (checked.status.code(), String::from_utf8(checked.stderr).expect("UTF-8"))
    };
    let known = check("tastes, scores");
    assert_eq!(known.0, Some(0), "{known:?}");
    for (peers, words) in [
        ("score", &["unknown service", "line 2: `scores`; name one without a contract in sidecar.peers"][..]),
        ("score", &["unknown caller", "line 1: `scores`"]),
        ("score", &["`static.scores`", "did you mean `static.score`"]),
        ("scores, Tastes", &["`sidecar.peers`", "names of services"]),
    ] {
        let (code, text) = check(peers);
        let found = text.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(code == Some(2) && found, "{peers}: {words:?} not in {text}");
    }
}
