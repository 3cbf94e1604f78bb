//! Tokens by the keys of an issuer that is asked over HTTP.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mesh_token::development::{AUDIENCE, Development, ISSUER};
use mesh_token::{Issuer, Refused, Tokens};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// The longest that a test waits.
const LIMIT: Duration = Duration::from_secs(30);

/// Answers each request with the set of keys in this folder, and counts the requests.
async fn serve(address: SocketAddr, folder: &Path) -> (SocketAddr, Arc<AtomicUsize>, JoinHandle<()>) {
    let listener = TcpListener::bind(address).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let count = Arc::new(AtomicUsize::new(0));
    let (counted, file) = (Arc::clone(&count), folder.join("issuer.json"));
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            counted.fetch_add(1, Ordering::Relaxed);
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.expect("a request"));
            }
            let keys = fs::read_to_string(&file).expect("a set of keys");
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{keys}", keys.len());
            stream.write_all(answer.as_bytes()).await.expect("a client");
        }
    });
    (address, count, server)
}

async fn until_accepted(tokens: &Tokens, token: &str) {
    let begin = Instant::now();
    while let Err(refused) = tokens.check(token).await {
        assert!(matches!(refused, Refused::Unavailable(_)), "{refused:?}");
        assert!(begin.elapsed() < LIMIT, "{refused:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn issuer_may_begin_later_and_go_away() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let development = Development::open(folder.path()).expect("an issuer");
    let token = |subject: &str| development.sign(subject, &[], LIMIT * 10).expect("a token");

    let (address, _, server) = serve(([127, 0, 0, 1], 0).into(), folder.path()).await;
    server.abort();
    let _ = server.await;
    let issuer = Issuer::new(ISSUER, AUDIENCE, Some(&format!("http://{address}/keys"))).expect("an issuer");
    let tokens = Tokens::new(vec![issuer]).expect("one issuer");
    let refresher = tokio::spawn(tokens.clone().keep_fresh());
    let away = tokens.check(&token("alice")).await;
    assert!(matches!(&away, Err(Refused::Unavailable(why)) if why.contains("cannot be reached")), "{away:?}");

    let (_, count, server) = serve(address, folder.path()).await;
    until_accepted(&tokens, &token("alice")).await;
    let freshness = &tokens.freshness()[0];
    assert_eq!((freshness.issuer.as_str(), freshness.keys, &freshness.error), (ISSUER, 1, &None));

    // A crowd of strangers, whose keys the issuer does not have.
    let other = tempfile::tempdir().expect("a temporary folder");
    let stranger = Development::open(other.path()).expect("an issuer");
    for n in 0..200 {
        let forged = stranger.sign(&n.to_string(), &[], LIMIT).expect("a token");
        assert!(matches!(tokens.check(&forged).await, Err(Refused::Invalid(_))));
    }
    let requests = count.load(Ordering::Relaxed);
    assert!(requests <= 2, "{requests} requests");

    server.abort();
    let _ = server.await;
    assert_eq!(tokens.check(&token("bob")).await.expect("keys that are known").subject, "bob");
    refresher.abort();
}
