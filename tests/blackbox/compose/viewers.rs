//! With `auth.mode = "required"`, a user is the viewer: what others have rented is not there.

use std::io::{BufRead as _, BufReader};

use harness::{Curl, Process, eventually, token, uuid};
use serde_json::{Value, json};

use super::topologies::{Apart, secured};
use super::{create, messages, names};

/// The status and the reason of a refusal.
fn refusal(page: &harness::Page) -> (u16, String) {
    let body = page.json();
    let mut details = body["details"].as_array().expect("details").iter();
    (page.status, details.find_map(|detail| detail["reason"].as_str()).expect("a reason").to_owned())
}

/// Rents a title as the user of the token, and returns the name of the operation.
fn rent(user: &Curl, title: &str) -> String {
    let request = json!({"requestId": uuid(), "expectedPriceCents": "399"});
    let started = eventually("library has the title", || {
        let started = user.json("POST", &format!("/v1/titles/{title}:rent"), &request);
        (started.status == 200).then_some(started)
    });
    started.json()["name"].as_str().expect("a name").to_owned()
}

/// The viewers of a list of rentals.
fn viewers(list: &Value) -> Vec<&str> {
    list["rentals"].as_array().expect("a list").iter().map(|it| it["viewerId"].as_str().expect("a viewer")).collect()
}

/// What both topologies must do, for two users and an operator.
fn viewers_are_apart(users: [Curl; 3]) {
    let [alice, bob, olga] = &users;
    let title = create(olga, "Metropolis", 1927);
    let operation = rent(alice, &title);
    let notice = messages(alice, &format!("/v1/mobile/{operation}:await"));
    assert_eq!(notice[0]["succeeded"], true, "{notice:?}");
    rentals_are_those_of_the_user(&users, &title);
    screens_are_those_of_the_user(&users, &title);
    operation_belongs_to_the_user([bob, alice], &operation);
    stream_shows_the_user_alone(&users, &title);
    assert_eq!(viewers(&bob.get("/v1/rentals").json()), ["bob"]);
}

/// The curl of each user.
fn users(gateway: &Process, token: impl Fn(&str, &[&str]) -> String) -> [Curl; 3] {
    let operator = &["mesh.operator", "catalog.write"][..];
    [("alice", &[][..]), ("bob", &[]), ("olga", operator)]
        .map(|(name, scopes)| gateway.curl().with_token(&token(name, scopes)))
}

#[test]
fn viewers_are_apart_in_one_process() {
    if Curl::installed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // The issuer of development is made before the process starts.
        token(folder.path(), "nobody", &[], "1h");
        let monolith = Process::start_in(folder, "monolith", &[("MESH__AUTH__MODE", "required")]);
        viewers_are_apart(users(&monolith, |name, scopes| token(monolith.folder.path(), name, scopes, "1h")));
    }
}

#[test]
fn viewers_are_apart_with_tls_in_processes_of_their_own() {
    if Curl::installed() {
        let mesh = secured();
        let apart = Apart::start_by(|name, settings| mesh.start(name, settings));
        viewers_are_apart(users(&apart.gateway, |name, scopes| mesh.token(name, scopes)));
    }
}

fn rentals_are_those_of_the_user([alice, bob, olga]: &[Curl; 3], title: &str) {
    let of_alice = "/v1/rentals?viewer_id=alice";
    for list in [alice.get("/v1/rentals"), alice.get(of_alice), olga.get(of_alice)] {
        assert_eq!(viewers(&list.json()), ["alice"], "{list:?}");
    }
    for none in [bob.get("/v1/rentals"), olga.get("/v1/rentals")] {
        assert_eq!(viewers(&none.json()), [""; 0], "{none:?}");
    }
    let not_caller = (403, "VIEWER_NOT_CALLER".to_owned());
    let order = json!({"requestId": uuid(), "viewerId": "alice", "expectedPriceCents": "399"});
    let rented = bob.json("POST", &format!("/v1/titles/{title}:rent"), &order);
    let current = bob.get(&format!("/v1/rentals:current?viewer_id=alice&title_ids={title}"));
    for refused in [bob.get(of_alice), rented, current] {
        assert_eq!(refusal(&refused), not_caller);
    }
    let rental = alice.get("/v1/rentals").json()["rentals"][0]["rentalId"].as_str().expect("an id").to_owned();
    let path = format!("/v1/rentals/{rental}");
    assert_eq!(refusal(&bob.get(&path)), (404, "RENTAL_NOT_FOUND".to_owned()));
    assert_eq!([alice, olga].map(|user| user.get(&path).status), [200, 200]);
}

/// The home screen of a television and the page of the title, without a viewer in the request and with one.
fn screens_are_those_of_the_user([alice, bob, olga]: &[Curl; 3], title: &str) {
    let (home, page) = ("/v1/tv/home".to_owned(), format!("/v1/titles/{title}/page"));
    for (user, query, shows) in [
        (alice, "", true),
        (alice, "?viewer_id=alice", true),
        (bob, "", false),
        (olga, "", false),
        (olga, "?viewer_id=alice", true),
    ] {
        let shown = user.get(&format!("{home}{query}")).json();
        assert_eq!(names(&shown["rows"][0]["tiles"]), ["Metropolis"], "{shown}");
        assert_eq!(shown["rows"][0]["tiles"][0]["rentedUntil"].is_string(), shows, "{query}: {shown}");
        let shown = user.get(&format!("{page}{query}")).json();
        assert_eq!((shown["rental"].is_object(), &shown["unreachable"]), (shows, &json!([])), "{query}: {shown}");
    }
    for path in [home, page] {
        let refused = bob.get(&format!("{path}?viewer_id=alice"));
        assert_eq!(refusal(&refused), (403, "VIEWER_NOT_CALLER".to_owned()), "{path}");
    }
}

fn operation_belongs_to_the_user([bob, alice]: [&Curl; 2], operation: &str) {
    let paths =
        [format!("/v1/{operation}"), format!("/v1/mobile/{operation}:await"), format!("/v1/tv/{operation}:follow")];
    for path in &paths {
        assert_eq!(refusal(&bob.get(path)), (404, "OPERATION_NOT_FOUND".to_owned()), "{path}");
        assert_eq!(alice.get(path).status, 200, "{path}");
    }
    let cancelled = bob.json("POST", &format!("/v1/{operation}:cancel"), &json!({}));
    assert_eq!(refusal(&cancelled), (404, "OPERATION_NOT_FOUND".to_owned()));
}

/// A stream that was open while both rented.
fn stream_shows_the_user_alone([alice, bob, olga]: &[Curl; 3], title: &str) {
    let path = "/v1/services/library/operations:subscribe";
    let mut stream = bob.open(path, &["--header", "Accept: text/event-stream"]);
    let mut lines = BufReader::new(stream.stdout.take().expect("its output")).lines().map(|line| line.expect("text"));
    let mut seen = lines.next().expect("it is open");
    let of_alice = rent(alice, &create(olga, "Playtime", 1967));
    messages(alice, &format!("/v1/mobile/{of_alice}:await"));
    let of_bob = rent(bob, title);
    messages(bob, &format!("/v1/mobile/{of_bob}:await"));
    while !seen.contains(&of_bob) {
        seen += &lines.next().unwrap_or_else(|| panic!("it ends: {seen}"));
    }
    assert!(!seen.contains(&of_alice) && !seen.contains("alice"), "{seen}");
    stream.kill().expect("curl runs");
    stream.wait().expect("curl ends");
}
