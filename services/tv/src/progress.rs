//! Shows an operation, as a television does.

use contracts::artwork::v1::RenderArtworkProgress;
use contracts::google::longrunning::Operation;
use contracts::mesh::operations::v1::{OperationMetadata, Phase, StepState as State};
use contracts::tv::v1::{FollowOperationResponse, Step, StepState};
use mesh::client::operation::{metadata, reason, service_of};

/// The number of steps of a rental: reserve, charge and grant.
const RENTAL_STEPS: i32 = 3;

pub(crate) fn progress(operation: &Operation) -> FollowOperationResponse {
    let metadata = metadata(operation);
    let reason = reason(operation);
    let succeeded = operation.done && reason.is_none();
    let rents = service_of(&operation.name) == Some("library");
    let text = match (operation.done, reason.as_deref()) {
        (true, None) if rents => "The film is yours. Enjoy it.",
        (true, None) => "The picture is ready.",
        (true, Some("CARD_DECLINED")) => "The card was declined, and nothing was charged.",
        (true, Some(_)) if rents => "The film could not be rented, and nothing was charged.",
        (true, Some(_)) => "The picture could not be rendered.",
        (false, _) if metadata.phase() == Phase::Undoing => "Undoing the rental …",
        (false, _) if rents => "Renting the film …",
        (false, _) => "Rendering the picture …",
    };
    FollowOperationResponse {
        percent: if succeeded { 100 } else { percent(&metadata) },
        text: text.to_owned(),
        steps: metadata
            .steps
            .into_iter()
            .map(|step| Step { state: state(step.state()).into(), name: step.name })
            .collect(),
        done: operation.done,
        succeeded,
        reason: reason.unwrap_or_default(),
    }
}

/// The part that is done: the sizes of a picture, or the steps of a rental.
fn percent(metadata: &OperationMetadata) -> i32 {
    let rendered = metadata.progress.as_ref().and_then(|progress| progress.to_msg::<RenderArtworkProgress>().ok());
    let (done, total) = match rendered {
        Some(RenderArtworkProgress { done, total }) => (done, total.max(1)),
        None => {
            let done = metadata.steps.iter().filter(|step| step.state() == State::Done).count();
            (i32::try_from(done).unwrap_or(RENTAL_STEPS), RENTAL_STEPS)
        }
    };
    (done * 100 / total).clamp(0, 100)
}

fn state(state: State) -> StepState {
    match state {
        State::Done => StepState::Done,
        State::Failed => StepState::Failed,
        State::Undone => StepState::Undone,
        State::Unspecified | State::Begun | State::Undoing => StepState::Running,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::google::longrunning::operation;
    use contracts::mesh::operations::v1 as operations;

    #[test]
    fn percent_counts_sizes_and_steps() {
        assert_eq!(percent(&OperationMetadata::default()), 0);
        let step = |state: State| operations::Step { state: state.into(), ..Default::default() };
        let steps = vec![step(State::Done), step(State::Begun)];
        assert_eq!(percent(&OperationMetadata { steps, ..Default::default() }), 33);
    }

    #[test]
    fn progress_of_a_failure_has_its_reason_and_no_success() {
        let name = "services/library/operations/01890a5d-ac96-774b-bcce-b302099a8057".to_owned();
        let result = Some(operation::Result::Error(Default::default()));
        let failed = progress(&Operation { name: name.clone(), done: true, result, ..Operation::default() });
        assert!(failed.done && !failed.succeeded && failed.text.contains("nothing was charged"), "{failed:?}");
        let running = progress(&Operation { name, ..Operation::default() });
        assert_eq!((running.done, running.text.as_str()), (false, "Renting the film …"));
    }
}
