//! Promises that only show when services serve, call each other and do long work, tested with catalog and artwork.

mod abuse; // slow, hostile and too many clients
mod authorities; // an authority that leaves the bundle
mod calls; // calls while a peer dies, is replaced, stalls or fails
mod compute; // the drain while a call computes
mod conditions; // a database that fails while its service runs
mod consul; // registration and discovery through Consul
mod contention; // statements of others, in locks, deadlocks and poolers
mod dashboard; // the dashboard of services that call each other
mod database; // a database that cannot be opened or goes away
mod edges; // who calls whom, for a dashboard
mod events; // the events of what changes while processes are killed
mod events_cli; // the commands of `mesh` for events
mod faults; // long work while something dies, stalls or goes away
mod first_calls; // the calls that a start prints, and the example client, with tokens
mod form; // heads of requests that are ambiguous
mod handshakes; // what is said about certificates and protocols that do not fit
mod identity; // mutual TLS between processes
mod issuers; // keys of issuers: a private authority, and keys that age
mod locks; // somebody else holds a lock in the database
mod long_work; // a kill within a clean-up, and a clock that went back
mod opening; // a database that is missing, emptied or of the wrong kind
pub(crate) mod operations_cli; // the commands of `mesh`
mod release_cli; // the commands of `mesh` for deployments
mod restore; // the steps after a backup was restored
mod schema; // a schema that is newer than the program
mod secrets; // no output has one
mod sidecar; // a process beside an app in any language
mod tracing; // one trace through every hop, and its export
mod up; // `mesh up`
mod users; // tokens, passports and intentions
