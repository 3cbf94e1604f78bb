//! `examples/ratings`: plain HTTP/1.1, alone.

use std::path::PathBuf;

use harness::{Curl, Page, Process, python};
use serde_json::json;

use super::{RATINGS, alone, alone_in};

fn installed() -> Option<PathBuf> {
    python().filter(|_| Curl::installed())
}

fn rate(ratings: &Process, caller: &str, body: &str) -> Page {
    let caller = format!("mesh-caller: {caller}");
    ratings.curl().send(
        "/ratings/a",
        &["--request", "PUT", "--header", &caller, "--data-binary", "@-"],
        body.as_bytes(),
    )
}

#[test]
fn rating_is_the_mean_of_the_last_stars_of_each_caller() {
    let Some(python) = installed() else { return };
    let ratings = alone(&python, RATINGS, &[]);
    assert_eq!(ratings.curl().get("/ratings/a").status, 404);
    assert_eq!(rate(&ratings, "user/https://issuer/alice", r#"{"stars": 1}"#).status, 200);
    assert_eq!(rate(&ratings, "user/https://issuer/alice", r#"{"stars": 5}"#).status, 200);
    let rated = rate(&ratings, "user/https://issuer/bob", r#"{"stars": 4}"#);
    assert_eq!(rated.json(), json!({"average": 4.5, "count": 2}));
    let both = ratings.curl().get("/ratings?title=a&title=b");
    assert_eq!(both.json(), json!({"a": {"average": 4.5, "count": 2}}));
}

#[test]
fn rating_outlives_a_kill() {
    let Some(python) = installed() else { return };
    let ratings = alone(&python, RATINGS, &[]);
    assert_eq!(rate(&ratings, "anonymous", r#"{"stars": 3}"#).status, 200);
    let again = alone_in(ratings.kill(), &python, RATINGS, &[]);
    assert_eq!(again.curl().get("/ratings/a").json(), json!({"average": 3.0, "count": 1}));
}

#[test]
fn bad_ratings_are_refused() {
    let Some(python) = installed() else { return };
    let ratings = alone(&python, RATINGS, &[]);
    for body in ["", "{}", "[]", "5", r#"{"stars": 0}"#, r#"{"stars": 6}"#, r#"{"stars": 4.5}"#, r#"{"stars": true}"#] {
        assert_eq!(rate(&ratings, "anonymous", body).status, 400, "{body}");
    }
    assert_eq!(rate(&ratings, "anonymous", &" ".repeat(2000)).status, 413);
    let curl = ratings.curl();
    for (path, status) in [("/", 404), ("/ratings/", 404), ("/ratings", 400), ("/other", 404)] {
        assert_eq!(curl.get(path).status, status, "{path}");
    }
    assert_eq!(curl.get("/ratings/a").status, 404, "nothing was stored");
}

#[test]
fn ratings_end_in_order() {
    let Some(python) = installed() else { return };
    let mut ratings = alone(&python, RATINGS, &[]);
    assert_eq!(ratings.curl().get("/healthz").status, 200);
    ratings.signal("TERM");
    assert!(ratings.ended().0.success(), "{}", ratings.log());
    assert!(ratings.log().contains("stopped"), "{}", ratings.log());
}
