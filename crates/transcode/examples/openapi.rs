//! Prints the OpenAPI document of a file with a `google.protobuf.FileDescriptorSet`:
//! `cargo run -p transcode --example openapi contracts.bin`.

use std::error::Error;
use std::io::Write as _;
use std::{env, fs, io};

use prost_reflect::{DescriptorPool, MethodDescriptor};
use transcode::openapi::{Answer, Bearer, Info, document};
use transcode::{Routes, Schema};

/// The number of `ACCESS_AUTHENTICATED`.
const AUTHENTICATED: i32 = 2;

fn main() -> Result<(), Box<dyn Error>> {
    let file = env::args_os().nth(1).ok_or("the file of the descriptor set is missing")?;
    let pool = DescriptorPool::decode(fs::read(file)?.as_slice())?;
    let methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect::<Vec<_>>();
    let authenticated: Vec<_> = methods.iter().filter_map(|method| Some((path(method), scopes(method)?))).collect();
    let scopes: Vec<(_, Vec<_>)> = authenticated
        .iter()
        .map(|(path, scopes)| (path.as_str(), scopes.iter().map(String::as_str).collect()))
        .collect();
    let bearer: Vec<_> = scopes.iter().map(|(path, scopes)| (*path, scopes.as_slice())).collect();
    let routes = Routes::new(&Schema::new(&pool), methods, "mesh.options.v1.revision");
    let routes = routes.map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    let info = Info {
        title: "The contracts",
        version: "1",
        server: "http://127.0.0.1:8080",
        bearer: Bearer {
            methods: &bearer,
            description: "A token of an issuer.",
            failures: &[(16, "TOKEN_MISSING")],
            scope_failures: &[(7, "SCOPE_MISSING")],
        },
        answer: Answer::by_code,
        failures: &[],
    };
    io::stdout().write_all(&document(&routes, info))?;
    Ok(())
}

/// The path by which gRPC calls a method.
fn path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

/// The scopes that the token for a method needs; `None`: its callers send none.
fn scopes(method: &MethodDescriptor) -> Option<Vec<String>> {
    let options = method.options();
    let mut options = options.extensions();
    let (_, value) = options.find(|(option, _)| option.full_name() == "mesh.options.v1.authorization")?;
    let authorization = value.as_message()?;
    if authorization.get_field_by_name("access")?.as_enum_number()? != AUTHENTICATED {
        return None;
    }
    let scopes = authorization.get_field_by_name("scopes")?;
    Some(scopes.as_list()?.iter().filter_map(|scope| scope.as_str().map(str::to_owned)).collect())
}
