//! Inputs that were changed at random: a test of what nobody thought of.
//!
//! `MUTATIONS` is the number of inputs for each parser; an optimised build takes a minute for a million each. `SEED`
//! chooses others.

mod answers; // what a service answers, in frames of gRPC
mod grpc_web; // requests of gRPC-Web

/// Inputs for each parser, so that a debug build takes seconds.
const INPUTS: usize = 5_000;

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// The number of inputs, and their random changes.
pub(crate) fn begin() -> (usize, fastrand::Rng) {
    (number("MUTATIONS").unwrap_or(INPUTS), fastrand::Rng::with_seed(number("SEED").unwrap_or(7) as u64))
}

/// Changes an input in up to three places.
pub(crate) fn mutate(random: &mut fastrand::Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut input = random.choice(corpus).expect("a corpus").clone();
    for _ in 0..random.usize(0..=3) {
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

/// Messages of gRPC, each behind its prefix.
fn framed(messages: &[&[u8]]) -> Vec<u8> {
    let frame = |message: &&[u8]| [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat();
    messages.iter().flat_map(frame).collect()
}

/// Requests and answers: no message, empty ones, several, texts of some length, an unknown field.
fn corpus() -> Vec<Vec<u8>> {
    let long = [b"\x12\xac\x02".as_slice(), &[b'a'; 300]].concat();
    let messages: [&[&[u8]]; 6] = [
        &[],
        &[b""],
        &[b"\n\x017\x12\x05hello"],
        &[b"\x12\x02\xc3\xa9", b"", b"\x12\x01b"],
        &[&long],
        &[b"\x98\x06\x01"],
    ];
    messages.map(framed).into()
}
