//! Imports items in batches, each batch a step of the operation that ImportItems starts.
//!
//! A step is one transaction: it commits the items of the batch, the step's result and the progress. After a crash, the
//! import resumes behind the last committed batch and adds no item twice.

use contracts::sample::v1::{ImportItemsProgress, ImportItemsRequest, ImportItemsResponse};
use mesh::Violations;
use mesh::operations::{Attempt, Work};
use mesh::store::Error;

use crate::domain::{Item, NAME};
use crate::store;

/// Limit on the names of one import. Keeps the request and the response well below the message limit of 4 MiB.
const MAX_NAMES: usize = 1000;
/// Names in one step. Keep it small: on SQLite a step blocks all other writers, and a crash loses the uncommitted step.
const BATCH: usize = 10;

/// Checks the names of an import.
pub(crate) fn check(names: &[String], bad: &mut Violations) {
    bad.check((1..=MAX_NAMES).contains(&names.len()), "names", "must have 1 to 1000 elements");
    // One violation for all names: a thousand violations would not fit into the error details.
    bad.check(names.iter().all(|name| NAME.accepts(name)), "names", format!("each must have {NAME}"));
}

pub(crate) struct Import;

impl Work for Import {
    const KIND: &'static str = "ImportItems";
    type Request = ImportItemsRequest;
    type Response = ImportItemsResponse;
    type Error = Error;

    async fn run(&self, attempt: &Attempt, request: ImportItemsRequest) -> Result<ImportItemsResponse, Error> {
        let total = count(request.names.len());
        let mut item_ids = Vec::new();
        for (number, names) in (1..).zip(request.names.chunks(BATCH)) {
            // Must never change: an import that an older version started finds its finished steps by name.
            let step = format!("batch {number}");
            let added = match attempt.finished::<ImportItemsResponse>(&step).await? {
                Some(added) => added.item_ids,
                None => {
                    let done = count(item_ids.len() + names.len());
                    add(attempt, &step, names, ImportItemsProgress { done, total }).await?
                }
            };
            item_ids.extend(added);
        }
        Ok(ImportItemsResponse { item_ids })
    }
}

/// Adds one batch and returns the ids of its items.
async fn add(
    attempt: &Attempt,
    step: &str,
    names: &[String],
    progress: ImportItemsProgress,
) -> Result<Vec<String>, Error> {
    let mut step = attempt.step(step).await?;
    let mut added = ImportItemsResponse::default();
    for name in names {
        let item = Item::new(name.clone(), mesh::store::now());
        store::insert(step.as_mut(), &item).await?;
        added.item_ids.push(item.id.to_string());
    }
    step.commit(&added, &progress).await?;
    Ok(added.item_ids)
}

fn count(items: usize) -> i32 {
    i32::try_from(items).unwrap_or(i32::MAX)
}
