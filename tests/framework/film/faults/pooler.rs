//! Replicas reach their database through PgBouncer in transaction mode, which lends a session for one transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use contracts::mesh::operations::v1::State;

use super::system::System;

#[test]
#[ignore = "needs PgBouncer: .ci/full"]
fn pooler_serves_long_work_through_a_rolling_restart() {
    // Fewer sessions than the replicas have connections. The replicas find out that clients share them.
    let Some((mut system, _pooler)) = System::pooled(2, 3, &[]) else { return };
    for replica in [0, 1] {
        assert!(system.process_of(replica).log().contains("prepared statements are off"), "not noticed");
    }
    runs_through_a_rolling_restart(&mut system);
}

#[test]
#[ignore = "needs PgBouncer: .ci/full"]
fn pooler_serves_long_work_without_a_statement_cache() {
    let without = [("MESH__DATABASE__STATEMENT_CACHE", "0")];
    let Some((mut system, _pooler)) = System::pooled(2, 3, &without) else { return };
    runs_through_a_rolling_restart(&mut system);
    // Nothing of a replica stays in a session for others.
    assert!(!system.process_of(0).log().contains("prepared statements are off"), "the check ran");
}

fn runs_through_a_rolling_restart(system: &mut System) {
    let enough = Arc::new(AtomicBool::new(false));
    let clients = (0..6).map(|client| {
        let caller = system.caller_of(client % 2).strict();
        system.spawn(caller.run_until(client < 3, Arc::clone(&enough)))
    });
    let clients = clients.collect();
    for replica in [0, 1] {
        system.recorder.grows(100);
        system.replace(replica);
    }
    system.recorder.grows(100);
    enough.store(true, Ordering::Relaxed);
    system.join(clients);
    let evidence = system.verdict();
    assert_eq!(evidence.ended(State::Succeeded), evidence.operations.len());
}
