//! `sample` owns the items.
//!
//! [`rpc`] answers calls, and [`work`] does what ImportItems starts. [`wire`] converts between the contract and
//! [`domain`], which holds the rules; [`store`] holds the SQL.

mod domain;
mod rpc;
mod store;
mod wire;
mod work;

use contracts::sample::v1::sample_service_server::SampleServiceServer;
use mesh::{Migration, Service};

const FIRST_ITEM: &str = r#"{"request_id": "{uuid}", "name": "first"}"#;
const FIRST_IMPORT: &str = r#"{"request_id": "{uuid}", "names": ["second", "third", "fourth"]}"#;
const MIGRATIONS: &[Migration] = &[Migration::new(1, "items", include_str!("../migrations/0001_items.sql"))];

/// The service, ready to run alone or with others.
pub fn service() -> Service {
    Service::new("sample", contracts::FILE_DESCRIPTOR_SET)
        .port(50055)
        .owns(MIGRATIONS)
        .works(|_| work::Import)
        .serves(|resources| SampleServiceServer::new(rpc::Items::new(resources)))
        .example("sample.v1.SampleService/CreateItem", FIRST_ITEM)
        .example("sample.v1.SampleService/ImportItems", FIRST_IMPORT)
}
