//! What a relay asks of a broker. A carrier for another broker, such as Kafka, is one more file with this trait.

use super::message::{Last, Message};

/// Why a broker does not take events.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A broker, as the relay of one service uses it. It keeps messages in order.
pub trait Carrier: Send + 'static {
    /// The last message that the broker has of the service; `None` if it has none. From here on the carrier is fenced:
    /// [`publish`](Self::publish) fails if anything else has been published since.
    ///
    /// # Errors
    ///
    /// The broker is away, refuses, or has a message that no relay wrote.
    fn last(&mut self) -> impl Future<Output = Result<Option<Last>, Failure>> + Send;

    /// Appends messages in order, and returns when the broker has acknowledged all of them.
    ///
    /// # Errors
    ///
    /// As for [`last`](Self::last). Some of the messages may be with the broker, and then they are the first ones: the
    /// next call must be of `last`. A call that was cancelled is as one that failed.
    fn publish(&mut self, messages: Vec<Message>) -> impl Future<Output = Result<(), Failure>> + Send;
}
