//! Lists, shows, cancels, retries and resumes long work.

pub(crate) mod name;
pub(crate) mod text;

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{anyhow, bail};
use mesh_proto::google::longrunning::operations_client::OperationsClient;
use mesh_proto::google::longrunning::{CancelOperationRequest, GetOperationRequest, ListOperationsRequest, Operation};
use mesh_proto::mesh::operations::v1::operation_control_service_client::OperationControlServiceClient;
use mesh_proto::mesh::operations::v1::{OperationMetadata, Phase, ResumeRequest, RetryRequest};
use prost_types::Any;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::credentials::Channel;
use crate::reflection;
use crate::shown::{self, Table};
use crate::target::{Process, Target};
use name::Name;
use text::{described, metadata, row, state};

/// The columns of a list, as [`text::row`] fills them.
const COLUMNS: [&str; 7] = ["NAME", "KIND", "STATE", "ATTEMPT", "PROGRESS", "UPDATED", "WHY"];
type Row = [String; COLUMNS.len()];

/// The largest answer that is accepted: 16 MiB, four times gRPC's default. An operation holds a response of any size.
const LARGEST: usize = 16 * 1024 * 1024;

/// Prints the operations of one service, or of all services that do long work.
pub(crate) async fn list(service: Option<&str>, target: &Target) -> anyhow::Result<ExitCode> {
    let (rows, errors) = match service {
        Some(service) => {
            let refused = |status: Status| match does_no_long_work(&status) {
                true => anyhow!(
                    "`{service}` does no long work, or no process serves it: `mesh services` lists the services"
                ),
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
    } else if errors.is_empty() {
        let own = crate::credentials::are_of_mesh();
        shown::note(if own {
            "no operations of `mesh` itself: MESH_TOKEN with the scope mesh.operator shows those of all"
        } else {
            "no operations"
        });
    }
    Ok(shown::reported(&errors))
}

/// The operations of all services that do long work, and an error for each service that does not answer.
async fn everywhere(target: &Target) -> anyhow::Result<(Vec<Row>, Vec<String>)> {
    let mut rows = Vec::new();
    let mut errors = Vec::new();
    for service in candidates(target).await? {
        match of(&service, target).await {
            Ok(Ok(listed)) => rows.extend(listed),
            Ok(Err(status)) if does_no_long_work(&status) => {}
            Ok(Err(status)) => errors.push(format!("{service}: {}", shown::status(&status))),
            Err(error) => errors.push(format!("{service}: {error:#}")),
        }
    }
    Ok((rows, errors))
}

/// The services that may do long work; each answers whether it does.
async fn candidates(target: &Target) -> anyhow::Result<BTreeSet<String>> {
    match target {
        Target::Consul(consul) => Ok(consul.grpc_services().await?.into_iter().collect()),
        Target::Process(process) => {
            // The name of a service is the package of its contract without the version.
            let contracts = reflection::served(process).await?;
            let packages = contracts.iter().filter_map(|contract| contract.split('.').next());
            Ok(packages.filter(|name| !["google", "grpc", "mesh"].contains(name)).map(ToOwned::to_owned).collect())
        }
    }
}

/// Whether a service does no long work: its process lacks the contract of operations, or has no operations of it.
fn does_no_long_work(status: &Status) -> bool {
    matches!(status.code(), Code::Unimplemented | Code::NotFound)
}

/// The operations of a service as rows.
async fn of(service: &str, target: &Target) -> anyhow::Result<Result<Vec<Row>, Status>> {
    let process = target.process(service).await?;
    let operations = match all(&process, service, String::new()).await? {
        Ok(operations) if operations.is_empty() => return Ok(Ok(Vec::new())),
        Ok(operations) => operations,
        Err(status) => return Ok(Err(status)),
    };
    let types = reflection::types(&process).await;
    Ok(Ok(operations.iter().map(|operation| row(operation, &types)).collect()))
}

/// The operations of a service that a filter selects, from all pages.
async fn all(process: &Process, service: &str, filter: String) -> anyhow::Result<Result<Vec<Operation>, Status>> {
    let (mut client, mut operations) = (client(process), Vec::new());
    let mut request = ListOperationsRequest { name: format!("services/{service}"), filter, ..Default::default() };
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

/// The operations of a correlation, with their services, and an error for each service that does not answer. Sagas have
/// their steps.
pub(crate) async fn caused(
    correlation: Uuid,
    target: &Target,
) -> anyhow::Result<(Vec<(String, Operation)>, Vec<String>)> {
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for service in candidates(target).await? {
        match caused_in(&service, correlation, target).await {
            Ok(operations) => found.extend(operations.into_iter().map(|operation| (service.clone(), operation))),
            Err(error) => errors.push(format!("{service}: {error:#}")),
        }
    }
    Ok((found, errors))
}

async fn caused_in(service: &str, correlation: Uuid, target: &Target) -> anyhow::Result<Vec<Operation>> {
    let process = target.process(service).await?;
    let mut operations = match all(&process, service, format!("correlation_id={correlation}")).await? {
        Ok(operations) => operations,
        Err(status) if does_no_long_work(&status) => return Ok(Vec::new()),
        Err(status) => bail!(shown::status(&status)),
    };
    for operation in &mut operations {
        let listed = metadata(operation);
        // A list has no steps, and only a list has what started an operation.
        if listed.phase() != Phase::Unspecified {
            let request = GetOperationRequest { name: operation.name.clone() };
            let got = process.answer(client(&process).get_operation(request)).await?;
            let steps = metadata(&got.map_err(|status| anyhow!(shown::status(&status)))?).steps;
            operation.metadata = Some(Any::from_msg(&OperationMetadata { steps, ..listed })?);
        }
    }
    Ok(operations)
}

/// Prints every field of one operation.
pub(crate) async fn show(name: &Name, target: &Target) -> anyhow::Result<ExitCode> {
    let process = target.process(&name.service).await?;
    let operation = get(&process, name).await?;
    let types = reflection::types(&process).await;
    io::stdout().write_all(described(&operation, &types, SystemTime::now()).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Requests the cancellation of an operation, and prints its state after the request.
pub(crate) async fn cancel(name: &Name, target: &Target) -> anyhow::Result<ExitCode> {
    let process = target.process(&name.service).await?;
    let request = CancelOperationRequest { name: name.text.clone() };
    let asked = process.answer(client(&process).cancel_operation(request)).await?;
    asked.map_err(|status| unanswered(&status, name))?;
    let operation = get(&process, name).await?;
    let state = state(&metadata(&operation));
    if operation.done {
        writeln!(io::stdout(), "already done: {state}; there is nothing to cancel")?;
    } else {
        writeln!(io::stdout(), "cancellation requested; the operation is {state} and may still succeed")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts a failed operation again with the same input, and prints the name of the new operation.
pub(crate) async fn retry(name: &Name, target: &Target) -> anyhow::Result<ExitCode> {
    let process = target.process(&name.service).await?;
    let mut control = OperationControlServiceClient::new(process.channel.clone()).max_decoding_message_size(LARGEST);
    let request = RetryRequest { name: name.text.clone(), request_id: Uuid::new_v4().to_string() };
    let started = process.answer(control.retry(request)).await?.map_err(|status| unanswered(&status, name))?;
    writeln!(io::stdout(), "{}", started.name)?;
    Ok(ExitCode::SUCCESS)
}

/// Lets a saga that is stuck go on, and prints its state.
pub(crate) async fn resume(name: &Name, target: &Target) -> anyhow::Result<ExitCode> {
    let process = target.process(&name.service).await?;
    let mut control = OperationControlServiceClient::new(process.channel.clone()).max_decoding_message_size(LARGEST);
    let request = ResumeRequest { name: name.text.clone() };
    let resumed = process.answer(control.resume(request)).await?.map_err(|status| unanswered(&status, name))?;
    writeln!(io::stdout(), "resumed; the operation is {}", state(&metadata(&resumed)))?;
    Ok(ExitCode::SUCCESS)
}

/// Gets one operation.
pub(crate) async fn get(process: &Process, name: &Name) -> anyhow::Result<Operation> {
    let request = GetOperationRequest { name: name.text.clone() };
    process.answer(client(process).get_operation(request)).await?.map_err(|status| unanswered(&status, name))
}

/// The error of a call about an operation, with the command that helps where there is one.
pub(crate) fn unanswered(status: &Status, name: &Name) -> anyhow::Error {
    let said = shown::status(status);
    match status.code() {
        Code::NotFound => {
            anyhow!("{said}: `mesh operations list {}` lists the operations of the service", name.service)
        }
        Code::Unimplemented => {
            anyhow!("{said}: the process does no long work; `mesh services` lists the services")
        }
        _ => anyhow!(said),
    }
}

fn client(process: &Process) -> OperationsClient<Channel> {
    OperationsClient::new(process.channel.clone()).max_decoding_message_size(LARGEST)
}
