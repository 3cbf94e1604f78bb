//! The catalog owns the titles: the films that can be rented, and their prices.
//!
//! [`rpc`] answers calls. [`wire`] converts between the contract and [`domain`], which holds the rules; [`store`] holds
//! the SQL.

mod domain;
mod rpc;
mod store;
mod wire;

use contracts::catalog::v1::catalog_service_server::CatalogServiceServer;
use mesh::{Migration, Service};

const MIGRATIONS: &[Migration] = &[Migration::new(1, "titles", include_str!("../migrations/0001_titles.sql"))];

/// The service, ready to run alone or with others.
pub fn service() -> Service {
    Service::new("catalog", contracts::FILE_DESCRIPTOR_SET)
        .port(50051)
        .owns(MIGRATIONS)
        .publishes(store::snapshot)
        .serves(|resources| CatalogServiceServer::new(rpc::Catalog::new(resources.store())))
        .example("catalog.v1.CatalogService/ListTitles", r#"{"page_size": 10}"#)
        .example(
            "catalog.v1.CatalogService/CreateTitle",
            r#"{"request_id": "{uuid}", "name": "Metropolis", "year": 1927, "price_cents": 399}"#,
        )
}
