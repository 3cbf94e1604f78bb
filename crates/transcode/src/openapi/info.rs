//! What the caller knows, and the contracts do not say.

use crate::binding::Binding;
use crate::code;

/// The name of the security scheme for a bearer token.
pub(super) const SCHEME: &str = "bearer";

/// What a document says beside the contract.
#[derive(Clone, Copy, Debug)]
pub struct Info<'a> {
    /// The title of the API.
    pub title: &'a str,
    /// The version of the API.
    pub version: &'a str,
    /// The URL before all paths, such as `https://api.example.org`. Empty: the origin of the document.
    pub server: &'a str,
    /// The methods whose callers send a bearer token.
    pub bearer: Bearer<'a>,
    /// How the server answers a failure of a method, by its code of gRPC and its reason.
    pub answer: fn(&Binding, i32, &str) -> Answer,
    /// Failures that any method may have, such as that of a limit: the code of gRPC, and the reason.
    pub failures: &'a [(i32, &'a str)],
}

/// The methods whose callers send a bearer token, and how their calls fail for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bearer<'a> {
    /// The path by which gRPC calls a method, as [`Binding::grpc_path`] has it, and the scopes that the token needs,
    /// all of them.
    pub methods: &'a [(&'a str, &'a [&'a str])],
    /// What a token is, for people.
    pub description: &'a str,
    /// Failures of each of these methods: the code of gRPC, and the reason.
    pub failures: &'a [(i32, &'a str)],
    /// Failures of those that need a scope.
    pub scope_failures: &'a [(i32, &'a str)],
}

impl<'a> Bearer<'a> {
    /// The scopes that the token for a method needs; `None`: its callers send none.
    pub(super) fn scopes(self, binding: &Binding) -> Option<&'a [&'a str]> {
        let found = self.methods.iter().find(|(path, _)| *path == binding.grpc_path);
        found.map(|(_, scopes)| *scopes)
    }
}

/// How a server answers a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status of HTTP. A failure may have another one if the request has a header for it.
    pub statuses: Vec<u16>,
    /// The domain of the reason.
    pub domain: String,
}

impl Answer {
    /// The answer of a server without rules of its own: the status follows from the code, and the domain is the first
    /// segment of the package.
    pub fn by_code(binding: &Binding, code: i32, _reason: &str) -> Self {
        let domain = binding.method.parent_service().package_name().split('.').next().unwrap_or_default().to_owned();
        Self { statuses: vec![code::http_status(code)], domain }
    }
}
