//! Billing owns the charges of cards, and their refunds.
//!
//! [`rpc`] answers calls. [`wire`] converts between the contract and [`domain`], which holds the rules; [`store`] holds
//! the SQL.

mod domain;
mod rpc;
mod store;
mod wire;

use contracts::billing::v1::billing_service_server::BillingServiceServer;
use mesh::{Migration, Service};

const CHARGE: &str = r#"{"request_id": "{uuid}", "card": "test", "amount_cents": 399}"#;
const MIGRATIONS: &[Migration] = &[Migration::new(1, "charges", include_str!("../migrations/0001_charges.sql"))];

/// The service, ready to run alone or with others.
pub fn service() -> Service {
    Service::new("billing", contracts::FILE_DESCRIPTOR_SET)
        .port(50054)
        .owns(MIGRATIONS)
        .publishes(store::snapshot)
        .serves(|resources| BillingServiceServer::new(rpc::Billing::new(resources.store())))
        .example("billing.v1.BillingService/Charge", CHARGE)
}
