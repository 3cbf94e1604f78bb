//! The events of the catalog, followed by grpcurl: a client that knows nothing but the contracts.

use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use harness::film::{call, create};
use harness::{Grpcurl, LIMIT, Postgres, Process, output_in};
use serde_json::{Deserializer, Value, json};

const SUBSCRIBE: &str = "mesh.events.v1.EventsService/Subscribe";

/// A stream of frames. It ends when this is dropped.
struct Stream {
    grpcurl: Child,
    frames: Receiver<Value>,
}

impl Stream {
    fn open(grpcurl: &Grpcurl, request: &Value) -> Self {
        let mut grpcurl = grpcurl.open_with(SUBSCRIBE, request);
        let (output, (sender, frames)) = (grpcurl.stdout.take().expect("its output"), channel());
        thread::spawn(move || {
            let values = Deserializer::from_reader(output).into_iter::<Value>();
            values.map_while(Result::ok).try_for_each(|frame| sender.send(frame))
        });
        Self { grpcurl, frames }
    }

    /// The next frame.
    fn next(&self) -> Value {
        self.frames.recv_timeout(LIMIT).expect("a frame")
    }

    /// The next event: its type, and its title.
    fn event(&self) -> (String, Value) {
        let frame = self.next();
        let data = &frame["event"]["data"];
        assert_eq!(frame["event"]["key"], data["title"]["titleId"], "{frame}");
        (data["@type"].as_str().unwrap_or_default().to_owned(), data["title"].clone())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.grpcurl.kill();
        let _ = self.grpcurl.wait();
    }
}

fn catalog(more: Value) -> Value {
    let mut request = json!({"source": "catalog"});
    request.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    request
}

/// Follows while titles change, with a snapshot, from a cursor and filtered.
fn follows(grpcurl: &Grpcurl) {
    let of = |kind: &str| format!("type.googleapis.com/catalog.v1.{kind}");
    let title = create(grpcurl, "Metropolis");
    let stream = Stream::open(grpcurl, &catalog(json!({})));
    let first = stream.next();
    assert_eq!(first["snapshot"]["data"], json!({"@type": of("TitleAdded"), "title": title}), "{first}");
    // On Postgres the event may get its position while the stream begins.
    let mut caught_up = stream.next();
    if caught_up["event"]["position"] == "1" {
        caught_up = stream.next();
    }
    assert!(caught_up["caughtUp"].is_object(), "{caught_up}");

    let other = create(grpcurl, "Nosferatu");
    assert_eq!(stream.event(), (of("TitleAdded"), other));
    let changed = json!({"titleId": title["titleId"], "revision": title["revision"], "priceCents": "500"});
    let changed = call(grpcurl, "UpdateTitle", &json!({"title": changed}))["title"].clone();
    assert_eq!(stream.event(), (of("TitleChanged"), changed.clone()));
    call(grpcurl, "DeleteTitle", &json!({"title_id": title["titleId"]}));
    assert_eq!(stream.event(), (of("TitleRemoved"), changed.clone()));

    let resumed = Stream::open(grpcurl, &catalog(json!({"cursor": caught_up["cursor"]})));
    let kinds: Vec<_> = (0..3).map(|_| resumed.event().0).collect();
    assert_eq!(kinds, [of("TitleAdded"), of("TitleChanged"), of("TitleRemoved")]);
    let end = resumed.next();
    assert_eq!((&end["caughtUp"], &end["head"]), (&json!({}), &json!("4")), "{end}");

    let filter = json!({"cursor": caught_up["cursor"], "types": ["catalog.v1.TitleChanged"]});
    let filtered = Stream::open(grpcurl, &catalog(filter));
    assert_eq!(filtered.event(), (of("TitleChanged"), changed));
    assert!(filtered.next()["caughtUp"].is_object());
}

#[test]
fn events_are_followed_on_sqlite() {
    if Grpcurl::installed() {
        follows(&Process::start("monolith", &[]).grpcurl());
    }
}

#[test]
fn events_are_followed_in_a_process_of_their_own() {
    if Grpcurl::installed() {
        follows(&Process::start("catalog", &[]).grpcurl());
    }
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn events_are_followed_on_postgres() {
    if !Grpcurl::installed() {
        return;
    }
    let Some(postgres) = Postgres::start() else { return };
    let url = postgres.database("catalog");
    follows(&Process::start("monolith", &[("MESH__SERVICES__CATALOG__DATABASE_URL", &url)]).grpcurl());
}

#[test]
fn events_refuse_an_unknown_source_and_an_unknown_type() {
    if !Grpcurl::installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    let refused = |request: &Value| process.grpcurl().call(SUBSCRIBE, request);
    let source = refused(&json!({"source": "artwork"}));
    assert_eq!(source.failure(), ("NotFound".to_owned(), "SERVICE_NOT_FOUND".to_owned()));
    let kind = refused(&catalog(json!({"types": ["catalog.v1.TitleLost"]})));
    assert_eq!(kind.failure(), ("InvalidArgument".to_owned(), "INVALID_FIELDS".to_owned()));
    let described = kind.detail("google.rpc.BadRequest").to_string();
    assert!(
        described.contains("catalog.v1.TitleAdded, catalog.v1.TitleChanged, catalog.v1.TitleRemoved"),
        "{described}"
    );
}

#[test]
fn events_survive_a_kill_and_a_new_epoch_resets_their_readers() {
    if !Grpcurl::installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    let title = create(&process.grpcurl(), "Metropolis");
    let stream = Stream::open(&process.grpcurl(), &catalog(json!({})));
    let cursor = [stream.next(), stream.next()][1]["cursor"].clone();

    // The answer means that the event is durable.
    create(&process.grpcurl(), "Nosferatu");
    let process = Process::start_in(process.kill(), "monolith", &[]);
    let stream = Stream::open(&process.grpcurl(), &catalog(json!({"cursor": cursor})));
    assert_eq!(stream.event().1["name"], "Nosferatu");
    assert!(stream.next()["caughtUp"].is_object());

    let folder = process.kill();
    assert!(output_in(&folder, "monolith", &["--renew-epoch"]).status.success());
    let process = Process::start_in(folder, "monolith", &[]);
    let stream = Stream::open(&process.grpcurl(), &catalog(json!({"cursor": cursor})));
    assert!(stream.next()["reset"].is_object());
    assert_eq!(stream.next()["snapshot"]["data"]["title"], title);
}
