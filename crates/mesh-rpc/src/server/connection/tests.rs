use super::super::start::PREFACE;
use super::*;
use crate::telemetry::{Exposition, Metrics, Side};
use rustls::server::ResolvesServerCertUsingSni;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A client, and the server's task for its connection. The server never responds.
async fn connect(limits: Limits) -> (TcpStream, JoinHandle<()>) {
    connect_by(None, limits).await
}

/// The same with TLS.
async fn connect_by(tls: Option<Handshake>, limits: Limits) -> (TcpStream, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let silent = |_, _| std::future::pending();
    (client, tokio::spawn(serve(stream, tls, CancellationToken::new(), limits, silent)))
}

/// How long the connection of a client lasts that sends `bytes` and then nothing.
async fn lifetime(bytes: &[u8], limits: Limits) -> Duration {
    let (mut client, server) = connect(limits).await;
    let start = Instant::now();
    client.write_all(bytes).await.unwrap();
    server.await.unwrap();
    // The connection is closed.
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest).await;
    start.elapsed()
}

const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

#[tokio::test(start_paused = true)]
async fn connection_without_a_complete_start_is_closed() {
    for bytes in [
        "",
        "P",
        "PRI * HT",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0",
        "GET /met",
        "GET / HTTP/1.1\r\nhost: a\r\n",
    ] {
        let lifetime = lifetime(bytes.as_bytes(), Limits::default()).await;
        assert!((PREFACE_TIMEOUT..PREFACE_TIMEOUT * 2).contains(&lifetime), "{bytes:?}: {lifetime:?}");
    }
}

/// The handshakes of a listener of four connections. No client gets far enough for a certificate.
fn handshakes(metrics: &Metrics) -> impl Fn() -> Option<Handshake> {
    let all = Arc::new(Handshakes::new(Side::Server, metrics.tls.clone(), 4));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let config = config.unwrap().with_no_client_auth();
    let config = Arc::new(config.with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new())));
    move || Some(Handshake { config: Arc::clone(&config), identity: None, all: Arc::clone(&all) })
}

fn rejected(metrics: &Metrics, reason: &str) -> u32 {
    let page = metrics.render(Exposition::Text);
    let series = format!("mesh_tls_rejected_total{{side=\"server\",reason=\"{reason}\"}} ");
    page.lines().find_map(|line| line.strip_prefix(&series)).map_or(0, |count| count.parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn handshake_that_is_not_completed_is_closed() {
    let metrics = Metrics::new();
    let tls = handshakes(&metrics);
    // Nothing, a part of the head of a record, and a part of a ClientHello.
    for (count, bytes) in [&[][..], &[0x16, 3], &[0x16, 3, 1, 0, 80, 1, 0, 0, 76, 3, 3]].into_iter().enumerate() {
        let (mut client, server) = connect_by(tls(), Limits::default()).await;
        let start = Instant::now();
        client.write_all(bytes).await.unwrap();
        server.await.unwrap();
        let lasted = start.elapsed();
        assert!((HANDSHAKE_TIMEOUT..HANDSHAKE_TIMEOUT * 2).contains(&lasted), "{bytes:?}: {lasted:?}");
        assert_eq!(rejected(&metrics, "TIMEOUT"), count as u32 + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn pending_handshakes_take_half_of_the_connections() {
    let metrics = Metrics::new();
    let (tls, start) = (handshakes(&metrics), Instant::now());
    let [first, second] = [connect_by(tls(), Limits::default()).await, connect_by(tls(), Limits::default()).await];
    tokio::task::yield_now().await;
    // Closed at once, while the others wait.
    connect_by(tls(), Limits::default()).await.1.await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(!first.1.is_finished() && !second.1.is_finished());
    assert_eq!((rejected(&metrics, "TOO_MANY"), rejected(&metrics, "TIMEOUT")), (1, 0));
    first.1.await.unwrap();
    second.1.await.unwrap();
    assert_eq!(rejected(&metrics, "TIMEOUT"), 2);
    let (_client, server) = connect_by(tls(), Limits::default()).await;
    tokio::task::yield_now().await;
    assert!(!server.is_finished(), "there is room again");
    assert_eq!(rejected(&metrics, "TOO_MANY"), 1);
}

#[tokio::test(start_paused = true)]
async fn connection_without_ping_answers_is_closed() {
    let half_a_head = [0, 0, 50, 1, 4, 0, 0, 0, 1, 0x83];
    for rest in [&[][..], &half_a_head[..], &half_a_head[..4]] {
        let lifetime = lifetime(&[PREFACE, SETTINGS, rest].concat(), Limits::default()).await;
        assert!((KEEP_ALIVE..=KEEP_ALIVE * 3).contains(&lifetime), "{rest:?}: {lifetime:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn connection_past_its_age_is_closed_after_the_grace_period() {
    let limits = Limits {
        connection_age: Duration::from_secs(100),
        connection_grace: Duration::from_secs(20),
        ..Limits::default()
    };
    let (mut client, server) = connect(limits).await;
    let start = Instant::now();
    // A request without a response, over a protocol without pings.
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    server.await.unwrap();
    let lifetime = start.elapsed();
    assert!((Duration::from_secs(130)..Duration::from_secs(151)).contains(&lifetime), "{lifetime:?}");
}
