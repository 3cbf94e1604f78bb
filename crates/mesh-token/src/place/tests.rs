use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

#[test]
fn discovery_document_is_of_the_same_issuer_to_the_byte() {
    let document = br#"{"issuer":"https://a.example.org/","jwks_uri":"https://a.example.org/keys"}"#;
    assert!(discovered(document, "https://a.example.org/").is_ok());
    for other in ["https://a.example.org", "https://A.example.org/", "https://b.example.org/"] {
        assert!(discovered(document, other).is_err(), "{other}");
    }
    let plain = br#"{"issuer":"https://a","jwks_uri":"http://a/keys"}"#;
    assert!(discovered(plain, "https://a").unwrap_err().contains("not https"));
}

#[tokio::test]
async fn discovery_leads_to_the_keys() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = format!("http://{}", listener.local_addr().unwrap());
    let document = format!(r#"{{"issuer":"{issuer}","jwks_uri":"{issuer}/keys","response_types_supported":[]}}"#);
    tokio::spawn(async move {
        for (path, body) in [("/.well-known/openid-configuration", document.as_str()), ("/keys", "the keys")] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 5 + path.len()];
            stream.read_exact(&mut request).await.unwrap();
            assert_eq!(String::from_utf8(request).unwrap(), format!("GET {path} "));
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
            // Closed after the client has.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    let document = Url::parse(&format!("{issuer}/.well-known/openid-configuration")).unwrap();
    let place = Place::Discovery { issuer, document };
    assert_eq!(place.read(None).await.unwrap(), b"the keys");
}

#[tokio::test]
async fn file_of_keys_is_a_file_of_a_bounded_size() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    let read = async |path: &Path| Place::File(path.to_owned()).read(None).await;
    assert!(read(&file).await.unwrap_err().contains("keys.json cannot be read"));
    assert!(read(folder.path()).await.unwrap_err().contains("is not a file"));
    std::fs::write(&file, vec![b'x'; 10 * MAX_BYTES]).unwrap();
    assert_eq!(read(&file).await.unwrap().len(), MAX_BYTES + 1, "too large, and not read to its end");
}
