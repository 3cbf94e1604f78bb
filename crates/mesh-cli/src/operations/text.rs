//! Renders one operation as text: its state, its progress, a row of a table, or every field.

use std::time::SystemTime;

use mesh_proto::google::longrunning::{Operation, operation};
use mesh_proto::mesh::operations::v1::{OperationMetadata, Phase, State, Step};
use prost::Message as _;
use prost_types::{Any, Timestamp};

use crate::message::Types;
use crate::shown;

/// The largest number of characters of a progress message in a row.
const PROGRESS: usize = 60;

/// One operation as a row: name, state, attempt, progress, age of the last update, error.
pub(super) fn row(operation: &Operation, types: &Types) -> [String; 7] {
    let metadata = metadata(operation);
    let why = match &operation.result {
        Some(operation::Result::Error(error)) if metadata.state() == State::Failed => shown::failed(error),
        _ => String::new(),
    };
    [
        operation.name.clone(),
        shown::one_line(&metadata.kind),
        state(&metadata),
        metadata.attempt.to_string(),
        progress(&metadata, types),
        shown::age(metadata.update_time, SystemTime::now()),
        why,
    ]
}

/// Every field of one operation, one a line, and its result as JSON.
pub(super) fn described(operation: &Operation, types: &Types, now: SystemTime) -> String {
    let metadata = metadata(operation);
    let time =
        |time: Option<Timestamp>| time.map_or("-".to_owned(), |at| format!("{at} ({})", shown::age(Some(at), now)));
    let mut lines = vec![
        ("name", operation.name.clone()),
        ("state", state(&metadata)),
        ("attempt", metadata.attempt.to_string()),
        ("revision", metadata.revision.to_string()),
        ("created", time(metadata.create_time)),
        ("updated", time(metadata.update_time)),
        ("cancel requested", if metadata.cancel_requested { "yes" } else { "no" }.to_owned()),
        ("progress", metadata.progress.as_ref().map_or("-".to_owned(), |any| types.line(any))),
    ];
    if metadata.phase() != Phase::Unspecified {
        lines.push(("phase", phase(&metadata)));
    }
    lines.extend(metadata.steps.iter().map(|it| ("step", step(it))));
    let result = match &operation.result {
        Some(operation::Result::Response(response)) => {
            lines.push(("response", String::new()));
            Some(types.pretty(response))
        }
        Some(operation::Result::Error(error)) => {
            lines.push(("error", shown::failed(error)));
            let type_url = "type.googleapis.com/google.rpc.Status".to_owned();
            Some(types.pretty(&Any { type_url, value: error.encode_to_vec() }))
        }
        None => None,
    };
    let lines = lines.iter().map(|(label, value)| format!("{label:<17} {}", shown::one_line(value)));
    lines.chain(result).map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// What mesh records about the operation; all defaults if the server sends other metadata.
pub(crate) fn metadata(operation: &Operation) -> OperationMetadata {
    operation.metadata.as_ref().and_then(|any| any.to_msg().ok()).unwrap_or_default()
}

/// The state in lower case, such as `running`; of a saga that is stuck or undoes its steps, that.
pub(crate) fn state(metadata: &OperationMetadata) -> String {
    let is_open = matches!(metadata.state(), State::Pending | State::Running);
    if is_open && matches!(metadata.phase(), Phase::Stuck | Phase::Undoing) {
        return phase(metadata);
    }
    metadata.state().as_str_name().trim_start_matches("STATE_").to_lowercase()
}

fn phase(metadata: &OperationMetadata) -> String {
    metadata.phase().as_str_name().trim_start_matches("PHASE_").to_lowercase()
}

/// A step of a saga: its name, state, times and last failure.
pub(crate) fn step(step: &Step) -> String {
    let state = step.state().as_str_name().trim_start_matches("STEP_STATE_").to_lowercase();
    let time = |time: &Option<Timestamp>| time.as_ref().map_or("-".to_owned(), ToString::to_string);
    let error = step.error.as_ref().map_or(String::new(), |error| format!(", {}", shown::failed(error)));
    let (begun, ended) = (time(&step.begin_time), time(&step.end_time));
    format!("{} {state}, attempt {}, begun {begun}, ended {ended}{error}", step.name, step.attempt)
}

/// The progress in a few words, such as `2/4`.
pub(crate) fn progress(metadata: &OperationMetadata, types: &Types) -> String {
    let Some(progress) = &metadata.progress else { return String::new() };
    match types.done_of_total(progress) {
        Some((done, total)) => format!("{done}/{total}"),
        None => shown::shortened(&types.line(progress), PROGRESS),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_types::pb;

    use mesh_proto::mesh::operations::v1::StepState;

    use super::*;
    use crate::message::tests::{Progress, types};

    fn failed() -> Operation {
        let metadata = OperationMetadata {
            state: State::Failed.into(),
            revision: 4,
            attempt: 2,
            create_time: Some(Timestamp { seconds: 100, nanos: 0 }),
            update_time: Some(Timestamp { seconds: 160, nanos: 0 }),
            progress: Any::from_msg(&Progress { done: 1, total: 4 }).ok(),
            kind: "RenderArtwork".to_owned(),
            ..OperationMetadata::default()
        };
        let error =
            pb::Status { code: Code::InvalidArgument.into(), message: "no\npicture".to_owned(), details: vec![] };
        Operation {
            name: "services/artwork/operations/1".to_owned(),
            metadata: Any::from_msg(&metadata).ok(),
            done: true,
            result: Some(operation::Result::Error(error)),
        }
    }

    #[test]
    fn row_holds_the_error_of_a_failed_operation() {
        let row = row(&failed(), &types());
        assert_eq!(row[..5], ["services/artwork/operations/1", "RenderArtwork", "failed", "2", "1/4"]);
        assert_eq!(row[6], "InvalidArgument: no\npicture");
    }

    #[test]
    fn described_holds_every_field() {
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(163);
        let expected = r#"name              services/artwork/operations/1
state             failed
attempt           2
revision          4
created           1970-01-01T00:01:40Z (1m ago)
updated           1970-01-01T00:02:40Z (3s ago)
cancel requested  no
progress          {"done":1,"total":4}
error             InvalidArgument: no picture
{
  "@type": "type.googleapis.com/google.rpc.Status",
  "code": 3,
  "message": "no\npicture"
}
"#;
        assert_eq!(described(&failed(), &types(), now), expected);
    }

    #[test]
    fn described_saga_holds_its_phase_and_steps() {
        let error =
            pb::Status { code: Code::Unavailable.into(), message: "billing is away".to_owned(), details: vec![] };
        let done = Step {
            name: "reserve".to_owned(),
            state: StepState::Done.into(),
            attempt: 1,
            begin_time: Some(Timestamp { seconds: 100, nanos: 0 }),
            end_time: Some(Timestamp { seconds: 101, nanos: 0 }),
            error: None,
        };
        let (name, state) = ("charge".to_owned(), StepState::Begun.into());
        let begun = Step { name, state, attempt: 3, end_time: None, error: Some(error), ..done.clone() };
        let mut metadata = OperationMetadata {
            state: State::Pending.into(),
            phase: Phase::Stuck.into(),
            steps: vec![done, begun],
            ..OperationMetadata::default()
        };
        assert_eq!(super::state(&metadata), "stuck");
        let operation = Operation { metadata: Any::from_msg(&metadata).ok(), ..Operation::default() };
        let described = described(&operation, &types(), SystemTime::UNIX_EPOCH);
        let expected = "phase             stuck
step              reserve done, attempt 1, begun 1970-01-01T00:01:40Z, ended 1970-01-01T00:01:41Z
step              charge begun, attempt 3, begun 1970-01-01T00:01:40Z, ended -, Unavailable: billing is away
";
        assert!(described.ends_with(expected), "{described}");
        metadata.state = State::Failed.into();
        metadata.phase = Phase::Undoing.into();
        assert_eq!(super::state(&metadata), "failed", "a done operation has its state");
    }
}
