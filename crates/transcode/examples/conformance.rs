//! The program that protobuf's conformance suite tests: requests on the standard input, answers on the standard output.
//! `.ci/conformance` runs the suite.
//!
//! The argument is the folder with the suite's contracts. Each request and each answer has its length in front, in four
//! bytes.

use std::io::{ErrorKind, Read as _, Write as _};

use anyhow::Context as _;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, Value};
use transcode::Schema;

/// Contracts that protox compiles. The suite's other contracts are of protobuf's editions.
const CONTRACTS: [&str; 3] = [
    "conformance/conformance.proto",
    "google/protobuf/test_messages_proto2.proto",
    "google/protobuf/test_messages_proto3.proto",
];

fn main() -> anyhow::Result<()> {
    let folder = std::env::args().nth(1).context("the argument is the folder with the suite's contracts")?;
    let pool = DescriptorPool::from_file_descriptor_set(protox::compile(CONTRACTS, [folder])?)?;
    let message = |name: &str| pool.get_message_by_name(name).with_context(|| format!("the suite has no {name}"));
    let (request, response) = (message("conformance.ConformanceRequest")?, message("conformance.ConformanceResponse")?);
    let suite = Suite { schema: Schema::new(&pool), pool: pool.clone(), request, response };
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut length = [0; 4];
    loop {
        match input.read_exact(&mut length) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        let mut request = vec![0; u32::from_le_bytes(length) as usize];
        input.read_exact(&mut request)?;
        let response = suite.answer(&request)?;
        output.write_all(&u32::try_from(response.len())?.to_le_bytes())?;
        output.write_all(&response)?;
        output.flush()?;
    }
}

struct Suite {
    schema: Schema,
    pool: DescriptorPool,
    request: MessageDescriptor,
    response: MessageDescriptor,
}

/// The field of the response that holds an answer, and the answer.
type Answer = (&'static str, Value);

impl Suite {
    fn answer(&self, request: &[u8]) -> anyhow::Result<Vec<u8>> {
        let request = DynamicMessage::decode(self.request.clone(), request)?;
        let (field, value) = self.convert(&request)?;
        let mut response = DynamicMessage::new(self.response.clone());
        response.set_field_by_name(field, value);
        Ok(response.encode_to_vec())
    }

    fn convert(&self, request: &DynamicMessage) -> anyhow::Result<Answer> {
        let field = |name: &str| request.get_field_by_name(name).with_context(|| format!("no {name}"));
        let (name, category) = (field("message_type")?, field("test_category")?);
        let (name, category) = (name.as_str().context("a name")?, category.as_enum_number().context("a category")?);
        let output = field("requested_output_format")?.as_enum_number().context("a format")?;
        if name == "conformance.FailureSet" {
            return Ok(("protobuf_payload", Value::Bytes(Vec::new().into())));
        }
        let Some(descriptor) = self.pool.get_message_by_name(name) else { return skipped("editions") };
        if category == 3 {
            return skipped("to ignore unknown fields");
        }
        let wire = if request.has_field_by_name("json_payload") {
            let json = field("json_payload")?;
            match self.to_wire(&descriptor, json.as_str().context("a text")?) {
                Ok(wire) => wire,
                Err(answer) => return Ok(answer),
            }
        } else if request.has_field_by_name("protobuf_payload") {
            field("protobuf_payload")?.as_bytes().context("bytes")?.to_vec()
        } else {
            return skipped("a format");
        };
        match output {
            1 => Ok(same_wire(descriptor, &wire)),
            2 => self.to_json(&descriptor, &wire),
            _ => skipped("a format"),
        }
    }

    fn to_wire(&self, descriptor: &MessageDescriptor, json: &str) -> Result<Vec<u8>, Answer> {
        let mut wire = Vec::new();
        let message = self.schema.message(descriptor.full_name());
        match message.map(|message| message.to_wire(json.as_bytes(), &mut wire)) {
            Some(Ok(())) => Ok(wire),
            Some(Err(error)) => Err(("parse_error", Value::String(error.to_string()))),
            None => Err(("runtime_error", Value::String("the schema has no such message".to_owned()))),
        }
    }

    fn to_json(&self, descriptor: &MessageDescriptor, wire: &[u8]) -> anyhow::Result<Answer> {
        let mut json = Vec::new();
        let message = self.schema.message(descriptor.full_name()).context("the schema has every message")?;
        Ok(match message.to_json(wire, &mut json) {
            Ok(()) => ("json_payload", Value::String(String::from_utf8(json)?)),
            Err(error @ transcode::WireError::Malformed(_)) => ("parse_error", Value::String(error.to_string())),
            Err(error) => ("serialize_error", Value::String(error.to_string())),
        })
    }
}

/// Wire to wire, as this crate normalises it.
fn same_wire(descriptor: MessageDescriptor, wire: &[u8]) -> Answer {
    match DynamicMessage::decode(descriptor, wire) {
        Ok(message) => ("protobuf_payload", Value::Bytes(message.encode_to_vec().into())),
        Err(error) => ("parse_error", Value::String(error.to_string())),
    }
}

fn skipped(what: &str) -> anyhow::Result<Answer> {
    Ok(("skipped", Value::String(what.to_owned())))
}
