//! The notice of an operation that has ended, as a phone shows it.

use contracts::google::longrunning::Operation;
use contracts::mobile::v1::AwaitOperationResponse;
use mesh::client::operation::{reason, service_of};

pub(crate) fn notice(ended: &Operation) -> AwaitOperationResponse {
    let reason = reason(ended);
    let text = match (service_of(&ended.name), reason.as_deref()) {
        (Some("library"), None) => "The film is yours to watch.",
        (Some("library"), Some("CARD_DECLINED")) => "Your card was declined. Nothing was charged.",
        (Some("library"), Some(_)) => "The film could not be rented. Nothing was charged.",
        (_, None) => "The picture is ready.",
        (_, Some("UNDECODABLE_IMAGE")) => "The file is not a picture that can be read.",
        (_, Some(_)) => "The picture could not be rendered.",
    };
    AwaitOperationResponse { succeeded: reason.is_none(), reason: reason.unwrap_or_default(), text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::google::longrunning::operation;

    fn ended(service: &str, result: operation::Result) -> Operation {
        let name = format!("services/{service}/operations/01890a5d-ac96-774b-bcce-b302099a8057");
        Operation { name, done: true, result: Some(result), ..Operation::default() }
    }

    #[test]
    fn notice_says_what_ended_and_how() {
        let done = |service| notice(&ended(service, operation::Result::Response(Default::default())));
        assert!(done("library").succeeded && done("library").text.contains("watch"));
        assert!(done("artwork").succeeded && done("artwork").text.contains("picture"));
        let failed = |service| notice(&ended(service, operation::Result::Error(Default::default())));
        assert!(!failed("library").succeeded && failed("library").text.contains("Nothing was charged"));
        assert!(!failed("artwork").succeeded && failed("artwork").text.contains("could not be rendered"));
    }
}
