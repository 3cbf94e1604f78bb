//! TLS of the edge's own listener: what clients see, renewal, and settings that cannot be used.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Instant;

use harness::{Certificate, Curl, LIMIT, Process, eventually, output};
use serde_json::json;
use tempfile::TempDir;

use super::{create, keeps_its_contract, reason};

const SUBSCRIBE: &str = "/v1/services/artwork/operations:subscribe";

/// A process whose edge speaks TLS with the files of `folder`.
fn start(folder: &TempDir, environment: &[(&str, &str)]) -> (Process, SocketAddr) {
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (certificate, key) = (path("certificate.pem"), path("key.pem"));
    let files = [
        ("MESH__EDGE__LISTEN", "127.0.0.1:0"),
        ("MESH__EDGE__TLS", "files"),
        ("MESH__EDGE__TLS_CERTIFICATE", certificate.as_str()),
        ("MESH__EDGE__TLS_KEY", key.as_str()),
    ];
    let process = Process::start("monolith", &[&files[..], environment].concat());
    let edge = process.listener("edge");
    (process, edge)
}

/// A process with a certificate of its own.
fn served() -> (TempDir, Certificate, Process, SocketAddr) {
    let folder = tempfile::tempdir().expect("a folder");
    let certificate = Certificate::new();
    certificate.write(folder.path());
    let (process, edge) = start(&folder, &[]);
    (folder, certificate, process, edge)
}

fn curl(edge: SocketAddr, folder: &TempDir) -> Curl {
    Curl::trusting(edge, &folder.path().join("certificate.pem"))
}

#[test]
fn tls_serves_the_contract_over_both_protocols_and_versions() {
    if !Curl::installed() {
        return;
    }
    let (folder, _, process, edge) = served();
    let curl = curl(edge, &folder);
    keeps_its_contract(&curl);
    for (argument, protocol) in [("--http1.1", "HTTP/1.1"), ("--http2", "HTTP/2")] {
        for versions in [&["--tls-max", "1.2"][..], &["--tlsv1.3"]] {
            let page = curl.send("/v1/titles", &[&[argument], versions].concat(), b"");
            assert_eq!((page.protocol(), page.status), (protocol, 200), "{versions:?}");
        }
    }
    assert_eq!(process.curl().get("/readyz").status, 200, "the mesh's port has no TLS");
    for path in ["/v1/titles", "/openapi.json"] {
        let page = curl.send(path, &["--http2", "--head"], b"");
        let length = page.header("content-length").and_then(|length| length.parse::<usize>().ok());
        assert_eq!((page.status, page.body.len()), (200, 0), "{path}");
        assert_eq!(length, Some(curl.get(path).body.len()), "{path}");
    }
    let long = format!("X-Long: {}", "a".repeat(20_000));
    let page = curl.send("/v1/titles", &["--http2", "--header", &long], b"");
    assert_eq!((page.status, reason(&page.json()).as_str()), (431, "HEADERS_TOO_LARGE"));

    let write = |origin: String| {
        let title = json!({"requestId": harness::uuid(), "name": "M", "year": 1931}).to_string();
        let json = "Content-Type: application/json";
        let arguments = ["--header", &origin, "--header", json, "--data-binary", "@-"];
        curl.send("/v1/titles", &arguments, title.as_bytes())
    };
    assert_eq!(write(format!("Origin: https://{edge}")).status, 200);
    let page = write(format!("Origin: http://{edge}"));
    assert_eq!((page.status, reason(&page.json()).as_str()), (403, "ORIGIN_NOT_ALLOWED"), "a page that anyone wrote");
}

#[test]
fn tls_is_what_a_client_without_it_is_asked_for() {
    if !Curl::installed() {
        return;
    }
    let (_folder, _, _process, edge) = served();
    let page = Curl::to(edge).get("/v1/titles");
    assert!(page.status == 400 && page.text().contains("https://"), "{page:?}");
}

#[test]
fn tls_carries_a_websocket() {
    let (_folder, certificate, _process, edge) = served();
    let mut socket = certificate.connect(edge);
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    write!(socket, "GET {SUBSCRIBE} HTTP/1.1\r\nHost: localhost\r\n{upgrade}\r\n").expect("it reads");
    let mut socket = BufReader::new(socket);
    let mut line = String::new();
    socket.read_line(&mut line).expect("an answer");
    assert!(line.starts_with("HTTP/1.1 101"), "{line}");
    while line != "\r\n" {
        line.clear();
        socket.read_line(&mut line).expect("a head");
    }
    // A close frame, with a mask, is answered by another.
    socket.get_mut().write_all(&[0x88, 0x82, 0, 0, 0, 0, 3, 0xe8]).expect("it reads");
    let mut frames = Vec::new();
    socket.read_to_end(&mut frames).expect("the server ends TLS before the connection");
    assert!(frames.ends_with(&[0x88, 2, 3, 0xe8]), "{frames:?}");
}

#[test]
fn tls_renews_its_certificate_under_a_running_stream() {
    if !Curl::installed() {
        return;
    }
    let (folder, _, process, edge) = served();
    let old = folder.path().join("old.pem");
    std::fs::copy(folder.path().join("certificate.pem"), &old).expect("a copy");
    let mut stream = Curl::trusting(edge, &old).open(SUBSCRIBE, &["--header", "Accept: text/event-stream"]);
    let mut lines = BufReader::new(stream.stdout.take().expect("stdout")).lines();
    let mut event = || lines.next().expect("the stream goes on").expect("a line");
    event();

    Certificate::new().write(folder.path());
    let renewed = curl(edge, &folder);
    eventually("the new certificate is in use", || renewed.connects().then_some(()));
    assert!(!Curl::trusting(edge, &old).connects(), "new connections have the new one");
    assert!(!process.log().contains("cannot be used"), "{}", process.log());

    let kept = folder.path().join("kept.pem");
    std::fs::copy(folder.path().join("certificate.pem"), &kept).expect("a copy");
    std::fs::write(folder.path().join("certificate.pem"), "no certificate").expect("a file");
    let said = "the new certificate and its key cannot be used";
    eventually("a broken file is reported", || process.log().contains(said).then_some(()));
    let renewed = Curl::trusting(edge, &kept);
    let title = create(&renewed, "Metropolis");
    super::streams::upload(&renewed, &title);
    eventually("the first stream goes on", || event().contains("operations/").then_some(()));
    Certificate::new().write(folder.path());
    eventually("the files can be used again", || curl(edge, &folder).connects().then_some(()));
    assert_eq!(process.log().matches(said).count(), 1, "{}", process.log());
    assert!(process.log().contains("certificate.pem"));
    stream.kill().expect("a child");
    stream.wait().expect("a child");
}

#[test]
fn tls_handshake_that_stalls_is_a_connection_and_is_closed() {
    let folder = tempfile::tempdir().expect("a folder");
    let certificate = Certificate::new();
    certificate.write(folder.path());
    let (_process, edge) = start(&folder, &[("MESH__LIMITS__CONNECTIONS", "1")]);
    let begin = || {
        let stream = TcpStream::connect(edge).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        stream
    };
    let mut stalled = begin();
    // The head of a record whose 256 bytes never come.
    stalled.write_all(&[22, 3, 1, 1, 0]).expect("it reads");
    let refused = begin().read(&mut [0]);
    assert!(!matches!(refused, Ok(1..)), "the first one takes the only place: {refused:?}");
    let start = Instant::now();
    let closed = stalled.read(&mut [0]);
    assert!(matches!(closed, Ok(0)) && start.elapsed().as_secs() < 15, "{closed:?} after {:?}", start.elapsed());
    let served = eventually("there is place again", || {
        let mut next = certificate.connect(edge);
        let mut answer = [0; 12];
        write!(next, "GET /v1/titles HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
        next.read_exact(&mut answer).ok().map(|()| answer)
    });
    assert_eq!(&served, b"HTTP/1.1 200");
}

/// The lines with which the monolith refuses to start. `prepare` writes files into its folder.
fn refused(settings: &[&str], prepare: impl FnOnce(&Path)) -> Vec<String> {
    let listen = ["--listen=127.0.0.1:0", "--set=edge.listen=127.0.0.1:0", "--set=edge.tls=files"];
    let output = output("monolith", &[&listen[..], settings].concat(), prepare);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect()
}

#[test]
fn tls_mistakes_name_the_setting_and_the_file() {
    let files = ["--set=edge.tls_certificate=certificate.pem", "--set=edge.tls_key=key.pem"];
    let Certificate { certificate, key, .. } = Certificate::new();
    let other = Certificate::new().key;
    let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
    let old_encrypted =
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAA==\n-----END RSA PRIVATE KEY-----\n";
    let cut = certificate.replace("-----END CERTIFICATE-----\n", "");
    let forged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let unsupported = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for (name, certificate, key, setting, says) in [
        ("no certificate", "nothing", key.as_str(), "tls_certificate", "without a certificate"),
        ("a cut certificate", &cut, &key, "tls_certificate", "certificate.pem"),
        ("a forged certificate", forged, &key, "tls_certificate", "cannot be read"),
        ("no key", &certificate, &certificate, "tls_key", "without a private key"),
        ("another key", &certificate, &other, "tls_key", "certificate.pem"),
        ("an encrypted key", &certificate, &encrypted, "tls_key", "openssl pkey -in key.pem"),
        ("an older encrypted key", &certificate, old_encrypted, "tls_key", "passphrase"),
        ("an unsupported key", &certificate, unsupported, "tls_key", "not supported"),
    ] {
        let lines = refused(&files, |folder| {
            std::fs::write(folder.join("certificate.pem"), certificate).expect("a folder");
            std::fs::write(folder.join("key.pem"), key).expect("a folder");
        });
        let file = setting.replace("tls_", "") + ".pem";
        let wanted = [format!("`edge.{setting}`"), file, says.to_owned(), "--set".to_owned()];
        assert!(lines.len() == 1 && wanted.iter().all(|text| lines[0].contains(text)), "{name}: {lines:#?}");
    }
}

#[test]
fn tls_mistakes_are_all_reported_at_once() {
    let lines =
        refused(&["--set=edge.tls_certificate=folder", "--set=edge.tls_key=none.pem", "--set=edge.rate=9"], |it| {
            std::fs::create_dir(it.join("folder")).expect("a folder");
        });
    for wanted in ["`edge.tls_certificate` does not name a file: folder", "none.pem: No such file", "`edge.rate`"] {
        assert!(lines.iter().any(|line| line.contains(wanted)), "{wanted}: {lines:#?}");
    }
    assert_eq!(lines.len(), 3, "{lines:#?}");
    let lines = refused(&["--set=edge.tls_key=key.pem"], |_| {});
    assert!(lines.len() == 1 && lines[0].contains("`edge.tls_certificate` is not set"), "{lines:#?}");
}
