//! `examples/recommendations`, alone: the monolith stands where its sidecar would, since it answers for the catalog.

use harness::film::{call, create};
use harness::{Answer, Grpcurl, Process, python_with, root, uuid};
use serde_json::{Value, json};

use super::{PACKAGES, RECOMMENDATIONS, alone, alone_in, names};

/// The program, and the process that answers for its peers.
struct Alone {
    program: Process,
    monolith: Process,
}

impl Alone {
    fn start() -> Option<Self> {
        let python = python_with(PACKAGES).filter(|_| Grpcurl::installed())?;
        let monolith = Process::start("monolith", &[]);
        let outbound = monolith.address.to_string();
        let program = alone(&python, RECOMMENDATIONS, &[("SIDECAR_OUTBOUND", &outbound)]);
        Some(Self { program, monolith })
    }

    /// Calls it as its sidecar would, with these headers. It has no reflection: the sidecar has.
    fn call(&self, method: &str, headers: &[&str], request: &Value) -> Answer {
        let (proto, request) = (root().join("proto").display().to_string(), request.to_string());
        let files = ["recommendations/v1/recommendations.proto", "google/rpc/error_details.proto"];
        let mut flags = vec!["-import-path", &proto, "-d", &request];
        flags.extend(files.iter().flat_map(|file| ["-proto", file]));
        flags.extend(headers.iter().flat_map(|header| ["-rpc-header", header]));
        self.program.grpcurl().run(&flags, &[&format!("recommendations.v1.RecommendationsService/{method}")])
    }

    fn note(&self, viewer: &str, title: &Value) {
        let request = json!({"request_id": uuid(), "viewer_id": viewer, "title_id": title});
        self.call("NoteWatched", &[], &request).json();
    }

    fn list(&self, viewer: &str, page_size: i32) -> Value {
        self.call("ListRecommendations", &[], &json!({"viewer_id": viewer, "page_size": page_size})).json()
    }

    /// Creates titles with these names.
    fn titles<const N: usize>(&self, names: [&str; N]) -> [Value; N] {
        names.map(|name| create(&self.monolith.grpcurl(), name)["titleId"].clone())
    }
}

#[test]
#[ignore = "needs packages of Python: .ci/full"]
fn recommended_titles_are_those_of_others_who_watched_the_same() {
    let Some(alone) = Alone::start() else { return };
    let [seen, liked, rare, other] = alone.titles(["Seen", "Liked", "Rare", "Other"]);
    for (viewer, title) in
        [("alice", &seen), ("bob", &seen), ("bob", &liked), ("carl", &seen), ("carl", &liked), ("carl", &rare)]
    {
        alone.note(viewer, title);
    }
    // Who watched nothing that alice did has no say.
    alone.note("dora", &other);
    let list = alone.list("alice", 0);
    assert_eq!(names(&list), ["Liked", "Rare"]);
    assert_eq!(list["recommendations"][0]["viewers"], 2);
    // The monolith has no ratings.
    assert_eq!(list["unreachable"], json!(["services/ratings"]));
    assert_eq!(names(&alone.list("alice", 1)), ["Liked"]);
    assert_eq!(alone.list("new", 0), json!({}));
    // A title that was removed is left out.
    call(&alone.monolith.grpcurl(), "DeleteTitle", &json!({"title_id": liked}));
    assert_eq!(names(&alone.list("alice", 0)), ["Rare"]);
}

#[test]
#[ignore = "needs packages of Python: .ci/full"]
fn repeated_note_returns_the_first_answer() {
    let Some(alone) = Alone::start() else { return };
    let [title, other] = alone.titles(["Metropolis", "Playtime"]);
    let note = |id: &str, title: &Value| {
        alone.call("NoteWatched", &[], &json!({"request_id": id, "viewer_id": "alice", "title_id": title}))
    };
    let id = uuid().to_string();
    let first = note(&id, &title).json();
    assert_eq!(note(&id.to_uppercase(), &title).json(), first);
    assert_eq!(note(&uuid().to_string(), &title).json(), first, "the title keeps its time");
    assert_eq!(note(&id, &other).failure(), ("InvalidArgument".to_owned(), "REQUEST_ID_REUSED".to_owned()));
    let unknown = note(&uuid().to_string(), &json!(uuid()));
    assert_eq!(unknown.failure(), ("NotFound".to_owned(), "TITLE_NOT_FOUND".to_owned()));
}

#[test]
#[ignore = "needs packages of Python: .ci/full"]
fn user_is_the_viewer() {
    let Some(alone) = Alone::start() else { return };
    let [seen, liked] = alone.titles(["Seen", "Liked"]);
    for (viewer, title) in [("al/ice", &seen), ("bob", &seen), ("bob", &liked)] {
        alone.note(viewer, title);
    }
    let list = |headers: &[&str], request| alone.call("ListRecommendations", headers, &request);
    let alice = "mesh-caller: user/https://issuer/al%2Fice";
    assert_eq!(names(&list(&[alice], json!({})).json()), ["Liked"]);
    assert_eq!(names(&list(&[alice], json!({"viewer_id": "al/ice"})).json()), ["Liked"]);
    let not_caller = ("PermissionDenied".to_owned(), "VIEWER_NOT_CALLER".to_owned());
    assert_eq!(list(&[alice], json!({"viewer_id": "bob"})).failure(), not_caller);
    // An operator, by the claims of the passport, and a service may name any viewer. {"scopes": ["mesh.operator"]}
    let operator = "mesh-passport: e30.eyJzY29wZXMiOiBbIm1lc2gub3BlcmF0b3IiXX0.c2ln";
    for headers in [&[alice, operator][..], &["mesh-caller: service/tv"]] {
        assert_eq!(names(&list(headers, json!({"viewer_id": "al/ice"})).json()), ["Liked"], "{headers:?}");
    }
}

#[test]
#[ignore = "needs packages of Python: .ci/full"]
fn bad_fields_are_listed_together() {
    let Some(alone) = Alone::start() else { return };
    let fields = |method: &str, request: Value| -> Vec<String> {
        let answer = alone.call(method, &[], &request);
        assert_eq!(answer.failure(), ("InvalidArgument".to_owned(), "INVALID_FIELDS".to_owned()), "{request}");
        let violations = answer.detail("google.rpc.BadRequest")["fieldViolations"].clone();
        violations
            .as_array()
            .expect("a list")
            .iter()
            .map(|bad| bad["field"].as_str().expect("a field").into())
            .collect()
    };
    assert_eq!(fields("NoteWatched", json!({})), ["request_id", "title_id", "viewer_id"]);
    assert_eq!(fields("ListRecommendations", json!({"page_size": -1})), ["page_size", "viewer_id"]);
    let long = "é".repeat(101);
    for viewer in ["a\nb", "a\u{7}", "a\u{2028}b", " ", "\u{200b}", "\u{3164}", &long] {
        assert_eq!(fields("ListRecommendations", json!({"viewer_id": viewer})), ["viewer_id"], "{viewer:?}");
    }
    for viewer in ["x", " Ann ", "a\u{200b}b", "\u{1f469}\u{200d}\u{1f680}", &"é".repeat(100)] {
        assert_eq!(alone.list(viewer, 0), json!({}), "{viewer:?}");
    }
}

#[test]
#[ignore = "needs packages of Python: .ci/full"]
fn failure_of_the_catalog_is_one_of_the_service() {
    let Some(alone) = Alone::start() else { return };
    let [seen, liked] = alone.titles(["Seen", "Liked"]);
    for (viewer, title) in [("alice", &seen), ("bob", &seen), ("bob", &liked)] {
        alone.note(viewer, title);
    }
    let list = || alone.call("ListRecommendations", &[], &json!({"viewer_id": "alice"}));
    alone.monolith.signal("STOP");
    assert_eq!(list().failure(), ("DeadlineExceeded".to_owned(), "DEADLINE_EXCEEDED".to_owned()));
    alone.monolith.signal("KILL");
    let away = list();
    assert_eq!(away.failure(), ("Unavailable".to_owned(), "PEER_UNAVAILABLE".to_owned()));
    assert!(!away.message().contains("127.0.0.1"), "{}", away.message());
}

#[test]
#[ignore = "needs packages of Python: .ci/full"]
fn recommendations_outlive_a_kill_and_end_in_order() {
    let Some(alone) = Alone::start() else { return };
    let [seen, liked] = alone.titles(["Seen", "Liked"]);
    for (viewer, title) in [("alice", &seen), ("bob", &seen), ("bob", &liked)] {
        alone.note(viewer, title);
    }
    let Alone { program, monolith } = alone;
    let python = python_with(PACKAGES).expect("as above");
    let outbound = monolith.address.to_string();
    let program = alone_in(program.kill(), &python, RECOMMENDATIONS, &[("SIDECAR_OUTBOUND", &outbound)]);
    let mut alone = Alone { program, monolith };
    assert_eq!(names(&alone.list("alice", 0)), ["Liked"]);
    alone.program.signal("TERM");
    assert!(alone.program.ended().0.success(), "{}", alone.program.log());
    assert!(alone.program.log().contains("stopped"), "{}", alone.program.log());
}
