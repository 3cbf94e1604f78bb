use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::development::{AUDIENCE, Development, ISSUER};

mod forged;

/// An issuer, and the tokens that count by it.
struct Fixture {
    folder: TempDir,
    issuer: Development,
    tokens: Tokens,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let issuer = Development::open(folder.path()).unwrap();
        let keys = folder.path().join("issuer.json");
        let trusted = Issuer::new(ISSUER, AUDIENCE, keys.to_str()).unwrap();
        Self { issuer, tokens: Tokens::new(vec![trusted]).unwrap(), folder }
    }

    fn header(&self) -> Value {
        json!({ "alg": "ES256", "typ": "JWT", "kid": self.issuer.kid() })
    }

    /// A valid token, after `change` of its header and its claims.
    fn token(&self, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let (mut header, mut claims) = (self.header(), claims());
        change(&mut header, &mut claims);
        self.issuer.compact(&header, claims.to_string().as_bytes()).unwrap()
    }

    /// A token with a payload of any text.
    fn raw(&self, header: &Value, payload: &str) -> String {
        self.issuer.compact(header, payload.as_bytes()).unwrap()
    }

    async fn refused(&self, what: &str, token: &str) {
        let checked = self.tokens.check(token).await;
        assert!(matches!(checked, Err(Refused::Invalid(_))), "{what}: {checked:?}");
        assert_eq!(self.tokens.known(token), None, "{what}");
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

fn claims() -> Value {
    json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "scope": "a b", "iat": now(), "exp": now() + 600.0 })
}

fn without(claims: &mut Value, name: &str) {
    claims.as_object_mut().unwrap().remove(name);
}

#[tokio::test]
async fn token_names_the_user_with_scopes() {
    let fixture = Fixture::new();
    let end = SystemTime::now() + Duration::from_secs(600);
    let plain = fixture.token(|_, _| {});
    let user = fixture.tokens.check(&plain).await.unwrap();
    assert_eq!((user.issuer.as_str(), user.subject.as_str()), (ISSUER, "alice"));
    assert!(user.until.duration_since(end).unwrap_or_else(|error| error.duration()) < Duration::from_secs(60));
    assert!(Arc::ptr_eq(&user, &fixture.tokens.known(&plain).unwrap()));

    for (scopes, expected) in [
        (json!({ "scope": "a b" }), &["a", "b"][..]),
        (json!({ "scope": " b  a a " }), &["a", "b"]),
        (json!({ "scp": "a b" }), &["a", "b"]),
        (json!({ "scp": ["b", "a"] }), &["a", "b"]),
        (json!({ "scope": "a", "scp": ["b"] }), &["a"]),
        (json!({}), &[]),
    ] {
        let token = fixture.token(|_, claims| {
            without(claims, "scope");
            claims.as_object_mut().unwrap().extend(scopes.as_object().unwrap().clone());
        });
        let user = fixture.tokens.check(&token).await.unwrap();
        assert!(user.scopes.iter().eq(expected), "{scopes}: {:?}", user.scopes);
    }
}

#[tokio::test]
async fn token_is_accepted_in_every_form_that_the_standards_allow() {
    let fixture = Fixture::new();
    for typ in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt"] {
        let token = fixture.token(|header, _| header["typ"] = json!(typ));
        assert!(fixture.tokens.check(&token).await.is_ok(), "{typ}");
    }
    let audiences = fixture.token(|_, claims| claims["aud"] = json!(["other", AUDIENCE]));
    assert!(fixture.tokens.check(&audiences).await.is_ok());
    let untyped = fixture.token(|header, _| without(header, "typ"));
    assert!(fixture.tokens.check(&untyped).await.is_ok(), "some issuers set none");
    let unnamed = fixture.token(|header, _| without(header, "kid"));
    assert!(fixture.tokens.check(&unnamed).await.is_ok(), "the issuer has one key");
    let more = fixture.token(|header, claims| {
        header["x-unknown"] = json!([1]);
        claims["groups"] = json!({ "any": ["thing"] });
    });
    assert!(fixture.tokens.check(&more).await.is_ok());
}

/// Libraries accept many of these unless they are configured otherwise.
#[tokio::test]
async fn token_with_a_claim_missing_or_wrong_is_refused() {
    let fixture = Fixture::new();
    for name in ["iss", "aud", "sub", "exp"] {
        fixture.refused(name, &fixture.token(|_, claims| without(claims, name))).await;
        fixture.refused(name, &fixture.token(|_, claims| claims[name] = Value::Null)).await;
        fixture.refused(name, &fixture.token(|_, claims| claims[name] = json!({}))).await;
    }
    for (name, value) in [
        ("iss", json!([ISSUER])),
        ("iss", json!("https://issuer.dev.mesh/")),
        ("iss", json!("https://other.example.org")),
        ("aud", json!("other")),
        ("aud", json!([])),
        ("aud", json!(["other", "MESH"])),
        ("sub", json!("")),
        ("sub", json!("a\nb")),
        ("sub", json!("x".repeat(256))),
        ("sub", json!(7)),
        ("exp", json!("never")),
        ("exp", json!((now() + 600.0).to_string())),
        ("exp", json!(-1)),
        ("exp", json!(1e300)),
        ("nbf", json!(now() + 3600.0)),
        ("nbf", json!(now() + 35.0)),
        ("nbf", json!("now")),
        ("iat", json!(now() + 35.0)),
        ("iat", Value::Null),
        ("scope", json!(["a"])),
        ("scp", json!(7)),
    ] {
        fixture.refused(name, &fixture.token(|_, claims| claims[name] = value)).await;
    }
}

#[tokio::test]
async fn token_ends_with_the_difference_of_two_clocks() {
    let fixture = Fixture::new();
    for (since, expired) in [(-1.0, false), (25.0, false), (35.0, true), (45.0, true), (1e9, true)] {
        let token = fixture.token(|_, claims| claims["exp"] = json!(now() - since));
        let checked = fixture.tokens.check(&token).await;
        assert_eq!(checked.as_ref().err(), expired.then_some(&Refused::Expired), "{since}");
        assert_eq!(
            fixture.tokens.known(&token).is_some(),
            since < 0.0,
            "a token that has ended is not remembered: {since}"
        );
    }
    let soon = fixture.token(|_, claims| (claims["nbf"], claims["iat"]) = (json!(now() + 25.0), json!(now() + 25.0)));
    assert!(fixture.tokens.check(&soon).await.is_ok());
    let foreign = Fixture::new().token(|header, claims| {
        header["kid"] = json!(fixture.issuer.kid());
        claims["exp"] = json!(now() - 100.0);
    });
    fixture.refused("expired, and of another key", &foreign).await;
}

#[tokio::test]
async fn issuers_do_not_speak_for_each_other() {
    let (first, second) = (Fixture::new(), Fixture::new());
    let path = |fixture: &Fixture| fixture.folder.path().join("issuer.json").to_str().unwrap().to_owned();
    let other = "https://other.example.org";
    let trusted = vec![
        Issuer::new(ISSUER, AUDIENCE, Some(&path(&first))).unwrap(),
        Issuer::new(other, "another", Some(&path(&second))).unwrap(),
    ];
    let mut twice = trusted.clone();
    twice.push(trusted[0].clone());
    assert_eq!(Tokens::new(twice).unwrap_err().len(), 1);

    let tokens = Tokens::new(trusted).unwrap();
    let of_other = |fixture: &Fixture, audience: &str| {
        fixture.token(|_, claims| (claims["iss"], claims["aud"]) = (json!(other), json!(audience)))
    };
    assert_eq!(tokens.check(&of_other(&second, "another")).await.unwrap().issuer, other);
    assert!(tokens.check(&of_other(&second, AUDIENCE)).await.is_err(), "the audience of the first issuer");
    assert!(tokens.check(&of_other(&first, "another")).await.is_err(), "signed by the first issuer");
    assert!(tokens.check(&second.token(|_, _| {})).await.is_err(), "in the name of the first issuer");
}
