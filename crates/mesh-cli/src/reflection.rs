//! Asks a process, by gRPC server reflection, for the contracts that it serves and for their message types.
//!
//! See: <https://grpc.io/docs/guides/reflection/>

use anyhow::anyhow;
use futures_util::stream;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
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

/// The contracts that a process serves, and an encoded `google.protobuf.FileDescriptorSet` of them with their imports.
pub(crate) async fn contracts(process: &Process) -> anyhow::Result<(Vec<String>, Vec<u8>)> {
    let served = served(process).await?;
    let files = files(process, served.clone(), |_| false).await;
    let mut set = Vec::new();
    for (_, encoded) in files {
        encode_key(1, WireType::LengthDelimited, &mut set);
        encode_varint(encoded.len() as u64, &mut set);
        set.extend(encoded);
    }
    Ok((served, set))
}

/// The message types of the contracts that a process serves, and of the files that these import. Without reflection
/// they are the types of mesh's own contracts.
pub(crate) async fn types(process: &Process) -> Types {
    let mut types = Types::default();
    if let Ok(contracts) = served(process).await {
        let files = files(process, contracts, |name| types.has_file(name)).await;
        types.add(files.into_iter().map(|(file, _)| file));
    }
    types
}

/// The files of `contracts` and their imports, each with its encoded form, by one round of requests for each level of
/// imports. Omits the files that are `known`, and those that the process does not return.
async fn files(
    process: &Process,
    contracts: Vec<String>,
    known: impl Fn(&str) -> bool,
) -> Vec<(FileDescriptorProto, Vec<u8>)> {
    let mut files: Vec<(FileDescriptorProto, Vec<u8>)> = Vec::new();
    let mut requests: Vec<_> = contracts.into_iter().map(MessageRequest::FileContainingSymbol).collect();
    for _ in 0..ROUNDS {
        let Ok(Ok(answers)) = ask(process, requests).await else { break };
        for answer in answers {
            let MessageResponse::FileDescriptorResponse(answer) = answer else { continue };
            let decoded = answer.file_descriptor_proto.into_iter();
            let decoded = decoded.filter_map(|file| Some((FileDescriptorProto::decode(&*file).ok()?, file)));
            for (file, encoded) in decoded {
                if !known(file.name()) && files.iter().all(|(held, _)| held.name() != file.name()) {
                    files.push((file, encoded));
                }
            }
        }
        let is_missing = |name: &&String| !known(name) && files.iter().all(|(file, _)| file.name() != **name);
        let missing = files.iter().flat_map(|(file, _)| &file.dependency).filter(is_missing);
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
