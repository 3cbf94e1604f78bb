//! Library owns the rentals of viewers, and keeps a copy of the catalog's titles, from which it rents.
//!
//! [`rpc`] answers calls. [`rent`] is the saga that RentTitle starts, [`follow`] keeps the copy. [`wire`] converts
//! between the contract and [`domain`], which holds the rules; [`store`] holds the SQL.

mod domain;
mod follow;
mod rent;
mod rpc;
mod store;
mod wire;

use contracts::library::v1::library_service_server::LibraryServiceServer;
use mesh::{Migration, Service};

const MIGRATIONS: &[Migration] = &[
    Migration::new(1, "library", include_str!("../migrations/0001_library.sql")),
    Migration::new(2, "expire_time", include_str!("../migrations/0002_expire_time.sql")),
    Migration::new(3, "orphan_charges", include_str!("../migrations/0003_orphan_charges.sql")),
];

/// The service, ready to run alone or with others.
pub fn service() -> Service {
    Service::new("library", contracts::FILE_DESCRIPTOR_SET)
        .port(50053)
        .owns(MIGRATIONS)
        .calls("billing.v1.BillingService", &["Charge", "Refund"])
        .follows(|_| follow::Titles)
        .follows(|_| follow::Charges)
        .runs(|resources| rent::Rent::new(resources.channel("billing")))
        .serves(|resources| {
            let (store, operations) = (resources.store(), resources.operations());
            LibraryServiceServer::new(rpc::Library::new(store, operations, resources.copy("catalog")))
        })
        .example("library.v1.LibraryService/ListTitles", r#"{"page_size": 10}"#)
}
