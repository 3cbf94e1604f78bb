//! Mutual TLS between processes: who is let in, and certificates that are replaced under load.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::film::small_picture;
use harness::{Authority, Curl, Process, eventually, output, uuid};
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

/// The authority and all certificates are replaced in the order of docs/operate/tls.md, under load.
#[test]
fn certificates_are_replaced_without_a_failed_call() {
    if !Curl::installed() {
        return;
    }
    let (old, new) = (Authority::new(), Authority::new());
    // Each second brings new connections, and with them handshakes.
    let apart = Apart::start(&old, &[("MESH__LIMITS__CONNECTION_AGE", "1s")]);
    let services = ["catalog", "artwork", "gateway"];
    let bundle = |text: String| std::fs::write(apart.folder.path().join("ca.pem"), text).expect("a file");
    let in_use = |count: usize| {
        let loaded = |process: &Process| process.log().matches("the new certificates are in use").count() >= count;
        eventually("the files are read", || {
            [&apart.catalog, &apart.artwork, &apart.gateway].iter().all(|process| loaded(process)).then_some(())
        });
    };
    let (stop, done, failed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let curl = apart.gateway.curl();
                while !stop.load(Ordering::Relaxed) {
                    let answer = curl.get("/v1/titles");
                    done.fetch_add(1, Ordering::Relaxed);
                    if answer.status != 200 {
                        failed.fetch_add(1, Ordering::Relaxed);
                        eprintln!("{answer:?}");
                    }
                }
            });
        }
        let begin = Instant::now();
        bundle(format!("{}{}", new.bundle(), old.bundle()));
        in_use(1);
        for service in services {
            new.service(service).write(apart.folder.path(), service);
        }
        in_use(2);
        bundle(new.bundle());
        in_use(3);
        let settled = Instant::now();
        while settled.elapsed() < Duration::from_secs(3) {
            assert!(begin.elapsed() < Duration::from_secs(120), "it takes too long");
            renders(&apart.gateway.curl());
        }
        stop.store(true, Ordering::Relaxed);
    });
    let (done, failed) = (done.into_inner(), failed.into_inner());
    assert!(failed == 0 && done > 100, "{failed} of {done} calls failed");
    assert!(old.call(apart.catalog.address, Some(&old.service("artwork"))).is_err(), "the old authority is gone");
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
