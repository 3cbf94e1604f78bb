//! Issuers of tokens: one with a certificate of a private authority, and one whose keys cannot be read any more.

use harness::{Certificate, Curl, Process, eventually, token};
use serde_json::json;

/// The value of a series of the one issuer.
fn value(curl: &Curl, name: &str) -> Option<f64> {
    let metrics = curl.get("/metrics").text();
    let line =
        metrics.lines().find(|line| line.starts_with(name) && line.contains("{issuer=\"https://issuer.dev.mesh\"}"));
    line?.rsplit(' ').next()?.parse().ok()
}

/// Creates a title with this token. Returns the status.
fn create(curl: &Curl, token: &str) -> u16 {
    let title = json!({"requestId": harness::uuid(), "name": "Metropolis", "year": 1927}).to_string();
    let headers = ["--header", &format!("Authorization: Bearer {token}"), "--header", "Content-Type: application/json"];
    curl.send("/v1/titles", &[&headers[..], &["--data-binary", "@-"]].concat(), title.as_bytes()).status
}

#[test]
fn issuer_with_a_certificate_of_a_private_authority_is_asked_by_its_bundle() {
    if !Curl::installed() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let alice = token(folder.path(), "alice", &["catalog.write"], "1h");
    let web = folder.path().join("web");
    std::fs::create_dir(&web).expect("a folder");
    std::fs::copy(folder.path().join(".mesh/ca/issuer.json"), web.join("keys.json")).expect("a file");
    std::fs::write(web.join("index.html"), "An issuer").expect("a file");
    let [certificate, key] = Certificate::new().write(folder.path()).map(|path| path.display().to_string());
    // The edge of another process stands for the issuer.
    let issuer = Process::start(
        "monolith",
        &[
            ("MESH__EDGE__LISTEN", "127.0.0.1:0"),
            ("MESH__EDGE__TLS", "files"),
            ("MESH__EDGE__TLS_CERTIFICATE", &*certificate),
            ("MESH__EDGE__TLS_KEY", &*key),
            ("MESH__EDGE__WEB", &format!("/issuer={}", web.display())),
        ],
    );
    let issuers = format!("https://issuer.dev.mesh mesh https://{}/issuer/keys.json", issuer.listener("edge"));
    let start =
        |more: &[(&str, &str)]| Process::start("monolith", &[&[("MESH__AUTH__ISSUERS", &*issuers)], more].concat());
    let without = start(&[]);
    assert_eq!(create(&without.curl(), &alice), 503);
    assert_eq!(
        (value(&without.curl(), "mesh_issuer_keys{"), value(&without.curl(), "mesh_issuer_failing")),
        (Some(0.0), Some(1.0))
    );
    assert_eq!(value(&without.curl(), "mesh_issuer_keys_age_seconds"), None);
    assert!(without.log().contains("cannot be trusted"), "{}", without.log());

    let with = start(&[("MESH__AUTH__ISSUER_BUNDLE", &*certificate)]);
    assert_eq!(create(&with.curl(), &alice), 200, "{}", with.log());
    assert_eq!(
        (value(&with.curl(), "mesh_issuer_keys{"), value(&with.curl(), "mesh_issuer_failing")),
        (Some(1.0), Some(0.0))
    );

    let errors = |arguments: &[&str]| {
        let ended = harness::output("monolith", &[&["--listen=127.0.0.1:0"], arguments].concat(), |_| ());
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        String::from_utf8(ended.stderr).expect("UTF-8")
    };
    let absent = errors(&["--set=auth.issuers=https://a.test mesh", "--set=auth.issuer_bundle=absent.pem"]);
    assert!(absent.contains("`auth.issuer_bundle`") && absent.contains("absent.pem cannot be used"), "{absent}");
    let alone = errors(&[&format!("--set=auth.issuer_bundle={certificate}")]);
    assert!(alone.contains("`auth.issuer_bundle`") && alone.contains("auth.issuers names no issuer"), "{alone}");
}

#[test]
fn issuer_whose_keys_cannot_be_read_is_stale_in_metrics() {
    if !Curl::installed() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let alice = token(folder.path(), "alice", &["catalog.write"], "1h");
    let monolith = Process::start_in(folder, "monolith", &[("MESH__AUTH__MODE", "required")]);
    let (curl, keys) = (monolith.curl(), monolith.working_folder().join(".mesh/ca/issuer.json"));
    assert_eq!(create(&curl, &alice), 200);
    assert_eq!((value(&curl, "mesh_issuer_keys{"), value(&curl, "mesh_issuer_failing")), (Some(1.0), Some(0.0)));

    let away = keys.with_extension("away");
    std::fs::rename(&keys, &away).expect("a file");
    eventually("a reading fails", || (value(&curl, "mesh_issuer_failing") == Some(1.0)).then_some(()));
    assert_eq!(value(&curl, "mesh_issuer_keys{"), Some(1.0), "the last ones are in use");
    let age = value(&curl, "mesh_issuer_keys_age_seconds").expect("they were read");
    eventually("they age", || value(&curl, "mesh_issuer_keys_age_seconds").filter(|older| *older > age));
    let bob = token(&monolith.working_folder(), "bob", &["catalog.write"], "1h");
    assert_eq!(create(&curl, &bob), 200, "also for new tokens");
    std::fs::rename(away, keys).expect("a file");
    eventually("they are read again", || (value(&curl, "mesh_issuer_failing") == Some(0.0)).then_some(()));
}
