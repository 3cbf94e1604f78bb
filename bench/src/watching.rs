//! Measures the time from a commit to a watcher.
//!
//! One operation commits steps. One client watches it over loopback, in the same process, so that both read one clock.
//! A frame's time is when the client's stream returned it. A step's times are taken before the call of its commit, and
//! after its return. mesh notifies watchers before the commit returns: a frame may already be there, and counts as 0.
//! Steps are 10 ms apart: mesh would send closer ones together.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use mesh_proto::mesh::operations::v1::operation_events_service_client::OperationEventsServiceClient;
use mesh_proto::mesh::operations::v1::{OperationMetadata, Progress, WatchRequest, WatchResponse, watch_response};
use prost_types::Any;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::timeout;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::machine::{Engine, Machine};
use crate::plan::Plan;
use crate::report::{Report, Samples};
use crate::service::{Asked, Committed, Message, Site};

const APART: Duration = Duration::from_millis(10);
/// Two heartbeats: a stream that is silent for longer has failed.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) async fn measure(machine: &Machine, engine: Engine, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let what = |from, share| format!("µs from {from} to watcher, {engine}, p{share}");
    let place = match machine.place(engine, "watching").await? {
        Ok(place) => place,
        Err(why) => {
            report.missing(&what("commit", "50 and p99"), &why);
            return Ok(());
        }
    };
    let (ask, asked) = mpsc::channel(1);
    let site = Site::start(&place, Asked { asked: Mutex::new(asked) }).await?;
    let name = site.begin::<Asked>(false).await?;
    let channel = Channel::from_shared(site.mesh.url())?.connect().await?;
    let mut stream = watch(channel, name).await?;

    let mut step = 0;
    let mut shares = [(); 4].map(|()| Samples::default());
    for _ in 0..plan.rounds {
        let [called, returned] = round(&ask, &mut stream, &mut step, plan.events).await?;
        let round =
            [returned.percentile(0.5), returned.percentile(0.99), called.percentile(0.5), called.percentile(0.99)];
        shares.iter_mut().zip(round).for_each(|(share, sample)| share.push(sample));
    }
    let goals = [
        ("commit returned", "50", "1,000"),
        ("commit returned", "99", "10,000"),
        ("commit called", "50", ""),
        ("commit called", "99", ""),
    ];
    for ((from, share, goal), samples) in goals.into_iter().zip(&shares) {
        report.alone(&what(from, share), samples, goal);
    }
    Ok(())
}

/// Returns microseconds since the calls of commits, and since their returns; `step` is the last requested step.
async fn round(
    ask: &mpsc::Sender<oneshot::Sender<Committed>>,
    stream: &mut Streaming<WatchResponse>,
    step: &mut i64,
    events: usize,
) -> anyhow::Result<[Samples; 2]> {
    let [mut called, mut returned] = [Samples::default(), Samples::default()];
    for _ in 0..events {
        let (answer, committed) = oneshot::channel();
        ask.send(answer).await?;
        *step += 1;
        let seen = loop {
            let (frame, seen) = (next(stream).await?, Instant::now());
            if step_of(&frame)? == Some(*step) {
                break seen;
            }
        };
        let committed = committed.await?;
        called.push(micros(seen.saturating_duration_since(committed.called)));
        returned.push(micros(seen.saturating_duration_since(committed.returned)));
        tokio::time::sleep(APART).await;
    }
    Ok([called, returned])
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// Watches an operation with all progress.
pub(crate) async fn watch(channel: Channel, name: String) -> anyhow::Result<Streaming<WatchResponse>> {
    // The longest interval, so that an idle stream stays idle.
    let heartbeat = Some(prost_types::Duration { seconds: 30, nanos: 0 });
    let request = WatchRequest { name, heartbeat, progress: Progress::All.into(), ..WatchRequest::default() };
    Ok(OperationEventsServiceClient::new(channel).watch(request).await?.into_inner())
}

pub(crate) async fn next(stream: &mut Streaming<WatchResponse>) -> anyhow::Result<WatchResponse> {
    let message = timeout(LIMIT, stream.message()).await.context("a stream is silent")?;
    message?.context("a stream has ended")
}

/// The step in a frame's progress.
fn step_of(frame: &WatchResponse) -> anyhow::Result<Option<i64>> {
    let Some(watch_response::Event::Update(operation)) = &frame.event else { return Ok(None) };
    let metadata = operation.metadata.as_ref().map(Any::to_msg::<OperationMetadata>).transpose()?;
    let progress = metadata.and_then(|metadata| metadata.progress);
    Ok(progress.map(|progress| progress.to_msg::<Message>()).transpose()?.map(|step| step.seconds))
}

/// Whether a frame is a change, not the snapshot at the start of the stream.
pub(crate) fn is_progress(frame: &WatchResponse) -> bool {
    matches!(&frame.event, Some(watch_response::Event::Update(_)))
}
