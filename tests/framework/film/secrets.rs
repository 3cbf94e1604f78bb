//! Secrets stay where they belong: no log at the finest level, no page, no answer and no span has one.

use harness::film::small_picture;
use harness::{Collector, Consul, Curl, Page, Postgres, Secured, eventually, output, uuid};
use serde_json::json;

use crate::dashboard::Events;

const CONSUL_TOKEN: &str = "c0ffee00-0000-4000-8000-canaryconsul";
const PASSWORD: &str = "canary-database-password";
const COOKIE: &str = "canary-cookie";
const FORGED_TOKEN: &str = "canary-bearer";
const PAGE_TOKEN: &str = "canary-page-token-0123456789abcdef";
const FORGED_PASSPORT: &str = "canary-passport";
/// The beginning of each token and passport: a JSON object in base64.
const JWS: &str = "eyJ";

/// Panics if a text has a secret.
fn check(what: &str, text: &str, token: &str) {
    let (_, signature) = token.rsplit_once('.').expect("a signature");
    for secret in [CONSUL_TOKEN, PASSWORD, COOKIE, FORGED_TOKEN, FORGED_PASSPORT, PAGE_TOKEN, JWS, token, signature] {
        if let Some(at) = text.find(secret) {
            let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
            let shown: String = text[line..].chars().take(2000).collect();
            panic!("{what} has {secret}: {shown}");
        }
    }
}

#[test]
#[ignore = "needs Postgres and Consul: .ci/full"]
fn secrets_are_in_no_output() {
    if !Curl::installed() {
        return;
    }
    let (Some(consul), Some(mut postgres)) = (Consul::start_with(json!({}), Some(CONSUL_TOKEN)), Postgres::start())
    else {
        return;
    };
    let mesh = Secured::new(&["catalog", "artwork", "gateway"]);
    let file = |name: &str, content: &str| {
        let path = mesh.folder.path().join(name);
        std::fs::write(&path, content).expect("a folder");
        path.display().to_string()
    };
    let with_password = |name: &str| postgres.database(name).replace("postgres@", &format!("postgres:{PASSWORD}@"));
    let collector = Collector::start();
    let endpoint = format!("http://{}", collector.address);
    let (token_file, url_file) = (file("consul", CONSUL_TOKEN), file("url", &with_password("catalog")));
    let page_file = file("page", PAGE_TOKEN);
    let (registry, url) = (consul.registry(), with_password("artwork"));
    let all = [
        ("MESH__LOG__LEVEL", "trace"),
        ("MESH__OTLP__ENDPOINT", &*endpoint),
        ("MESH__REGISTRY", &*registry),
        ("MESH__CONSUL__TOKEN_FILE", &*token_file),
        ("MESH__SERVICES__CATALOG__DATABASE_URL_FILE", &*url_file),
        ("MESH__SERVICES__ARTWORK__DATABASE_URL", &*url),
        ("MESH__ADMIN__LISTEN", "127.0.0.1:0"),
        ("MESH__DASHBOARD__TOKEN_FILE", &*page_file),
    ];
    let [catalog, artwork, gateway] = ["catalog", "artwork", "gateway"].map(|name| mesh.start(name, &all));
    let pages = [&catalog, &artwork, &gateway].map(|process| process.listener("admin"));
    let admin = pages.map(Curl::to);
    consul.passing("catalog", 1);
    consul.passing("artwork", 1);

    let token = mesh.token("alice", &["catalog.write", "artwork.write"]);
    let curl = gateway.curl();
    let send = |bearer: &str, method: &str, path: &str, kind: &str, body: &[u8]| -> Page {
        let bearer = format!("Authorization: Bearer {bearer}");
        let (cookie, passport) = (format!("Cookie: session={COOKIE}"), format!("mesh-passport: {FORGED_PASSPORT}"));
        // JSON has its key in the request.
        let key = if kind == "image/png" { format!("Idempotency-Key: {}", uuid()) } else { "Accept: */*".to_owned() };
        let kind = format!("Content-Type: {kind}");
        let headers = [&bearer, &cookie, &passport, &kind, &key].map(|header| ["--header", header.as_str()]).concat();
        let page = curl.send(path, &[&headers[..], &["--request", method, "--data-binary", "@-"]].concat(), body);
        check(path, &format!("{page:?}\n{}", page.text()), &token);
        page
    };
    let post = |bearer: &str, body: &str| send(bearer, "POST", "/v1/titles", "application/json", body.as_bytes());
    let title = || json!({"requestId": uuid(), "name": "M", "year": 1931}).to_string();
    let created =
        eventually("the gateway finds the catalog", || Some(post(&token, &title())).filter(|page| page.status == 200));
    let id = created.json()["titleId"].as_str().expect("an id").to_owned();
    // Artwork calls the catalog for the user.
    let upload = format!("/v1/titles/{id}/artwork:upload");
    let started = eventually("the gateway finds artwork", || {
        Some(send(&token, "POST", &upload, "image/png", &small_picture())).filter(|page| page.status == 200)
    });
    let wait = format!("/v1/{}:wait?timeout=30s", started.json()["name"].as_str().expect("a name"));
    let done = send(&token, "GET", &wait, "application/json", b"").json();
    assert!(done["done"] == true && done.get("error").is_none(), "{done}");
    // Refusals: of the token, of the scope, of the request, of the path.
    assert_eq!(post(FORGED_TOKEN, &title()).status, 401);
    assert_eq!(post(&format!("{token}x"), &title()).status, 401);
    assert_eq!(post(&mesh.token("bob", &[]), &title()).status, 403);
    assert_eq!(post(&token, "{}").status, 400);
    assert_eq!(post(&token, "{").status, 400);
    assert_eq!(send(&token, "GET", "/v2", "application/json", b"").status, 404);
    eventually("spans arrive", || (collector.all_spans().len() > 5).then_some(()));
    // Failures: the database is away.
    postgres.stop();
    eventually("it fails", || (post(&token, &title()).status == 503).then_some(()));

    for (name, process) in [("catalog", &catalog), ("artwork", &artwork), ("gateway", &gateway)] {
        let log = process.log();
        assert!(log.contains("\"TRACE\""), "the log of {name} is not that of the finest level");
        check(&format!("the log of {name}"), &log, &token);
    }
    for (admin, page) in admin.iter().flat_map(|admin| [(admin, "/metrics"), (admin, "/readyz")]) {
        check(page, &admin.get(page).text(), &token);
    }
    for process in [&catalog, &artwork] {
        let grpcurl = mesh.grpcurl(process, &token);
        for (method, request) in
            [("GetProcess", json!({})), ("ListCalls", json!({})), ("TailLogs", json!({"end": true}))]
        {
            let shown = grpcurl.call(&format!("mesh.inspect.v1.InspectService/{method}"), &request).text();
            check(&format!("{method} of the inspect API"), &shown, &token);
        }
    }
    for (process, at) in [&catalog, &artwork, &gateway].into_iter().zip(pages) {
        assert_eq!(Curl::to(at).get("/dashboard/api/logs").status, 401, "auth.mode is required");
        let admin = &Curl::to(at).with_token(PAGE_TOKEN);
        let configuration = format!("processes/{}/configuration", process.address);
        for asked in ["calls?limit=1000", "logs", "contracts", &configuration] {
            let shown = admin.get(&format!("/dashboard/api/{asked}"));
            assert_eq!(shown.status, 200, "{asked}: {shown:?}");
            check(asked, &shown.text(), &token);
        }
        let mut events = Events::open(admin);
        events.until("processes are known", |events| events.rows("processes", "state", "up").next().map(drop));
        check("the stream of the dashboard", &events.state.to_string(), &token);
    }
    check("a span", &format!("{:?}", collector.all_spans()), &token);

    // A start that fails, and the configuration in force.
    let url = format!("postgres://me:{PASSWORD}@127.0.0.1:1/catalog");
    let set = [
        format!("--set=services.catalog.database_url={url}"),
        format!("--set=consul.token={CONSUL_TOKEN}"),
        "--set=database.wait=10ms".to_owned(),
        "--set=log.level=trace".to_owned(),
        "--listen=127.0.0.1:0".to_owned(),
    ];
    let set: Vec<_> = set.iter().map(String::as_str).collect();
    for more in [&[][..], &["--print-config"], &["--set=consul.token=canary consul"], &["--set=registry=x"]] {
        let ended = output("catalog", &[&set[..], more].concat(), |_| ());
        let printed = [ended.stdout, ended.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).join("\n");
        assert!(!printed.trim().is_empty(), "{more:?}");
        check("the output", &printed, &token);
        assert!(!printed.contains("canary consul"), "{printed}");
    }
}

#[test]
#[should_panic(expected = "the log has canary-database-password")]
fn secret_in_a_text_is_found() {
    check("the log", &format!("one line\nanother with {PASSWORD} in it"), "a.b.signature");
}
