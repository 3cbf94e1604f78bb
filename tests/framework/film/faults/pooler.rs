//! Replicas reach their database through PgBouncer in transaction mode, which lends a session for one transaction.

use super::replicas::runs_through_a_rolling_restart;
use super::system::System;

#[test]
#[ignore = "needs PgBouncer: .ci/full"]
fn pooler_serves_long_work_through_a_rolling_restart() {
    // Fewer sessions than the replicas have connections. The replicas find out that clients share them.
    let Some((mut system, _pooler)) = System::pooled(2, 3, &[]) else { return };
    for replica in [0, 1] {
        assert!(system.process_of(replica).log().contains("prepared statements are off"), "not noticed");
    }
    runs_through_a_rolling_restart(&mut system, &[0, 1]);
}

#[test]
#[ignore = "needs PgBouncer: .ci/full"]
fn pooler_serves_long_work_without_a_statement_cache() {
    let without = [("MESH__DATABASE__STATEMENT_CACHE", "0")];
    let Some((mut system, _pooler)) = System::pooled(2, 3, &without) else { return };
    runs_through_a_rolling_restart(&mut system, &[0, 1]);
    // Nothing of a replica stays in a session for others.
    assert!(!system.process_of(0).log().contains("prepared statements are off"), "the check ran");
}
