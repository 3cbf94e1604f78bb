//! An authority that leaves the bundle: what its certificates have opened ends, on both sides of a connection.

use std::io::Read as _;
use std::process::Child;
use std::time::{Duration, Instant};

use harness::{Authority, Curl, Process, eventually};
use tempfile::TempDir;

use super::identity::start;

const LIST: &str = "/v1/services/artwork/operations";
const STREAM: &str = "/v1/services/artwork/operations:subscribe";

/// A folder with a certificate of a service by the first authority, which trusts all of them.
fn folder(service: &str, trusted: &[&Authority]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    trusted[0].service(service).write(folder.path(), service);
    trust(&folder, trusted);
    folder
}

fn trust(folder: &TempDir, authorities: &[&Authority]) {
    let bundle: String = authorities.iter().map(|authority| authority.bundle()).collect();
    std::fs::write(folder.path().join("ca.pem"), bundle).expect("a file");
}

/// A gateway before artwork.
fn gateway(folder: &TempDir, artwork: &Process) -> Process {
    let at = artwork.address.to_string();
    start("gateway", folder.path(), &[("MESH__REGISTRY", "static"), ("MESH__STATIC__ARTWORK", &at)])
}

fn open(gateway: &Process) -> Child {
    gateway.curl().open(STREAM, &["--header", "Accept: text/event-stream"])
}

#[test]
fn removed_authority_ends_what_its_clients_have_opened() {
    if !Curl::installed() {
        return;
    }
    let (old, new) = (Authority::new(), Authority::new());
    let artworks = folder("artwork", &[&new, &old]);
    let artwork = start("artwork", artworks.path(), &[("MESH__ADMIN__LISTEN", "127.0.0.1:0")]);
    let gateways = [&[&old, &new], &[&new, &old]].map(|trusted| folder("gateway", trusted));
    let [removed, kept] = gateways.each_ref().map(|folder| gateway(folder, &artwork));
    let (mut ending, mut lasting) = (open(&removed), open(&kept));
    let admin = Curl::to(artwork.listener("admin"));
    let streams = |count: &str| {
        let metrics = admin.get("/metrics").text();
        let of_streams = |line: &&str| line.contains("in_flight{") && line.contains("Subscribe");
        metrics.lines().find(of_streams).is_some_and(|line| line.ends_with(count))
    };
    eventually("both streams are open", || streams(" 2").then_some(()));

    trust(&artworks, &[&new]);
    let begun = Instant::now();
    let mut text = String::new();
    ending.stdout.take().expect("piped").read_to_string(&mut text).expect("UTF-8");
    let _ = ending.wait();
    assert!(text.contains("STREAM_DRAINING"), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    eventually("it gets no other connection", || (removed.curl().get(LIST).status == 503).then_some(()));
    assert!(artwork.log().contains("UNKNOWN_AUTHORITY"), "{}", artwork.log());

    assert!(lasting.try_wait().expect("a child").is_none() && streams(" 1"), "the other one goes on");
    assert_eq!(kept.curl().get(LIST).status, 200);
    let _ = lasting.kill();
    let _ = lasting.wait();
}

#[test]
fn removed_authority_ends_what_was_opened_to_its_servers() {
    if !Curl::installed() {
        return;
    }
    let (old, new) = (Authority::new(), Authority::new());
    let (artworks, gateways) = (folder("artwork", &[&old, &new]), folder("gateway", &[&new, &old]));
    let artwork = start("artwork", artworks.path(), &[]);
    let gateway = gateway(&gateways, &artwork);
    assert_eq!(gateway.curl().get(LIST).status, 200);
    trust(&gateways, &[&new]);
    let refused = eventually("the server is not trusted", || {
        let page = gateway.curl().get(LIST);
        (page.status == 503).then(|| page.text())
    });
    assert!(refused.contains("ENDPOINT_UNREACHABLE"), "{refused}");
    new.service("artwork").write(artworks.path(), "artwork");
    eventually("its new certificate is", || (gateway.curl().get(LIST).status == 200).then_some(()));
}
