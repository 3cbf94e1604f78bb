use std::fs;
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::*;
use crate::development::{AUDIENCE, Development, ISSUER};
use crate::place::Place;
use crate::place::fake::Fake;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Issuers whose keys are in memory, on virtual time.
struct Fixture {
    _folders: Vec<TempDir>,
    /// One issuer, with a new key each.
    issuers: Vec<Development>,
    fake: Arc<Fake>,
    tokens: Tokens,
}

impl Fixture {
    fn new() -> Self {
        let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let issuers: Vec<_> = folders.iter().map(|folder| Development::open(folder.path()).unwrap()).collect();
        let answer = Mutex::new(Ok(issuers[0].key_set()));
        let fake = Arc::new(Fake { answer, delay: Mutex::default(), reads: 0.into() });
        let place = Place::Fake(Arc::clone(&fake));
        let issuer = Issuer { issuer: ISSUER.to_owned(), audience: AUDIENCE.to_owned(), place, roots: None };
        Self { _folders: folders, issuers, fake, tokens: Tokens::new(vec![issuer]).unwrap() }
    }

    fn answer(&self, answer: Result<&str, &str>) {
        *self.fake.answer.lock().unwrap() = answer.map(str::to_owned).map_err(str::to_owned);
    }

    /// The set of the keys of these issuers.
    fn set(&self, issuers: &[usize]) -> String {
        let keys = issuers.iter().map(|at| {
            let set: Value = serde_json::from_str(&self.issuers[*at].key_set()).unwrap();
            set["keys"][0].clone()
        });
        json!({ "keys": keys.collect::<Vec<_>>() }).to_string()
    }

    fn reads(&self) -> usize {
        self.fake.reads.load(Relaxed)
    }

    /// A new token that this issuer has signed.
    fn token(&self, at: usize) -> String {
        let subject = format!("user-{}", fastrand::u64(..));
        self.issuers[at].sign(&subject, &[], Duration::from_secs(3600)).unwrap()
    }

    /// A token whose `kid` no key has.
    fn unknown(&self) -> String {
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": fastrand::u64(..).to_string() });
        let claims = json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": "x", "exp": 9_999_999_999_u64 });
        self.issuers[0].compact(&header, claims.to_string().as_bytes()).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn unknown_keys_cause_one_request_in_30_s() {
    let fixture = Fixture::new();
    let refresher = tokio::spawn(fixture.tokens.clone().keep_fresh());
    assert!(fixture.tokens.check(&fixture.token(0)).await.is_ok());
    let before = (fixture.reads(), Instant::now());
    while before.1.elapsed() < 3 * MINUTE {
        for _ in 0..20 {
            let checked = fixture.tokens.check(&fixture.unknown()).await;
            assert!(matches!(checked, Err(Refused::Invalid(_))), "{checked:?}");
        }
        assert!(fixture.tokens.check(&fixture.token(0)).await.is_ok());
        sleep(Duration::from_millis(500)).await;
    }
    let reads = fixture.reads() - before.0;
    assert!((5..=7).contains(&reads), "{reads} requests in 180 s");
    refresher.abort();
}

#[tokio::test(start_paused = true)]
async fn tokens_wait_for_one_request_together() {
    let fixture = Fixture::new();
    *fixture.fake.delay.lock().unwrap() = Duration::from_millis(500);
    let refresher = tokio::spawn(fixture.tokens.clone().keep_fresh());
    let checks: Vec<_> = (0..50)
        .map(|_| {
            let (tokens, token) = (fixture.tokens.clone(), fixture.token(0));
            tokio::spawn(async move { tokens.check(&token).await })
        })
        .collect();
    for check in checks {
        assert!(check.await.unwrap().is_ok());
    }
    assert_eq!(fixture.reads(), 1);

    // One that the refresher begins while tokens wait is the same, too.
    refresher.abort();
    sleep(MINUTE).await;
    let waits = tokio::spawn({
        let (tokens, token) = (fixture.tokens.clone(), fixture.unknown());
        async move { tokens.check(&token).await }
    });
    sleep(Duration::from_millis(100)).await;
    let refresher = tokio::spawn(fixture.tokens.clone().keep_fresh());
    assert!(waits.await.unwrap().is_err());
    assert_eq!(fixture.reads(), 2);
    refresher.abort();
}

#[tokio::test(start_paused = true)]
async fn token_waits_for_a_slow_issuer_for_1_s() {
    let fixture = Fixture::new();
    assert!(fixture.tokens.check(&fixture.token(0)).await.is_ok());
    sleep(MINUTE).await;
    *fixture.fake.delay.lock().unwrap() = Duration::from_secs(3);
    fixture.answer(Ok(&fixture.set(&[0, 1])));
    let begin = Instant::now();
    let checked = fixture.tokens.check(&fixture.token(1)).await;
    assert!(matches!(checked, Err(Refused::Unavailable(_))), "{checked:?}");
    assert_eq!(begin.elapsed().as_secs(), 1);
    assert!(fixture.tokens.check(&fixture.token(0)).await.is_ok(), "a key that is known does not wait");
    assert_eq!(begin.elapsed().as_secs(), 1);
    sleep(Duration::from_secs(3)).await;
    assert!(fixture.tokens.check(&fixture.token(1)).await.is_ok(), "the request went on without the token");
    assert_eq!(fixture.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn issuer_that_never_answers_is_unavailable() {
    let fixture = Fixture::new();
    *fixture.fake.delay.lock().unwrap() = Duration::MAX;
    for _ in 0..10 {
        let checked = fixture.tokens.check(&fixture.token(0)).await;
        assert!(matches!(checked, Err(Refused::Unavailable(_))), "{checked:?}");
    }
    sleep(MINUTE).await;
    assert!(fixture.tokens.freshness()[0].error.as_ref().unwrap().contains("5 s"));
}

#[tokio::test(start_paused = true)]
async fn keys_are_used_for_a_day_without_their_issuer() {
    let fixture = Fixture::new();
    let refresher = tokio::spawn(fixture.tokens.clone().keep_fresh());
    assert!(fixture.tokens.check(&fixture.token(0)).await.is_ok());
    for broken in [Err("away"), Ok("{}"), Ok("not JSON"), Ok(r#"{"keys":[]}"#)] {
        fixture.answer(broken);
        sleep(5 * HOUR).await;
        assert!(fixture.tokens.check(&fixture.token(0)).await.is_ok(), "{broken:?}");
        let unknown = fixture.tokens.check(&fixture.token(1)).await;
        assert!(matches!(unknown, Err(Refused::Unavailable(_))), "{unknown:?}");
    }
    let freshness = &fixture.tokens.freshness()[0];
    assert!(freshness.keys == 1 && freshness.error.is_some() && freshness.age > Some(19 * HOUR), "{freshness:?}");

    let remembered = fixture.token(0);
    assert!(fixture.tokens.check(&remembered).await.is_ok());
    sleep(5 * HOUR).await;
    let late = fixture.tokens.check(&fixture.token(0)).await;
    assert!(matches!(late, Err(Refused::Unavailable(_))), "{late:?}");
    assert_eq!(fixture.tokens.known(&remembered), None);
    assert_eq!(fixture.tokens.freshness()[0].keys, 0);

    fixture.answer(Ok(&fixture.set(&[0])));
    sleep(2 * MINUTE).await;
    assert!(fixture.tokens.check(&fixture.token(0)).await.is_ok(), "the issuer is back");
    let unknown = fixture.tokens.check(&fixture.token(1)).await;
    assert!(matches!(unknown, Err(Refused::Invalid(_))), "the keys are known again: {unknown:?}");
    assert_eq!(fixture.tokens.freshness()[0].error, None);
    refresher.abort();
}

#[tokio::test(start_paused = true)]
async fn key_that_is_withdrawn_ends_its_tokens() {
    let fixture = Fixture::new();
    let refresher = tokio::spawn(fixture.tokens.clone().keep_fresh());
    fixture.answer(Ok(&fixture.set(&[0, 1])));
    let (first, second) = (fixture.token(0), fixture.token(1));
    for token in [&first, &second] {
        assert!(fixture.tokens.check(token).await.is_ok());
    }
    fixture.answer(Ok(&fixture.set(&[1, 2])));
    sleep(6 * MINUTE).await;
    assert_eq!(fixture.tokens.known(&first), None);
    assert!(fixture.tokens.known(&second).is_some(), "its key stays");
    assert!(matches!(fixture.tokens.check(&first).await, Err(Refused::Invalid(_))));
    assert!(fixture.tokens.check(&fixture.token(2)).await.is_ok());
    refresher.abort();
}

#[tokio::test(start_paused = true)]
async fn new_key_is_found_by_the_token_that_needs_it() {
    let fixture = Fixture::new();
    assert!(fixture.tokens.check(&fixture.token(0)).await.is_ok());
    sleep(MINUTE / 2).await;
    fixture.answer(Ok(&fixture.set(&[0, 1])));
    assert!(fixture.tokens.check(&fixture.token(1)).await.is_ok());
    assert_eq!(fixture.reads(), 2);
}

#[tokio::test]
async fn keys_of_a_file_are_read_when_a_token_needs_them() {
    let folder = tempfile::tempdir().unwrap();
    let (keys, missing) = (folder.path().join("issuer.json"), folder.path().join("later.json"));
    let issuer = Issuer::new(ISSUER, AUDIENCE, missing.to_str()).unwrap();
    let tokens = Tokens::new(vec![issuer]).unwrap();
    let development = Development::open(folder.path()).unwrap();
    let token = development.sign("alice", &[], MINUTE).unwrap();
    let error = tokens.check(&token).await.unwrap_err();
    assert!(matches!(&error, Refused::Unavailable(why) if why.contains("later.json")), "{error:?}");

    fs::copy(keys, &missing).unwrap();
    let begin = Instant::now();
    while tokens.check(&token).await.is_err() {
        assert!(begin.elapsed() < MINUTE);
        sleep(Duration::from_millis(50)).await;
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "a file is read again after a second");
}
