//! What causes the work of a follower: the event that it applies.

use mesh_proto::mesh::events::v1::Event;
use mesh_rpc::call::Context;

/// The context in which an event is applied. What the follower publishes or starts in it has the event as its cause.
pub(super) fn context_of(event: &Event) -> Context {
    Context::of_event(event)
}
