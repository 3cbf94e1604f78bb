//! The identity of the services of a process: X.509 certificates with a SPIFFE ID, by which processes authenticate each
//! other with TLS 1.3 in both directions.
//!
//! Modules, in order of dependency: [`spiffe`] is the name in a certificate, `validity` its end, `pem` reads files,
//! `files` names them, `rejection` names why a client is not let in, `verify` checks the certificate of a peer,
//! `snapshot` has those in use, [`source`] reads the files again and again, `trust` is that in the peer of an open
//! connection, [`settings`] has the keys `tls.mode` and `identity`.
//!
//! Guarantees:
//! - A peer is authenticated in each handshake: sessions are never resumed, since a resumed one would skip the check of
//!   the certificate.
//! - A certificate counts only with exactly one URI, a SPIFFE ID of the own trust domain. A client accepts only the ID
//!   of the service that it calls: its own with another last segment.
//! - New files are used all or none. A connection gets no calls beyond the end of its peer's
//!   certificate, and a server closes it at most 10 s later.
//! - If new files lack the authority of a peer, open connections with it get no more calls, and end 10 s later. A
//!   server ends their streams at once.
//!
//! Does not: issue certificates (`mesh ca` does, for development), or decide what a peer may call.
//!
//! See: [SPIFFE-ID](https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md), decision 0041

mod files;
mod pem;
pub(crate) mod rejection;
pub mod settings;
mod snapshot;
pub mod source;
pub mod spiffe;
mod trust;
mod validity;
mod verify;

pub use files::{Identities, Mistakes};
pub use pem::Mistake;
pub(crate) use settings::Security;
pub use settings::{Mode, Transport};
pub use snapshot::Snapshot;
pub use source::Source;
pub use spiffe::SpiffeId;

pub(crate) use pem::Contents;
pub(crate) use trust::{Trust, lost};
pub(crate) use validity::{left, not_after};
