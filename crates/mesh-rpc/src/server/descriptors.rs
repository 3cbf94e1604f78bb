//! An index of descriptor sets: files by name, by symbol, and by the extensions that they declare.

use std::collections::{BTreeMap, HashMap};

use anyhow::Context as _;
use bytes::Bytes;
use prost::Message as _;
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto};

/// Files of several sets, each once, as they were encoded: the types of `prost-types` drop custom options.
#[derive(Default)]
pub(super) struct Descriptors {
    by_name: HashMap<String, Bytes>,
    by_symbol: HashMap<String, Bytes>,
    /// By extended message and field number.
    by_extension: HashMap<String, BTreeMap<i32, Bytes>>,
}

/// A `google.protobuf.FileDescriptorSet` whose files stay encoded.
#[derive(Clone, PartialEq, prost::Message)]
struct EncodedFiles {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    files: Vec<Bytes>,
}

impl Descriptors {
    /// Reads encoded sets.
    ///
    /// # Errors
    ///
    /// A set does not decode.
    pub(super) fn read<'a>(sets: impl IntoIterator<Item = &'a [u8]>) -> anyhow::Result<Self> {
        let mut index = Self::default();
        for set in sets {
            for encoded in EncodedFiles::decode(set).context("reflection")?.files {
                let file = FileDescriptorProto::decode(encoded.clone()).context("reflection")?;
                // Several sets may contain the same file.
                if !index.by_name.contains_key(file.name()) {
                    Reader { index: &mut index, encoded }.file(&file);
                }
            }
        }
        Ok(index)
    }

    /// The file of this name.
    pub(super) fn file(&self, name: &str) -> Option<&Bytes> {
        self.by_name.get(name)
    }

    /// The file that declares a service, method, message, field, enum, value or extension.
    pub(super) fn symbol(&self, name: &str) -> Option<&Bytes> {
        self.by_symbol.get(name.trim_start_matches('.'))
    }

    /// The file that declares an extension.
    pub(super) fn extension(&self, message: &str, number: i32) -> Option<&Bytes> {
        self.by_extension.get(message.trim_start_matches('.'))?.get(&number)
    }

    /// The field numbers of all extensions of a message. `None`: no file declares the message.
    pub(super) fn extension_numbers(&self, message: &str) -> Option<Vec<i32>> {
        let message = message.trim_start_matches('.');
        self.symbol(message)?;
        let extensions = self.by_extension.get(message);
        Some(extensions.map(|extensions| extensions.keys().copied().collect()).unwrap_or_default())
    }
}

/// Adds one file to an index.
struct Reader<'a> {
    index: &'a mut Descriptors,
    encoded: Bytes,
}

impl Reader<'_> {
    fn file(&mut self, file: &FileDescriptorProto) {
        self.index.by_name.insert(file.name().to_owned(), self.encoded.clone());
        let package = file.package();
        file.message_type.iter().for_each(|message| self.message(package, message));
        file.enum_type.iter().for_each(|declared| self.enumeration(package, declared));
        file.extension.iter().for_each(|extension| self.extension(package, extension));
        for service in &file.service {
            let name = self.symbol(package, service.name());
            service.method.iter().for_each(|method| drop(self.symbol(&name, method.name())));
        }
    }

    fn message(&mut self, scope: &str, message: &DescriptorProto) {
        let name = self.symbol(scope, message.name());
        message.field.iter().for_each(|field| drop(self.symbol(&name, field.name())));
        message.oneof_decl.iter().for_each(|choice| drop(self.symbol(&name, choice.name())));
        message.nested_type.iter().for_each(|nested| self.message(&name, nested));
        message.enum_type.iter().for_each(|declared| self.enumeration(&name, declared));
        message.extension.iter().for_each(|extension| self.extension(&name, extension));
    }

    /// The values of an enum are names of the scope around it; tools also ask for them below the enum.
    fn enumeration(&mut self, scope: &str, declared: &EnumDescriptorProto) {
        let name = self.symbol(scope, declared.name());
        for value in &declared.value {
            self.symbol(scope, value.name());
            self.symbol(&name, value.name());
        }
    }

    fn extension(&mut self, scope: &str, extension: &FieldDescriptorProto) {
        self.symbol(scope, extension.name());
        let extended = extension.extendee().trim_start_matches('.').to_owned();
        let extensions = self.index.by_extension.entry(extended).or_default();
        extensions.insert(extension.number(), self.encoded.clone());
    }

    /// Adds a name, and returns it in full.
    fn symbol(&mut self, scope: &str, name: &str) -> String {
        let full = if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") };
        self.index.by_symbol.insert(full.clone(), self.encoded.clone());
        full
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::OWN_DESCRIPTORS;

    fn own() -> Descriptors {
        Descriptors::read(OWN_DESCRIPTORS).unwrap()
    }

    fn name(file: Option<&Bytes>) -> Option<String> {
        file.map(|file| FileDescriptorProto::decode(file.clone()).unwrap().name().to_owned())
    }

    #[test]
    fn descriptors_find_symbols_of_each_kind() {
        let own = own();
        for symbol in [
            "grpc.health.v1.Health",
            "grpc.health.v1.Health.Check",
            "grpc.health.v1.HealthCheckResponse.status",
            "grpc.health.v1.HealthCheckResponse.ServingStatus",
            "grpc.health.v1.HealthCheckResponse.SERVING",
            ".grpc.health.v1.HealthCheckRequest",
        ] {
            assert_eq!(name(own.symbol(symbol)).as_deref(), Some("grpc/health/v1/health.proto"), "{symbol}");
        }
        assert_eq!(own.symbol("grpc.health.v1.Made"), None);
    }

    #[test]
    fn descriptors_find_extensions() {
        let own = own();
        let options = Some("mesh/options/v1/options.proto".to_owned());
        assert_eq!(name(own.symbol("mesh.options.v1.default_deadline")), options);
        assert_eq!(name(own.extension("google.protobuf.MethodOptions", 50001)), options);
        assert_eq!(own.extension("google.protobuf.MethodOptions", 49999), None);
        assert!(own.extension_numbers("google.protobuf.MethodOptions").unwrap().contains(&50001));
        assert_eq!(own.extension_numbers("grpc.health.v1.HealthCheckRequest"), Some(Vec::new()));
        assert_eq!(own.extension_numbers("made.Up"), None);
    }
}
