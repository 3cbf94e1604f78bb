//! docs/CONTRACTS.md agrees with the contracts. Its types read the options that `prost-types` drops.

use contracts::google::api::HttpRule;
use contracts::google::api::http_rule::Pattern;
use contracts::mesh::options::v1::{Access, Authorization, Event};
use harness::root;
use prost::Message as _;
use prost_types::method_options::IdempotencyLevel;

#[derive(Clone, PartialEq, prost::Message)]
struct Files {
    #[prost(message, repeated, tag = "1")]
    files: Vec<File>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct File {
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "4")]
    messages: Vec<Declared>,
    #[prost(message, repeated, tag = "6")]
    services: Vec<Service>,
}

/// A message.
#[derive(Clone, PartialEq, prost::Message)]
struct Declared {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "7")]
    options: Option<MessageOptions>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MessageOptions {
    #[prost(message, optional, tag = "50001")]
    event: Option<Event>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    methods: Vec<Method>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Method {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "4")]
    options: Option<Options>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Options {
    #[prost(enumeration = "IdempotencyLevel", tag = "34")]
    idempotency_level: i32,
    #[prost(message, optional, tag = "50002")]
    authorization: Option<Authorization>,
    #[prost(message, optional, tag = "72295728")]
    http: Option<HttpRule>,
}

fn files() -> impl Iterator<Item = File> {
    let sets = [contracts::FILE_DESCRIPTOR_SET, mesh_proto::FILE_DESCRIPTOR_SET];
    sets.into_iter().flat_map(|set| Files::decode(set).expect("a descriptor set").files)
}

/// The options of every method of the contracts, with its full name.
fn methods() -> Vec<(String, Options)> {
    let mut methods = Vec::new();
    for file in files() {
        for service in file.services {
            for method in service.methods {
                let name = format!("{}.{}/{}", file.package, service.name, method.name);
                methods.push((name, method.options.unwrap_or_default()));
            }
        }
    }
    assert!(!methods.is_empty(), "the contracts declare no calls");
    methods
}

fn level(options: &Options) -> &'static str {
    match options.idempotency_level() {
        IdempotencyLevel::NoSideEffects => "NO_SIDE_EFFECTS",
        IdempotencyLevel::Idempotent => "IDEMPOTENT",
        IdempotencyLevel::IdempotencyUnknown => "none",
    }
}

fn access(options: &Options) -> &'static str {
    match options.authorization.clone().unwrap_or_default().access() {
        Access::Public => "public",
        Access::Authenticated => "authenticated",
        Access::Unspecified | Access::Internal => "internal",
    }
}

/// The verb and the path of each rule, as a cell of the table; empty without a rule.
fn http(options: &Options) -> String {
    let rules = options.http.iter().flat_map(|rule| std::iter::once(rule).chain(&rule.additional_bindings));
    let each = rules.map(|rule| {
        let (verb, path) = match rule.pattern.as_ref().expect("a rule has a pattern") {
            Pattern::Get(path) => ("GET", path),
            Pattern::Put(path) => ("PUT", path),
            Pattern::Post(path) => ("POST", path),
            Pattern::Delete(path) => ("DELETE", path),
            Pattern::Patch(path) => ("PATCH", path),
            Pattern::Custom(custom) => (custom.kind.as_str(), &custom.path),
        };
        format!("`{verb} {path}`")
    });
    each.collect::<Vec<_>>().join(", ")
}

#[test]
fn contracts_table_lists_every_call_as_its_contract_declares_it() {
    let listed = std::fs::read_to_string(root().join("docs/CONTRACTS.md")).expect("docs/CONTRACTS.md");
    let cell = |text: String| if text.is_empty() { " ".to_owned() } else { format!(" {text} ") };
    for (name, options) in methods() {
        let row = format!("| `{name}` | {} | {} |{}|", level(&options), access(&options), cell(http(&options)));
        assert!(listed.contains(&row), "docs/CONTRACTS.md has no row {row}");
    }
}

#[test]
fn contracts_table_lists_every_event_with_its_key() {
    let listed = std::fs::read_to_string(root().join("docs/CONTRACTS.md")).expect("docs/CONTRACTS.md");
    for file in files() {
        for message in file.messages {
            let Some(event) = message.options.and_then(|options| options.event) else { continue };
            let row = format!("| `{}.{}` | `{}` |", file.package, message.name, event.key);
            assert!(listed.contains(&row), "docs/CONTRACTS.md has no row {row}");
        }
    }
}

#[test]
fn http_rules_have_an_access_and_one_method_each() {
    let mut rules = std::collections::BTreeMap::new();
    for (name, options) in methods() {
        let stated = options.authorization.is_some() || options.http.is_none();
        assert!(stated, "{name} has an HTTP rule and no access: add (mesh.options.v1.authorization)");
        for rule in http(&options).split(", ").filter(|rule| !rule.is_empty()) {
            let other = rules.insert(rule.to_owned(), name.clone());
            // Both sets hold the contracts of mesh.
            let alone = other.as_ref().is_none_or(|other| *other == name);
            assert!(alone, "{name} has the rule {rule} of {other:?}: choose another path");
        }
    }
}
