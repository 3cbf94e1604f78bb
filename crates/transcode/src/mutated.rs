//! Both directions with inputs that were changed at random: a test of what nobody thought of.
//!
//! `MUTATIONS` is the number of inputs for each direction; an optimised build takes seconds for a million. `SEED`
//! chooses others.

mod content;

use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

use crate::sample::{pool, schema};
use crate::{Message, Schema};
use content::content;

/// Inputs for each direction, so that a debug build takes seconds.
const INPUTS: usize = 50_000;

/// A type of message, and valid inputs of it.
struct Subject {
    pool: DescriptorPool,
    message: Message,
    descriptor: MessageDescriptor,
    texts: Vec<Vec<u8>>,
    wires: Vec<Vec<u8>>,
}

impl Subject {
    fn new(pool: &DescriptorPool, schema: &Schema, name: &str, texts: &str) -> Self {
        let texts: Vec<_> = texts.lines().map(|line| line.as_bytes().to_vec()).collect();
        let message = schema.message(name).expect(name);
        let descriptor = pool.get_message_by_name(name).expect(name);
        let mut subject = Self { pool: pool.clone(), message, descriptor, texts, wires: vec![] };
        let wires = subject.texts.iter().map(|json| subject.to_wire(json).expect("valid"));
        subject.wires = wires.collect();
        subject
    }

    fn to_wire(&self, json: &[u8]) -> Option<Vec<u8>> {
        let mut wire = Vec::new();
        let read = self.message.to_wire(json, &mut wire);
        assert!(read.is_ok() || wire.is_empty(), "a mistake leaves something behind");
        read.ok().map(|()| wire)
    }

    fn to_json(&self, wire: &[u8]) -> Option<Vec<u8>> {
        let mut json = Vec::new();
        let written = self.message.to_json(wire, &mut json);
        assert!(written.is_ok() || json.is_empty(), "an error leaves something behind");
        written.ok().map(|()| json)
    }

    /// What prost-reflect understands.
    fn content(&self, wire: &[u8]) -> String {
        let message = DynamicMessage::decode(self.descriptor.clone(), wire);
        content(&self.pool, &message.unwrap_or_else(|error| panic!("{error}: {wire:?}")))
    }

    /// Whether `json` is read. If so, it is written and read again, and stays the same.
    fn reads(&self, json: &[u8]) -> bool {
        let Some(wire) = self.to_wire(json) else { return false };
        let shown = String::from_utf8_lossy(json);
        assert!(self.writes(&wire), "{shown} became {wire:?}, which is not written");
        true
    }

    /// Whether `wire` is written. If so, the JSON parses, and is read as the same message.
    fn writes(&self, wire: &[u8]) -> bool {
        let Some(json) = self.to_json(wire) else { return false };
        let shown = String::from_utf8_lossy(&json);
        let parsed = serde_json::from_slice::<serde_json::Value>(&json);
        assert!(parsed.is_ok(), "{wire:?} became {shown}");
        let again = self.to_wire(&json).unwrap_or_else(|| panic!("{wire:?} became {shown}, which is not read"));
        assert_eq!(self.content(&again), self.content(wire), "{wire:?} became {shown}");
        true
    }
}

fn subjects() -> Vec<Subject> {
    let (pool, schema) = (pool(), schema());
    include_str!("mutated/corpus.txt")
        .split("# ")
        .filter_map(|part| part.split_once('\n'))
        .map(|(name, texts)| Subject::new(&pool, &schema, name, texts))
        .collect()
}

/// Changes an input in one to three places.
fn mutate(random: &mut fastrand::Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut input = random.choice(corpus).expect("a corpus").clone();
    for _ in 0..random.usize(1..=3) {
        let at = random.usize(..=input.len());
        let end = (at + random.usize(1..8)).min(input.len());
        match random.u8(..7) {
            0 if at < input.len() => input[at] ^= 1 << random.u8(..8),
            1 if at < input.len() => input[at] = random.u8(..),
            2 => input.insert(at, random.u8(..)),
            3 => drop(input.drain(at..end)),
            4 => input.truncate(at),
            5 => input.extend_from_within(at..end),
            _ => {
                let other = random.choice(corpus).expect("a corpus");
                let from = random.usize(..=other.len());
                let piece = other[from..(from + random.usize(..40)).min(other.len())].to_vec();
                input.splice(at..at, piece);
            }
        }
    }
    input
}

#[test]
fn codec_survives_mutated_input() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let inputs = number("MUTATIONS").unwrap_or(INPUTS);
    let mut random = fastrand::Rng::with_seed(number("SEED").unwrap_or(7) as u64);
    let (mut read, mut written) = (0, 0);
    let subjects = subjects();
    for subject in subjects.iter().cycle().take(inputs) {
        read += usize::from(subject.reads(&mutate(&mut random, &subject.texts)));
        written += usize::from(subject.writes(&mutate(&mut random, &subject.wires)));
    }
    // Otherwise only the refusal of nonsense was tested.
    assert!(read > inputs / 100 && written > inputs / 100, "of {inputs}, {read} were read and {written} written");
}
