//! A part that is missing, late or no longer awaited.

use std::io::{BufRead as _, BufReader, Read as _};
use std::time::{Duration, Instant};

use harness::film::large_picture;
use harness::{Curl, Page, Process, eventually};
use serde_json::{Value, json};

use super::topologies::Apart;
use super::{calls, create, page, rent, upload};

/// The deadline of the home screens and of the page, as their contracts have it.
const DEADLINE: Duration = Duration::from_secs(2);

/// The home screens and the page of a title, each within its deadline.
fn screens(curl: &Curl, title: &str) -> [Page; 3] {
    let page = format!("/v1/titles/{title}/page?viewer_id=a");
    ["/v1/mobile/home", "/v1/tv/home?viewer_id=a", &page].map(|path| {
        let start = Instant::now();
        let answer = curl.get(path);
        // The rest is curl's start, on a machine that is busy.
        assert!(start.elapsed() < DEADLINE + Duration::from_secs(1), "{path} took {:?}", start.elapsed());
        answer
    })
}

/// The answers that lack one part say so, are not cached, and have the rest.
fn lack(answers: &[Page], service: &str) {
    for answer in answers {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["unreachable"], json!([format!("services/{service}")]), "{answer:?}");
        assert_eq!((answer.header("etag"), answer.header("cache-control")), (None, Some("no-store")), "{answer:?}");
        assert!(answer.text().contains("Metropolis") && answer.text().contains("\"399\""), "{answer:?}");
    }
}

#[test]
fn answer_without_artwork_has_the_rest_and_names_it() {
    if !Curl::installed() {
        return;
    }
    let mut apart = Apart::start();
    let curl = apart.gateway.curl();
    let title = create(&curl, "Metropolis", 1927);
    assert!(screens(&curl, &title).iter().all(|answer| answer.json()["unreachable"] == json!([])));
    apart.service("artwork").signal("STOP");
    lack(&screens(&curl, &title), "artwork");
    apart.service("artwork").signal("CONT");
    let whole = || screens(&curl, &title).iter().all(|answer| answer.json()["unreachable"] == json!([])).then_some(());
    eventually("artwork is found again", whole);
    apart.stop("artwork");
    lack(&screens(&curl, &title), "artwork");
}

#[test]
fn answer_without_library_has_the_rest_and_names_it() {
    if !Curl::installed() {
        return;
    }
    let mut apart = Apart::start();
    let curl = apart.gateway.curl();
    let title = create(&curl, "Metropolis", 1927);
    rent(&curl, &title, "a", "");
    apart.stop("library");
    let [phone, television, page] = screens(&curl, &title);
    assert_eq!(phone.json()["unreachable"], json!([]), "a phone does not ask library");
    lack(&[television, page], "library");
}

#[test]
fn answer_without_the_catalog_is_a_failure_to_retry() {
    if !Curl::installed() {
        return;
    }
    let mut apart = Apart::start();
    let curl = apart.gateway.curl();
    let title = create(&curl, "Metropolis", 1927);
    apart.stop("catalog");
    for answer in screens(&curl, &title) {
        assert_eq!((answer.status, &answer.json()["code"]), (503, &json!(14)), "{answer:?}");
        assert!(!answer.text().contains("127.0.0.1"), "{answer:?}");
    }
}

#[test]
fn fifty_titles_cost_two_calls() {
    if !Curl::installed() {
        return;
    }
    let mut apart = Apart::start();
    let curl = apart.gateway.curl();
    for number in 0..50 {
        create(&curl, &format!("Metropolis {number}"), 1927);
    }
    let counts = |apart: &mut Apart| {
        let mut count = |service: &str, package: &str| calls(apart.service(service), package);
        [count("catalog", "catalog.v1"), count("artwork", "artwork.v1"), count("library", "library.v1")]
    };
    let before = counts(&mut apart);
    let home = curl.get("/v1/tv/home").json();
    assert_eq!(home["rows"][0]["tiles"].as_array().map(Vec::len), Some(50), "{home}");
    let after = counts(&mut apart);
    assert_eq!([0, 1, 2].map(|at| after[at] - before[at]), [1, 1, 0]);
    assert_eq!(curl.get("/v1/tv/home?viewer_id=a").status, 200);
    let rented = counts(&mut apart);
    assert_eq!([0, 1, 2].map(|at| rented[at] - after[at]), [1, 1, 1]);
}

/// A browser that leaves ends the work of the last hop: the call of artwork, which is stopped, and does not answer.
#[test]
fn caller_that_leaves_cancels_all_parts() {
    if !Curl::installed() {
        return;
    }
    let mut apart = Apart::start();
    let curl = apart.gateway.curl();
    let title = create(&curl, "Metropolis", 1927);
    assert_eq!(page(&curl, &title, "a")["unreachable"], json!([]));
    apart.service("artwork").signal("STOP");
    let cancelled = |process: &Process| {
        let metrics = process.http("/metrics");
        metrics.lines().any(|line| line.contains("GetTitlePage") && line.contains("Cancel") && !line.ends_with(" 0"))
    };
    let in_flight = |process: &Process| {
        let metrics = process.http("/metrics");
        let line =
            metrics.lines().find(|line| line.starts_with("grpc_client_in_flight{") && line.contains("GetArtwork"));
        line.is_some_and(|line| !line.ends_with(" 0"))
    };
    let impatient = curl.open(&format!("/v1/titles/{title}/page"), &["--max-time", "0.5"]);
    eventually("the composer calls artwork", || in_flight(apart.service("composer")).then_some(()));
    let impatient = impatient.wait_with_output().map(|output| output.status);
    assert_eq!(impatient.expect("curl ends").code(), Some(28), "curl gives up");
    let left = Instant::now();
    eventually("the composer notices", || cancelled(apart.service("composer")).then_some(()));
    eventually("the call of artwork ends", || (!in_flight(apart.service("composer"))).then_some(()));
    // Well before the part's own limit, three quarters of the deadline.
    assert!(left.elapsed() < Duration::from_secs(1), "{:?}", left.elapsed());
}

/// The backend resumes its own stream, and the client does not see that the worker was away.
#[test]
fn progress_outlives_a_kill_of_the_worker() {
    if !Curl::installed() {
        return;
    }
    let mut apart = Apart::start();
    let curl = apart.gateway.curl();
    let title = create(&curl, "Metropolis", 1927);
    let operation = upload(&curl, &title, &large_picture());
    let mut streams = [format!("/v1/tv/{operation}:follow"), format!("/v1/mobile/{operation}:await")]
        .map(|path| curl.open(&path, &[]));
    let mut television = BufReader::new(streams[0].stdout.take().expect("its output")).lines();
    let message = |line: Option<std::io::Result<String>>| -> Value {
        line.expect("a message").expect("text").parse().expect("JSON")
    };
    let first = message(television.next());
    assert_eq!(first["done"], false, "the kill comes too late: {first}");
    apart.kill_and_restart("artwork");
    let rest: Vec<_> = television.map(|line| message(Some(line))).filter(|message| *message != Value::Null).collect();
    let end = rest.last().expect("an end");
    assert_eq!(
        (&end["done"], &end["succeeded"], &end["percent"]),
        (&json!(true), &json!(true), &json!(100)),
        "{rest:?}"
    );
    let mut notices = String::new();
    let phone = streams[1].stdout.as_mut().expect("its output");
    phone.read_to_string(&mut notices).expect("text");
    let notices = notices.lines().map(|line| line.parse::<Value>().expect("JSON"));
    let notices: Vec<_> = notices.filter(|notice| notice["heartbeat"] != true).collect();
    assert_eq!((notices.len(), &notices[0]["succeeded"]), (1, &json!(true)), "{notices:?}");
    for mut stream in streams {
        assert!(stream.wait().expect("curl ends").success());
    }
}
