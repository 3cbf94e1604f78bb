//! Shows what caused what: the events that share a first cause, from all services, as a tree.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::anyhow;
use mesh_proto::mesh::events::v1::{Event, ListEventsRequest};
use uuid::Uuid;

use super::sources::{client, sources};
use super::text::head;
use crate::shown;
use crate::target::{Process, Target};

/// The events of one page.
const PAGE: i32 = 200;

/// A correlation, as the command line gives it.
pub(crate) struct Correlation(Uuid);

impl FromStr for Correlation {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let wrong = || anyhow!("`{text}` is no correlation: expected a UUID, or the trace id of a line in a log");
        text.parse().map(Self).map_err(|_| wrong())
    }
}

/// Prints the events of a correlation, each below the one that caused it.
pub(crate) async fn trace(Correlation(correlation): Correlation, target: &Target) -> anyhow::Result<ExitCode> {
    let (sources, mut errors) = sources(target).await?;
    let mut events = Vec::new();
    for (process, source) in sources {
        match caused(&process, &source.name, correlation).await {
            Ok(found) => events.extend(found.into_iter().map(|event| (source.name.clone(), event))),
            Err(error) => errors.push(format!("{}: {error:#}", source.name)),
        }
    }
    if events.is_empty() && errors.is_empty() {
        shown::note("no service keeps events with this correlation");
    }
    io::stdout().write_all(tree(events).as_bytes())?;
    Ok(shown::reported(&errors))
}

/// The events of a source with this correlation, from all pages.
async fn caused(process: &Process, source: &str, correlation: Uuid) -> anyhow::Result<Vec<Event>> {
    let mut client = client(process);
    let (source, correlation_id) = (source.to_owned(), correlation.to_string());
    let mut request = ListEventsRequest { source, correlation_id, page_size: PAGE, page_token: String::new() };
    let mut events = Vec::new();
    loop {
        let page = process.answer(client.list_events(request.clone())).await?;
        let page = page.map_err(|status| anyhow!(shown::status(&status)))?;
        events.extend(page.events);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return Ok(events);
        }
    }
}

/// The events as lines, the earliest first, each indented below its cause. An event whose cause is not there is at the left.
fn tree(mut events: Vec<(String, Event)>) -> String {
    let time = |event: &Event| event.time.map(|time| (time.seconds, time.nanos));
    events
        .sort_by(|(a_source, a), (b_source, b)| (time(a), a_source, a.position).cmp(&(time(b), b_source, b.position)));
    let known: HashSet<_> = events.iter().map(|(_, event)| event.id.as_str()).collect();
    let mut effects = HashMap::<_, Vec<_>>::new();
    for (index, (_, event)) in events.iter().enumerate() {
        let cause = Some(event.causation_id.as_str()).filter(|cause| known.contains(cause));
        effects.entry(cause).or_default().push(index);
    }
    // Left to print, the next one last: the effects of an event come before its later siblings.
    let (mut text, mut left) = (String::new(), Vec::new());
    let below =
        |effects: Option<Vec<usize>>, depth| effects.into_iter().flatten().rev().map(move |index| (index, depth));
    left.extend(below(effects.remove(&None), 0));
    while let Some((index, depth)) = left.pop() {
        let (source, event) = &events[index];
        let line = shown::one_line(&format!("{source} {}", head(event)));
        text += &format!("{:indent$}{line}\n", "", indent = depth * 2);
        left.extend(below(effects.remove(&Some(event.id.as_str())), depth + 1));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_types::{Any, Timestamp};

    fn event(source: &str, id: &str, cause: &str, seconds: i64) -> (String, Event) {
        let event = Event {
            id: id.to_owned(),
            position: 7,
            time: Some(Timestamp { seconds, nanos: 0 }),
            key: id.to_uppercase(),
            data: Some(Any { type_url: format!("type.googleapis.com/{source}.v1.Made"), value: Vec::new() }),
            causation_id: cause.to_owned(),
            ..Event::default()
        };
        (source.to_owned(), event)
    }

    #[test]
    fn tree_has_each_event_below_its_cause() {
        let events = vec![
            event("library", "d", "b", 4),
            event("catalog", "a", "", 1),
            event("library", "c", "a", 3),
            event("library", "b", "a", 2),
            event("billing", "e", "gone", 0),
        ];
        let expected = "\
billing 1970-01-01T00:00:00Z 7 Made E
catalog 1970-01-01T00:00:01Z 7 Made A
  library 1970-01-01T00:00:02Z 7 Made B
    library 1970-01-01T00:00:04Z 7 Made D
  library 1970-01-01T00:00:03Z 7 Made C
";
        assert_eq!(tree(events), expected);
    }
}
