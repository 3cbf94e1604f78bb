//! What a process says about certificates that have expired, clients that it does not let in, and peers that speak
//! another protocol.

use std::time::Duration;

use harness::{Authority, Consul, Curl, Process, RawCall, command, eventually};
use serde_json::json;

use super::identity::start;

const CATALOG: &str = "spiffe://dev.mesh/service/catalog";

/// The value of a series on `/metrics`; 0 if it is absent.
fn value(admin: &Curl, series: &str) -> u64 {
    let metrics = admin.get("/metrics").text();
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().expect("a number"))
}

#[test]
fn expired_certificate_takes_a_process_out_until_it_is_renewed() {
    if !Curl::installed() {
        return;
    }
    let Some(consul) = Consul::start() else { return };
    // The program is built before the lifetime of the certificate begins.
    let _ = command("catalog");
    let authority = Authority::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    authority.write(folder.path(), &["gateway"]);
    authority.lasting(CATALOG, Duration::from_secs(10)).write(folder.path(), "catalog");
    let more = [("MESH__ADMIN__LISTEN", "127.0.0.1:0"), ("MESH__REGISTRY", &*consul.registry())];
    let catalog = start("catalog", folder.path(), &more);
    let at = catalog.listener("admin");
    let admin = Curl::to(at);
    // The last byte of the answer is the status: 1 is SERVING, and 2 NOT_SERVING.
    let health = || RawCall::begin(at, "/grpc.health.v1.Health/Check", &[]).finish(&[]).body.pop();
    eventually("it is ready", || (admin.get("/readyz").status == 200).then_some(()));
    consul.passing("catalog", 1);
    let end = value(&admin, "mesh_identity_not_after_seconds{service=\"catalog\"}");

    let expired = eventually("the certificate expires", || {
        let page = admin.get("/readyz");
        (page.status == 503).then(|| page.text())
    });
    assert!(expired.contains("the certificate of catalog has expired") && expired.contains("catalog.pem"), "{expired}");
    assert_eq!(health(), Some(2));
    assert_eq!(value(&admin, "mesh_service_ready{service=\"catalog\"}"), 0);
    consul.passing("catalog", 0);

    authority.service("catalog").write(folder.path(), "catalog");
    eventually("it is ready again", || (admin.get("/readyz").status == 200).then_some(()));
    assert_eq!(health(), Some(1));
    consul.passing("catalog", 1);
    assert!(value(&admin, "mesh_identity_not_after_seconds{service=\"catalog\"}") > end);
    assert_eq!(value(&admin, "mesh_identity_renewals_total{outcome=\"renewed\"}"), 1);
    assert_eq!(catalog.log().matches("the certificate of catalog has expired").count(), 1, "{}", catalog.log());
}

#[test]
fn expired_certificate_of_a_gateway_is_said_at_its_pages() {
    if !Curl::installed() {
        return;
    }
    // The program is built before the lifetime of the certificate begins.
    let _ = command("gateway");
    let authority = Authority::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    authority.write(folder.path(), &[]);
    let gateway = "spiffe://dev.mesh/service/gateway";
    authority.lasting(gateway, Duration::from_secs(4)).write(folder.path(), "gateway");
    let gateway = start("gateway", folder.path(), &[]);
    let page =
        eventually("the certificate expires", || Some(gateway.http("/readyz")).filter(|page| page.contains("503")));
    assert!(page.contains("gateway: not ready: the certificate of gateway has expired"), "{page}");
    authority.write(folder.path(), &["gateway"]);
    eventually("it is ready again", || gateway.http("/readyz").contains("gateway: ready").then_some(()));
}

#[test]
fn files_that_cannot_be_used_are_counted() {
    if !Curl::installed() {
        return;
    }
    let (authority, foreign) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().expect("a temporary folder");
    authority.write(folder.path(), &["catalog"]);
    let catalog = start("catalog", folder.path(), &[("MESH__ADMIN__LISTEN", "127.0.0.1:0")]);
    let admin = Curl::to(catalog.listener("admin"));
    foreign.service("catalog").write(folder.path(), "catalog");
    eventually("it is counted", || {
        (value(&admin, "mesh_identity_renewals_total{outcome=\"failed\"}") > 0).then_some(())
    });
    assert_eq!(value(&admin, "mesh_identity_renewals_total{outcome=\"renewed\"}"), 0);
    assert_eq!(admin.get("/readyz").status, 200, "the old one is in use");
}

#[test]
fn client_that_is_not_let_in_is_logged_and_counted_by_reason() {
    if !Curl::installed() {
        return;
    }
    let (authority, foreign) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().expect("a temporary folder");
    authority.write(folder.path(), &["catalog"]);
    let catalog = start("catalog", folder.path(), &[("MESH__ADMIN__LISTEN", "127.0.0.1:0")]);
    let admin = Curl::to(catalog.listener("admin"));
    let artwork = "spiffe://dev.mesh/service/artwork";
    let other = "spiffe://other.mesh/service/artwork";
    assert_eq!(authority.call(catalog.address, Some(&authority.service("artwork"))), Ok(()));
    assert!(!catalog.log().contains("was not let in"));
    for (reason, claimed, leaf) in [
        ("NO_CERTIFICATE", "", None),
        ("UNKNOWN_AUTHORITY", artwork, Some(foreign.service("artwork"))),
        ("OTHER_TRUST_DOMAIN", other, Some(authority.leaf(&[other]))),
        ("NO_SPIFFE_ID", "", Some(authority.leaf(&[artwork, CATALOG]))),
        ("EXPIRED", artwork, Some(authority.ended(artwork))),
        ("INVALID_CERTIFICATE", artwork, Some(authority.service("gateway").signs(artwork))),
    ] {
        authority.call(catalog.address, leaf.as_ref()).expect_err(reason);
        let line = eventually("it is logged", || {
            let log = catalog.log();
            let mut lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap_or_default());
            lines.find(|line| line["fields"]["reason"] == reason || line["reason"] == reason)
        });
        let text = line.to_string();
        assert!(text.contains("WARN") && text.contains("a client was not let in"), "{text}");
        assert!(text.contains(&format!("\"claimed\":\"{claimed}\"")), "{text}");
        assert_eq!(value(&admin, &format!("mesh_tls_rejected_total{{side=\"server\",reason=\"{reason}\"}}")), 1);
    }
    let plain = catalog.http("/metrics");
    assert!(plain.contains("speaks TLS"), "{plain}");
    eventually("it is counted", || {
        (value(&admin, "mesh_tls_rejected_total{side=\"server\",reason=\"NO_TLS\"}") == 1).then_some(())
    });
    assert_eq!(value(&admin, "mesh_tls_handshakes_total{side=\"server\",outcome=\"ok\"}"), 1);
    assert_eq!(value(&admin, "mesh_tls_handshakes_total{side=\"server\",outcome=\"failed\"}"), 7);
    // A probe of the port: it connects and leaves.
    drop(std::net::TcpStream::connect(catalog.address).expect("it listens"));
    eventually("it is counted", || {
        (value(&admin, "mesh_tls_handshakes_total{side=\"server\",outcome=\"failed\"}") == 8).then_some(())
    });
    assert_eq!(catalog.log().matches("was not let in").count(), 7, "{}", catalog.log());
}

#[test]
fn peer_without_tls_and_caller_without_tls_are_named() {
    if !Curl::installed() {
        return;
    }
    let authority = Authority::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    authority.write(folder.path(), &["catalog", "gateway"]);
    let calls = |gateway: &Process, why: &str| {
        for write in [false, true] {
            // A write that was sent would not be repeated, and would be lost.
            let answer = match write {
                false => gateway.curl().get("/v1/titles"),
                true => gateway.curl().json(
                    "POST",
                    "/v1/titles",
                    &json!({"requestId": harness::uuid(), "name": "M", "year": 1931}),
                ),
            };
            assert_eq!((answer.status, &answer.json()["code"]), (503, &json!(14)), "{answer:?}");
            assert!(answer.text().contains("ENDPOINT_UNREACHABLE"), "{answer:?}");
        }
        let log = gateway.log();
        let lines: Vec<_> = log.lines().filter(|line| line.contains("no connection to a peer")).collect();
        assert!(lines.len() == 1 && lines[0].contains("WARN") && lines[0].contains(why), "{log}");
    };

    let with = start("catalog", folder.path(), &[]);
    let at = with.address.to_string();
    let gateway = Process::start("gateway", &[("MESH__REGISTRY", "static"), ("MESH__STATIC__CATALOG", &at)]);
    calls(&gateway, "the peer speaks TLS");

    let without = Process::start("catalog", &[]);
    let at = without.address.to_string();
    let gateway = start("gateway", folder.path(), &[("MESH__REGISTRY", "static"), ("MESH__STATIC__CATALOG", &at)]);
    calls(&gateway, "the peer does not speak TLS");
    let log = without.log();
    assert!(!log.contains("panicked"), "{log}");
}
