//! The place of a follower in the events of its source, and what the next frame is to it.
//!
//! Guarantees:
//! - An event that comes twice, out of order, or from another stream is not taken for the next one. Of the rows of a
//!   snapshot, which have one position, only one that comes twice in a row is recognised.

use mesh_proto::mesh::events::v1::SubscribeResponse;
use mesh_proto::mesh::events::v1::subscribe_response::Frame;

/// The position of a follower that knows none yet.
pub(super) const UNKNOWN: i64 = -1;

/// The place of a follower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The cursor of the last frame; empty before the first one.
    pub(super) cursor: Vec<u8>,
    /// The position of the last event, or the one that a snapshot is behind.
    pub(super) position: i64,
    /// The build of the copy that is written, from 1.
    pub(super) generation: i64,
    /// The last build that was finished; 0 before the first one.
    pub(super) whole: i64,
    /// The attempts at the next event that were begun.
    pub(super) attempt: i64,
    pub(super) fence: i64,
}

/// What to do with a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is the next one.
    Next,
    /// It was applied before.
    Again,
    /// It does not follow the place: frames are missing before it, or it is of another stream.
    OutOfOrder,
}

impl Place {
    /// Whether a snapshot is read.
    pub(super) fn is_building(&self) -> bool {
        self.whole < self.generation
    }

    /// What to do with a frame.
    pub(super) fn turn_of(&self, response: &SubscribeResponse) -> Turn {
        match &response.frame {
            Some(Frame::Snapshot(_) | Frame::Reset(_)) if response.cursor == self.cursor => Turn::Again,
            Some(Frame::Event(event)) if self.position == UNKNOWN || event.position == self.position + 1 => Turn::Next,
            Some(Frame::Event(event)) if event.position <= self.position => Turn::Again,
            Some(Frame::Snapshot(event))
                if self.is_building() && [UNKNOWN, event.position].contains(&self.position) =>
            {
                Turn::Next
            }
            Some(Frame::Event(_) | Frame::Snapshot(_)) => Turn::OutOfOrder,
            // A frame of a later version has no meaning here, and the cursor behind it is as good.
            Some(Frame::Reset(_) | Frame::CaughtUp(_) | Frame::Heartbeat(_)) | None => Turn::Next,
        }
    }

    /// Moves behind a frame that was applied.
    pub(super) fn pass(&mut self, response: &SubscribeResponse) {
        self.cursor.clone_from(&response.cursor);
        self.attempt = 0;
        match &response.frame {
            Some(Frame::Event(event) | Frame::Snapshot(event)) => self.position = event.position,
            Some(Frame::Reset(_)) => self.begin_build(),
            Some(Frame::CaughtUp(_)) => self.whole = self.generation,
            Some(Frame::Heartbeat(_)) | None => {}
        }
    }

    fn begin_build(&mut self) {
        self.generation += 1;
        self.position = UNKNOWN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_proto::mesh::events::v1::{CaughtUp, Event, Reset};

    fn frame(cursor: &[u8], frame: Frame) -> SubscribeResponse {
        SubscribeResponse { cursor: cursor.to_vec(), head: 0, frame: Some(frame) }
    }

    fn event(position: i64) -> Event {
        Event { position, ..Event::default() }
    }

    /// The place of a new follower.
    fn beginning() -> Place {
        Place { cursor: Vec::new(), position: UNKNOWN, generation: 1, whole: 0, attempt: 0, fence: 1 }
    }

    #[test]
    fn place_refuses_frames_that_come_twice_are_swapped_or_missing() {
        let mut place = beginning();
        let snapshot = [frame(b"a", Frame::Snapshot(event(7))), frame(b"b", Frame::Snapshot(event(7)))];
        for response in &snapshot {
            assert_eq!(place.turn_of(response), Turn::Next);
            place.pass(response);
            assert_eq!(place.turn_of(response), Turn::Again);
        }
        assert_eq!(place.turn_of(&frame(b"c", Frame::Snapshot(event(6)))), Turn::OutOfOrder, "of another snapshot");
        let (eighth, ninth) = (frame(b"8", Frame::Event(event(8))), frame(b"9", Frame::Event(event(9))));
        assert_eq!(place.turn_of(&ninth), Turn::OutOfOrder, "the eighth is missing");
        for response in [&eighth, &ninth] {
            assert_eq!(place.turn_of(response), Turn::Next);
            place.pass(response);
        }
        assert_eq!(place.turn_of(&eighth), Turn::Again);
        assert_eq!(place.turn_of(&snapshot[0]), Turn::OutOfOrder);
        // The same place as that of the event before.
        let caught_up = frame(b"9", Frame::CaughtUp(CaughtUp {}));
        assert_eq!(place.turn_of(&caught_up), Turn::Next);
        place.pass(&caught_up);
        assert_eq!(place.turn_of(&frame(b"e", Frame::Snapshot(event(9)))), Turn::OutOfOrder, "the build has ended");
    }

    #[test]
    fn place_builds_from_a_reset_until_it_has_caught_up() {
        let mut place = beginning();
        place.pass(&frame(b"a", Frame::CaughtUp(CaughtUp {})));
        assert!(!place.is_building());
        place.pass(&frame(b"b", Frame::Event(event(12))));
        let reset = frame(b"c", Frame::Reset(Reset {}));
        place.pass(&reset);
        assert_eq!((place.is_building(), place.generation, place.whole), (true, 2, 1));
        assert_eq!(place.turn_of(&reset), Turn::Again);
        let first = frame(b"d", Frame::Event(event(3)));
        assert_eq!(place.turn_of(&first), Turn::Next, "the other history has other positions");
        place.pass(&first);
        place.pass(&frame(b"e", Frame::CaughtUp(CaughtUp {})));
        assert_eq!((place.is_building(), place.whole), (false, 2));
    }
}
