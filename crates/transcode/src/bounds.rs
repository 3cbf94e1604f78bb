//! What a stranger's input can cost: stack and time.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::sample::schema;
use crate::wire::{WireType, put_bytes, put_tag};
use crate::{MAX_DEPTH, Message};

const EVERYTHING: &str = "sample.v1.Everything";

fn everything() -> Message {
    schema().message(EVERYTHING).expect("a message")
}

/// An object of `size` bytes or a little more, whose members `member` names.
fn object(size: usize, member: impl Fn(usize) -> String) -> String {
    let mut out = "{".to_owned();
    for number in 0.. {
        if out.len() >= size {
            break;
        }
        let comma = if number == 0 { "" } else { "," };
        out.push_str(&format!("{comma}{}", member(number)));
    }
    out.push('}');
    out
}

/// `content` within `depth` objects.
fn nested(depth: usize, open: &str, content: &str, close: &str) -> String {
    format!("{}{content}{}", open.repeat(depth), close.repeat(depth))
}

/// Hostile JSON of about `size` bytes.
fn texts(size: usize) -> Vec<(&'static str, String)> {
    let members = |member: fn(usize) -> String| object(size, member);
    let list = |element: &str| format!("[{element}{}]", format!(",{element}").repeat(size / (element.len() + 1)));
    let string = "x".repeat(size);
    vec![
        ("keys of a map", format!("{{\"labels\":{}}}", members(|number| format!("\"{number:09}\":\"\"")))),
        ("keys of a map, descending", {
            format!("{{\"labels\":{}}}", members(|number| format!("\"{:09}\":\"\"", 999_999_999 - number)))
        }),
        ("one key of a map", format!("{{\"labels\":{}}}", members(|_| "\"a\":\"\"".to_owned()))),
        (
            "keys of a Struct",
            format!("{{\"struct\":{}}}", members(|number| format!("\"{:09}\":0", 999_999_999 - number))),
        ),
        ("unknown members", members(|number| format!("\"u{number}\":1"))),
        ("a member again and again", members(|_| "\"int32\":1".to_owned())),
        ("members of a oneof", members(|number| format!("\"{}\":\"1\"", ["text", "amount"][number % 2]))),
        ("mistakes in a list", format!("{{\"numbers\":{}}}", list("\"x\""))),
        ("a list of objects", format!("{{\"children\":{}}}", list("{}"))),
        ("a string, deep", nested(90, "{\"child\":", &format!("{{\"string\":\"{string}\"}}"), "}")),
        ("a list, deep", nested(45, "{\"children\":[", &format!("{{\"numbers\":{}}}", list("1")), "]}")),
        ("a Struct, deep", format!("{{\"value\":{}}}", nested(30, "{\"a\":", &list("[]"), "}"))),
        ("Structs in a list", { format!("{{\"values\":{}}}", list(&nested(20, "{\"a\":", "1", "}"))) }),
        (
            "Anys whose type comes last",
            nested(
                7,
                "{\"any\":{\"child\":",
                &members(|_| "\"a\":1".to_owned()),
                ",\"@type\":\"/sample.v1.Everything\"}}",
            ),
        ),
        ("an Any with its type behind many members", {
            let mut any = members(|number| format!("\"u{number}\":1"));
            any.pop();
            format!("{{\"any\":{any},\"@type\":\"/sample.v1.Everything\"}}}}")
        }),
        ("escapes", format!("{{\"string\":\"{}\"}}", "\\u0041".repeat(size / 6))),
        ("paths of a FieldMask", format!("{{\"mask\":\"a{}\"}}", ",a".repeat(size / 2))),
        ("brackets", "[".repeat(size)),
        ("unknown brackets", format!("{{\"u\":{}}}", nested(size / 2, "[", "", "]"))),
    ]
}

/// Hostile wire of about `size` bytes.
fn wires(size: usize) -> Vec<(&'static str, Vec<u8>)> {
    let message = |number: u32, content: &[u8]| {
        let mut wire = Vec::new();
        put_bytes(&mut wire, number, content);
        wire
    };
    let again = |piece: &[u8]| piece.repeat(size / piece.len());
    let disorder = [0x20, 4, 0x18, 3];
    let any = |content: &[u8]| message(50, &[message(2, content), message(1, b"/sample.v1.Everything")].concat());
    let entry = |key: &str| message(40, &message(1, key.as_bytes()));
    let anys = {
        let mut content = again(&disorder);
        for _ in 0..40 {
            content = [any(&content), disorder.to_vec()].concat();
        }
        content
    };
    let group = {
        let mut wire = Vec::new();
        put_tag(&mut wire, 2_000, WireType::Group);
        put_tag(&mut wire, 2_000, WireType::GroupEnd);
        wire
    };
    let mut deep = again(&disorder);
    for _ in 0..90 {
        deep = message(17, &deep);
    }
    let keys = |key: fn(usize) -> usize| {
        (0..size / 13).flat_map(|number| entry(&format!("{:09}", key(number)))).collect::<Vec<_>>()
    };
    vec![
        ("fields out of order", again(&disorder)),
        ("fields out of order, deep", deep),
        ("members of a oneof", again(&[message(19, b"a"), vec![0xa0, 0x01, 1]].concat())),
        ("messages to merge", again(&message(17, &[0x18, 3]))),
        ("messages of a list out of order", again(&message(61, &[0x20, 1, 0x20, 0]))),
        ("keys of a map", keys(|number| number)),
        ("keys of a map, descending", keys(|number| 999_999_999 - number)),
        ("one key of a map", again(&entry("a"))),
        ("unknown fields before the known", again(&[0xc8, 0x3e, 1])),
        ("unknown fields between the known", [vec![0x18, 3], again(&[0xb0, 0x01, 1, 0xb8, 0x01, 1])].concat()),
        ("unknown groups", again(&group)),
        ("elements of two lists in turn", again(&[0xf0, 0x01, 1, 0x90, 0x02, 1])),
        ("elements of a list, not packed", again(&[0xf0, 0x01, 1])),
        ("Anys out of order, deep", anys),
        ("Anys out of order", again(&any(&disorder))),
        ("paths of a FieldMask", message(53, &again(&message(1, b"a")))),
        ("kinds of a Value", message(57, &again(&[0x20, 1]))),
        ("bytes to open", again(&[0x8a, 0x01])),
    ]
}

/// The time for which this thread has had a processor.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Compares an input with one of the same kind that is eight times as long, by the time of the processor: other work on
/// the machine does not count. It still empties caches, so the least time of several counts.
fn assert_linear<T>(inputs: fn(usize) -> Vec<(&'static str, T)>, work: impl Fn(&T)) {
    const SIZE: usize = 16 << 10;
    let time = |input: &T| {
        let begin = thread_time();
        work(input);
        thread_time() - begin
    };
    for ((name, short), (_, long)) in inputs(SIZE).iter().zip(&inputs(8 * SIZE)) {
        let short = (0..5).map(|_| time(short)).min().unwrap_or_default();
        // It would be 64 times, were the time a square.
        let most = 24 * short + Duration::from_millis(1);
        assert!(
            (0..20).any(|_| time(long) < most),
            "{name}: eight times as long takes more than {most:?} for {short:?}"
        );
    }
}

#[test]
fn time_is_linear_in_the_json() {
    let message = everything();
    assert_linear(texts, |text| drop(message.to_wire(text.as_bytes(), &mut Vec::new())));
}

#[test]
fn time_is_linear_in_the_wire() {
    let message = everything();
    assert_linear(wires, |wire| drop(message.to_json(wire, &mut Vec::new())));
}

#[test]
fn hostile_input_is_what_it_says() {
    let message = everything();
    let refused = ["unknown", "again", "oneof", "mistakes", "one key", "brackets", "last", "behind", "to open"];
    for (name, text) in texts(1 << 10) {
        let read = message.to_wire(text.as_bytes(), &mut Vec::new());
        assert_eq!(read.is_err(), refused.iter().any(|part| name.contains(part)), "{name}: {read:?}");
    }
    for (name, wire) in wires(1 << 10) {
        let written = message.to_json(&wire, &mut Vec::new());
        assert_eq!(written.is_err(), name == "bytes to open", "{name}: {written:?}");
    }
}

#[test]
fn deepest_input_fits_a_small_stack() {
    let message = everything();
    let work = move || {
        for (open, content, close) in [
            ("{\"child\":", "{}", "}"),
            ("{\"children\":[", "{}", "]}"),
            ("{\"value\":", "{}", "}"),
            ("{\"any\":{\"@type\":\"/sample.v1.Everything\",\"child\":", "{}", "}}"),
            ("{\"any\":{\"child\":", "{}", ",\"@type\":\"/sample.v1.Everything\"}}"),
        ] {
            for depth in [MAX_DEPTH / 2, MAX_DEPTH, 100_000] {
                let mut wire = Vec::new();
                if message.to_wire(nested(depth, open, content, close).as_bytes(), &mut wire).is_ok() {
                    assert!(message.to_json(&wire, &mut Vec::new()).is_ok(), "{open}");
                }
            }
        }
    };
    // Frames are larger without optimisation.
    let kib = if cfg!(debug_assertions) { 512 } else { 256 };
    let small = std::thread::Builder::new().stack_size(kib << 10).spawn(work);
    assert!(small.expect("a thread").join().is_ok());
}
