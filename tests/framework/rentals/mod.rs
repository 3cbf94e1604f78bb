//! Promises that show when services follow each other and charge, tested with library and billing.

mod charges; // a charge and its refund at two replicas
mod example; // the example client that rents
mod kills; // rentals while catalog, library and billing are killed
mod sources; // `mesh events list` with several services that publish
mod steps; // library is killed behind each commit of a rental
mod trace; // `mesh events trace` with long work among the events
