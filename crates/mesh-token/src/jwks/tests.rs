use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64_URL;
use serde_json::json;

use super::*;

fn parse(keys: &Value) -> Result<KeySet, String> {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes(), &[])
}

fn ec() -> Value {
    let (x, y) = ("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
    json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "a" })
}

fn rsa(bytes: usize) -> Value {
    json!({ "kty": "RSA", "n": BASE64_URL.encode(vec![0xff; bytes]), "e": "AQAB", "kid": "a" })
}

fn with(mut key: Value, name: &str, value: impl Into<Value>) -> Value {
    key[name] = value.into();
    key
}

#[test]
fn key_has_one_algorithm() {
    for (key, algorithm) in [
        (ec(), "ES256"),
        (with(ec(), "alg", "ES256"), "ES256"),
        (rsa(256), "RS256"),
        (rsa(1024), "RS256"),
        (with(rsa(256), "alg", "PS512"), "PS512"),
        (json!({ "kty": "OKP", "crv": "Ed25519", "x": ec()["x"] }), "EdDSA"),
        (json!({ "kty": "OKP", "crv": "Ed25519", "x": ec()["x"], "alg": "Ed25519" }), "EdDSA"),
        (with(with(ec(), "use", "sig"), "key_ops", json!(["sign", "verify"])), "ES256"),
        // Some issuers write all members.
        (with(with(with(ec(), "d", Value::Null), "alg", Value::Null), "use", Value::Null), "ES256"),
        (with(with(ec(), "x5c", json!(["MIIB"])), "x5t", 7), "ES256"),
    ] {
        assert_eq!(parse(&json!([key])).unwrap().keys[0].algorithm, algorithm, "{key}");
    }
}

/// Careless readers of key sets take each of these.
#[test]
fn key_that_is_not_for_these_signatures_is_not_used() {
    for key in [
        rsa(128),
        rsa(255),
        rsa(1025),
        with(rsa(256), "n", BASE64_URL.encode([&[0], &[0xff; 256][..]].concat())),
        with(rsa(256), "n", "not Base64!"),
        with(rsa(256), "e", "AQ"),
        with(rsa(256), "e", "Ag"),
        with(rsa(256), "e", "AQABAQAB"),
        with(rsa(256), "e", ""),
        with(rsa(256), "alg", "RS1"),
        with(rsa(256), "alg", "HS256"),
        with(rsa(256), "alg", "none"),
        with(rsa(256), "alg", "ES256"),
        with(rsa(256), "alg", "RSA-OAEP"),
        with(rsa(256), "use", "enc"),
        with(rsa(256), "crv", "P-256"),
        with(ec(), "use", "enc"),
        with(ec(), "use", "SIG"),
        with(ec(), "key_ops", json!(["encrypt"])),
        with(ec(), "key_ops", json!([])),
        with(ec(), "alg", "ES384"),
        with(ec(), "alg", "ES521"),
        with(ec(), "alg", "ECDH-ES"),
        with(ec(), "crv", "P-384"),
        with(ec(), "crv", "P-521"),
        with(ec(), "crv", "secp256k1"),
        with(ec(), "crv", Value::Null),
        with(ec(), "kty", "RSA"),
        with(ec(), "kty", "OKP"),
        with(ec(), "kty", "ec"),
        with(ec(), "x", Value::Null),
        with(ec(), "x", "AAAA"),
        with(ec(), "y", format!("{}=", ec()["y"].as_str().unwrap())),
        with(ec(), "kid", 7),
        json!(["EC", "a"]),
        // All members, in the order of the structure that is read.
        json!(["EC", "a", null, null, null, "P-256", ec()["x"], ec()["y"], null, null, null, null]),
        json!("EC"),
        json!({}),
    ] {
        let error = parse(&json!([key])).unwrap_err();
        assert!(error.starts_with("has no key for signatures"), "{key}: {error}");
        let beside = parse(&json!([key, with(ec(), "kid", "b")])).unwrap();
        assert_eq!(beside.keys.len(), 1, "other keys stay usable: {key}");
    }
}

#[test]
fn set_that_no_issuer_publishes_is_refused() {
    let secret = |k: &str| json!({ "kty": "oct", "k": k, "kid": "s", "alg": "HS256" });
    for (keys, why) in [
        (json!([]), "is empty"),
        (json!([secret("")]), "secret"),
        (json!([secret("AAEC")]), "secret"),
        (json!([ec(), secret("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8")]), "secret"),
        (json!([with(ec(), "d", "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI")]), "secret"),
        (json!([with(ec(), "k", "AAEC")]), "secret"),
        (json!([ec(), rsa(256)]), "two keys named `a`"),
        (json!((0..65).map(|n| with(ec(), "kid", n.to_string())).collect::<Vec<_>>()), "65 keys"),
        (json!({}), "not the JSON"),
    ] {
        let error = parse(&keys).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    for text in ["", "[]", "[[]]", "{}", "null", "{\"keys\":[],\"keys\":[]}", "{\"keys\":[]} x"] {
        assert!(KeySet::parse(text.as_bytes(), &[]).is_err(), "{text}");
    }
    let deep = format!("{{\"keys\":{}", "[".repeat(20_000));
    assert!(KeySet::parse(deep.as_bytes(), &[]).is_err());
    let set = json!({ "keys": [ec()], "more": "x".repeat(MAX_BYTES) });
    assert!(KeySet::parse(set.to_string().as_bytes(), &[]).unwrap_err().contains("bytes"));
}

#[test]
fn token_without_a_name_of_a_key_needs_the_only_one() {
    let header = |kid: Option<&str>| {
        let header = kid.map_or_else(|| json!({ "alg": "ES256" }), |kid| json!({ "alg": "ES256", "kid": kid }));
        serde_json::from_value::<Header>(header).unwrap()
    };
    let one = parse(&json!([ec(), with(rsa(256), "kid", "b")])).unwrap();
    assert!(matches!(one.find(&header(None)), Found::Key(key) if key.kid.as_deref() == Some("a")));
    assert!(matches!(one.find(&header(Some("c"))), Found::Unknown));
    assert!(matches!(one.find(&header(Some(""))), Found::Unknown));
    let two = parse(&json!([ec(), with(ec(), "kid", "b")])).unwrap();
    assert!(matches!(two.find(&header(None)), Found::No(_)));
    let unnamed = parse(&json!([with(ec(), "kid", Value::Null)])).unwrap();
    assert!(matches!(unnamed.find(&header(None)), Found::Key(_)));
    assert!(matches!(unnamed.find(&header(Some("a"))), Found::Unknown));
}
