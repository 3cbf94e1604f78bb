//! Long work: what there is of it, everything about one piece, and the wish that it stop.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::SystemTime;

use anyhow::anyhow;
use contracts::google::longrunning::operations_client::OperationsClient;
use contracts::google::longrunning::{
    CancelOperationRequest, GetOperationRequest, ListOperationsRequest, Operation, operation,
};
use contracts::mesh::operations::v1::operation_control_service_client::OperationControlServiceClient;
use contracts::mesh::operations::v1::{OperationMetadata, RetryRequest, State};
use prost::Message as _;
use prost_types::{Any, Timestamp};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::shown::Table;
use crate::target::{Process, Target};
use crate::{message, services, shown};

/// An operation's response is a message of its service: four times what gRPC's clients take by default.
const LARGEST: usize = 16 * 1024 * 1024;
/// How much of a progress that is no count stands in a line.
const PROGRESS: usize = 60;

/// An operation's name: it says which service to ask.
pub(crate) struct Name {
    pub(crate) text: String,
    pub(crate) service: String,
}

impl FromStr for Name {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match text.split('/').collect::<Vec<_>>()[..] {
            ["services", service, "operations", id] if !service.is_empty() && !id.is_empty() => {
                Ok(Self { text: text.to_owned(), service: service.to_owned() })
            }
            _ => Err(anyhow!(
                "`{text}` is no operation's name: services/SERVICE/operations/UUID, as `mesh operations list` has them"
            )),
        }
    }
}

/// The operations of one service, or of all that have any.
pub(crate) async fn list(service: Option<&str>, target: &Target) -> anyhow::Result<ExitCode> {
    let (operations, complaints) = match service {
        Some(service) => {
            let refused = |status: Status| match does_no_long_work(&status) {
                true => anyhow!("`{service}` does no long work, or is not there: `mesh services` lists who is"),
                false => anyhow!("{}", shown::status(&status)),
            };
            (of(service, target).await?.map_err(refused)?, Vec::new())
        }
        None => everywhere(target).await?,
    };
    let mut table = Table::new(["NAME", "STATE", "ATTEMPT", "PROGRESS", "UPDATED", "WHY"]);
    operations.iter().for_each(|operation| table.row(row(operation)));
    if !operations.is_empty() {
        write!(io::stdout(), "{table}")?;
    } else if complaints.is_empty() {
        shown::remark("no operations");
    }
    // Behind what the others had to say.
    complaints.iter().for_each(|complaint| shown::complain(complaint));
    Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The operations of all services that have any; and what is wrong with those that cannot be asked.
async fn everywhere(target: &Target) -> anyhow::Result<(Vec<Operation>, Vec<String>)> {
    let mut operations = Vec::new();
    let mut complaints = Vec::new();
    for service in candidates(target).await? {
        match of(&service, target).await {
            Ok(Ok(listed)) => operations.extend(listed),
            Ok(Err(status)) if does_no_long_work(&status) => {}
            Ok(Err(status)) => complaints.push(format!("{service}: {}", shown::status(&status))),
            Err(error) => complaints.push(format!("{service}: {error:#}")),
        }
    }
    Ok((operations, complaints))
}

/// The services that may do long work. Which of them do is known when they are asked.
async fn candidates(target: &Target) -> anyhow::Result<BTreeSet<String>> {
    match target {
        Target::Consul(consul) => Ok(consul.grpc_services().await?.into_iter().collect()),
        Target::Process(process) => {
            // A service has the name of its contract's package, without the version.
            let contracts = services::served(process).await?;
            let packages = contracts.iter().filter_map(|contract| contract.split('.').next());
            Ok(packages.filter(|name| !["google", "grpc", "mesh"].contains(name)).map(ToOwned::to_owned).collect())
        }
    }
}

/// A process that does none does not serve the contract; one that does some does not know the service.
fn does_no_long_work(status: &Status) -> bool {
    matches!(status.code(), Code::Unimplemented | Code::NotFound)
}

/// All operations of a service, page by page.
async fn of(service: &str, target: &Target) -> anyhow::Result<Result<Vec<Operation>, Status>> {
    let process = target.process(service).await?;
    let mut client = client(&process);
    let mut operations = Vec::new();
    let mut request = ListOperationsRequest { name: format!("services/{service}"), ..Default::default() };
    loop {
        match process.answer(client.list_operations(request.clone())).await? {
            Ok(page) => {
                operations.extend(page.operations);
                request.page_token = page.next_page_token;
            }
            Err(status) => return Ok(Err(status)),
        }
        if request.page_token.is_empty() {
            return Ok(Ok(operations));
        }
    }
}

fn row(operation: &Operation) -> [String; 6] {
    let metadata = metadata(operation);
    let why = match &operation.result {
        Some(operation::Result::Error(error)) if metadata.state() == State::Failed => shown::error(error),
        _ => String::new(),
    };
    [
        operation.name.clone(),
        state(&metadata),
        metadata.attempt.to_string(),
        progress(&metadata),
        shown::age(metadata.update_time, SystemTime::now()),
        why,
    ]
}

/// Everything about one operation.
pub(crate) async fn show(name: &Name, target: &Target) -> anyhow::Result<ExitCode> {
    let operation = get(&target.process(&name.service).await?, name).await?;
    io::stdout().write_all(described(&operation, SystemTime::now()).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn described(operation: &Operation, now: SystemTime) -> String {
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
        ("progress", metadata.progress.as_ref().map_or("-".to_owned(), message::line)),
    ];
    let result = match &operation.result {
        Some(operation::Result::Response(response)) => {
            lines.push(("response", String::new()));
            Some(message::pretty(response))
        }
        Some(operation::Result::Error(error)) => {
            lines.push(("error", shown::error(error)));
            let type_url = "type.googleapis.com/google.rpc.Status".to_owned();
            Some(message::pretty(&Any { type_url, value: error.encode_to_vec() }))
        }
        None => None,
    };
    let lines = lines.iter().map(|(label, value)| format!("{label:<17} {}", shown::one_line(value)));
    lines.chain(result).map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Asks an operation to stop, and says what has come of that so far.
pub(crate) async fn cancel(name: &Name, target: &Target) -> anyhow::Result<ExitCode> {
    let process = target.process(&name.service).await?;
    let request = CancelOperationRequest { name: name.text.clone() };
    let asked = process.answer(client(&process).cancel_operation(request)).await?;
    asked.map_err(|status| unanswered(&status, name))?;
    let operation = get(&process, name).await?;
    let state = state(&metadata(&operation));
    if operation.done {
        writeln!(io::stdout(), "it is done, and {state}: there is nothing left to stop")?;
    } else {
        writeln!(io::stdout(), "asked to stop, which is a request: it is {state} now, and may still finish first")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts again what has failed.
pub(crate) async fn retry(name: &Name, target: &Target) -> anyhow::Result<ExitCode> {
    let process = target.process(&name.service).await?;
    let mut control = OperationControlServiceClient::new(process.channel.clone()).max_decoding_message_size(LARGEST);
    let request = RetryRequest { name: name.text.clone(), request_id: uuid::Uuid::new_v4().to_string() };
    let begun = process.answer(control.retry(request)).await?.map_err(|status| unanswered(&status, name))?;
    writeln!(io::stdout(), "{}", begun.name)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn get(process: &Process, name: &Name) -> anyhow::Result<Operation> {
    let request = GetOperationRequest { name: name.text.clone() };
    process.answer(client(process).get_operation(request)).await?.map_err(|status| unanswered(&status, name))
}

/// What a call about an operation was answered, and what to do about it where that is plain.
pub(crate) fn unanswered(status: &Status, name: &Name) -> anyhow::Error {
    let said = shown::status(status);
    match status.code() {
        Code::NotFound => anyhow!("{said}: `mesh operations list {}` shows those there are", name.service),
        Code::Unimplemented => {
            anyhow!("{said}: whoever was asked does no long work; `mesh services` lists who is there")
        }
        _ => anyhow!(said),
    }
}

fn client(process: &Process) -> OperationsClient<Channel> {
    OperationsClient::new(process.channel.clone()).max_decoding_message_size(LARGEST)
}

pub(crate) fn metadata(operation: &Operation) -> OperationMetadata {
    operation.metadata.as_ref().and_then(|any| any.to_msg().ok()).unwrap_or_default()
}

/// `running`, and so on.
pub(crate) fn state(metadata: &OperationMetadata) -> String {
    metadata.state().as_str_name().trim_start_matches("STATE_").to_lowercase()
}

/// How far it is, in a few words.
pub(crate) fn progress(metadata: &OperationMetadata) -> String {
    let Some(progress) = &metadata.progress else { return String::new() };
    match message::done_of_total(progress) {
        Some((done, total)) => format!("{done}/{total}"),
        None => shown::shortened(&message::line(progress), PROGRESS),
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::pb;

    use super::*;
    use crate::message::tests::Progress;

    fn failed() -> Operation {
        let metadata = OperationMetadata {
            state: State::Failed.into(),
            revision: 4,
            attempt: 2,
            create_time: Some(Timestamp { seconds: 100, nanos: 0 }),
            update_time: Some(Timestamp { seconds: 160, nanos: 0 }),
            progress: Any::from_msg(&Progress { done: 1, total: 4 }).ok(),
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
    fn a_row_says_why_it_failed() {
        let row = row(&failed());
        assert_eq!(row[..4], ["services/artwork/operations/1", "failed", "2", "1/4"]);
        assert_eq!(row[5], "InvalidArgument: no\npicture");
    }

    #[test]
    fn one_operation_is_described_whole() {
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
        assert_eq!(described(&failed(), now), expected);
    }

    #[test]
    fn a_name_says_whom_to_ask() {
        assert_eq!("services/artwork/operations/1".parse::<Name>().unwrap().service, "artwork");
        for text in ["", "1", "services/artwork", "services//operations/1", "services/artwork/operations/"] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
    }
}
