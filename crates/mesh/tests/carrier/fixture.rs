//! The fixture of each test: a mesh with things, which publishes each change to a NATS server.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use harness::Nats;
use mesh::operations::{Attempt, Work};
use mesh::store::Error;
use mesh::testing::Mesh;
use mesh::{Service, Store};
use mesh_carrier::async_nats;
use mesh_carrier::async_nats::jetstream::message::StreamMessage;
use mesh_carrier::async_nats::jetstream::{self, stream::Stream};

use crate::things::{Made, THINGS, make, snapshot};

/// The name of the stream.
pub(crate) const STREAM: &str = "events-things";

/// Work that nothing starts. Its declaration hands out the database.
struct Idle;

impl Work for Idle {
    const KIND: &'static str = "Idle";
    type Request = Made;
    type Response = Made;
    type Error = Error;

    async fn run(&self, _: &Attempt, request: Made) -> Result<Made, Error> {
        Ok(request)
    }
}

/// A mesh that publishes.
pub(crate) struct Things {
    pub(crate) mesh: Mesh,
    pub(crate) store: Store,
}

/// Fails a test that takes longer than 180 s, such as one that waits for a message that never comes.
pub(crate) async fn within_limit(test: impl Future<Output = ()>) {
    let passed = tokio::time::timeout(Duration::from_secs(180), test).await;
    assert!(passed.is_ok(), "the test did not end within 180 s");
}

/// Asks again until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "not within 60 s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A new server; `None`, with a note, if NATS is not installed. Its start blocks, so it runs outside of the runtime.
pub(crate) async fn server() -> Option<Nats> {
    tokio::task::spawn_blocking(Nats::start).await.unwrap()
}

impl Things {
    pub(crate) async fn start(url: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), url, &[]).await
    }

    /// Starts in a folder. Without a `url` it publishes to no broker.
    pub(crate) async fn start_in(folder: tempfile::TempDir, url: &str, settings: &[String]) -> Self {
        let opened = Arc::new(OnceLock::new());
        let hand_out = Arc::clone(&opened);
        let service = Service::new("things", &[]).owns(THINGS).publishes(snapshot).works(move |resources| {
            hand_out.get_or_init(|| resources.store());
            Idle
        });
        let nats = Some(format!("nats.url={url}")).filter(|_| !url.is_empty());
        let settings: Vec<_> = settings.iter().cloned().chain(nats).collect();
        let mesh = Mesh::start_in(folder, &settings, service).await;
        let store = opened.get().unwrap().clone();
        Self { mesh, store }
    }

    /// Drains the mesh, and returns its folder. The database is closed.
    pub(crate) async fn drain(self) -> tempfile::TempDir {
        drop(self.store);
        self.mesh.drain().await
    }

    /// Makes this many things, or changes them.
    pub(crate) async fn make(&self, count: usize) {
        for number in 0..count {
            make(&self.store, &format!("thing {number}")).await.unwrap();
        }
    }

    /// The body of an HTTP page, with its status.
    pub(crate) fn get(&self, path: &str) -> String {
        let mut connection = TcpStream::connect(self.mesh.url().trim_start_matches("http://")).unwrap();
        write!(connection, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    /// A value of a metric of the service; `None` if the page does not have it.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let (page, name) = (self.get("/metrics"), format!("{name}{{service=\"things\"}} "));
        page.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok())
    }
}

/// What a server has, as a program without mesh reads it.
pub(crate) struct Broker(pub(crate) jetstream::Context);

impl Broker {
    pub(crate) async fn of(server: &Nats) -> Self {
        Self(jetstream::new(async_nats::connect(server.url()).await.unwrap()))
    }

    pub(crate) async fn stream(&self) -> Option<Stream> {
        self.0.get_stream(STREAM).await.ok()
    }

    /// All messages, in the order of the stream.
    pub(crate) async fn messages(&self) -> Vec<StreamMessage> {
        let Some(stream) = self.stream().await else { return Vec::new() };
        let state = stream.cached_info().state.clone();
        let mut messages = Vec::new();
        for sequence in state.first_sequence.max(1)..=state.last_sequence {
            // Some may be deleted.
            messages.extend(stream.get_raw_message(sequence).await.ok());
        }
        messages
    }

    /// The position of the last message.
    async fn last(&self) -> Option<i64> {
        let stream = self.stream().await?;
        let message = stream.get_last_raw_message_by_subject("events.things.>").await.ok()?;
        Some(attribute(&message, "sequence").parse().unwrap())
    }

    /// Waits until the last message is at a position.
    pub(crate) async fn reaches(&self, position: i64) {
        eventually(&format!("position {position}"), async || (self.last().await? == position).then_some(())).await;
    }

    /// Waits until the server has each position up to one, in order, none twice.
    pub(crate) async fn has_all(&self, head: i64) {
        self.reaches(head).await;
        assert_eq!(positions(&self.messages().await), (1..=head).collect::<Vec<_>>());
    }
}

pub(crate) fn attribute(message: &StreamMessage, name: &str) -> String {
    message.headers.get(format!("ce-{name}")).map(|value| value.as_str().to_owned()).unwrap_or_default()
}

pub(crate) fn positions(messages: &[StreamMessage]) -> Vec<i64> {
    messages.iter().map(|message| attribute(message, "sequence").parse().unwrap()).collect()
}
