//! Shows what caused what: the events and the long work that share a first cause, from all services, as a tree.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::anyhow;
use mesh_proto::google::longrunning::Operation;
use mesh_proto::mesh::events::v1::{Event, ListEventsRequest};
use uuid::Uuid;

use super::sources::{client, sources};
use super::text::head;
use crate::operations;
use crate::operations::text::{metadata, state, step};
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

/// Prints the events and the operations of a correlation, each below the event that caused it.
pub(crate) async fn trace(Correlation(correlation): Correlation, target: &Target) -> anyhow::Result<ExitCode> {
    let (sources, mut errors) = sources(target).await?;
    let mut effects = Vec::new();
    for (process, source) in sources {
        match caused(&process, &source.name, correlation).await {
            Ok(found) => effects.extend(found.iter().map(|event| Effect::event(&source.name, event))),
            Err(error) => errors.push(format!("{}: {error:#}", source.name)),
        }
    }
    let (found, unanswered) = operations::caused(correlation, target).await?;
    effects.extend(found.iter().map(|(service, operation)| Effect::operation(service, operation)));
    errors.extend(unanswered);
    if effects.is_empty() && errors.is_empty() {
        shown::note("no service keeps events or operations with this correlation");
    }
    io::stdout().write_all(tree(effects).as_bytes())?;
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

/// An event or an operation: what a cause has led to.
struct Effect {
    /// What the effects are sorted by: the time, and within it the service and the position.
    order: (Option<(i64, i32)>, String, i64),
    /// The id of an event, which others may name as their cause.
    id: Option<String>,
    cause: String,
    line: String,
    /// The steps of a saga.
    steps: Vec<String>,
}

impl Effect {
    fn event(service: &str, event: &Event) -> Self {
        Self {
            order: (event.time.map(|time| (time.seconds, time.nanos)), service.to_owned(), event.position),
            id: Some(event.id.clone()),
            cause: event.causation_id.clone(),
            line: format!("{service} {}", head(event)),
            steps: Vec::new(),
        }
    }

    /// An operation, with a line for each step of its saga.
    fn operation(service: &str, operation: &Operation) -> Self {
        let metadata = metadata(operation);
        let time = metadata.create_time;
        let shown = time.map_or(String::new(), |time| time.to_string());
        Self {
            order: (time.map(|time| (time.seconds, time.nanos)), service.to_owned(), 0),
            id: None,
            line: format!("{service} {shown} {} {} {}", metadata.kind, operation.name, state(&metadata)),
            steps: metadata.steps.iter().map(|it| format!("step {}", step(it))).collect(),
            cause: metadata.causation_id,
        }
    }
}

/// The effects as lines, the earliest first, each indented below its cause. One whose cause is not there is at the
/// left.
fn tree(mut found: Vec<Effect>) -> String {
    found.sort_by(|a, b| a.order.cmp(&b.order));
    let known: HashSet<_> = found.iter().filter_map(|effect| effect.id.as_deref()).collect();
    let mut effects = HashMap::<_, Vec<_>>::new();
    for (index, effect) in found.iter().enumerate() {
        let cause = Some(effect.cause.as_str()).filter(|cause| known.contains(cause));
        effects.entry(cause).or_default().push(index);
    }
    // Left to print, the next one last: the effects of an event come before its later siblings.
    let (mut text, mut left) = (String::new(), Vec::new());
    let below =
        |effects: Option<Vec<usize>>, depth| effects.into_iter().flatten().rev().map(move |index| (index, depth));
    left.extend(below(effects.remove(&None), 0));
    while let Some((index, depth)) = left.pop() {
        let effect = &found[index];
        let mut add =
            |line, depth: usize| text += &format!("{:indent$}{}\n", "", shown::one_line(line), indent = depth * 2);
        add(&effect.line, depth);
        effect.steps.iter().for_each(|step| add(step, depth + 1));
        if let Some(id) = effect.id.as_deref() {
            left.extend(below(effects.remove(&Some(id)), depth + 1));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use mesh_proto::mesh::operations::v1::{OperationMetadata, Phase, State, Step, StepState};
    use prost_types::{Any, Timestamp};

    use super::*;

    fn event(source: &str, id: &str, cause: &str, seconds: i64) -> Effect {
        let event = Event {
            id: id.to_owned(),
            position: 7,
            time: Some(Timestamp { seconds, nanos: 0 }),
            key: id.to_uppercase(),
            data: Some(Any { type_url: format!("type.googleapis.com/{source}.v1.Made"), value: Vec::new() }),
            causation_id: cause.to_owned(),
            ..Event::default()
        };
        Effect::event(source, &event)
    }

    fn saga(cause: &str, seconds: i64) -> Effect {
        let time = Some(Timestamp { seconds, nanos: 0 });
        let (name, state) = ("charge".to_owned(), StepState::Done.into());
        let step = Step { name, state, attempt: 1, begin_time: time, end_time: time, error: None };
        let metadata = OperationMetadata {
            state: State::Succeeded.into(),
            phase: Phase::Committed.into(),
            create_time: time,
            steps: vec![step],
            kind: "RentTitle".to_owned(),
            causation_id: cause.to_owned(),
            ..OperationMetadata::default()
        };
        let name = "services/library/operations/1".to_owned();
        Effect::operation(
            "library",
            &Operation { name, metadata: Any::from_msg(&metadata).ok(), ..Operation::default() },
        )
    }

    #[test]
    fn tree_has_each_event_and_operation_below_its_cause() {
        let effects = vec![
            event("library", "d", "b", 4),
            event("catalog", "a", "", 1),
            saga("b", 3),
            event("library", "c", "a", 3),
            event("library", "b", "a", 2),
            event("billing", "e", "gone", 0),
        ];
        let expected = "\
billing 1970-01-01T00:00:00Z 7 Made E
catalog 1970-01-01T00:00:01Z 7 Made A
  library 1970-01-01T00:00:02Z 7 Made B
    library 1970-01-01T00:00:03Z RentTitle services/library/operations/1 succeeded
      step charge done, attempt 1, begun 1970-01-01T00:00:03Z, ended 1970-01-01T00:00:03Z
    library 1970-01-01T00:00:04Z 7 Made D
  library 1970-01-01T00:00:03Z 7 Made C
";
        assert_eq!(tree(effects), expected);
    }
}
