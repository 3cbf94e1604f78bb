//! Long work: what there is of it, everything about one piece, and the wish that it stop.

pub(crate) mod name;
pub(crate) mod text;

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::anyhow;
use mesh_proto::google::longrunning::operations_client::OperationsClient;
use mesh_proto::google::longrunning::{CancelOperationRequest, GetOperationRequest, ListOperationsRequest, Operation};
use mesh_proto::mesh::operations::v1::RetryRequest;
use mesh_proto::mesh::operations::v1::operation_control_service_client::OperationControlServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::reflection;
use crate::shown::{self, Table};
use crate::target::{Process, Target};
use name::Name;
use text::{described, metadata, row, state};

/// The columns of a list, as [`text::row`] fills them.
const COLUMNS: [&str; 6] = ["NAME", "STATE", "ATTEMPT", "PROGRESS", "UPDATED", "WHY"];
type Row = [String; COLUMNS.len()];

/// An operation's response is a message of its service: four times what gRPC's clients take by default.
const LARGEST: usize = 16 * 1024 * 1024;

/// The operations of one service, or of all that have any.
pub(crate) async fn list(service: Option<&str>, target: &Target) -> anyhow::Result<ExitCode> {
    let (rows, complaints) = match service {
        Some(service) => {
            let refused = |status: Status| match does_no_long_work(&status) {
                true => anyhow!("`{service}` does no long work, or is not there: `mesh services` lists who is"),
                false => anyhow!("{}", shown::status(&status)),
            };
            (of(service, target).await?.map_err(refused)?, Vec::new())
        }
        None => everywhere(target).await?,
    };
    let mut table = Table::new(COLUMNS);
    rows.into_iter().for_each(|row| table.row(row));
    if !table.is_empty() {
        write!(io::stdout(), "{table}")?;
    } else if complaints.is_empty() {
        shown::remark("no operations");
    }
    // Behind what the others had to say.
    complaints.iter().for_each(|complaint| shown::complain(complaint));
    Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The operations of all services that have any; and what is wrong with those that cannot be asked.
async fn everywhere(target: &Target) -> anyhow::Result<(Vec<Row>, Vec<String>)> {
    let mut rows = Vec::new();
    let mut complaints = Vec::new();
    for service in candidates(target).await? {
        match of(&service, target).await {
            Ok(Ok(listed)) => rows.extend(listed),
            Ok(Err(status)) if does_no_long_work(&status) => {}
            Ok(Err(status)) => complaints.push(format!("{service}: {}", shown::status(&status))),
            Err(error) => complaints.push(format!("{service}: {error:#}")),
        }
    }
    Ok((rows, complaints))
}

/// The services that may do long work. Which of them do is known when they are asked.
async fn candidates(target: &Target) -> anyhow::Result<BTreeSet<String>> {
    match target {
        Target::Consul(consul) => Ok(consul.grpc_services().await?.into_iter().collect()),
        Target::Process(process) => {
            // A service has the name of its contract's package, without the version.
            let contracts = reflection::served(process).await?;
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
async fn of(service: &str, target: &Target) -> anyhow::Result<Result<Vec<Row>, Status>> {
    let process = target.process(service).await?;
    let mut client = client(&process);
    let mut operations: Vec<Operation> = Vec::new();
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
            break;
        }
    }
    if operations.is_empty() {
        return Ok(Ok(Vec::new()));
    }
    let types = reflection::types(&process).await;
    Ok(Ok(operations.iter().map(|operation| row(operation, &types)).collect()))
}

/// Everything about one operation.
pub(crate) async fn show(name: &Name, target: &Target) -> anyhow::Result<ExitCode> {
    let process = target.process(&name.service).await?;
    let operation = get(&process, name).await?;
    let types = reflection::types(&process).await;
    io::stdout().write_all(described(&operation, &types, SystemTime::now()).as_bytes())?;
    Ok(ExitCode::SUCCESS)
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
