//! `sample` owns the items, and keeps a copy of what `origin` publishes: [`follow`].
//!
//! [`rpc`] answers calls. [`wire`] converts between the contract and [`domain`], which holds the rules; [`store`] holds
//! the SQL.

mod domain;
mod follow;
mod rpc;
mod store;
mod wire;

use contracts::sample::v1::sample_service_server::SampleServiceServer;
use mesh::{Migration, Service};

const FIRST_ITEM: &str = r#"{"request_id": "{uuid}", "name": "first"}"#;
const MIGRATIONS: &[Migration] = &[Migration::new(1, "items", include_str!("../migrations/0001_items.sql"))];

/// The service, ready to run alone or with others.
pub fn service() -> Service {
    Service::new("sample", contracts::FILE_DESCRIPTOR_SET)
        .port(50055)
        .owns(MIGRATIONS)
        .follows(|_| follow::Copies)
        .serves(|resources| SampleServiceServer::new(rpc::Items::new(resources)))
        .example("sample.v1.SampleService/CreateItem", FIRST_ITEM)
}
