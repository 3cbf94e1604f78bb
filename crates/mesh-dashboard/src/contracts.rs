//! The contracts of a process, as gRPC server reflection has them.
//!
//! See: <https://grpc.io/docs/guides/reflection/>

use std::collections::BTreeSet;

use futures_util::stream;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::{DescriptorPool, MethodDescriptor, ServiceDescriptor};
use prost_types::FileDescriptorProto;
use serde_json::Value;
use tonic::Status;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use transcode::Schema;

use crate::members::{Channel, LARGEST};

/// The largest depth of imports that is followed.
const ROUNDS: usize = 32;
/// A set with more files is cut: a system has fewer.
const FILES: usize = 1000;
/// The contracts of a process.
#[derive(Clone)]
pub(crate) struct Contracts {
    pool: DescriptorPool,
    schema: Schema,
    /// The full names of the services that it serves.
    served: BTreeSet<String>,
}

impl Contracts {
    /// Asks a process for its contracts, with all that they import.
    ///
    /// # Errors
    ///
    /// The process has no reflection, or does not answer.
    pub(crate) async fn of(channel: &Channel) -> Result<Self, Status> {
        let answers = ask(channel, vec![MessageRequest::ListServices(String::new())]).await?;
        let lists = answers.into_iter().filter_map(|answer| match answer {
            MessageResponse::ListServicesResponse(list) => Some(list.service),
            _ => None,
        });
        let served: BTreeSet<_> = lists.flatten().map(|service| service.name).collect();
        // As they were sent: a decoded file has lost the options of others.
        let (mut files, mut set) = (Vec::<FileDescriptorProto>::new(), Vec::new());
        let mut requests: Vec<_> = served.iter().cloned().map(MessageRequest::FileContainingSymbol).collect();
        for _ in 0..ROUNDS {
            for answer in ask(channel, requests).await? {
                let MessageResponse::FileDescriptorResponse(answer) = answer else { continue };
                for encoded in answer.file_descriptor_proto {
                    let Ok(file) = FileDescriptorProto::decode(&*encoded) else { continue };
                    if files.iter().all(|held| held.name() != file.name()) && files.len() < FILES {
                        files.push(file);
                        encode_key(1, WireType::LengthDelimited, &mut set);
                        encode_varint(encoded.len() as u64, &mut set);
                        set.extend(encoded);
                    }
                }
            }
            let is_missing = |name: &&String| files.iter().all(|file| file.name() != **name);
            let missing: BTreeSet<_> =
                files.iter().flat_map(|file| &file.dependency).filter(is_missing).cloned().collect();
            if missing.is_empty() {
                break;
            }
            requests = missing.into_iter().map(MessageRequest::FileByFilename).collect();
        }
        Self::read(&set, served)
    }

    /// Reads an encoded `google.protobuf.FileDescriptorSet`.
    pub(crate) fn read(set: &[u8], served: BTreeSet<String>) -> Result<Self, Status> {
        let pool = DescriptorPool::decode(set);
        let pool = pool.map_err(|error| Status::data_loss(format!("its contracts cannot be read: {error}")))?;
        let schema = Schema::new(&pool);
        Ok(Self { pool, schema, served })
    }

    /// A method, such as `catalog.v1.CatalogService/GetTitle`.
    pub(crate) fn method(&self, name: &str) -> Option<MethodDescriptor> {
        let (service, method) = name.split_once('/')?;
        let service = self.pool.get_service_by_name(service).filter(|_| self.served.contains(service))?;
        service.methods().find(|found| found.name() == method)
    }

    /// Whether a method declares that it changes nothing.
    pub(crate) fn only_reads(&self, method: &MethodDescriptor) -> bool {
        idempotency(method) == "NO_SIDE_EFFECTS"
    }

    /// The services that it serves, without those of gRPC itself.
    pub(crate) fn services(&self) -> impl Iterator<Item = ServiceDescriptor> {
        let own = self.served.iter().filter(|name| !name.starts_with("grpc."));
        own.filter_map(|name| self.pool.get_service_by_name(name))
    }

    /// The tables that convert messages.
    pub(crate) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// A message as JSON; `None` if its type is not known, or it is none of it.
    pub(crate) fn json(&self, name: &str, wire: &[u8]) -> Option<Value> {
        let mut json = Vec::new();
        self.schema.message(name)?.to_json(wire, &mut json).ok()?;
        serde_json::from_slice(&json).ok()
    }
}

/// Sends requests on one stream, and collects the answers.
async fn ask(channel: &Channel, requests: Vec<MessageRequest>) -> Result<Vec<MessageResponse>, Status> {
    let expected = requests.len();
    let requests = requests
        .into_iter()
        .map(|request| ServerReflectionRequest { host: String::new(), message_request: Some(request) });
    let mut client = ServerReflectionClient::new(channel.clone()).max_decoding_message_size(LARGEST);
    let mut stream = client.server_reflection_info(stream::iter(requests.collect::<Vec<_>>())).await?.into_inner();
    let mut answers = Vec::with_capacity(expected);
    while answers.len() < expected {
        match stream.message().await? {
            Some(answer) => answers.extend(answer.message_response),
            None => break,
        }
    }
    Ok(answers)
}

/// Whether a call may be repeated, as the contract declares it.
pub(crate) fn idempotency(method: &MethodDescriptor) -> &'static str {
    let level = method.options().get_field_by_name("idempotency_level").and_then(|level| level.as_enum_number());
    match level {
        Some(1) => "NO_SIDE_EFFECTS",
        Some(2) => "IDEMPOTENT",
        _ => "UNKNOWN",
    }
}
