//! Where a relay goes on: the last message of the broker says how far it has come.

use mesh_events::{End, Reader};
use mesh_store::Error;
use uuid::Uuid;

use super::message::Last;

/// Where a relay goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Behind a position, at which the broker has the event of this log, or nothing.
    Behind(i64),
    /// Behind a position, and what the broker has does not lead there.
    Reset(i64),
}

/// Compares the last message of the broker with the log.
pub(super) async fn start(log: &mut Reader, last: Option<&Last>) -> Result<Start, Error> {
    let end = log.end().await?;
    let known = match last {
        Some(last) => log.behind(last.position.saturating_sub(1), 1).await?.into_iter().next(),
        None => None,
    };
    let known = known.as_ref().map(|event| (event.position, &*event.id));
    Ok(decide(end, log.epoch(), last, known))
}

/// `known` is the first event of the log from the position of the last message.
fn decide(end: End, epoch: Uuid, last: Option<&Last>, known: Option<(i64, &str)>) -> Start {
    let beginning = end.floor - 1;
    // A stream that is empty begins where the log does: the sequence of its first message says whether events are
    // missing.
    let Some(last) = last else { return Start::Behind(beginning) };
    let is_kept = (beginning..=end.head).contains(&last.position);
    // The event before the first that is kept has no id to compare, and a reset has none in the log.
    let is_known = last.is_reset || last.position == beginning || known == Some((last.position, &*last.id));
    if last.epoch == epoch.to_string() && is_kept && is_known {
        Start::Behind(last.position)
    } else {
        Start::Reset(beginning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_is_behind_the_last_message_if_the_log_has_it() {
        let epoch = Uuid::new_v4();
        let end = |floor, head| End { head, told: 0, floor };
        let last =
            |position: i64| Last { id: format!("id {position}"), position, epoch: epoch.to_string(), is_reset: false };
        let reset = |position| Last { is_reset: true, id: "other".to_owned(), ..last(position) };
        let decide = |end, last: &Last, known| decide(end, epoch, Some(last), known);

        assert_eq!(super::decide(end(1, 9), epoch, None, None), Start::Behind(0), "an empty stream");
        assert_eq!(
            super::decide(end(5, 9), epoch, None, None),
            Start::Behind(4),
            "of a log that has lost its beginning"
        );
        assert_eq!(decide(end(1, 9), &last(7), Some((7, "id 7"))), Start::Behind(7));
        assert_eq!(decide(end(1, 9), &last(9), Some((9, "id 9"))), Start::Behind(9), "all is there");
        assert_eq!(decide(end(8, 9), &last(7), Some((8, "id 8"))), Start::Behind(7), "its event was deleted");
        assert_eq!(decide(end(1, 9), &reset(0), Some((1, "id 1"))), Start::Behind(0));
        assert_eq!(decide(end(5, 9), &reset(4), Some((5, "id 5"))), Start::Behind(4));
    }

    #[test]
    fn place_is_reset_if_the_log_has_another_history_or_a_gap() {
        let epoch = Uuid::new_v4();
        let end = |floor, head| End { head, told: 0, floor };
        let last =
            |position: i64| Last { id: format!("id {position}"), position, epoch: epoch.to_string(), is_reset: false };
        let decide = |end, last: &Last, known| decide(end, epoch, Some(last), known);

        assert_eq!(decide(end(1, 9), &last(7), Some((7, "other"))), Start::Reset(0), "restored, and written since");
        assert_eq!(decide(end(1, 6), &last(7), None), Start::Reset(0), "restored");
        let renewed = Last { epoch: Uuid::new_v4().to_string(), ..last(7) };
        assert_eq!(decide(end(1, 9), &renewed, Some((7, "id 7"))), Start::Reset(0), "with a new epoch");
        assert_eq!(decide(end(9, 9), &last(7), Some((9, "id 9"))), Start::Reset(8), "the next one was deleted");
        let reset = Last { is_reset: true, ..last(7) };
        assert_eq!(decide(end(9, 9), &reset, Some((9, "id 9"))), Start::Reset(8), "also behind a reset");
    }
}
