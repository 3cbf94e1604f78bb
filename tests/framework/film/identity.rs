//! Mutual TLS between processes: who is let in, and certificates that are replaced under load.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::film::small_picture;
use harness::{Authority, Curl, Process, RawConnection, TlsClient, eventually, output, uuid};
use serde_json::json;
use tempfile::TempDir;

/// The settings of mutual TLS with the files of a folder.
fn mutual(folder: &Path) -> Vec<(&'static str, String)> {
    let file = |name: &str| folder.join(name).display().to_string();
    vec![
        ("MESH__TLS__MODE", "mutual".to_owned()),
        ("MESH__IDENTITY__CERTIFICATE", file("{service}.pem")),
        ("MESH__IDENTITY__KEY", file("{service}.key")),
        ("MESH__IDENTITY__BUNDLE", file("ca.pem")),
    ]
}

pub(super) fn start(binary: &str, folder: &Path, more: &[(&str, &str)]) -> Process {
    let settings = mutual(folder);
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Process::start(binary, &[&settings[..], more].concat())
}

/// Catalog, artwork and a gateway, each with a certificate of its own. Clients of the gateway have none.
struct Apart {
    folder: TempDir,
    catalog: Process,
    artwork: Process,
    gateway: Process,
}

impl Apart {
    fn start(authority: &Authority, more: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        authority.write(folder.path(), &["catalog", "artwork", "gateway"]);
        let catalog = start("catalog", folder.path(), more);
        let at = catalog.address.to_string();
        let more = [&[("MESH__REGISTRY", "static"), ("MESH__STATIC__CATALOG", &*at)], more].concat();
        let artwork = start("artwork", folder.path(), &more);
        let at = artwork.address.to_string();
        let gateway = start("gateway", folder.path(), &[&[("MESH__STATIC__ARTWORK", &*at)], &more[..]].concat());
        Self { folder, catalog, artwork, gateway }
    }
}

/// Creates a title and renders its picture: artwork asks the catalog.
pub(super) fn renders(curl: &Curl) {
    let title = curl.json("POST", "/v1/titles", &json!({"requestId": uuid(), "name": "Metropolis", "year": 1927}));
    assert_eq!(title.status, 200, "{title:?}");
    let title = title.json()["titleId"].as_str().expect("an id").to_owned();
    let key = format!("Idempotency-Key: {}", uuid());
    let arguments = ["--header", "Content-Type: image/png", "--header", &key, "--data-binary", "@-"];
    let started = curl.send(&format!("/v1/titles/{title}/artwork:upload"), &arguments, &small_picture());
    assert_eq!(started.status, 200, "{started:?}");
    let name = started.json()["name"].as_str().expect("a name").to_owned();
    let done = curl.get(&format!("/v1/{name}:wait?timeout=30s")).json();
    assert!(done["done"] == true && done.get("error").is_none(), "{done}");
}

#[test]
fn processes_authenticate_each_other() {
    if Curl::installed() {
        renders(&Apart::start(&Authority::new(), &[]).gateway.curl());
    }
}

#[test]
fn client_without_a_certificate_of_the_mesh_is_refused() {
    if !Curl::installed() {
        return;
    }
    let (authority, foreign) = (Authority::new(), Authority::new());
    let apart = Apart::start(&authority, &[("MESH__ADMIN__LISTEN", "127.0.0.1:0")]);
    let (address, admin) = (apart.catalog.address, Curl::to(apart.catalog.listener("admin")));
    let none = calls(&admin);
    assert_eq!(authority.call(address, Some(&authority.service("artwork"))), Ok(()));
    let artwork = "spiffe://dev.mesh/service/artwork";
    let before = eventually("the call is counted", || Some(calls(&admin)).filter(|calls| *calls > none));
    for (what, leaf) in [
        ("no certificate", None),
        ("a foreign authority of the same name", Some(foreign.service("artwork"))),
        ("another trust domain", Some(authority.leaf(&["spiffe://other.mesh/service/artwork"]))),
        ("no URI", Some(authority.leaf(&[]))),
        ("two URIs", Some(authority.leaf(&[artwork, "spiffe://dev.mesh/service/catalog"]))),
        ("a URI that is no SPIFFE ID", Some(authority.leaf(&["https://dev.mesh/service/artwork"]))),
        ("a certificate that has ended", Some(authority.ended(artwork))),
    ] {
        let refused = authority.call(address, leaf.as_ref()).expect_err(what);
        assert!(
            refused.contains("alert") || refused.contains("closed") || refused.contains("reset"),
            "{what}: {refused}"
        );
    }
    // Without TLS: a plain answer, and no page.
    let plain = apart.catalog.http("/metrics");
    assert!(plain.contains("400") && plain.contains("speaks TLS"), "{plain}");
    assert_eq!(calls(&admin), before, "no handler runs");
    assert_eq!(authority.call(address, Some(&authority.service("artwork"))), Ok(()), "it still serves");
}

/// The calls that a process has answered, by the page that needs no certificate.
fn calls(admin: &Curl) -> u64 {
    let metrics = admin.get("/metrics").text();
    let lines = metrics.lines().filter(|line| line.starts_with("grpc_server_handled_total{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[test]
fn server_in_the_place_of_another_is_refused() {
    if !Curl::installed() {
        return;
    }
    let authority = Authority::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    authority.write(folder.path(), &["artwork", "gateway"]);
    let impostor = start("artwork", folder.path(), &[]);
    let at = impostor.address.to_string();
    let gateway = start("gateway", folder.path(), &[("MESH__REGISTRY", "static"), ("MESH__STATIC__CATALOG", &at)]);
    let answer = gateway.curl().get("/v1/titles");
    assert_eq!((answer.status, &answer.json()["code"]), (503, &json!(14)), "{answer:?}");
    assert!(answer.text().contains("ENDPOINT_UNREACHABLE") && !answer.text().contains("spiffe"), "{answer:?}");
    let log = gateway.log();
    let why = "spiffe://dev.mesh/service/artwork answers in the place of spiffe://dev.mesh/service/catalog";
    assert!(log.contains(why), "{log}");
    assert_eq!(log.matches(why).count(), 1, "it is said once: {log}");
}

/// Another namespace of the same trust domain, as with SPIRE in Kubernetes.
#[test]
fn server_of_the_same_name_elsewhere_in_the_trust_domain_is_refused() {
    if !Curl::installed() {
        return;
    }
    let authority = Authority::new();
    let [own, other] = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
    authority.write(own.path(), &["gateway"]);
    authority.write(other.path(), &[]);
    authority.leaf(&["spiffe://dev.mesh/ns/other/sa/catalog"]).write(other.path(), "catalog");
    let impostor = start("catalog", other.path(), &[]);
    let at = impostor.address.to_string();
    let gateway = start("gateway", own.path(), &[("MESH__REGISTRY", "static"), ("MESH__STATIC__CATALOG", &at)]);
    let answer = gateway.curl().get("/v1/titles");
    assert!(answer.status == 503 && answer.text().contains("ENDPOINT_UNREACHABLE"), "{answer:?}");
}

#[test]
fn client_that_is_refused_can_call_another_instance() {
    if !Curl::installed() {
        return;
    }
    let (authority, foreign) = (Authority::new(), Authority::new());
    let [own, other] = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
    authority.write(own.path(), &["catalog", "gateway"]);
    let catalog = start("catalog", own.path(), &[]);
    // A gateway that trusts the catalog, and has a certificate that the catalog does not trust.
    foreign.write(other.path(), &["gateway"]);
    let bundle = format!("{}{}", authority.bundle(), foreign.bundle());
    std::fs::write(other.path().join("ca.pem"), bundle).expect("a file");
    let at = catalog.address.to_string();
    let gateway = start("gateway", other.path(), &[("MESH__REGISTRY", "static"), ("MESH__STATIC__CATALOG", &at)]);
    let answer = gateway.curl().get("/v1/titles");
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.text().contains("ENDPOINT_UNREACHABLE"), "not lost: nothing was processed: {answer:?}");

    authority.service("gateway").write(other.path(), "gateway");
    eventually("the new certificate is used", || (gateway.curl().get("/v1/titles").status == 200).then_some(()));
}

/// A resumed session would skip the check of the certificate.
#[test]
fn sessions_are_not_resumed() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    authority.write(folder.path(), &["catalog"]);
    let catalog = start("catalog", folder.path(), &[]);
    // A client that resumes where a server offers it.
    let tickets = authority.service("catalog").serve_with_tickets();
    let client = TlsClient::showing(Some(&authority.service("artwork")));
    let first = client.call(tickets, "catalog").expect("it is let in");
    assert!(!first.resumed && first.tickets > 0, "{first:?}");
    assert!(client.call(tickets, "catalog").expect("it is let in").resumed);
    // It shows a ticket to the catalog, which makes a whole handshake, and gives it none.
    for _ in 0..3 {
        assert!(client.call(tickets, "catalog").is_ok());
        let seen = client.call(catalog.address, "catalog").expect("it is let in");
        assert!(!seen.resumed && seen.tickets == 0, "{seen:?}");
    }

    // The same client, once its certificate has ended.
    let lasting = authority.lasting("spiffe://dev.mesh/service/artwork", Duration::from_secs(4));
    let client = TlsClient::showing(Some(&lasting));
    assert!(client.call(tickets, "catalog").is_ok() && client.call(tickets, "catalog").expect("it is let in").resumed);
    assert!(client.call(catalog.address, "catalog").is_ok());
    eventually("it is refused", || {
        assert!(client.call(tickets, "catalog").is_ok(), "the other server does not look at it");
        client.call(catalog.address, "catalog").is_err().then_some(())
    });
}

#[test]
fn mesh_speaks_tls_1_3_alone() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    authority.write(folder.path(), &["catalog"]);
    let catalog = start("catalog", folder.path(), &[]);
    let artwork = authority.service("artwork");
    let refused = TlsClient::old(&artwork).call(catalog.address, "catalog").expect_err("it is refused");
    assert!(refused.to_lowercase().contains("alert") && refused.contains("ProtocolVersion"), "{refused}");
    assert!(TlsClient::showing(Some(&artwork)).call(catalog.address, "catalog").is_ok());
    eventually("it is logged", || catalog.log().contains("NO_COMMON_PROTOCOL").then_some(()));
}

#[test]
fn monolith_shows_the_certificate_of_the_service_that_is_called() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let services = ["monolith", "catalog", "artwork", "billing", "library", "tv", "mobile", "composer"];
    authority.write(folder.path(), &services);
    let monolith = start("monolith", folder.path(), &[]);
    let client = TlsClient::showing(Some(&authority.service("gateway")));
    for (name, shown) in
        [("catalog", "catalog"), ("artwork", "artwork"), ("monolith", "monolith"), ("unknown", "monolith")]
    {
        let seen = client.call(monolith.address, name).expect("it is let in");
        let id = format!("spiffe://dev.mesh/service/{shown}");
        let has = |id: &str| seen.certificate.windows(id.len()).any(|window| window == id.as_bytes());
        assert!(has(&id), "{name} is answered with another certificate");
        let others = services.iter().filter(|other| **other != shown);
        assert!(others.map(|other| format!("spiffe://dev.mesh/service/{other}")).all(|other| !has(&other)));
    }
}

/// The authority and all certificates are replaced in the order of docs/operate/tls.md, under 200 calls a second: once,
/// or again and again for SOAK_SECONDS.
#[test]
fn certificates_are_replaced_without_a_failed_call() {
    if !Curl::installed() {
        return;
    }
    let first = Authority::new();
    // Each second brings new connections, and with them handshakes.
    let apart = Apart::start(&first, &[("MESH__LIMITS__CONNECTION_AGE", "1s")]);
    let services = ["catalog", "artwork", "gateway"];
    let bundle = |text: String| std::fs::write(apart.folder.path().join("ca.pem"), text).expect("a file");
    let in_use = |count: usize| {
        let loaded = |process: &Process| process.log().matches("the new certificates are in use").count() >= count;
        eventually("the files are read", || {
            [&apart.catalog, &apart.artwork, &apart.gateway].iter().all(|process| loaded(process)).then_some(())
        });
    };
    let client = TlsClient::showing(Some(&first.service("artwork")));
    assert!(client.call(apart.catalog.address, "catalog").is_ok());
    let seconds = std::env::var("SOAK_SECONDS").map_or(0, |seconds| seconds.parse().expect("seconds"));
    let (stop, done, failed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                call_at_a_rate(&apart.gateway, &stop, |ended| {
                    done.fetch_add(1, Ordering::Relaxed);
                    if ended != "0" {
                        failed.fetch_add(1, Ordering::Relaxed);
                        eprintln!("grpc-status {ended} after {:?}", begin.elapsed());
                    }
                });
            });
        }
        let mut old = first;
        for round in 0.. {
            let new = Authority::new();
            bundle(format!("{}{}", new.bundle(), old.bundle()));
            in_use(round * 3 + 1);
            for service in services {
                new.service(service).write(apart.folder.path(), service);
            }
            in_use(round * 3 + 2);
            bundle(new.bundle());
            in_use(round * 3 + 3);
            let settled = Instant::now();
            while settled.elapsed() < Duration::from_secs(3) {
                renders(&apart.gateway.curl());
            }
            old = new;
            if begin.elapsed() >= Duration::from_secs(seconds) {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let (done, failed, took) = (done.into_inner(), failed.into_inner(), begin.elapsed());
    assert!(failed == 0 && done > 100, "{failed} of {done} calls failed");
    eprintln!("{done} calls in {took:?}, none failed");
    assert!(client.call(apart.catalog.address, "catalog").is_err(), "the first authority is gone");
}

/// The callers, each of which makes 50 calls a second.
const CALLERS: usize = 4;

/// Lists titles every 20 ms until `stop`, and reports the code of each call.
fn call_at_a_rate(gateway: &Process, stop: &AtomicBool, ended: impl Fn(&str)) {
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        // The gateway ends connections at their age; this client does so before.
        let (connection, opened) = (RawConnection::open(gateway.address), Instant::now());
        while opened.elapsed() < Duration::from_millis(300) {
            ended(&connection.call("/catalog.v1.CatalogService/ListTitles", &[]).finish(&[]).code);
            next += Duration::from_millis(20);
            pause_until(next);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "calls at a rate have pauses between them")]
fn pause_until(time: Instant) {
    std::thread::sleep(time.saturating_duration_since(Instant::now()));
}

#[test]
fn mistakes_in_certificates_stop_the_start_with_a_line_each() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().expect("a temporary folder");
    authority.write(folder.path(), &["catalog", "artwork"]);
    let errors = |more: &[&str]| {
        let settings = mutual(folder.path());
        let set = settings.iter().map(|(name, value)| {
            let key = name.trim_start_matches("MESH__").to_lowercase().replace("__", ".");
            format!("--set={key}={value}")
        });
        let arguments: Vec<_> = set.chain(more.iter().map(|more| (*more).to_owned())).collect();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let ended = output("catalog", &[&arguments[..], &["--listen=127.0.0.1:0"]].concat(), |_| ());
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        String::from_utf8(ended.stderr).expect("UTF-8")
    };
    let set = |key: &str, name: &str| format!("--set=identity.{key}={}", folder.path().join(name).display());
    let artworks = errors(&[&set("certificate", "artwork.pem"), &set("key", "artwork.key")]);
    assert!(artworks.contains("spiffe://dev.mesh/service/artwork, not that of catalog"), "{artworks}");
    let mixed = errors(&[&set("key", "artwork.key")]);
    assert!(mixed.contains("`identity.key`") && mixed.contains("another certificate"), "{mixed}");
    let absent = errors(&[&set("bundle", "absent.pem"), &set("key", "absent.key")]);
    assert!(absent.contains("`identity.bundle`") && absent.contains("`identity.key`"), "{absent}");
    std::fs::write(folder.path().join("foreign.pem"), foreign.bundle()).expect("a file");
    let unsigned = errors(&[&set("bundle", "foreign.pem")]);
    assert!(
        unsigned.contains("`identity.certificate`") && unsigned.contains("not valid by identity.bundle"),
        "{unsigned}"
    );
    let empty = errors(&[&set("bundle", "catalog.key")]);
    assert!(empty.contains("BEGIN CERTIFICATE"), "{empty}");
    authority.ended("spiffe://dev.mesh/service/catalog").write(folder.path(), "catalog");
    let ended = errors(&[]);
    assert!(ended.contains("`identity.certificate`") && ended.to_lowercase().contains("expired"), "{ended}");
}

#[test]
fn listener_that_others_reach_needs_certificates_or_says_that_it_has_none() {
    let errors = |arguments: &[&str]| {
        let ended = output("catalog", arguments, |_| ());
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        String::from_utf8(ended.stderr).expect("UTF-8")
    };
    let open = errors(&["--listen=0.0.0.0:0"]);
    assert!(open.contains("`tls.mode`") && open.contains("plaintext") && open.contains("0.0.0.0:0"), "{open}");
    let lacking = errors(&["--listen=127.0.0.1:0", "--set=tls.mode=mutual"]);
    for key in ["identity.certificate", "identity.key", "identity.bundle"] {
        assert!(lacking.contains(key), "{lacking}");
    }
    let plain = Process::start("catalog", &[("MESH__LISTEN", "0.0.0.0:0"), ("MESH__TLS__MODE", "plaintext")]);
    assert!(!plain.log().contains("ERROR"));
}
