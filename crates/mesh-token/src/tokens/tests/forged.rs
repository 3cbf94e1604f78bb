//! Tokens that others than the issuer have made, or that two readers may read differently.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD as BASE64_URL};
use ring::hmac;

use super::*;

#[tokio::test]
async fn token_chooses_neither_its_algorithm_nor_its_key() {
    let (fixture, stranger) = (Fixture::new(), Fixture::new());
    let valid = fixture.token(|_, _| {});
    let [header, payload, signature] = valid.split('.').collect::<Vec<_>>()[..] else { panic!("{valid}") };
    for alg in ["none", "None", "NONE", "nOnE", "HS256", "RS256", "ES384", "EdDSA", "ES256K", "es256", ""] {
        let token = fixture.token(|header, _| header["alg"] = json!(alg));
        fixture.refused(alg, &token).await;
        let unsigned = &token[..=token.rfind('.').unwrap()];
        fixture.refused(alg, unsigned).await;
        let header = BASE64_URL.encode(json!({ "alg": alg, "typ": "JWT" }).to_string());
        fixture.refused(alg, &format!("{header}.{payload}.{signature}")).await;
    }
    // HMAC by a key that is public: the set, PEM, the point.
    let set = fixture.issuer.key_set();
    let point = {
        let set: Value = serde_json::from_str(&set).unwrap();
        let decode = |name: &str| BASE64_URL.decode(set["keys"][0][name].as_str().unwrap()).unwrap();
        [&[4], &decode("x")[..], &decode("y")[..]].concat()
    };
    // SubjectPublicKeyInfo of P-256, up to the point.
    let info = BASE64_STANDARD.decode("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgA=").unwrap();
    let pem = BASE64_STANDARD.encode([&info, &point[..]].concat());
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n{}\n-----END PUBLIC KEY-----\n", &pem[..64], &pem[64..]);
    for secret in [set.as_bytes(), &point, pem.as_bytes(), pem.trim_end().as_bytes()] {
        let mut header = fixture.header();
        header["alg"] = json!("HS256");
        let signed = format!("{}.{payload}", BASE64_URL.encode(header.to_string()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
        fixture.refused("HMAC by the public key", &format!("{signed}.{}", BASE64_URL.encode(tag))).await;
    }
    let foreign = |change: fn(&mut Value)| stranger.token(|header, _| change(header));
    fixture.refused("a foreign key", &foreign(|_| {})).await;
    fixture.refused("no kid", &foreign(|header| without(header, "kid"))).await;
    fixture.refused("a path", &foreign(|header| header["kid"] = json!("../../issuer"))).await;
    fixture.refused("an address", &foreign(|header| header["jku"] = json!("https://evil.example.org/keys"))).await;
    let own = stranger.token(|header, _| {
        let set: Value = serde_json::from_str(&stranger.issuer.key_set()).unwrap();
        header["jwk"] = set["keys"][0].clone();
        header["kid"] = json!(fixture.issuer.kid());
    });
    fixture.refused("a key of its own", &own).await;
    for zeros in [vec![0; 64], vec![0; 63], vec![]] {
        fixture.refused("zeros", &format!("{header}.{payload}.{}", BASE64_URL.encode(zeros))).await;
    }
}

#[tokio::test]
async fn token_that_is_not_exactly_one_is_refused() {
    let fixture = Fixture::new();
    let valid = fixture.token(|_, _| {});
    let [header, payload, signature] = valid.split('.').collect::<Vec<_>>()[..] else { panic!("{valid}") };
    for token in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "a.b.c".to_owned(),
        "\u{e9}.\u{e9}.\u{e9}".to_owned(),
        format!("{valid}.{signature}"),
        format!("{valid}.."),
        format!("{header}.{payload}"),
        format!("{valid}="),
        format!(" {valid}"),
        format!("{valid}\n"),
        format!("{header}.{payload}..{signature}"),
        json!({ "protected": header, "payload": payload, "signature": signature }).to_string(),
        fixture.token(|_, claims| claims["x"] = json!("x".repeat(9 * 1024))),
    ] {
        fixture.refused(&token[..token.len().min(20)], &token).await;
    }
    for (what, name, value) in [
        ("a type", "typ", json!("logout+jwt")),
        ("a type", "typ", json!("dpop+jwt")),
        ("a type", "typ", json!("mesh-passport+jwt")),
        ("a type", "typ", json!("JOSE")),
        ("a type", "typ", json!("")),
        ("a type", "typ", json!(["JWT"])),
        ("critical", "crit", json!(["x-unknown"])),
        ("critical", "crit", json!(["exp"])),
        ("critical", "crit", json!([])),
        ("critical", "crit", Value::Null),
        ("not encoded", "b64", json!(false)),
        ("encoded", "b64", json!(true)),
        ("a kid", "kid", json!(7)),
        ("a kid", "kid", Value::Null),
    ] {
        let token = fixture.token(|header, _| header[name] = value);
        fixture.refused(what, &token).await;
    }
}

#[tokio::test]
async fn token_with_json_that_two_readers_may_read_differently_is_refused() {
    let fixture = Fixture::new();
    let (header, claims) = (fixture.header(), claims().to_string());
    let twice = |name: &str, value: &str| claims.replacen('{', &format!("{{\"{name}\":{value},"), 1);
    for payload in [
        twice("sub", "\"bob\""),
        twice("exp", "9999999999"),
        twice("iss", &format!("\"{ISSUER}\"")),
        twice("aud", "\"other\""),
        format!("{claims}{{}}"),
        format!("[{claims}]"),
        format!("[\"{ISSUER}\",\"alice\",\"{AUDIENCE}\",9999999999]"),
        claims.replace('}', ",}"),
        "null".to_owned(),
        String::new(),
        "[".repeat(5000),
        format!("{{\"x\":{}", "[".repeat(5000)),
    ] {
        fixture.refused(&payload[..payload.len().min(40)], &fixture.raw(&header, &payload)).await;
    }
    let mut bytes = claims.clone().into_bytes();
    bytes.splice(1..1, *b"\"x\":\"\xff\",");
    fixture.refused("not UTF-8", &fixture.issuer.compact(&header, &bytes).unwrap()).await;

    // serde_json cannot write such a header.
    let signed_as = |header: &str| {
        let valid = fixture.token(|_, _| {});
        let rest = valid.split_once('.').unwrap().1;
        format!("{}.{rest}", BASE64_URL.encode(header))
    };
    for header in [
        r#"{"alg":"none","alg":"ES256","typ":"JWT"}"#.to_owned(),
        r#"["ES256"]"#.to_owned(),
        r#"{"alg":"ES256","typ":"JWT""#.to_owned(),
        format!("{}\"alg\":\"ES256\"}}", "{\"x\":".repeat(500)),
    ] {
        let error = Jws::parse(&signed_as(&header)).unwrap_err();
        assert!(error.starts_with("the header is"), "{error}");
    }
}

#[tokio::test]
async fn token_that_is_changed_in_one_place_is_refused() {
    let fixture = Fixture::new();
    let valid = fixture.token(|_, _| {});
    assert!(fixture.tokens.check(&valid).await.is_ok());
    for at in 0..valid.len() {
        for other in ["A", "z", "_", ".", "=", "\0"] {
            let changed = [&valid[..at], other, &valid[at + 1..]].concat();
            if changed != valid {
                fixture.refused(&format!("{other:?} at {at}"), &changed).await;
            }
        }
        fixture.refused("shorter", &valid[..at]).await;
    }
}
