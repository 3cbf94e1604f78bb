//! The database goes away under load, and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use contracts::mesh::operations::v1::State;
use harness::{Postgres, uuid};
use tonic::Code;
use tonic_types::StatusExt as _;

use super::system::System;

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn database_outage_is_unavailable_and_loses_nothing() {
    let Some(mut postgres) = Postgres::start() else { return };
    let system = System::on(&postgres, 1);
    let enough = Arc::new(AtomicBool::new(false));
    let clients = (0..6).map(|client| {
        let caller = system.caller().strict();
        system.spawn(caller.run_until(client < 3, Arc::clone(&enough)))
    });
    let clients = clients.collect();
    for _ in 0..3 {
        system.recorder.grows(100);
        postgres.stop();
        let refused = system.run(system.caller().try_start(&uuid())).expect_err("the database is away");
        let reason = refused.get_error_details().error_info().map(|info| info.reason.clone());
        assert_eq!((refused.code(), reason.as_deref()), (Code::Unavailable, Some("DATABASE_UNAVAILABLE")));
        postgres.restart();
    }
    system.recorder.grows(100);
    enough.store(true, Ordering::Relaxed);
    system.join(clients);
    let evidence = system.verdict();
    assert_eq!(evidence.ended(State::Succeeded), evidence.operations.len());
}
