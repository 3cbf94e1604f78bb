//! Reflection: lists the services of the process and describes their contracts, in versions v1 and v1alpha. Older tools
//! use v1alpha.
//!
//! Guarantees:
//! - A question without an answer gets an `error_response`, and the stream continues. So does one about a service that
//!   no descriptor set has.
//! - Descriptors are sent as they were compiled, with custom options.
//!
//! See [the protocol](https://github.com/grpc/grpc/blob/master/doc/server-reflection.md).

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::server_reflection_server::{SERVICE_NAME, ServerReflection, ServerReflectionServer};
use tonic_reflection::pb::v1::*;
use tonic_reflection::pb::v1alpha;
use tower::ServiceExt as _;

use super::descriptors::Descriptors;
use crate::call::{GrpcService, GrpcServices, OWN_DESCRIPTORS, add};

const V1: &str = SERVICE_NAME;
const V1ALPHA: &str = v1alpha::server_reflection_server::SERVICE_NAME;

/// The full names of the services that [`serve`] adds.
pub const NAMES: [&str; 2] = [V1, V1ALPHA];

/// Adds both versions to the services of a process. `others` are services that it answers for and does not run.
/// `system` holds encoded descriptor sets of the system's contracts.
///
/// # Errors
///
/// A set does not decode.
pub fn serve(grpc: &mut GrpcServices, others: &BTreeSet<&'static str>, system: &[&[u8]]) -> anyhow::Result<()> {
    let services: BTreeSet<_> = grpc.keys().chain(others).copied().chain(NAMES).collect();
    let descriptors = Descriptors::read(OWN_DESCRIPTORS.iter().chain(system).copied())?;
    let server = ServerReflectionServer::new(Reflection(Arc::new(Index { services, descriptors })));
    add(grpc, server.clone());
    // The messages of both versions have the same bytes: only the path differs.
    let older = server.map_request(|mut request: http::Request<tonic::body::Body>| {
        *request.uri_mut() = path(request.uri()).unwrap_or_default();
        request
    });
    grpc.insert(V1ALPHA, GrpcService::new(older));
    Ok(())
}

/// The path of v1 for a path of v1alpha. `None`: the path has no method.
fn path(older: &http::Uri) -> Option<http::Uri> {
    let method = older.path().strip_prefix('/')?.strip_prefix(V1ALPHA)?;
    format!("/{V1}{method}").parse().ok()
}

struct Index {
    services: BTreeSet<&'static str>,
    descriptors: Descriptors,
}

struct Reflection(Arc<Index>);

#[tonic::async_trait]
impl ServerReflection for Reflection {
    type ServerReflectionInfoStream =
        Pin<Box<dyn Stream<Item = Result<ServerReflectionResponse, Status>> + Send + 'static>>;

    async fn server_reflection_info(
        &self,
        requests: Request<Streaming<ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let index = Arc::clone(&self.0);
        let answers = requests.into_inner().map(move |request| request.map(|request| index.answer(request)));
        Ok(Response::new(Box::pin(answers)))
    }
}

impl Index {
    fn answer(&self, request: ServerReflectionRequest) -> ServerReflectionResponse {
        let answer = match &request.message_request {
            None => error(Code::InvalidArgument, "message_request is missing"),
            Some(message) => self.find(message).unwrap_or_else(|| error(Code::NotFound, "no contract has it")),
        };
        ServerReflectionResponse {
            valid_host: request.host.clone(),
            original_request: Some(request),
            message_response: Some(answer),
        }
    }

    fn find(&self, request: &MessageRequest) -> Option<MessageResponse> {
        let file = match request {
            MessageRequest::FileByFilename(name) => self.descriptors.file(name),
            MessageRequest::FileContainingSymbol(name) => self.descriptors.symbol(name),
            MessageRequest::FileContainingExtension(extension) => {
                self.descriptors.extension(&extension.containing_type, extension.extension_number)
            }
            MessageRequest::AllExtensionNumbersOfType(name) => {
                return self.descriptors.extension_numbers(name).map(|extension_number| {
                    let base_type_name = name.clone();
                    MessageResponse::AllExtensionNumbersResponse(ExtensionNumberResponse {
                        base_type_name,
                        extension_number,
                    })
                });
            }
            MessageRequest::ListServices(_) => {
                let service = self.services.iter().map(|name| ServiceResponse { name: (*name).to_owned() }).collect();
                return Some(MessageResponse::ListServicesResponse(ListServiceResponse { service }));
            }
        };
        let file_descriptor_proto = vec![file?.to_vec()];
        Some(MessageResponse::FileDescriptorResponse(FileDescriptorResponse { file_descriptor_proto }))
    }
}

fn error(code: Code, message: &str) -> MessageResponse {
    MessageResponse::ErrorResponse(ErrorResponse { error_code: code.into(), error_message: message.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{BufMut as _, Bytes};
    use http_body_util::{BodyExt as _, Full};
    use prost::Message as _;
    use tonic::body::Body;

    fn ask(message_request: MessageRequest) -> ServerReflectionRequest {
        ServerReflectionRequest { host: String::new(), message_request: Some(message_request) }
    }

    /// The answers to `requests` on one stream, from the service of this name.
    async fn answers(service: &str, requests: &[ServerReflectionRequest]) -> Vec<MessageResponse> {
        let mut grpc = GrpcServices::new();
        serve(&mut grpc, &BTreeSet::new(), &[]).unwrap();
        let mut body = Vec::new();
        for request in requests {
            body.put_u8(0);
            body.put_u32(request.encoded_len() as u32);
            request.encode(&mut body).unwrap();
        }
        let uri = format!("/{service}/ServerReflectionInfo");
        let request = http::Request::post(uri).header("content-type", "application/grpc");
        let request = request.body(Body::new(Full::new(Bytes::from(body)))).unwrap();
        let response = grpc[service].answer(request).await;
        let mut body = response.into_body().collect().await.unwrap().to_bytes();
        let mut answers = Vec::new();
        while !body.is_empty() {
            let length = u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize;
            let message = body.split_to(5 + length).split_off(5);
            answers.extend(ServerReflectionResponse::decode(message).unwrap().message_response);
        }
        answers
    }

    #[tokio::test]
    async fn reflection_continues_after_an_unknown_name() {
        let unknown = ask(MessageRequest::FileContainingSymbol("made.Up".to_owned()));
        let known = ask(MessageRequest::FileContainingSymbol("grpc.health.v1.Health".to_owned()));
        for service in NAMES {
            let answers = answers(service, &[unknown.clone(), ServerReflectionRequest::default(), known.clone()]).await;
            let codes = answers.iter().map(|answer| match answer {
                MessageResponse::ErrorResponse(error) => error.error_code,
                MessageResponse::FileDescriptorResponse(_) => 0,
                other => panic!("{other:?}"),
            });
            assert_eq!(codes.collect::<Vec<_>>(), [5, 3, 0], "{service}");
        }
    }

    #[tokio::test]
    async fn reflection_knows_extensions() {
        let options = "google.protobuf.MethodOptions".to_owned();
        let numbers = ask(MessageRequest::AllExtensionNumbersOfType(options.clone()));
        let extension = ExtensionRequest { containing_type: options, extension_number: 50001 };
        let file = ask(MessageRequest::FileContainingExtension(extension));
        let answers = answers(V1, &[numbers, file]).await;
        let [MessageResponse::AllExtensionNumbersResponse(numbers), MessageResponse::FileDescriptorResponse(_)] =
            &answers[..]
        else {
            panic!("{answers:?}")
        };
        assert!(numbers.extension_number.contains(&50001), "{numbers:?}");
    }
}
