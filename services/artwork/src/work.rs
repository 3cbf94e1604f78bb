//! Renders one picture in four sizes, each size a step of the operation that RenderArtwork starts.

use std::sync::Arc;

use contracts::artwork::v1::{self as proto, RenderArtworkProgress, RenderArtworkRequest, RenderArtworkResponse};
use image::DynamicImage;
use mesh::operations::{Attempt, Ended, Work};
use mesh::store::Store;
use tokio::sync::{OnceCell, Semaphore};
use uuid::Uuid;

use crate::domain::{self, Error, Size};
use crate::{store, wire};

pub(crate) struct Render {
    store: Store,
    /// Images at the same time, and threads that decode, resize or encode them.
    concurrency: usize,
    threads: Arc<Semaphore>,
}

impl Render {
    pub(crate) fn new(store: Store, concurrency: u64) -> Self {
        let concurrency = usize::try_from(concurrency).unwrap_or(usize::MAX);
        Self { store, concurrency, threads: Arc::new(Semaphore::new(concurrency)) }
    }

    /// Runs `compute` on a blocking thread, once a permit is free.
    async fn compute<T: Send + 'static>(
        &self,
        compute: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = Arc::clone(&self.threads).acquire_owned().await.map_err(|_| Error::Interrupted)?;
        // The thread holds the permit: after a cancellation, the permit is released only when the thread ends.
        let thread = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            compute()
        });
        match thread.await {
            Ok(computed) => computed,
            // A panic of the decoder becomes a panic of this work.
            Err(died) if died.is_panic() => std::panic::resume_unwind(died.into_panic()),
            Err(_) => Err(Error::Interrupted),
        }
    }
}

impl Work for Render {
    const KIND: &'static str = "RenderArtwork";
    type Request = RenderArtworkRequest;
    type Response = RenderArtworkResponse;
    type Error = Error;

    fn concurrency(&self) -> usize {
        self.concurrency
    }

    async fn run(&self, attempt: &Attempt, request: RenderArtworkRequest) -> Result<RenderArtworkResponse, Error> {
        let title: Uuid = request.title_id.parse().unwrap_or_default();
        let image = Arc::new(request.image);
        // Decoded at most once, and only if a size is left to render.
        let decoded: OnceCell<Arc<DynamicImage>> = OnceCell::new();
        let total = i32::try_from(Size::ALL.len()).unwrap_or(i32::MAX);

        for (done, size) in (1..).zip(Size::ALL) {
            if attempt.finished::<proto::Rendition>(size.name()).await?.is_some() {
                continue;
            }
            let decode = || async {
                let image = Arc::clone(&image);
                self.compute(move || domain::decode(&image).map(Arc::new)).await
            };
            let picture = Arc::clone(decoded.get_or_try_init(decode).await?);
            let rendition = self.compute(move || domain::render(&picture, size)).await?;
            tracing::info!(size = size.name(), "rendered");

            let mut step = attempt.step(size.name()).await?;
            store::insert(&mut *step, &attempt.name(), title, &rendition).await?;
            step.commit(&wire::rendition(title, &rendition), &RenderArtworkProgress { done, total }).await?;
        }

        if attempt.finished::<RenderArtworkProgress>("publish").await?.is_none() {
            let all = RenderArtworkProgress { done: total, total };
            let mut step = attempt.step("publish").await?;
            store::publish(&mut step, &attempt.name(), title, mesh::store::now()).await?;
            step.commit(&all, &all).await?;
        }
        let artwork = store::artwork(self.store.reader(), title).await?.ok_or(Error::NotFound(title))?;
        Ok(RenderArtworkResponse { artwork: Some(artwork.into()) })
    }

    /// Deletes the pictures that a cancelled or failed rendering has stored.
    async fn clean_up(&self, ended: &Ended, _: RenderArtworkRequest) -> Result<(), Error> {
        let mut tx = self.store.begin().await?;
        store::forget(&mut *tx, &ended.name()).await?;
        Ok(tx.commit().await?)
    }
}
