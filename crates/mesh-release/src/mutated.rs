//! Reads and compares descriptor sets that were cut or changed at random. `SEED` chooses others.

use std::time::{Duration, Instant};

use mesh_proto::FILE_DESCRIPTOR_SET;
use prost::Message as _;

use crate::compare::Comparison;
use crate::compare::Way;
use crate::descriptor::{Field, File, FileSet, Message, Method, Service};
use crate::kinds;
use crate::manifest::Build;
use crate::samples::Declared;
use crate::view::{MOST_METHODS, Refused, View};

/// Compares all methods of two sets, and all messages.
fn compare_all(a: &View, b: &View) -> usize {
    let mut compared = Comparison::of(a, b);
    for (path, method) in &a.methods {
        if let Some(other) = b.methods.get(path) {
            compared.method(path, (a, method), (b, other), true);
        }
    }
    for message in a.messages.keys() {
        compared.messages(message, Way::Stored, (a, message), (b, message));
        compared.messages(message, Way::Event, (b, message), (a, message));
    }
    compared.finish().len()
}

fn change(random: &mut fastrand::Rng, set: &[u8]) -> Vec<u8> {
    let mut set = set.to_vec();
    for _ in 0..random.usize(1..8) {
        let at = random.usize(..set.len());
        match random.u8(..5) {
            0 => set[at] = random.u8(..),
            1 => set[at] ^= 1 << random.u8(..8),
            2 => set.truncate(at + 1),
            3 => set.insert(at, random.u8(..)),
            _ => {
                let length = random.usize(..64).min(set.len() - at);
                let copied = set[at..at + length].to_vec();
                let to = random.usize(..set.len());
                set.splice(to..to, copied);
            }
        }
    }
    set
}

fn changes_until(done: impl Fn(usize) -> bool) {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(21);
    let mut random = fastrand::Rng::with_seed(seed);
    // Without comments, of which most of it is.
    let set = FileSet::decode(FILE_DESCRIPTOR_SET).unwrap().encode_to_vec();
    let original = View::read(&set).unwrap();
    let build = Declared::new("things", "1.0").serves("google.longrunning.Operations", FILE_DESCRIPTOR_SET).build();
    let manifest = build.manifest.encode_to_vec();
    let (mut round, mut read) = (0, 0);
    while !done(round) {
        round += 1;
        let _ = Build::read(&change(&mut random, &manifest));
        if let Ok(changed) = View::read(&change(&mut random, &set)) {
            read += 1;
            compare_all(&original, &changed);
            compare_all(&changed, &original);
        }
    }
    assert!(read > round / 100, "{read} of {round} can be read");
}

#[test]
fn sets_that_were_changed_are_refused_or_compared() {
    changes_until(|round| round == 300);
}

#[test]
#[ignore = "takes a minute: .ci/foreign"]
fn sets_that_were_changed_are_refused_or_compared_for_a_minute() {
    let begun = Instant::now();
    changes_until(|_| begun.elapsed() > Duration::from_secs(60));
}

#[test]
fn set_that_is_cut_is_refused_or_smaller() {
    let set = FileSet::decode(FILE_DESCRIPTOR_SET).unwrap().encode_to_vec();
    let whole = View::read(&set).unwrap().messages.len();
    for length in (0..set.len()).step_by(97) {
        // A cut between two files leaves a set, whose imports may all be there.
        assert!(View::read(&set[..length]).map_or(true, |view| view.messages.len() < whole), "{length}");
    }
}

/// A file with a message that refers to `to`, and methods.
fn file(messages: Vec<Message>, methods: usize) -> Vec<u8> {
    let method = |number: usize| Method {
        name: format!("M{number}"),
        request: ".a.v1.M0".to_owned(),
        response: ".a.v1.M0".to_owned(),
        ..Method::default()
    };
    let services = vec![Service { name: "S".to_owned(), methods: (0..methods).map(method).collect() }];
    let file = File { name: "a.proto".to_owned(), package: "a.v1".to_owned(), messages, services, ..File::default() };
    FileSet { files: vec![file] }.encode_to_vec()
}

fn message(number: usize, to: &[usize]) -> Message {
    let field = |(at, to): (usize, &usize)| Field {
        name: format!("f{at}"),
        number: i32::try_from(at).unwrap() + 1,
        label: 1,
        kind: kinds::MESSAGE,
        type_name: format!(".a.v1.M{to}"),
        ..Field::default()
    };
    Message { name: format!("M{number}"), fields: to.iter().enumerate().map(field).collect(), ..Message::default() }
}

#[test]
fn sets_beyond_every_system_are_refused_in_words() {
    let refused = View::read(&file(vec![message(0, &[])], 10_000)).unwrap_err();
    assert_eq!(refused.to_string(), format!("has 10000 methods, and {MOST_METHODS} are compared"));
    let refused = View::read(&file(vec![message(0, &[7])], 1)).unwrap_err();
    assert_eq!(refused.to_string(), "lacks `a.v1.M7`, to which `a.v1.M0` refers");
    let refused = View::read(&file(vec![message(0, &[]), message(0, &[])], 1)).unwrap_err();
    assert_eq!(refused, Refused::Twice("a.v1.M0".to_owned()));
    assert!(View::read(b"no set").unwrap_err().to_string().starts_with("cannot be decoded: "));
    assert_eq!(Build::read(&[]).unwrap_err(), Refused::NoManifest);
    assert_eq!(Build::read(b"\x7fELF").unwrap_err().to_string().split(':').next(), Some("cannot be decoded"));
    let mut manifest = Declared::new("things", "1.0").build().manifest;
    manifest.publishes.push("things.v1.Added".to_owned());
    let refused = Build::read(&manifest.encode_to_vec()).unwrap_err();
    assert!(refused.to_string().contains("it was changed"), "{refused}");
}

#[test]
fn comparison_of_entangled_messages_is_linear() {
    // Rings whose lengths have no common divisor: each pair would be compared.
    let ring = |count: usize| file((0..count).map(|at| message(at, &[(at + 1) % count])).collect(), 1);
    let pairs = |a: usize, b: usize| {
        let (a, b) = (View::read(&ring(a)).unwrap(), View::read(&ring(b)).unwrap());
        let mut compared = Comparison::of(&a, &b);
        compared.method("a.v1.S/M0", (&a, &a.methods["a.v1.S/M0"]), (&b, &b.methods["a.v1.S/M0"]), false);
        let pairs = compared.pairs();
        assert!(compared.finish().iter().any(|finding| finding.what.contains("too entangled")));
        pairs
    };
    let (short, long) = (pairs(503, 509), pairs(4001, 4003));
    assert!(short < 503 * 509 / 8 && long < 9 * short, "{short} {long}");
}

#[test]
fn comparison_of_many_places_of_one_message_is_linear() {
    // A chain, with a difference at its end.
    let chain = |count: usize, last: i32| {
        let mut messages: Vec<_> = (0..count).map(|at| message(at, &[at + 1])).collect();
        let mut end = message(count, &[count]);
        end.fields[0].number = last;
        messages.push(end);
        View::read(&file(messages, MOST_METHODS)).unwrap()
    };
    let found = |a: &View, b: &View| {
        let mut compared = Comparison::of(a, b);
        let mut methods: Vec<_> = a.methods.keys().collect();
        methods.sort();
        for path in methods {
            compared.method(path, (a, &a.methods[path]), (b, &b.methods[path]), false);
        }
        compared.finish()
    };
    assert_eq!(found(&chain(1000, 1), &chain(1000, 1)), [], "nothing differs, and nothing is visited twice");
    let few = found(&chain(10, 1), &chain(10, 2));
    assert!(few.len() > MOST_METHODS && few.iter().all(|finding| !finding.what.contains("entangled")), "{}", few.len());
    let many = found(&chain(1000, 1), &chain(1000, 2));
    let refused = many.iter().filter(|finding| finding.what.contains("too entangled")).count();
    assert!(refused > MOST_METHODS, "{refused} of {}", many.len());
}
