//! The carrier for NATS JetStream: a stream for each service, and its relay fenced by the sequence of the last message.
//!
//! Guarantees:
//! - A message is stored only if the stream ends where the carrier knows it: `Nats-Expected-Last-Sequence`. So messages
//!   are sent without a wait for each other: behind one that is refused, the next is stored only if another relay
//!   stored that one.
//! - An existing stream is used as it is: an operator may have changed its limits or its replicas.
//!
//! Does not: use `Nats-Msg-Id`, which recognizes a message only within a window of time.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, LastRawMessageErrorKind};
use async_nats::jetstream::{self, Context};
use async_nats::{ConnectOptions, HeaderMap};
use tokio::time::sleep;

use super::carrier::{Carrier, Failure};
use super::message::{Last, Message};
use super::settings::Servers;

/// The longest wait for an answer of the server.
const LIMIT: Duration = Duration::from_secs(5);
/// The interval at which a request looks whether the connection is lost.
const LOOK: Duration = Duration::from_millis(50);

/// The carrier of one service.
pub struct Nats {
    servers: Servers,
    service: &'static str,
    /// How long a stream that it creates keeps messages.
    keep: Duration,
    /// The connection, which the client renews by itself once it has been there.
    context: Option<Context>,
    /// The sequence of the last message, if nothing has failed since it was read.
    last: Option<u64>,
}

impl Nats {
    /// A carrier for what `service` publishes. If the stream is missing, it is created with messages kept for `keep`.
    pub fn new(servers: Servers, service: &'static str, keep: Duration) -> Self {
        Self { servers, service, keep, context: None, last: None }
    }

    /// The name of the stream of a service.
    pub fn stream(service: &str) -> String {
        format!("events-{service}")
    }

    async fn context(&mut self) -> Result<Context, Failure> {
        if let Some(context) = &self.context {
            return Ok(context.clone());
        }
        let options = ConnectOptions::new().name(format!("mesh {}", self.service)).connection_timeout(LIMIT);
        let connected = options.connect(&self.servers.0[..]).await;
        let mut context = jetstream::new(connected.map_err(|error| self.away(&error))?);
        context.set_timeout(LIMIT);
        Ok(self.context.insert(context).clone())
    }

    /// Waits for an answer. Fails at once while the connection is lost: the client would wait for the next one.
    async fn answer<T, E: Display>(
        &self,
        context: &Context,
        request: impl IntoFuture<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        let client = context.client();
        let lost = async {
            while client.connection_state() == State::Connected {
                sleep(LOOK).await;
            }
        };
        tokio::select! {
            biased;
            answer = request.into_future() => answer.map_err(|error| format!("NATS at {}: {error}", self.servers).into()),
            () = lost => Err(self.away(&"the connection is lost")),
        }
    }

    /// The failure of a server that does not answer.
    fn away(&self, error: &dyn Display) -> Failure {
        format!("NATS at {}: {error}; start the server with JetStream, or correct `nats.url`", self.servers).into()
    }

    fn config(&self) -> Config {
        Config {
            name: Self::stream(self.service),
            subjects: vec![subjects(self.service)],
            max_age: self.keep,
            ..Config::default()
        }
    }

    fn subject(&self, message: &Message) -> String {
        // The name of an event's type begins with its service.
        if message.is_reset() { format!("events.{}.reset", self.service) } else { format!("events.{}", message.kind) }
    }
}

/// All subjects of a service.
fn subjects(service: &str) -> String {
    format!("events.{service}.>")
}

impl Carrier for Nats {
    async fn last(&mut self) -> Result<Option<Last>, Failure> {
        self.last = None;
        let context = self.context().await?;
        let stream = self.answer(&context, context.get_or_create_stream(self.config())).await?;
        // It is not the sequence of the last message if messages at the end were deleted.
        let last = stream.cached_info().state.last_sequence;
        let message = async {
            match stream.get_last_raw_message_by_subject(&subjects(self.service)).await {
                Ok(message) => Ok(Some(message)),
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
                Err(error) => Err(error),
            }
        };
        let message = self.answer(&context, message).await?;
        // A message that another relay added between the two is the end. With the sequence before it, the first of the
        // next messages would be refused and the second one stored.
        self.last = Some(message.as_ref().map_or(last, |message| message.sequence.max(last)));
        let Some(message) = message else { return Ok(None) };
        let attribute = |name: &str| Some(message.headers.get(format!("ce-{name}"))?.as_str().to_owned());
        match Last::read(attribute) {
            Some(last) => Ok(Some(last)),
            None => Err(format!(
                "message {} of the stream {} is not of this service: delete it, and let nothing else publish to {}",
                message.sequence,
                Self::stream(self.service),
                subjects(self.service)
            )
            .into()),
        }
    }

    async fn publish(&mut self, messages: Vec<Message>) -> Result<(), Failure> {
        let (Some(context), Some(mut last)) = (self.context.clone(), self.last.take()) else {
            return Err("the end of the stream is not known".into());
        };
        let stream = Self::stream(self.service);
        let mut acks = Vec::with_capacity(messages.len());
        for message in messages {
            let subject = self.subject(&message);
            let publish = PublishMessage::build().headers(headers(&message)).payload(message.body);
            let publish = publish.expected_stream(&stream).expected_last_sequence(last);
            acks.push(self.answer(&context, context.send_publish(subject, publish)).await?);
            last += 1;
        }
        for ack in acks {
            self.answer(&context, ack).await?;
        }
        self.last = Some(last);
        Ok(())
    }
}

fn headers(message: &Message) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", Message::CONTENT_TYPE);
    for (name, value) in &message.attributes {
        headers.insert(format!("ce-{name}"), encoded(value));
    }
    headers
}

/// Percent-encodes a value for a header, as the bindings of CloudEvents do: all but printable ASCII, and space, `"`,
/// `%`.
fn encoded(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_graphic() && !matches!(byte, b'"' | b'%') {
            encoded.push(byte.into());
        } else {
            // Writing to a String does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_values_are_percent_encoded() {
        assert_eq!(encoded("4bf92f35-77b3"), "4bf92f35-77b3");
        assert_eq!(encoded("Euro € \"100%\"\r\n"), "Euro%20%E2%82%AC%20%22100%25%22%0D%0A");
    }
}
