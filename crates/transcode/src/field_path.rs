//! A field within nested messages, by a path such as `title.title_id`.

use prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor};

/// The most names of a path. A message may contain itself, and a receiver refuses messages that nest more than 100 deep.
const DEPTH: usize = 32;

/// A path of fields, the outermost first. All but the last are messages.
#[derive(Clone, Debug)]
pub(crate) struct FieldPath {
    fields: Vec<FieldDescriptor>,
}

impl FieldPath {
    /// Finds the fields of a path within a message. `json` also accepts the names of JSON.
    ///
    /// # Errors
    ///
    /// What is wrong with the path.
    pub(crate) fn find(message: &MessageDescriptor, path: &str, json: bool) -> Result<Self, String> {
        let mut fields: Vec<FieldDescriptor> = Vec::new();
        let mut message = Some(message.clone());
        for name in path.split('.') {
            if fields.len() == DEPTH {
                return Err(format!("a path has at most {DEPTH} names"));
            }
            let Some(parent) = &message else {
                return Err(match fields.last() {
                    Some(field) => format!("{} is not a message with fields", field.name()),
                    None => "a path starts with a message".to_owned(),
                });
            };
            let by_json = || parent.get_field_by_json_name(name).filter(|_| json);
            let field = parent.get_field_by_name(name).or_else(by_json);
            let field = field.ok_or_else(|| format!("{} has no such field", parent.full_name()))?;
            message = message_of(&field);
            fields.push(field);
        }
        Ok(Self { fields })
    }

    pub(crate) fn of(field: FieldDescriptor) -> Self {
        Self { fields: vec![field] }
    }

    /// The path one level deeper.
    pub(crate) fn join(&self, field: FieldDescriptor) -> Self {
        Self { fields: self.fields.iter().cloned().chain([field]).collect() }
    }

    /// The field itself.
    pub(crate) fn leaf(&self) -> &FieldDescriptor {
        &self.fields[self.fields.len() - 1]
    }

    pub(crate) fn fields(&self) -> &[FieldDescriptor] {
        &self.fields
    }

    /// The path by the names of the contract.
    pub(crate) fn name(&self) -> String {
        self.fields.iter().map(FieldDescriptor::name).collect::<Vec<_>>().join(".")
    }

    /// The path by the names of JSON.
    pub(crate) fn json_name(&self) -> String {
        self.fields.iter().map(FieldDescriptor::json_name).collect::<Vec<_>>().join(".")
    }

    /// The numbers of the fields, which identify them.
    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.fields.iter().map(FieldDescriptor::number).collect()
    }

    /// Whether the path is `other` or within it.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        let theirs = other.fields.iter().map(FieldDescriptor::number);
        self.fields.len() >= other.fields.len()
            && self.fields.iter().map(FieldDescriptor::number).zip(theirs).all(|(a, b)| a == b)
    }
}

/// The message of a field that may be followed by a `.` in a path.
fn message_of(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    match field.kind() {
        Kind::Message(message) if field.cardinality() != Cardinality::Repeated => Some(message),
        _ => None,
    }
}
