//! The notice of an operation that has ended, as a phone shows it.

use contracts::google::longrunning::Operation;
use contracts::mobile::v1::AwaitOperationResponse;
use mesh::client::operation::{reason, service_of};

/// `cursor` is the place behind the end.
pub(crate) fn notice(ended: &Operation, cursor: Vec<u8>) -> AwaitOperationResponse {
    let reason = reason(ended);
    let text = match (service_of(&ended.name), reason.as_deref()) {
        (Some("library"), None) => "The film is yours to watch.",
        (Some("library"), Some("CARD_DECLINED")) => "Your card was declined. You pay nothing.",
        (Some("library"), Some(_)) => "The film could not be rented. You pay nothing.",
        (_, None) => "The picture is ready.",
        (_, Some("UNDECODABLE_IMAGE")) => "The file is not a picture that can be read.",
        (_, Some(_)) => "The picture could not be rendered.",
    };
    let (succeeded, reason, text) = (reason.is_none(), reason.unwrap_or_default(), text.to_owned());
    AwaitOperationResponse { succeeded, reason, text, cursor, heartbeat: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::google::longrunning::operation;

    fn ended(service: &str, result: operation::Result) -> AwaitOperationResponse {
        let name = format!("services/{service}/operations/01890a5d-ac96-774b-bcce-b302099a8057");
        notice(&Operation { name, done: true, result: Some(result), ..Operation::default() }, vec![7])
    }

    #[test]
    fn notice_says_what_ended_and_how() {
        let done = |service| ended(service, operation::Result::Response(Default::default()));
        assert!(done("library").succeeded && done("library").text.contains("watch"));
        assert!(done("artwork").succeeded && done("artwork").text.contains("picture"));
        let failed = |service| ended(service, operation::Result::Error(Default::default()));
        assert!(!failed("library").succeeded && failed("library").text.contains("You pay nothing"));
        assert!(!failed("artwork").succeeded && failed("artwork").text.contains("could not be rendered"));
        assert_eq!((failed("artwork").cursor, failed("artwork").heartbeat), (vec![7], false));
    }
}
