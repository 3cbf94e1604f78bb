//! A time limit that holds while the runtime cannot keep its own.

use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

/// Waits for `time`, also while every worker of the runtime computes without an await: a thread of its own measures the
/// time. The runtime's own timers need a worker that is free.
#[expect(clippy::disallowed_methods, reason = "blocks a thread of its own, no worker")]
pub async fn alarm(time: Duration) {
    let (sender, rang) = oneshot::channel::<()>();
    let spawned = thread::Builder::new().name("alarm".to_owned()).spawn(move || {
        thread::sleep(time);
        drop(sender);
    });
    match spawned {
        Ok(_) => drop(rang.await),
        // Without a thread, the runtime's timer is what is left.
        Err(_) => tokio::time::sleep(time).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "keeps the only worker busy")]
    fn alarm_rings_while_every_worker_is_busy() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let start = Instant::now();
        runtime.block_on(async {
            let (begun, begins) = oneshot::channel();
            tokio::spawn(async move {
                begun.send(()).unwrap();
                thread::sleep(Duration::from_secs(5));
            });
            begins.await.unwrap();
            alarm(Duration::from_millis(100)).await;
        });
        let took = start.elapsed();
        runtime.shutdown_background();
        assert!((Duration::from_millis(100)..Duration::from_secs(4)).contains(&took), "{took:?}");
    }
}
