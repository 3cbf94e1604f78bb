//! Measures the translation between wire format and JSON alone, in memory on one thread.
//!
//! The reference is serde_json, which prints and parses the same text without a schema: no translation does with less.

use std::time::Instant;

use anyhow::Context as _;
use mesh_proto::google::longrunning::{ListOperationsResponse, Operation};
use prost::Message as _;
use prost_reflect::DescriptorPool;
use serde_json::Value;
use transcode::Schema;

use super::plan::Plan;
use crate::calls::peer::{LISTED, operation};
use crate::report::{Report, Samples};

/// Messages of a batch.
const BATCH: usize = 100;

pub(super) fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let schema = Schema::new(&DescriptorPool::decode(mesh_proto::FILE_DESCRIPTOR_SET)?);
    let (one, metadata) = (operation(), operation().metadata.context("an operation has metadata")?.value);
    let list = ListOperationsResponse { operations: vec![operation(); LISTED], ..ListOperationsResponse::default() };
    let messages = [
        ("flat", "mesh.operations.v1.OperationMetadata", metadata, ["400", "1,000"]),
        ("an operation", "google.longrunning.Operation", Operation::encode_to_vec(&one), ["", ""]),
        ("a list of 50", "google.longrunning.ListOperationsResponse", list.encode_to_vec(), ["", ""]),
    ];
    for (name, full_name, wire, [out, into]) in messages {
        let message = schema.message(full_name).context("the contracts have the message")?;
        let mut json = Vec::new();
        message.to_json(&wire, &mut json)?;
        let value: Value = serde_json::from_slice(&json)?;
        let mut written = Vec::new();
        let mut print = || {
            written.clear();
            message.to_json(&wire, &mut written).is_ok()
        };
        let [ours, bare] = compare(plan, &mut print, &mut || serde_json::to_vec(&value).is_ok());
        let what = format!("ns to JSON, {name}, {} to {} bytes", wire.len(), json.len());
        report.compare(&what, &ours, "serde_json", &bare, out);
        let mut read = Vec::new();
        let mut parse = || {
            read.clear();
            message.to_wire(&json, &mut read).is_ok()
        };
        let [ours, bare] = compare(plan, &mut parse, &mut || serde_json::from_slice::<Value>(&json).is_ok());
        let what = format!("ns from JSON, {name}, {} to {} bytes", json.len(), wire.len());
        report.compare(&what, &ours, "serde_json", &bare, into);
    }
    Ok(())
}

/// The nanoseconds of each of two works, which take turns.
fn compare(plan: &Plan, one: &mut dyn FnMut() -> bool, other: &mut dyn FnMut() -> bool) -> [Samples; 2] {
    let mut samples = [Samples::default(), Samples::default()];
    for _ in 0..plan.rounds {
        let mut round = [Samples::default(), Samples::default()];
        for _ in 0..plan.batches {
            round[0].push(nanos(one));
            round[1].push(nanos(other));
        }
        samples.iter_mut().zip(round).for_each(|(samples, round)| samples.push(round.undisturbed()));
    }
    samples
}

fn nanos(work: &mut dyn FnMut() -> bool) -> f64 {
    let begin = Instant::now();
    let done = (0..BATCH).all(|_| std::hint::black_box(work()));
    assert!(done, "a message of the benchmark is refused");
    begin.elapsed().as_secs_f64() * 1e9 / BATCH as f64
}
