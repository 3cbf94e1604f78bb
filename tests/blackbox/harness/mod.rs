//! How tests start, call and stop real processes.
//!
//! Nothing here uses a fixed port or sleeps until something ought to be ready: a process says where it listens, and
//! everything else is asked again until it answers or a limit is reached.

pub(crate) mod collector;
mod consul;
mod grpcurl;
pub(crate) mod postgres;
mod process;
mod programs;
mod proxy;
mod raw;
mod sql;

use std::path::Path;

pub(crate) use consul::Consul;
pub(crate) use grpcurl::Grpcurl;
pub(crate) use process::{Process, command, output, output_in};
pub(crate) use programs::{LIMIT, eventually, find_program, skip};
pub(crate) use proxy::Proxy;
pub(crate) use raw::{RawCall, RawConnection};
pub(crate) use sql::execute;

/// Where this project is.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A UUID that nobody has used before.
pub(crate) fn uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}
