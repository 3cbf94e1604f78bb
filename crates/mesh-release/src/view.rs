//! A descriptor set as it is compared: its methods, messages and enums, by their full names.
//!
//! Guarantees:
//! - A set that is cut, lacks an import, declares a name twice or has too many methods is refused, in words.
//! - Time and memory are linear in the set.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use prost::Message as _;
use thiserror::Error;

use super::descriptor::{self, Enum, File, FileSet, Message, Service, full};
use super::kinds;
use super::options::{FieldOptions, MethodOptions};

/// More methods than a system has.
pub const MOST_METHODS: usize = 4096;
/// A larger set is not read, in bytes.
const LARGEST: usize = 64 << 20;

/// Why a descriptor set or a manifest is not read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// It is no descriptor set, or not all of it.
    #[error("cannot be decoded: {0}")]
    Undecodable(String),
    /// It is larger than any.
    #[error("has {0} bytes, and {LARGEST} are read")]
    TooLarge(usize),
    /// It has more methods than any system.
    #[error("has {0} methods, and {MOST_METHODS} are compared")]
    TooManyMethods(usize),
    /// A type that another one refers to is in no file: an import is missing.
    #[error("lacks `{missing}`, to which `{by}` refers")]
    Missing {
        /// The type that is missing.
        missing: String,
        /// The message or method that refers to it.
        by: String,
    },
    /// Two files or types have one name.
    #[error("has `{0}` twice")]
    Twice(String),
    /// It is no manifest: it names no service.
    #[error("is no manifest: it names no service")]
    NoManifest,
    /// It was changed, or written by another version of the template.
    #[error("says `{0}` of itself, and has the digest `{1}`: it was changed, or is of another template")]
    Changed(String, String),
}

/// The contracts of one build.
#[derive(Clone, Debug, Default)]
pub struct View {
    set: FileSet,
    /// By `package.Service/Method`.
    pub(crate) methods: HashMap<String, MethodView>,
    pub(crate) messages: HashMap<String, MessageView>,
    pub(crate) enums: HashMap<String, BTreeMap<i32, String>>,
    /// The file of each gRPC service and message.
    files: HashMap<String, String>,
}

#[derive(Clone, Debug)]
pub(crate) struct MethodView {
    pub(crate) request: String,
    pub(crate) response: String,
    pub(crate) streams: (bool, bool),
    pub(crate) options: MethodOptions,
}

/// The fields of a message by number.
pub(crate) type MessageView = BTreeMap<i32, FieldView>;

#[derive(Clone, Debug)]
pub(crate) struct FieldView {
    pub(crate) name: String,
    pub(crate) kind: i32,
    pub(crate) repeated: bool,
    /// The full name of a message or an enum.
    pub(crate) type_name: String,
    /// The oneof that it is in: its number and its name.
    pub(crate) oneof: Option<(i32, String)>,
    pub(crate) options: FieldOptions,
}

impl View {
    /// Reads an encoded `google.protobuf.FileDescriptorSet` with its imports.
    ///
    /// # Errors
    ///
    /// The set is refused.
    pub fn read(set: &[u8]) -> Result<Self, Refused> {
        if set.len() > LARGEST {
            return Err(Refused::TooLarge(set.len()));
        }
        let set = descriptor::decode(set).map_err(undecodable)?;
        let methods = set.files.iter().flat_map(|file| &file.services).map(|service| service.methods.len()).sum();
        if methods > MOST_METHODS {
            return Err(Refused::TooManyMethods(methods));
        }
        let mut view = Self::default();
        let mut names = BTreeSet::new();
        for file in &set.files {
            if !names.insert(&file.name) {
                return Err(Refused::Twice(file.name.clone()));
            }
            file.enums.iter().try_for_each(|one| view.enumeration(&file.package, one))?;
            file.messages.iter().try_for_each(|one| view.message(file, &file.package, one))?;
            file.services.iter().try_for_each(|one| view.service(file, one))?;
        }
        view.resolve()?;
        view.set = set;
        Ok(view)
    }

    /// The methods of gRPC services, as `package.Service/Method`, in the order of their names.
    pub fn methods_of<'a>(&'a self, services: &'a [String]) -> BTreeSet<&'a str> {
        let of =
            |path: &&str| path.split_once('/').is_some_and(|(service, _)| services.iter().any(|one| one == service));
        self.methods.keys().map(String::as_str).filter(of).collect()
    }

    /// The file of a method, a gRPC service or a message, such as `catalog/v1/catalog.proto`.
    pub fn file_of(&self, name: &str) -> Option<&str> {
        let name = name.split('/').next().unwrap_or_default();
        self.files.get(name).map(String::as_str)
    }

    /// The part of the set that methods and messages reach, without comments: the same bytes for the same part.
    pub fn part(&self, methods: &BTreeSet<String>, messages: &BTreeSet<String>) -> Vec<u8> {
        let mut reached = BTreeSet::new();
        let mut next: Vec<&str> = messages.iter().map(String::as_str).collect();
        for method in methods.iter().filter_map(|method| self.methods.get(method)) {
            next.extend([&*method.request, &*method.response]);
        }
        while let Some(name) = next.pop() {
            if !reached.insert(name) {
                continue;
            }
            let fields = self.messages.get(name).into_iter().flat_map(BTreeMap::values);
            next.extend(fields.map(|field| &*field.type_name).filter(|name| !name.is_empty()));
        }
        let mut files = Vec::new();
        for file in &self.set.files {
            let mut file = file.clone();
            file.messages.retain_mut(|message| keep(&file.package, message, &reached));
            file.enums.retain(|one| reached.contains(&*full(&file.package, &one.name)));
            file.services.retain_mut(|service| {
                let scope = full(&file.package, &service.name);
                service.methods.retain(|method| methods.contains(&format!("{scope}/{}", method.name)));
                !service.methods.is_empty()
            });
            if !(file.messages.is_empty() && file.enums.is_empty() && file.services.is_empty()) {
                files.push(file);
            }
        }
        let names: BTreeSet<_> = files.iter().map(|file| file.name.clone()).collect();
        for file in &mut files {
            file.imports.retain(|import| names.contains(import));
        }
        FileSet { files }.encode_to_vec()
    }

    fn message(&mut self, file: &File, scope: &str, message: &Message) -> Result<(), Refused> {
        let name = full(scope, &message.name);
        let mut fields = MessageView::new();
        for field in &message.fields {
            let options = field.options.as_deref().unwrap_or_default();
            let view = FieldView {
                name: field.name.clone(),
                kind: field.kind,
                repeated: field.label == LABEL_REPEATED,
                type_name: field.type_name.trim_start_matches('.').to_owned(),
                // That of an `optional` field has no other.
                oneof: field.oneof.filter(|_| !field.proto3_optional).map(|number| (number, message.oneof(number))),
                options: FieldOptions::read(options).map_err(undecodable)?,
            };
            if fields.insert(field.number, view).is_some() {
                return Err(Refused::Twice(format!("{name} = {}", field.number)));
            }
        }
        self.files.insert(name.clone(), file.name.clone());
        message.enums.iter().try_for_each(|one| self.enumeration(&name, one))?;
        message.messages.iter().try_for_each(|one| self.message(file, &name, one))?;
        unique(self.messages.insert(name.clone(), fields), &name)
    }

    fn enumeration(&mut self, scope: &str, declared: &Enum) -> Result<(), Refused> {
        let name = full(scope, &declared.name);
        let values = declared.values.iter().map(|value| (value.number, value.name.clone())).collect();
        unique(self.enums.insert(name.clone(), values), &name)
    }

    fn service(&mut self, file: &File, service: &Service) -> Result<(), Refused> {
        let name = full(&file.package, &service.name);
        for method in &service.methods {
            let options = method.options.as_deref().unwrap_or_default();
            let view = MethodView {
                request: method.request.trim_start_matches('.').to_owned(),
                response: method.response.trim_start_matches('.').to_owned(),
                streams: (method.client_streaming, method.server_streaming),
                options: MethodOptions::read(options).map_err(undecodable)?,
            };
            let path = format!("{name}/{}", method.name);
            unique(self.methods.insert(path.clone(), view), &path)?;
        }
        unique(self.files.insert(name.clone(), file.name.clone()), &name)
    }

    /// Checks that all types are there.
    fn resolve(&self) -> Result<(), Refused> {
        let missing = |missing: &str, by: &str| Refused::Missing { missing: missing.to_owned(), by: by.to_owned() };
        for (path, method) in &self.methods {
            for message in [&method.request, &method.response] {
                if !self.messages.contains_key(message) {
                    return Err(missing(message, path));
                }
            }
        }
        for (name, fields) in &self.messages {
            for FieldView { kind, type_name, .. } in fields.values() {
                let is_there = match *kind {
                    kinds::MESSAGE | kinds::GROUP => self.messages.contains_key(type_name),
                    kinds::ENUM => self.enums.contains_key(type_name),
                    _ => type_name.is_empty(),
                };
                if !is_there {
                    return Err(missing(type_name, name));
                }
            }
        }
        Ok(())
    }
}

/// `Label.LABEL_REPEATED` of `google.protobuf.FieldDescriptorProto`.
const LABEL_REPEATED: i32 = 3;

/// Reduces a message to what is reached; `false` if nothing of it is.
fn keep(scope: &str, message: &mut Message, reached: &BTreeSet<&str>) -> bool {
    let name = full(scope, &message.name);
    message.messages.retain_mut(|nested| keep(&name, nested, reached));
    message.enums.retain(|one| reached.contains(&*full(&name, &one.name)));
    let is_reached = reached.contains(&*name);
    if !is_reached {
        // Only the scope of others.
        (message.fields, message.oneofs, message.options) = (Vec::new(), Vec::new(), None);
    }
    is_reached || !(message.messages.is_empty() && message.enums.is_empty())
}

fn unique<T>(before: Option<T>, name: &str) -> Result<(), Refused> {
    before.map_or(Ok(()), |_| Err(Refused::Twice(name.to_owned())))
}

pub(crate) fn undecodable(error: prost::DecodeError) -> Refused {
    // prost lists the messages around the place, outermost first, on one line.
    Refused::Undecodable(error.to_string())
}
