//! Prints the OpenAPI document of a file with a `google.protobuf.FileDescriptorSet`:
//! `cargo run -p transcode --example openapi contracts.bin`.

use std::error::Error;
use std::io::Write as _;
use std::{env, fs, io};

use prost_reflect::DescriptorPool;
use transcode::openapi::{Answer, Info, document};
use transcode::{Routes, Schema};

fn main() -> Result<(), Box<dyn Error>> {
    let file = env::args_os().nth(1).ok_or("the file of the descriptor set is missing")?;
    let pool = DescriptorPool::decode(fs::read(file)?.as_slice())?;
    let methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect::<Vec<_>>();
    let routes = Routes::new(&Schema::new(&pool), methods, "mesh.options.v1.revision");
    let routes = routes.map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    let info = Info {
        title: "The contracts",
        version: "1",
        server: "http://127.0.0.1:8080",
        bearer: false,
        answer: Answer::by_code,
        failures: &[],
    };
    io::stdout().write_all(&document(&routes, info))?;
    Ok(())
}
