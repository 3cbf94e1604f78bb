//! Both directions with inputs that were changed at random: a test of what nobody thought of.
//!
//! `MUTATIONS` is the number of inputs for each direction; a release build takes a second or two for a million.

use prost_reflect::DynamicMessage;

use crate::sample::{pool, schema};

const EVERYTHING: &str = "sample.v1.Everything";
/// Inputs for each direction, so that a debug build takes seconds.
const INPUTS: usize = 50_000;

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
    let (schema, seed) = (schema(), 7);
    let message = schema.message(EVERYTHING).expect("a message");
    let descriptor = pool().get_message_by_name(EVERYTHING).expect("a message");
    let texts: Vec<_> = include_str!("corpus.txt").lines().map(|line| line.as_bytes().to_vec()).collect();
    let to_wire = |json: &[u8]| {
        let mut wire = Vec::new();
        message.to_wire(json, &mut wire).map(|()| wire)
    };
    let to_json = |wire: &[u8]| {
        let mut json = Vec::new();
        message.to_json(wire, &mut json).map(|()| json)
    };
    let wires: Vec<_> = texts.iter().map(|json| to_wire(json).expect("valid")).collect();
    let inputs = std::env::var("MUTATIONS").ok().and_then(|inputs| inputs.parse().ok()).unwrap_or(INPUTS);
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut read, mut written) = (0, 0);
    for _ in 0..inputs {
        let json = mutate(&mut random, &texts);
        if let Ok(wire) = to_wire(&json) {
            read += 1;
            let decoded = DynamicMessage::decode(descriptor.clone(), &*wire);
            assert!(decoded.is_ok(), "{} became {wire:?}", String::from_utf8_lossy(&json));
            to_json(&wire).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&json)));
        }
        let wire = mutate(&mut random, &wires);
        if let Ok(json) = to_json(&wire) {
            written += 1;
            let parsed = serde_json::from_slice::<serde_json::Value>(&json);
            assert!(parsed.is_ok(), "{wire:?} became {}", String::from_utf8_lossy(&json));
            assert!(to_wire(&json).is_ok(), "{wire:?} became {}", String::from_utf8_lossy(&json));
        }
    }
    // Otherwise only the refusal of nonsense was tested.
    assert!(read > inputs / 100 && written > inputs / 100, "of {inputs}, {read} were read and {written} written");
}
