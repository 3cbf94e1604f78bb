//! Asks a process, by gRPC server reflection, for the contracts that it serves and for their message types.
//!
//! See: <https://grpc.io/docs/guides/reflection/>

use anyhow::anyhow;
use futures_util::stream;
use prost::Message as _;
use prost_types::FileDescriptorProto;
use tonic::Status;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::message::Types;
use crate::shown;
use crate::target::Process;

/// The largest depth of imports that is followed.
const ROUNDS: usize = 32;

/// The full names of the contracts that a process serves, without reflection and health themselves.
pub(crate) async fn served(process: &Process) -> anyhow::Result<Vec<String>> {
    let cannot = |why: &str| anyhow!("{} does not list its contracts: {why}", process.address);
    let answers = ask(process, vec![MessageRequest::ListServices(String::new())]).await?;
    let answers = answers.map_err(|status| cannot(&shown::status(&status)))?;
    let Some(MessageResponse::ListServicesResponse(list)) = answers.into_iter().next() else {
        return Err(cannot("the answer to gRPC server reflection holds no list"));
    };
    let names = list.service.into_iter().map(|service| service.name);
    Ok(names.filter(|name| !name.starts_with("grpc.")).collect())
}

/// The message types of the contracts that a process serves, and of the files that these import. Without reflection
/// they are the types of mesh's own contracts.
pub(crate) async fn types(process: &Process) -> Types {
    let mut types = Types::default();
    if let Ok(contracts) = served(process).await {
        types.add(files(process, contracts, &types).await);
    }
    types
}

/// The files of `contracts` and their imports, by one round of requests for each level of imports. Omits the files that
/// are in `known`, and those that the process does not return.
async fn files(process: &Process, contracts: Vec<String>, known: &Types) -> Vec<FileDescriptorProto> {
    let mut files: Vec<FileDescriptorProto> = Vec::new();
    let mut requests: Vec<_> = contracts.into_iter().map(MessageRequest::FileContainingSymbol).collect();
    for _ in 0..ROUNDS {
        let Ok(Ok(answers)) = ask(process, requests).await else { break };
        for answer in answers {
            let MessageResponse::FileDescriptorResponse(answer) = answer else { continue };
            let read = answer.file_descriptor_proto.iter().filter_map(|file| FileDescriptorProto::decode(&**file).ok());
            for file in read {
                if !known.has_file(file.name()) && files.iter().all(|held| held.name() != file.name()) {
                    files.push(file);
                }
            }
        }
        let imports = files.iter().flat_map(|file| &file.dependency);
        let missing = imports.filter(|name| !known.has_file(name) && files.iter().all(|file| file.name() != **name));
        let mut missing: Vec<_> = missing.cloned().collect();
        if missing.is_empty() {
            break;
        }
        missing.sort();
        missing.dedup();
        requests = missing.into_iter().map(MessageRequest::FileByFilename).collect();
    }
    files
}

/// Sends requests on one stream, and collects the answers in the same order.
async fn ask(process: &Process, requests: Vec<MessageRequest>) -> anyhow::Result<Result<Vec<MessageResponse>, Status>> {
    let expected = requests.len();
    let requests = requests
        .into_iter()
        .map(|request| ServerReflectionRequest { host: String::new(), message_request: Some(request) });
    let mut client = ServerReflectionClient::new(process.channel.clone());
    let asked = client.server_reflection_info(stream::iter(requests.collect::<Vec<_>>()));
    let mut stream = match process.answer(asked).await? {
        Ok(stream) => stream,
        Err(status) => return Ok(Err(status)),
    };
    let mut answers = Vec::with_capacity(expected);
    while answers.len() < expected {
        let next = async { stream.message().await.map(tonic::Response::new) };
        match process.answer(next).await? {
            Ok(Some(answer)) => answers.extend(answer.message_response),
            Ok(None) => break,
            Err(status) => return Ok(Err(status)),
        }
    }
    Ok(Ok(answers))
}
