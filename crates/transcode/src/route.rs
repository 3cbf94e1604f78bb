//! The bindings of many methods, found by the method and the path of an HTTP request.

use std::collections::BTreeMap;

use prost_reflect::MethodDescriptor;

use crate::annotations::Revision;
use crate::binding::{Binding, WEBSOCKET};
use crate::percent;
use crate::router::{Found, Router};
use crate::rule::{self, RuleError};
use crate::table::Schema;
use crate::template::{Segment, Variable};

/// All bindings.
pub struct Routes {
    schema: Schema,
    bindings: Vec<Binding>,
    router: Router,
}

/// The binding of a request.
pub struct Matched<'r> {
    /// The binding.
    pub binding: &'r Binding,
    /// The index of the binding in [`Routes::bindings`].
    pub index: usize,
    /// The values of the template's variables, as the path has them.
    pub(crate) values: Vec<&'r str>,
}

/// Why a request has no binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// The path is malformed: 400, with the reason.
    BadPath(&'static str),
    /// No rule has the path: 404.
    NotFound,
    /// The path has rules for these methods only: 405. The list is empty if the path is only for WebSockets.
    Method {
        /// The methods for the header `Allow`.
        allow: Vec<String>,
    },
}

impl Routes {
    /// Reads the rules of methods from their option `google.api.http`. A method without a rule has no binding.
    /// `revision` is the full name of the boolean field option that marks the revision of a resource.
    ///
    /// # Errors
    ///
    /// All rules that cannot be served: a malformed template, a variable or body that names no field of its kind, two
    /// rules for the same paths.
    pub fn new(
        schema: &Schema,
        methods: impl IntoIterator<Item = MethodDescriptor>,
        revision: &str,
    ) -> Result<Self, Vec<RuleError>> {
        let mut routes = Self { schema: schema.clone(), bindings: Vec::new(), router: Router::new() };
        let mut errors = Vec::new();
        for method in methods {
            let revision = Revision::named(method.parent_pool(), revision);
            if let Err(mistakes) = routes.add(&method, &revision) {
                errors.extend(mistakes);
            }
        }
        if errors.is_empty() { Ok(routes) } else { Err(errors) }
    }

    fn add(&mut self, method: &MethodDescriptor, revision: &Revision) -> Result<(), Vec<RuleError>> {
        let error = |rule: String, what| RuleError { method: method.full_name().to_owned(), rule, what };
        let rules = rule::of(method).map_err(|what| vec![error("google.api.http".to_owned(), what)])?;
        let mut errors = Vec::new();
        for rule in rules {
            let name = format!("{} {}", rule.http_method, rule.template);
            let binding = match Binding::new(&self.schema, method, &rule, revision) {
                Ok(binding) => binding,
                Err(mistakes) => {
                    errors.extend(mistakes.into_iter().map(|what| error(name.clone(), what)));
                    continue;
                }
            };
            match self.router.insert(&rule.http_method, &binding.template, self.bindings.len()) {
                Ok(()) => self.bindings.push(binding),
                Err(other) => {
                    let other = &self.bindings[other];
                    let what = format!("{} has the same paths: {}", other.method.full_name(), other.path);
                    errors.push(error(name, what));
                }
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// All bindings, in the order of the methods.
    pub fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// The bindings of each method, by the path by which gRPC calls it.
    pub fn by_method(&self) -> BTreeMap<&str, Vec<&Binding>> {
        let mut methods: BTreeMap<&str, Vec<&Binding>> = BTreeMap::new();
        for binding in &self.bindings {
            methods.entry(&binding.grpc_path).or_default().push(binding);
        }
        methods
    }

    /// Finds the binding for a method, or `WEBSOCKET`, and a path without its query. The values of variables are
    /// decoded later, by [`Matched::request`].
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn find<'r>(&'r self, http_method: &str, path: &'r str) -> Result<Matched<'r>, Miss> {
        percent::check_path(path).map_err(Miss::BadPath)?;
        match self.router.find(http_method, path) {
            Found::Binding(index, end) => {
                let binding = &self.bindings[index];
                Ok(Matched { binding, index, values: values(binding, &path[..end]) })
            }
            Found::Methods(methods) => {
                let allow = methods.into_iter().filter(|&method| method != WEBSOCKET).map(str::to_owned).collect();
                Err(Miss::Method { allow })
            }
            Found::Nothing => Err(Miss::NotFound),
        }
    }
}

/// The values of a template's variables in a path that it matches, without the verb.
fn values<'p>(binding: &Binding, path: &'p str) -> Vec<&'p str> {
    let template = &binding.template;
    if template.variables.is_empty() {
        return Vec::new();
    }
    // Where each segment starts. `**` may match nothing: it starts behind the end.
    let count = template.segments.len();
    let slashes = path.match_indices('/').map(|(at, _)| at + 1);
    let starts: Vec<usize> = slashes.take(count + 1).chain([path.len() + 1; 2]).collect();
    let last_is_rest = template.segments.last() == Some(&Segment::Rest);
    let value = |variable: &Variable| {
        let to_the_end = variable.end == count && last_is_rest;
        let end = if to_the_end { path.len() } else { starts[variable.end] - 1 };
        path.get(starts[variable.start]..end).unwrap_or_default()
    };
    template.variables.iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::library;

    /// The method and the values of a path.
    #[track_caller]
    fn found(http_method: &str, path: &str) -> (String, Vec<String>) {
        let routes = library::routes();
        let matched = routes.find(http_method, path).unwrap_or_else(|miss| panic!("{path}: {miss:?}"));
        let values = matched.values.iter().map(|&value| value.to_owned()).collect();
        (matched.binding.method.name().to_owned(), values)
    }

    #[test]
    fn route_finds_the_values_of_its_variables() {
        for (path, method, values) in [
            ("/v1/books", "ListBooks", vec![]),
            ("/v1/books/a%2Fb+c", "GetBook", vec!["a%2Fb+c"]),
            ("/v1/books/a:b", "GetBook", vec!["a:b"]),
            ("/v1/books/a:watch", "WatchBook", vec!["a"]),
            ("/v1/books/a/cover", "GetCover", vec!["a"]),
            ("/v1/shelves/1/books/2", "GetBook", vec!["shelves/1/books/2"]),
            ("/v1/files/a/b//c:read", "GetBook", vec!["a/b//c"]),
            ("/v1/files/a:read", "GetBook", vec!["a"]),
            ("/v1/files/:read", "GetBook", vec![""]),
            ("/v1/files:read", "GetBook", vec![""]),
        ] {
            assert_eq!(
                found("GET", path),
                (method.to_owned(), values.into_iter().map(str::to_owned).collect()),
                "{path}"
            );
        }
        assert_eq!(found("WEBSOCKET", "/v1/talk").0, "Talk");
    }

    #[test]
    fn route_reports_why_a_request_has_no_binding() {
        let routes = library::routes();
        let miss = |http_method, path: &str| routes.find(http_method, path).err();
        let allow =
            |methods: &[&str]| Miss::Method { allow: methods.iter().map(|&method| method.to_owned()).collect() };
        assert_eq!(miss("PUT", "/v1/books/a"), Some(allow(&["GET", "PATCH", "DELETE"])));
        assert_eq!(miss("GET", "/v1/talk"), Some(allow(&[])));
        for path in ["/", "/v1", "/v2/books", "/v1/books/", "/v1/books/a/b", "/v1/shelves/1/books"] {
            assert_eq!(miss("GET", path), Some(Miss::NotFound), "{path}");
        }
        for path in ["", "*", "v1/books", "/v1/books/%zz", "/v1/books/%00", "/v1/../v1/books", "/v1/books/%2e%2e"] {
            assert!(matches!(miss("GET", path), Some(Miss::BadPath(_))), "{path}");
        }
        assert_eq!(miss("GET", &"/".repeat(1_000)), Some(Miss::NotFound));
    }

    #[test]
    fn route_rules_are_refused_all_at_once() {
        let mistakes = library::mistakes(
            r#"
            syntax = "proto3";
            package bad.v1;
            import "google/api/annotations.proto";
            message Inner { string id = 1; }
            message All { string id = 1; repeated string ids = 2; Inner inner = 3; map<string, string> map = 4; }
            service Bad {
              rpc Template(All) returns (All) { option (google.api.http) = {get: "v1"}; }
              rpc Variable(All) returns (All) { option (google.api.http) = {get: "/v1/{no}/{ids}/{inner}/{inner.no}"}; }
              rpc Body(All) returns (All) { option (google.api.http) = {post: "/v1/b" body: "no" response_body: "id"}; }
              rpc List(All) returns (All) { option (google.api.http) = {post: "/v1/c" body: "ids"}; }
              rpc GetBody(All) returns (All) { option (google.api.http) = {get: "/v1/d" body: "*"}; }
              rpc First(All) returns (All) { option (google.api.http) = {get: "/v1/e/{id}"}; }
              rpc Second(All) returns (All) { option (google.api.http) = {get: "/v1/e/{inner.id}"}; }
              rpc Empty(All) returns (All) { option (google.api.http) = {body: "*"}; }
              rpc Kind(All) returns (All) { option (google.api.http) = {custom: {path: "/v1/f"}}; }
            }"#,
        );
        let shown: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        let expected = [
            "bad.v1.Bad.Template: GET v1: byte 0: a template starts with `/`",
            "bad.v1.Bad.Variable: GET /v1/{no}/{ids}/{inner}/{inner.no}: variable `no` is no field of bad.v1.All",
            "variable `ids`: a path has values of numbers, strings, bytes, booleans and enums only",
            "variable `inner`: a path has values",
            "variable `inner.no` is no field of bad.v1.Inner",
            "bad.v1.Bad.Body: POST /v1/b: body `no` is no field of bad.v1.All",
            "response_body `id`: the body of an answer is one message",
            "body `ids`: a body is one message, or bytes",
            "GET has no body",
            "bad.v1.Bad.Second: GET /v1/e/{inner.id}: bad.v1.Bad.First has the same paths: /v1/e/{id}",
            "bad.v1.Bad.Empty: google.api.http: the rule has no pattern",
            "a custom pattern needs a kind",
        ];
        assert_eq!(shown.len(), expected.len(), "{shown:#?}");
        for (shown, expected) in shown.iter().zip(expected) {
            assert!(shown.contains(expected), "{shown} has {expected}");
        }
    }

    #[test]
    fn route_survives_mutated_paths() {
        let routes = library::routes();
        let mut random = fastrand::Rng::with_seed(7);
        let parts =
            ["/", "v1", "books", ":", "watch", "read", "%", "%2F", "%2e", "%00", ".", "files", "ä", "a", "shelves"];
        for _ in 0..400_000 {
            let count = random.usize(0..14);
            let path: String = (0..count).map(|_| parts[random.usize(..parts.len())]).collect();
            if let Ok(matched) = routes.find("GET", &path) {
                assert_eq!(matched.values.len(), matched.binding.template.variables.len(), "{path}");
                assert!(matched.values.iter().all(|value| path.contains(value)), "{path}");
            }
        }
    }
}
