//! The tables of docs/CONTRACTS.md, and of the READMEs of services, agree with the contracts. Its types read the
//! options that `prost-types` drops.

use contracts::google::api::HttpRule;
use contracts::google::api::http_rule::Pattern;
use contracts::mesh::options::v1::{Access, Authorization, Cache, Event};
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
    #[prost(message, optional, tag = "50003")]
    cache: Option<Cache>,
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

/// The access and the scopes, as a cell of the table.
fn access(options: &Options) -> String {
    let authorization = options.authorization.clone().unwrap_or_default();
    let access = match authorization.access() {
        Access::Public => "public",
        Access::Authenticated => "authenticated",
        Access::Unspecified | Access::Internal => "internal",
    };
    authorization.scopes.iter().fold(access.to_owned(), |cell, scope| format!("{cell}, `{scope}`"))
}

/// A contract of others that has none of the options of mesh.
const OF_OTHERS: &str = "grpc.health.v1.Health/";

/// What is wrong with the access that a method declares.
fn mistakes(options: &Options) -> Vec<String> {
    let Some(authorization) = &options.authorization else {
        return vec!["add (mesh.options.v1.authorization), such as {access: ACCESS_AUTHENTICATED}".to_owned()];
    };
    let mut mistakes = Vec::new();
    let mut check = |holds: bool, mistake: &str| {
        if !holds {
            mistakes.push(mistake.to_owned());
        }
    };
    let Authorization { scopes, .. } = authorization;
    let access = authorization.access();
    check(access != Access::Unspecified, "its access must be ACCESS_PUBLIC, ACCESS_AUTHENTICATED or ACCESS_INTERNAL");
    check(scopes.is_empty() || access == Access::Authenticated, "scopes are for ACCESS_AUTHENTICATED alone");
    // RFC 6749, appendix A.4.
    let is_scope = |scope: &String| {
        !scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
    };
    check(scopes.iter().all(is_scope), "a scope has ASCII characters without spaces, quotes and backslashes");
    check((1..scopes.len()).all(|at| !scopes[..at].contains(&scopes[at])), "a scope stands there twice");
    let is_shared = options.cache.is_some_and(|cache| cache.public);
    check(!is_shared || access == Access::Public, "only an answer to all callers may be in caches that they share");
    mistakes
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

/// The documents with such tables, with their paths: docs/CONTRACTS.md and the README of each service. `None` without
/// docs/CONTRACTS.md, which the owner of a project may delete.
fn documents() -> Option<Vec<(String, String)>> {
    let read = |path: String| Some((path.clone(), std::fs::read_to_string(root().join(path)).ok()?));
    let mut documents = vec![read("docs/CONTRACTS.md".to_owned())?];
    for service in std::fs::read_dir(root().join("services")).expect("services").flatten() {
        documents.extend(read(format!("services/{}/README.md", service.file_name().to_string_lossy())));
    }
    Some(documents)
}

/// The rows as the contracts declare them: those of calls, and those of events.
fn rows() -> [Vec<String>; 2] {
    let cell = |text: String| if text.is_empty() { " ".to_owned() } else { format!(" {text} ") };
    let calls = methods().into_iter().map(|(name, options)| {
        format!("| `{name}` | {} | {} |{}|", level(&options), access(&options), cell(http(&options)))
    });
    let events = files().flat_map(|file| {
        let events = file.messages.into_iter();
        let package = file.package;
        events.filter_map(move |message| {
            let event = message.options?.event?;
            Some(format!("| `{package}.{}` | `{}` |", message.name, event.key))
        })
    });
    [calls.collect(), events.collect()]
}

#[test]
fn contracts_table_lists_every_call_and_every_event_as_its_contract_declares_it() {
    let Some(documents) = documents() else { return };
    for row in rows().concat() {
        let listed = documents.iter().any(|(_, text)| text.contains(&row));
        assert!(listed, "neither docs/CONTRACTS.md nor the README of the service has the row {row}");
    }
}

/// The name in the first cell of a row, if it is that of a call or an event: `catalog.v1.CatalogService/GetTitle`.
fn named(line: &str) -> Option<&str> {
    let name = line.strip_prefix("| `")?.split_once("` |")?.0;
    let is_a_version =
        |part: &str| part.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let is_full = name.split(['.', '/']).count() > 2 && name.split('.').any(is_a_version) || name.contains('/');
    (is_full && name.chars().all(|c| c.is_ascii_alphanumeric() || "._/".contains(c)) && name.contains('.'))
        .then_some(name)
}

/// The rows of a document that no contract declares.
fn stale<'a>(text: &'a str, rows: &[String]) -> Vec<&'a str> {
    let declared = |line: &str| rows.iter().any(|row| line.starts_with(row));
    text.lines().filter(|line| named(line).is_some() && !declared(line)).collect()
}

#[test]
fn contracts_table_has_no_row_of_what_is_gone() {
    let rows = rows().concat();
    for (path, text) in documents().unwrap_or_default() {
        let stale = stale(&text, &rows);
        assert!(stale.is_empty(), "{path} has rows that no contract declares:\n{}", stale.join("\n"));
    }
}

#[test]
fn stale_rows_are_found() {
    let rows = ["| `a.v1.AService/Get` | none | public | |".to_owned(), "| `a.v1.Added` | `id` |".to_owned()];
    let text = "| call | level | access | HTTP | fails with |\n| `a.v1.AService/Get` | none | public | | NOT_FOUND |\n\
                | `a.v1.AService/Gone` | none | public | | |\n| `a.v1.Added` | `id` | Add |\n| `a.v1.Removed` | `id` | Remove |\n\
                | `a.v1.AService/Get` | IDEMPOTENT | public | | |\n| `services/a` | a path |\n| `mesh.toml` | a file |\n";
    let found: Vec<_> = stale(text, &rows).into_iter().filter_map(named).collect();
    assert_eq!(found, ["a.v1.AService/Gone", "a.v1.Removed", "a.v1.AService/Get"]);
}

#[test]
fn methods_declare_their_access() {
    let own = methods().into_iter().filter(|(name, _)| !name.starts_with(OF_OTHERS));
    let wrong = own.flat_map(|(name, options)| {
        let of_method = move |mistake| format!("{name}: {mistake}");
        mistakes(&options).into_iter().map(of_method).collect::<Vec<_>>()
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "the contracts have methods without a proper access:\n{}", wrong.join("\n"));
}

#[test]
fn mistakes_of_an_access_are_found() {
    let declared = |access: Access, scopes: &[&str], public| Options {
        authorization: Some(Authorization {
            access: access.into(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        }),
        cache: Some(Cache { max_age: None, public }),
        ..Options::default()
    };
    let count = |options: Options| mistakes(&options).len();
    assert_eq!(count(declared(Access::Authenticated, &["a.read", "a.write"], false)), 0);
    assert_eq!(count(declared(Access::Public, &[], true)), 0);
    assert_eq!(count(Options::default()), 1);
    assert_eq!(count(declared(Access::Unspecified, &[], false)), 1);
    assert_eq!(count(declared(Access::Public, &["a.read"], false)), 1);
    assert_eq!(count(declared(Access::Internal, &[], true)), 1);
    for scopes in [&["a b"][..], &[""], &["a\""], &["a", "a"]] {
        assert_eq!(count(declared(Access::Authenticated, scopes, false)), 1, "{scopes:?}");
    }
}

#[test]
fn http_rules_have_one_method_each() {
    let mut rules = std::collections::BTreeMap::new();
    for (name, options) in methods() {
        for rule in http(&options).split(", ").filter(|rule| !rule.is_empty()) {
            let other = rules.insert(rule.to_owned(), name.clone());
            // Both sets hold the contracts of mesh.
            let alone = other.as_ref().is_none_or(|other| *other == name);
            assert!(alone, "{name} has the rule {rule} of {other:?}: choose another path");
        }
    }
}
