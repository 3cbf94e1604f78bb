//! What goes on after ImportItems has answered: names become items, a batch at a time, each batch a step.
//!
//! A step is a transaction: its items, that it is finished, and how far the import is with it. So an import that a crash
//! has interrupted goes on behind its last batch, and no item is added twice.

use contracts::sample::v1::{ImportItemsProgress, ImportItemsRequest, ImportItemsResponse};
use mesh::Violations;
use mesh::operations::{Context, Work};
use mesh::store::Error;

use crate::domain::{Item, NAME, is_name};
use crate::store;

/// Names in one import: what fits into a request, and its ids into a response, with room to spare.
const MOST: usize = 1000;
/// Names in one step. On SQLite everybody else who writes waits for it, and what it has not committed is lost in a
/// crash: both speak for few.
const BATCH: usize = 10;

/// Checks what somebody wants to import.
pub(crate) fn check(names: &[String], bad: &mut Violations) {
    bad.check((1..=MOST).contains(&names.len()), "names", "must be 1 to 1000");
    // Once for all of them: a thousand complaints fit into no answer.
    bad.check(names.iter().all(|name| is_name(name)), "names", format!("each {NAME}"));
}

pub(crate) struct Import;

impl Work for Import {
    const KIND: &'static str = "ImportItems";
    type Request = ImportItemsRequest;
    type Response = ImportItemsResponse;
    type Error = Error;

    async fn run(&self, context: &Context, request: ImportItemsRequest) -> Result<ImportItemsResponse, Error> {
        let total = count(request.names.len());
        let mut item_ids = Vec::new();
        for (number, names) in (1..).zip(request.names.chunks(BATCH)) {
            // Its name stays as it is: an import that began with an older program asks for it.
            let step = format!("batch {number}");
            let added = match context.finished::<ImportItemsResponse>(&step).await? {
                Some(added) => added.item_ids,
                None => {
                    let done = count(item_ids.len() + names.len());
                    add(context, &step, names, ImportItemsProgress { done, total }).await?
                }
            };
            item_ids.extend(added);
        }
        Ok(ImportItemsResponse { item_ids })
    }
}

/// Adds a batch, and gives the ids of its items.
async fn add(
    context: &Context,
    step: &str,
    names: &[String],
    progress: ImportItemsProgress,
) -> Result<Vec<String>, Error> {
    let mut step = context.step(step).await?;
    let mut added = ImportItemsResponse::default();
    for name in names {
        let item = Item::new(name.clone(), mesh::store::now());
        store::insert(&mut *step, &item).await?;
        added.item_ids.push(item.id.to_string());
    }
    step.commit(&added, &progress).await?;
    Ok(added.item_ids)
}

fn count(items: usize) -> i32 {
    i32::try_from(items).unwrap_or(i32::MAX)
}
