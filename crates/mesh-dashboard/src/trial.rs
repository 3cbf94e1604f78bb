//! A call that a reader of the page makes: JSON in, JSON out; and what a reader does to long work.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use mesh_client::operation::service_of;
use mesh_proto::google::longrunning::CancelOperationRequest;
use mesh_proto::google::longrunning::operations_client::OperationsClient;
use mesh_proto::mesh::operations::v1::operation_control_service_client::OperationControlServiceClient;
use mesh_proto::mesh::operations::v1::{ResumeRequest, RetryRequest};
use mesh_rpc::call::Trace;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Status};

use crate::answer::{cut, reason};
use crate::contracts::Contracts;
use crate::hub::Hub;
use crate::members::LARGEST;

/// The limit for a call.
const LIMIT: Duration = Duration::from_secs(30);
/// The messages of a stream that are shown.
const SHOWN: usize = 100;
/// A stream is read for so long.
const READ: Duration = Duration::from_secs(10);

/// Makes a call: `method` is `package.Service/Method`. The answer has the failure of the call, if it fails.
///
/// # Errors
///
/// The call was not made: no process that answers has the method, the request does not match it, or it may change something
/// and is not confirmed.
pub(crate) async fn call(hub: &Hub, method: &str, request: &Value, confirmed: bool) -> Result<Value, Status> {
    let unknown = || Status::not_found(format!("no process that answers has the method {}", cut(method)));
    let contract = method.split('/').next().unwrap_or_default();
    let mut found = None;
    for channel in hub.serving_contract(contract).await {
        let Ok(Ok(contracts)) = timeout(Duration::from_secs(2), Contracts::of(&channel)).await else { continue };
        if let Some(method) = contracts.method(method) {
            found = Some((channel, contracts, method));
            break;
        }
    }
    let (channel, contracts, descriptor) = found.ok_or_else(unknown)?;
    if descriptor.is_client_streaming() {
        return Err(Status::unimplemented("a method with a stream of requests is called by grpcurl"));
    }
    if !confirmed && !contracts.only_reads(&descriptor) {
        return Err(Status::failed_precondition("the method may change something: confirm the call"));
    }
    let types = [descriptor.input(), descriptor.output()].map(|it| contracts.schema().message(it.full_name()));
    let [Some(input), Some(output)] = types else { return Err(unknown()) };
    let mut wire = Vec::new();
    if let Err(mistakes) = input.to_wire(request.to_string().as_bytes(), &mut wire) {
        return Err(Status::invalid_argument(format!("the request does not match {}: {mistakes}", input.full_name())));
    }
    let trace = Trace::begin();
    let mut request = Request::new(Bytes::from(wire));
    request.set_timeout(LIMIT);
    if let Ok(value) = trace.to_string().parse() {
        request.metadata_mut().insert("traceparent", value);
    }
    let path = PathAndQuery::try_from(format!("/{method}")).map_err(|_| unknown())?;
    let began = Instant::now();
    let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(LARGEST);
    let mut responses = Vec::new();
    let called = async {
        client.ready().await?;
        let mut stream = client.server_streaming(request, path, Raw).await?.into_inner();
        while let Some(message) = stream.message().await? {
            let mut json = Vec::new();
            let written = output.to_json(&message, &mut json);
            written.map_err(|error| {
                Status::data_loss(format!("the answer does not match {}: {error}", output.full_name()))
            })?;
            responses.push(serde_json::from_slice::<Value>(&json).unwrap_or_default());
            if responses.len() == SHOWN {
                break;
            }
        }
        Ok::<_, Status>(())
    };
    let limit = if descriptor.is_server_streaming() { READ } else { LIMIT };
    let status = match timeout(limit, called).await {
        Ok(Ok(())) => Status::ok(""),
        Ok(Err(status)) => status,
        // What has come of a stream is shown.
        Err(_) if descriptor.is_server_streaming() => Status::ok(""),
        Err(_) => Status::deadline_exceeded("the call did not end in time"),
    };
    let streams = descriptor.is_server_streaming();
    // A failed call may have answered before.
    let response = if streams { Value::Array(responses) } else { responses.pop().unwrap_or_default() };
    let error = (status.code() != Code::Ok).then(|| {
        let reason = Some(reason(&status)).filter(|reason| !reason.is_empty());
        reason.unwrap_or_else(|| transcode::code_name(status.code() as i32).to_owned())
    });
    Ok(json!({
        "code": status.code() as i32, "name": transcode::code_name(status.code() as i32), "reason": error.unwrap_or_default(), "message": cut(status.message()),
        "response": response,
        "took": began.elapsed().as_secs_f64(), "trace": trace.trace_id().to_string(),
    }))
}

/// Cancels, retries or resumes an operation.
///
/// # Errors
///
/// The operation does not allow it, or does not exist.
pub(crate) async fn operation(hub: &Hub, name: &str, action: &str) -> Result<Value, Status> {
    let service =
        service_of(name).ok_or_else(|| Status::invalid_argument("`name` is services/SERVICE/operations/UUID"))?;
    let channel =
        hub.serving(service).ok_or_else(|| Status::unavailable(format!("no instance of {service} answers")))?;
    let name = name.to_owned();
    let mut control = OperationControlServiceClient::new(channel.clone()).max_decoding_message_size(LARGEST);
    let asked = async {
        match action {
            "cancel" => {
                let mut client = OperationsClient::new(channel).max_decoding_message_size(LARGEST);
                client.cancel_operation(CancelOperationRequest { name: name.clone() }).await?;
                Ok(name)
            }
            "retry" => {
                let request_id = uuid::Uuid::new_v4().to_string();
                Ok(control.retry(RetryRequest { name, request_id }).await?.into_inner().name)
            }
            "resume" => Ok(control.resume(ResumeRequest { name }).await?.into_inner().name),
            _ => Err(Status::invalid_argument("`action` is cancel, retry or resume")),
        }
    };
    let late = |_| Err(Status::new(Code::DeadlineExceeded, "the service did not answer in time"));
    let name = timeout(LIMIT, asked).await.unwrap_or_else(late)?;
    Ok(json!({"name": name}))
}

/// Messages as their bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
