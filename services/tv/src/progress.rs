//! Shows an operation, as a television does.

use contracts::artwork::v1::RenderArtworkProgress;
use contracts::google::longrunning::Operation;
use contracts::mesh::operations::v1::{OperationMetadata, Phase, StepState as State};
use contracts::tv::v1::{FollowOperationResponse, Step, StepState};
use mesh::client::operation::{metadata, reason, service_of};

pub(crate) fn progress(operation: &Operation) -> FollowOperationResponse {
    let metadata = metadata(operation);
    let reason = reason(operation);
    let succeeded = operation.done && reason.is_none();
    let rents = service_of(&operation.name) == Some("library");
    let text = match (operation.done, reason.as_deref()) {
        (true, None) if rents => "The film is yours. Enjoy it.",
        (true, None) => "The picture is ready.",
        (true, Some("CARD_DECLINED")) => "The card was declined. You pay nothing.",
        (true, Some(_)) if rents => "The film could not be rented. You pay nothing.",
        (true, Some(_)) => "The picture could not be rendered.",
        (false, _) if metadata.phase() == Phase::Undoing => "Undoing the rental …",
        (false, _) if metadata.phase() == Phase::Stuck => "This takes longer than usual …",
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
        ..FollowOperationResponse::default()
    }
}

/// The part that is done: the sizes of a picture. How many steps a rental has is library's to know.
fn percent(metadata: &OperationMetadata) -> i32 {
    let progress = metadata.progress.as_ref().and_then(|progress| progress.to_msg::<RenderArtworkProgress>().ok());
    let RenderArtworkProgress { done, total } = progress.unwrap_or_default();
    (done.saturating_mul(100) / total.max(1)).clamp(0, 100)
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
    use prost_types::Any;

    #[test]
    fn percent_counts_the_sizes_of_a_picture() {
        let of = |done, total| {
            let progress = Any::from_msg(&RenderArtworkProgress { done, total }).ok();
            percent(&OperationMetadata { progress, ..Default::default() })
        };
        assert_eq!([of(0, 4), of(1, 4), of(4, 4), of(9, 4), of(1, 0)], [0, 25, 100, 100, 100]);
        assert_eq!(percent(&OperationMetadata::default()), 0);
    }

    #[test]
    fn progress_says_that_a_rental_is_undone_or_stuck() {
        let name = "services/library/operations/01890a5d-ac96-774b-bcce-b302099a8057";
        let text = |phase: Phase| {
            let metadata = Any::from_msg(&OperationMetadata { phase: phase.into(), ..Default::default() }).ok();
            progress(&Operation { name: name.to_owned(), metadata, ..Operation::default() }).text
        };
        assert_eq!(text(Phase::Forward), "Renting the film …");
        assert_eq!(text(Phase::Undoing), "Undoing the rental …");
        assert_eq!(text(Phase::Stuck), "This takes longer than usual …");
    }

    #[test]
    fn progress_of_a_failure_has_its_reason_and_no_success() {
        let name = "services/library/operations/01890a5d-ac96-774b-bcce-b302099a8057".to_owned();
        let result = Some(operation::Result::Error(Default::default()));
        let failed = progress(&Operation { name: name.clone(), done: true, result, ..Operation::default() });
        assert!(failed.done && !failed.succeeded && failed.text.contains("You pay nothing"), "{failed:?}");
        let running = progress(&Operation { name, ..Operation::default() });
        assert_eq!((running.done, running.text.as_str()), (false, "Renting the film …"));
    }
}
