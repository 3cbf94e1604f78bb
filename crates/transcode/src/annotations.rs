//! Options of fields.

use prost_reflect::{DescriptorPool, ExtensionDescriptor, FieldDescriptor};

/// `google.api.field_behavior`, as far as it is read here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Behavior {
    /// A request needs the field.
    pub(crate) required: bool,
    /// The server sets the field.
    pub(crate) output_only: bool,
    /// A response never has the field.
    pub(crate) input_only: bool,
}

impl Behavior {
    /// The behaviour of a field. An option that cannot be read counts as none.
    pub(crate) fn of(field: &FieldDescriptor) -> Self {
        let options: Options = field.options().transcode_to().unwrap_or_default();
        let has = |behavior: i32| options.field_behavior.contains(&behavior);
        Self { required: has(2), output_only: has(3), input_only: has(4) }
    }
}

/// `google.protobuf.FieldOptions`.
#[derive(Clone, PartialEq, prost::Message)]
struct Options {
    #[prost(int32, repeated, packed = "false", tag = "1052")]
    field_behavior: Vec<i32>,
}

/// A boolean option of fields that marks the revision of a resource.
pub(crate) struct Revision(Option<ExtensionDescriptor>);

impl Revision {
    /// The option with this full name. If no contract of the pool declares it, no field has it.
    pub(crate) fn named(pool: &DescriptorPool, option: &str) -> Self {
        Self(pool.get_extension_by_name(option))
    }

    pub(crate) fn marks(&self, field: &FieldDescriptor) -> bool {
        self.0.as_ref().is_some_and(|option| field.options().get_extension(option).as_bool() == Some(true))
    }
}
