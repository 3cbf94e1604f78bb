//! The bounds in a contract, beside what a service accepts.

use prost::{Message, Name};
use prost_reflect::{Cardinality, DescriptorPool, DynamicMessage, FieldDescriptor, Kind, ReflectMessage as _, Value};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

mod probes;
mod rules;

use rules::Rules;

/// Checks that a method refuses a request exactly if it is out of the bounds in its contract (`buf.validate`). It sends
/// `valid` again and again, each time with another value in one of its fields: each bound, each bound ± 1, and values
/// that a field without bounds must accept.
///
/// - `contracts`: an encoded descriptor set that has the message, such as `contracts::FILE_DESCRIPTOR_SET`.
/// - `valid`: a request that the method accepts. Its lists have an element.
/// - `opaque`: fields with rules that no bound can state, such as `page_token`. They are left as they are.
///
/// A call counts as refused for a field if it fails with INVALID_FIELDS and a violation of that field. Floats,
/// booleans, maps, lists of messages, and messages of `google.protobuf` other than Duration are left as they are.
///
/// # Panics
///
/// If a bound and the method differ: the message lists all differences. If the call fails for a reason that has nothing
/// to do with the request.
pub async fn bounds<M, R>(contracts: &[u8], valid: &M, opaque: &[&str], call: impl AsyncFn(M) -> Result<R, Status>)
where
    M: Message + Name + Default,
{
    let pool = DescriptorPool::decode(contracts).expect("a descriptor set");
    let message = pool.get_message_by_name(&M::full_name()).expect("the set has the message");
    for name in opaque {
        assert!(message.get_field_by_name(name).is_some(), "{} has no field {name}", message.full_name());
    }
    let valid = DynamicMessage::decode(message, valid.encode_to_vec().as_slice()).expect("the same message");

    let mut different = refused(&call, &valid).await;
    for field in &mut different {
        field.insert_str(0, "the valid request is refused for ");
    }
    for probe in probes_of(&valid, opaque) {
        let fields = refused(&call, &probe.request).await;
        let accepted = !fields.iter().any(|field| is_within(field, &probe.path));
        if accepted != probe.allowed {
            let [contract, service] = [probe.allowed, accepted].map(|yes| if yes { "accepts" } else { "refuses" });
            different.push(format!("{} = {}: the contract {contract}, the service {service}", probe.path, probe.shown));
        }
    }
    assert!(different.is_empty(), "{}:\n{}", M::full_name(), different.join("\n"));
}

/// The fields that a call is refused for.
async fn refused<M: Message + Default, R>(
    call: &impl AsyncFn(M) -> Result<R, Status>,
    request: &DynamicMessage,
) -> Vec<String> {
    let request = M::decode(request.encode_to_vec().as_slice()).expect("the same message");
    let Err(status) = call(request).await else { return Vec::new() };
    let details = status.get_error_details();
    match (status.code(), details.error_info()) {
        (Code::InvalidArgument, Some(info)) if info.reason == "INVALID_FIELDS" => {
            let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
            violations.into_iter().map(|violation| violation.field).collect()
        }
        (Code::InvalidArgument | Code::NotFound | Code::AlreadyExists | Code::FailedPrecondition, Some(_)) => {
            Vec::new()
        }
        _ => panic!("the call fails, whatever its fields: {status:?}"),
    }
}

/// Whether a violation's `field` is the one at `path`, an element of it, or a field of it.
fn is_within(field: &str, path: &str) -> bool {
    field.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// A request with one value changed.
struct Probe {
    /// The field, as a violation names it.
    path: String,
    /// The value, for people.
    shown: String,
    /// Whether the contract allows the value.
    allowed: bool,
    request: DynamicMessage,
}

fn probes_of(valid: &DynamicMessage, opaque: &[&str]) -> Vec<Probe> {
    let mut found = Vec::new();
    for field in valid.descriptor().fields().filter(|field| !opaque.contains(&field.name())) {
        let rules = Rules::of(&field);
        found.extend(values_of(valid, &field).into_iter().map(|value| {
            let mut request = valid.clone();
            let (shown, allowed) = (shown(&value), rules.allow(&value));
            request.set_field(&field, value);
            Probe { path: field.name().to_owned(), shown, allowed, request }
        }));
        if let (Kind::Message(message), true) = (field.kind(), field.cardinality() != Cardinality::Repeated) {
            let mut request = valid.clone();
            request.clear_field(&field);
            let allowed = !rules.required();
            found.push(Probe { path: field.name().to_owned(), shown: "nothing".to_owned(), allowed, request });
            if !message.full_name().starts_with("google.protobuf.") {
                found.extend(within(valid, &field));
            }
        }
    }
    found
}

fn values_of(valid: &DynamicMessage, field: &FieldDescriptor) -> Vec<Value> {
    let rules = Rules::of(field);
    let value = valid.get_field(field);
    match value.as_list() {
        Some(elements) => match elements.first() {
            Some(element) => probes::of_list(element, &field.kind(), &rules),
            None => panic!("the valid request has no element in {}", field.full_name()),
        },
        None if field.is_map() => Vec::new(),
        None => probes::of(&value, &field.kind(), &rules),
    }
}

/// The probes of the fields of a message within a request.
fn within(valid: &DynamicMessage, field: &FieldDescriptor) -> Vec<Probe> {
    let value = valid.get_field(field);
    let Some(inner) = value.as_message() else { return Vec::new() };
    let mut probes = probes_of(inner, &[]);
    for probe in &mut probes {
        let mut request = valid.clone();
        request.set_field(field, Value::Message(probe.request.clone()));
        probe.request = request;
        probe.path = format!("{}.{}", field.name(), probe.path);
    }
    probes
}

/// A value, shortened.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.len() > 100 => format!("{} characters", text.chars().count()),
        Value::Bytes(bytes) => format!("{} bytes", bytes.len()),
        Value::List(elements) if elements.len() > 2 => format!("{} elements", elements.len()),
        Value::List(elements) => format!("[{}]", elements.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Value::Message(message) => {
            let fields = message.fields().map(|(field, value)| format!("{}: {}", field.name(), shown(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        other => format!("{other:?}"),
    }
}
