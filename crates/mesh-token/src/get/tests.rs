use std::time::Duration;

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

const LIMIT: usize = 1000;

/// A server that gives each request the answer of its path.
async fn serve(answers: Vec<(&'static str, String)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            answer(stream, &answers).await;
        }
    });
    format!("http://{address}")
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, answers: &[(&str, String)]) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.unwrap());
    }
    let request = String::from_utf8(request).unwrap();
    let path = request.split(' ').nth(1).unwrap();
    let found = answers.iter().find(|(at, _)| *at == path).unwrap_or_else(|| panic!("{request}"));
    let _ = stream.write_all(found.1.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

async fn fetch(base: &str, path: &str) -> Result<String, String> {
    let url = Url::parse(&format!("{base}{path}")).unwrap();
    let body = tokio::time::timeout(Duration::from_secs(20), get(&url, None, LIMIT)).await.unwrap();
    body.map(|body| String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn get_returns_the_body_of_200_alone() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n".to_owned();
    let base = serve(vec![
        ("/ok?x=1", ok("{}")),
        ("/chunked", chunked),
        ("/moved", "HTTP/1.1 302 Found\r\nlocation: /ok?x=1\r\ncontent-length: 0\r\n\r\n".to_owned()),
        ("/none", "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned()),
        ("/broken", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}".to_owned()),
        ("/large", ok(&"x".repeat(LIMIT + 1))),
        ("/full", ok(&"x".repeat(LIMIT))),
        ("/other", "SSH-2.0\r\n\r\n".to_owned()),
    ])
    .await;
    assert_eq!(fetch(&base, "/ok?x=1").await.unwrap(), "{}");
    assert_eq!(fetch(&base, "/chunked").await.unwrap(), "{}");
    assert_eq!(fetch(&base, "/full").await.unwrap().len(), LIMIT);
    for (path, why) in [
        ("/moved", "redirects are not followed"),
        ("/none", "404"),
        ("/broken", "no usable answer"),
        ("/large", "length limit exceeded"),
        ("/other", "has not answered"),
    ] {
        let error = fetch(&base, path).await.unwrap_err();
        assert!(error.contains(why) && error.contains(path), "{error}");
    }
    assert!(fetch("http://127.0.0.1:1", "/").await.unwrap_err().contains("cannot be reached"));
}

#[tokio::test]
async fn https_is_trusted_by_the_authorities_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let mut parameters = CertificateParams::default();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
    let encoded = {
        use base64::Engine as _;
        base64::prelude::BASE64_STANDARD.encode(authority.der())
    };
    std::fs::write(&file, format!("-----BEGIN CERTIFICATE-----\n{encoded}\n-----END CERTIFICATE-----\n")).unwrap();
    let pair = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&pair, &authority).unwrap();
    let key = PrivateKeyDer::try_from(pair.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(stream) = acceptor.accept(stream).await {
                answer(stream, &[("/keys", ok("the keys"))]).await;
            }
        }
    });
    let url = Url::parse(&format!("https://localhost:{port}/keys")).unwrap();
    assert_eq!(get(&url, Some(file.clone()), LIMIT).await.unwrap(), b"the keys");
    let untrusted = get(&url, None, LIMIT).await.unwrap_err();
    assert!(untrusted.contains("cannot be trusted"), "{untrusted}");
    let other_name = Url::parse(&format!("https://127.0.0.1:{port}/keys")).unwrap();
    assert!(get(&other_name, Some(file.clone()), LIMIT).await.unwrap_err().contains("cannot be trusted"));
    let missing = get(&url, Some(folder.path().join("missing.pem")), LIMIT).await.unwrap_err();
    assert!(missing.contains("missing.pem"), "{missing}");
}
