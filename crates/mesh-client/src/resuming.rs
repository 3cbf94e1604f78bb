//! A stream of frames with cursors that resumes behind the last one.

use tokio::time::{sleep, timeout};
use tonic::{Status, Streaming};

use super::resume::{SILENCE, is_final, pause, silent};

/// Opens the streams of a method whose frames have cursors.
pub(super) trait Subscribe {
    type Frame;

    /// Opens a stream behind a cursor.
    fn open(&mut self, cursor: Vec<u8>) -> impl Future<Output = Result<Streaming<Self::Frame>, Status>> + Send;

    fn cursor(frame: &Self::Frame) -> &[u8];
}

/// The frames of one stream after another.
#[derive(Debug)]
pub(super) struct Resuming<S, F> {
    pub(super) source: S,
    /// The cursor of the next stream.
    pub(super) cursor: Vec<u8>,
    stream: Option<Streaming<F>>,
    failures: u32,
}

impl<S: Subscribe> Resuming<S, S::Frame> {
    pub(super) fn new(source: S, cursor: Vec<u8>) -> Self {
        Self { source, cursor, stream: None, failures: 0 }
    }

    /// Waits for the next frame of a stream without an end, without a limit. The future may be dropped at any time, and
    /// the method called again.
    pub(super) async fn next(&mut self) -> Result<S::Frame, Status> {
        loop {
            match self.next_or_end().await? {
                Some(frame) => return Ok(frame),
                None => self.wait(&Status::unavailable("the stream ended")).await,
            }
        }
    }

    /// As [`next`](Self::next); `None` if the server ends the stream with OK.
    pub(super) async fn next_or_end(&mut self) -> Result<Option<S::Frame>, Status> {
        loop {
            match self.try_next().await {
                Ok(Some(frame)) => {
                    let cursor = S::cursor(&frame);
                    if self.cursor != cursor {
                        self.failures = 0;
                        self.cursor = cursor.to_vec();
                    }
                    return Ok(Some(frame));
                }
                Ok(None) => return Ok(None),
                Err(status) if is_final(status.code()) => return Err(status),
                Err(status) => self.wait(&status).await,
            }
        }
    }

    /// Waits after a failure, before a new stream is opened.
    async fn wait(&mut self, status: &Status) {
        self.stream = None;
        self.failures += 1;
        let pause = pause(status, self.failures);
        sleep(pause).await;
    }

    /// The next frame of the current stream, or of a new one if there is none.
    async fn try_next(&mut self) -> Result<Option<S::Frame>, Status> {
        if self.stream.is_none() {
            let stream = timeout(SILENCE, self.source.open(self.cursor.clone())).await.map_err(silent)??;
            self.stream = Some(stream);
        }
        let stream = self.stream.as_mut().ok_or_else(|| Status::internal("a stream was opened"))?;
        timeout(SILENCE, stream.message()).await.map_err(silent)?
    }
}
