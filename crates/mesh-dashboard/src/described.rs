//! Contracts for a reader: methods, messages and enums with their comments, options and bounds, and an example of each request.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use prost_reflect::{
    Cardinality, DynamicMessage, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor,
    MethodDescriptor, ReflectMessage as _, ServiceDescriptor, Value as Held,
};
use serde_json::{Map, Value, json};

use crate::contracts::{Contracts, idempotency};

/// An example nests no deeper.
const DEPTH: usize = 3;

/// The contracts of several processes, described for a reader: each once.
#[derive(Default)]
pub(crate) struct Described {
    services: BTreeMap<String, Value>,
    messages: BTreeMap<String, Value>,
    enums: BTreeMap<String, Value>,
    comments: Comments,
}

/// Who has to do with a contract.
pub(crate) struct Known<'a> {
    /// The services that serve a contract, by its full name.
    pub(crate) serving: &'a BTreeMap<String, String>,
    /// The services that declare to call a method.
    pub(crate) declared: &'a BTreeMap<String, BTreeSet<String>>,
}

impl Described {
    /// Adds the contracts of a process.
    pub(crate) fn add(&mut self, contracts: &Contracts, known: &Known<'_>) {
        for service in contracts.services() {
            let name = service.full_name().to_owned();
            if !self.services.contains_key(&name) {
                let described = self.service(&service, known);
                self.services.insert(name, described);
            }
        }
    }

    /// The description, as JSON.
    pub(crate) fn json(self) -> Value {
        json!({
            "services": self.services.into_values().collect::<Vec<_>>(),
            "messages": Map::from_iter(self.messages), "enums": Map::from_iter(self.enums),
        })
    }

    fn service(&mut self, service: &ServiceDescriptor, known: &Known<'_>) -> Value {
        let methods: Vec<_> = service.methods().map(|method| self.method(&method, known)).collect();
        json!({
            "name": service.full_name(), "service": known.serving.get(service.full_name()),
            "comment": self.comments.of(&service.parent_file(), service.path()), "methods": methods,
        })
    }

    fn method(&mut self, method: &MethodDescriptor, known: &Known<'_>) -> Value {
        let service = method.parent_service();
        let full = format!("{}/{}", service.full_name(), method.name());
        let options = method.options();
        let (input, output) = (method.input(), method.output());
        self.message(&input);
        self.message(&output);
        let access = nested(&options, "mesh.options.v1.authorization", "access");
        let access = access.as_deref().unwrap_or("ACCESS_INTERNAL").trim_start_matches("ACCESS_").to_lowercase();
        json!({
            "name": method.name(), "full": full, "comment": self.comments.of(&method.parent_file(), method.path()), "access": access,
            "idempotency": idempotency(method), "clientStreaming": method.is_client_streaming(),
            "serverStreaming": method.is_server_streaming(), "deadline": deadline(&options),
            "request": input.full_name(), "response": output.full_name(),
            "declaredBy": known.declared.get(&full), "example": example(&input, DEPTH),
        })
    }

    /// Describes a message, and those of its fields.
    fn message(&mut self, message: &MessageDescriptor) {
        let mut next = vec![message.clone()];
        while let Some(message) = next.pop() {
            if self.messages.contains_key(message.full_name()) {
                continue;
            }
            let at = message.path().to_vec();
            let file = message.parent_file();
            // In the order of their declaration.
            let mut fields: Vec<_> = message.fields().collect();
            fields.sort_by_key(declared_at);
            let rows: Vec<_> = fields.iter().map(|field| self.field(&file, field)).collect();
            let described = json!({"comment": self.comments.of(&file, &at), "fields": rows});
            self.messages.insert(message.full_name().to_owned(), described);
            for field in fields {
                match field.kind() {
                    Kind::Message(inner) => next.push(inner),
                    Kind::Enum(inner) => self.enumeration(&inner),
                    _ => {}
                }
            }
        }
    }

    fn field(&mut self, file: &FileDescriptor, field: &FieldDescriptor) -> Value {
        let options = field.options();
        let behavior = extension(&options, "google.api.field_behavior");
        // REQUIRED is 2.
        let required = behavior.is_some_and(|held| {
            held.as_list().is_some_and(|all| all.iter().any(|one| one.as_enum_number() == Some(2)))
        });
        json!({
            "name": field.json_name(), "number": field.number(), "type": kind(field),
            "repeated": field.cardinality() == Cardinality::Repeated && !field.is_map(),
            "required": required, "comment": self.comments.of(file, field.path()), "bounds": bounds(&options),
        })
    }

    fn enumeration(&mut self, it: &EnumDescriptor) {
        if self.enums.contains_key(it.full_name()) {
            return;
        }
        let (at, file) = (it.path().to_vec(), it.parent_file());
        let values = it.values().map(|value| {
            json!({"name": value.name(), "number": value.number(), "comment": self.comments.of(&file, value.path())})
        });
        let values: Vec<_> = values.collect();
        let described = json!({"comment": self.comments.of(&file, &at), "values": values});
        self.enums.insert(it.full_name().to_owned(), described);
    }
}

/// The comments of files, by path.
#[derive(Default)]
struct Comments(HashMap<String, HashMap<Vec<i32>, String>>);

impl Comments {
    fn of(&mut self, file: &FileDescriptor, path: &[i32]) -> String {
        let read = || {
            let info = file.file_descriptor_proto().source_code_info.as_ref();
            let locations = info.map(|info| info.location.as_slice()).unwrap_or_default();
            let text = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n").trim().to_owned();
            locations.iter().map(|found| (found.path.clone(), text(found.leading_comments()))).collect()
        };
        self.0.entry(file.name().to_owned()).or_insert_with(read).get(path).cloned().unwrap_or_default()
    }
}

/// The place of a field in its message.
fn declared_at(field: &FieldDescriptor) -> i32 {
    field.path().last().copied().unwrap_or_default()
}

/// The value of an option that is declared elsewhere.
fn extension(options: &DynamicMessage, name: &str) -> Option<Held> {
    let found = options.extensions().find(|(extension, _)| extension.full_name() == name);
    found.map(|(_, held)| held.clone())
}

/// The name of an enum value within an option that is a message.
fn nested(options: &DynamicMessage, option: &str, field: &str) -> Option<String> {
    let held = extension(options, option)?;
    let message = held.as_message()?;
    let field = message.descriptor().get_field_by_name(field)?;
    let number = message.get_field(&field).as_enum_number()?;
    match field.kind() {
        Kind::Enum(kind) => kind.get_value(number).map(|value| value.name().to_owned()),
        _ => None,
    }
}

/// The default deadline of a method, in seconds.
fn deadline(options: &DynamicMessage) -> Option<f64> {
    let held = extension(options, "mesh.options.v1.default_deadline")?;
    let time = held.as_message()?.transcode_to::<prost_types::Duration>().ok()?;
    std::time::Duration::try_from(time).ok().map(|time| time.as_secs_f64())
}

/// The bounds of a field in a few words, such as `string.min_len 1, string.max_len 200`.
fn bounds(options: &DynamicMessage) -> String {
    let mut words = Vec::new();
    if let Some(held) = extension(options, "buf.validate.field") {
        flat("", &held, &mut words);
    }
    words.join(", ")
}

fn flat(name: &str, held: &Held, words: &mut Vec<String>) {
    let mut word = |value: String| words.push(format!("{name} {value}"));
    match held {
        Held::Message(message) => {
            for (field, value) in message.fields() {
                let dot = if name.is_empty() { "" } else { "." };
                flat(&format!("{name}{dot}{}", field.name()), value, words);
            }
        }
        Held::List(all) => all.iter().for_each(|one| flat(name, one, words)),
        Held::String(value) => word(value.clone()),
        Held::Bytes(_) | Held::Map(_) => {}
        Held::Bool(value) => word(value.to_string()),
        Held::I32(value) | Held::EnumNumber(value) => word(value.to_string()),
        Held::I64(value) => word(value.to_string()),
        Held::U32(value) => word(value.to_string()),
        Held::U64(value) => word(value.to_string()),
        Held::F32(value) => word(value.to_string()),
        Held::F64(value) => word(value.to_string()),
    }
}

/// The type of a field as a `.proto` file has it.
fn kind(field: &FieldDescriptor) -> String {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            format!("map<{}, {}>", kind(&entry.map_entry_key_field()), kind(&entry.map_entry_value_field()))
        }
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(it) => it.full_name().to_owned(),
        Kind::Double => "double".to_owned(),
        Kind::Float => "float".to_owned(),
        Kind::Int32 => "int32".to_owned(),
        Kind::Int64 => "int64".to_owned(),
        Kind::Uint32 => "uint32".to_owned(),
        Kind::Uint64 => "uint64".to_owned(),
        Kind::Sint32 => "sint32".to_owned(),
        Kind::Sint64 => "sint64".to_owned(),
        Kind::Fixed32 => "fixed32".to_owned(),
        Kind::Fixed64 => "fixed64".to_owned(),
        Kind::Sfixed32 => "sfixed32".to_owned(),
        Kind::Sfixed64 => "sfixed64".to_owned(),
        Kind::Bool => "bool".to_owned(),
        Kind::String => "string".to_owned(),
        Kind::Bytes => "bytes".to_owned(),
    }
}

/// A request with each field, for a reader to change.
fn example(message: &MessageDescriptor, depth: usize) -> Value {
    let text = match message.full_name() {
        "google.protobuf.Timestamp" => Some("2030-01-01T00:00:00Z"),
        "google.protobuf.Duration" => Some("1s"),
        "google.protobuf.FieldMask" => Some(""),
        _ => None,
    };
    if let Some(text) = text {
        return json!(text);
    }
    let mut fields: Vec<_> = message.fields().filter(|field| field.containing_oneof().is_none()).collect();
    fields.sort_by_key(declared_at);
    let filled = fields.into_iter().filter_map(|field| {
        let value = match field.kind() {
            _ if field.is_map() => json!({}),
            Kind::Message(_) if depth == 0 => return None,
            Kind::Message(inner) => example(&inner, depth - 1),
            Kind::Enum(it) => {
                json!(it.values().nth(1).or_else(|| it.values().next()).map(|value| value.name().to_owned()))
            }
            Kind::Bool => json!(false),
            Kind::String if field.name() == "request_id" => json!(uuid::Uuid::new_v4().to_string()),
            Kind::String | Kind::Bytes => json!(""),
            Kind::Int64 | Kind::Uint64 | Kind::Sint64 | Kind::Fixed64 | Kind::Sfixed64 => json!("0"),
            _ => json!(0),
        };
        let value = if field.is_list() { json!([]) } else { value };
        Some((field.json_name().to_owned(), value))
    });
    Value::Object(filled.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contracts_are_described_with_their_options_and_comments() {
        let [control, events, release] = [
            "mesh.operations.v1.OperationControlService",
            "mesh.operations.v1.OperationEventsService",
            "mesh.release.v1.ReleaseService",
        ];
        let contracts = Contracts::read(
            mesh_proto::FILE_DESCRIPTOR_SET,
            [control, events, release].map(str::to_owned).into_iter().collect(),
        )
        .unwrap();
        let (serving, declared) = (
            BTreeMap::from([(control.to_owned(), "artwork".to_owned())]),
            BTreeMap::from([(format!("{release}/GetManifest"), BTreeSet::from(["mesh".to_owned()]))]),
        );
        let mut described = Described::default();
        described.add(&contracts, &Known { serving: &serving, declared: &declared });
        let json = described.json();
        let [control, release] = [0, 2].map(|at| &json["services"][at]);
        assert_eq!((&control["service"], &release["service"]), (&json!("artwork"), &Value::Null));
        assert!(!release["comment"].as_str().unwrap().is_empty());
        let get = &release["methods"][0];
        assert_eq!(
            (&get["full"], &get["idempotency"]),
            (&json!("mesh.release.v1.ReleaseService/GetManifest"), &json!("NO_SIDE_EFFECTS"))
        );
        assert_eq!((&get["access"], &get["declaredBy"]), (&json!("internal"), &json!(["mesh"])));
        assert!(get["comment"].as_str().unwrap().contains("SERVICE_NOT_FOUND"));
        let retry = &control["methods"][0];
        assert_eq!((&retry["name"], &retry["access"]), (&json!("Retry"), &json!("authenticated")));
        let request = &json["messages"][retry["request"].as_str().unwrap()];
        let name = &request["fields"][0];
        assert_eq!(
            (&name["name"], &name["type"], &name["repeated"]),
            (&json!("name"), &json!("string"), &json!(false))
        );
        assert!(name["bounds"].as_str().unwrap().starts_with("string.pattern ^services"), "{name}");
        let change = &json["enums"]["mesh.operations.v1.Change"]["values"][1];
        assert_eq!(change["name"], "CHANGE_STATE");
        assert!(change["comment"].as_str().unwrap().starts_with("Its state"));
        let only_reads = |name: &str| contracts.only_reads(&contracts.method(name).unwrap());
        assert!(only_reads("mesh.release.v1.ReleaseService/GetManifest"));
        assert!(!only_reads("mesh.operations.v1.OperationControlService/Retry"));
        assert!(contracts.method("mesh.events.v1.EventsService/ListEvents").is_none(), "it is not served");
    }
}
