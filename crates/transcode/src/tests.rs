//! Both directions, on the messages of sample.rs.

use prost_reflect::DynamicMessage;

use crate::sample::{pool, schema};
use crate::{MAX_DEPTH, Mistake, WireError};

const EVERYTHING: &str = "sample.v1.Everything";

fn to_wire(name: &str, json: &str) -> Result<Vec<u8>, Vec<Mistake>> {
    let mut wire = b"before".to_vec();
    let result = schema().message(name).expect("a message").to_wire(json.as_bytes(), &mut wire);
    let written = wire.strip_prefix(b"before").expect("the reader appends").to_vec();
    match result {
        Ok(()) => Ok(written),
        Err(error) => {
            assert_eq!(written, b"", "an error leaves nothing behind");
            Err(error.into_mistakes())
        }
    }
}

fn to_json(name: &str, wire: &[u8]) -> Result<String, WireError> {
    let mut json = b"before".to_vec();
    let result = schema().message(name).expect("a message").to_json(wire, &mut json);
    let written = json.strip_prefix(b"before").expect("the writer appends").to_vec();
    match result {
        Ok(()) => Ok(String::from_utf8(written).expect("UTF-8")),
        Err(error) => {
            assert_eq!(written, b"", "an error leaves nothing behind");
            Err(error)
        }
    }
}

/// The members of Everything that a JSON yields after a round trip, without zeros.
fn round_trip(json: &str) -> serde_json::Value {
    let wire = to_wire(EVERYTHING, json).unwrap_or_else(|mistakes| panic!("{json}: {mistakes:?}"));
    let json = to_json(EVERYTHING, &wire).expect("what was read can be written");
    let mut value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let zeros: serde_json::Value = serde_json::from_str(&to_json(EVERYTHING, b"").expect("JSON")).expect("JSON");
    let members = value.as_object_mut().expect("an object");
    members.retain(|name, value| zeros.get(name) != Some(value));
    value
}

/// The paths of the mistakes in a JSON.
fn mistakes(json: &str) -> Vec<String> {
    let mistakes = to_wire(EVERYTHING, json).expect_err(json);
    mistakes.into_iter().map(|mistake| mistake.path).collect()
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn title_is_written_with_zeros_and_without_unset_messages() {
    let text = r#"{"title": {"titleId": "t-1", "name": "Alien", "genres": ["GENRE_DRAMA", 7], "revision": "3",
        "createTime": "2026-11-28T12:00:00.5Z"}}"#;
    let wire = to_wire("sample.v1.GetTitleResponse", text).expect("a title");
    let expected = r#"{"title":{"titleId":"t-1","name":"Alien","year":0,"genres":["GENRE_DRAMA",7],"synopsis":"","revision":"3","createTime":"2026-11-28T12:00:00.500Z"}}"#;
    assert_eq!(to_json("sample.v1.GetTitleResponse", &wire).as_deref(), Ok(expected));
    assert_eq!(to_json("sample.v1.GetTitleResponse", b"").as_deref(), Ok("{}"));
}

#[test]
fn every_kind_makes_a_round_trip() {
    for text in [
        r#"{"double": 2.22507e-308, "float": 0.1, "int32": -2147483648, "int64": "-9223372036854775808"}"#,
        r#"{"uint32": 4294967295, "uint64": "18446744073709551615", "sint32": -1, "sint64": "9223372036854775807"}"#,
        r#"{"fixed32": 4294967295, "fixed64": "18446744073709551615", "sfixed32": -5, "sfixed64": "-5", "bool": true}"#,
        r#"{"double": "NaN", "float": "-Infinity"}"#,
        r#"{"string": "\u0000\"\\\n\ud83d\ude00", "bytes": "aGk=", "genre": "GENRE_COMEDY", "child": {"int32": 1}}"#,
        r#"{"numbers": [1, 0, -1], "strings": ["", "a"], "kinds": ["GENRE_DRAMA", 9], "unpacked": [1, 2]}"#,
        r#"{"labels": {"": "", "b": "c", "a": "\""}, "titles": {"-1": {"name": "x"}}, "flags": {"false": "1"}}"#,
        r#"{"any": {"@type": "x/sample.v1.GetTitleResponse", "title": {"minutes": 0}}}"#,
        r#"{"any": {"@type": "x/google.protobuf.Duration", "value": "1s"}}"#,
        r#"{"any": {"@type": "x/google.protobuf.Any", "value": {"@type": "/google.protobuf.Empty"}}}"#,
        r#"{"any": {}, "empty": {}, "duration": "-0.500s", "time": "0001-01-01T00:00:00Z", "mask": "a.bC,d"}"#,
        r#"{"struct": {"a": {"b": [null, 1.5, "x", true, {}, []]}}, "list": [[[1.0]]], "value": null}"#,
        r#"{"wrappedInt64": "0", "wrappedString": "", "wrappedBytes": "", "values": [null, {}], "maybe": ""}"#,
        r#"{"nothing": null}"#,
        r#"{"another \"name\"": "x"}"#,
    ] {
        let (mut read, mut expected) = (round_trip(text), json(text));
        // Titles have zeros of their own.
        for value in [&mut read, &mut expected] {
            if let Some(child) = value.pointer_mut("/child") {
                *child = child["int32"].take();
            }
            if let Some(title) = value.pointer_mut("/titles/-1") {
                *title = title["name"].take();
            }
            if let Some(title) = value.pointer_mut("/any/title") {
                *title = title["minutes"].take();
            }
        }
        assert_eq!(read, expected);
    }
}

#[test]
fn other_spellings_are_read() {
    for (other, plain) in [
        (r#"{"int32": 1e5}"#, r#"{"int32": 100000}"#),
        (r#"{"int32": "1e5"}"#, r#"{"int32": 100000}"#),
        (r#"{"int32": 1.0, "int64": 5}"#, r#"{"int32": 1, "int64": "5"}"#),
        (r#"{"double": "1.5", "float": 2}"#, r#"{"double": 1.5, "float": 2.0}"#),
        (r#"{"bytes": "-_8"}"#, r#"{"bytes": "+/8="}"#),
        (r#"{"genre": 1}"#, r#"{"genre": "GENRE_DRAMA"}"#),
        (r#"{"wrapped_int64": 1, "int32": null}"#, r#"{"wrappedInt64": "1"}"#),
        (r#"{"numbers": null, "labels": null, "child": null, "any": null, "time": null, "wrappedInt64": null}"#, "{}"),
        (r#"{"text": null, "amount": "1"}"#, r#"{"amount": "1"}"#),
        (r#"{"time": "1970-01-01T01:00:00+01:00"}"#, r#"{"time": "1970-01-01T00:00:00Z"}"#),
        (
            r#"{"any": {"value": "1s", "@type": "x/google.protobuf.Duration"}}"#,
            r#"{"any": {"@type": "x/google.protobuf.Duration", "value": "1s"}}"#,
        ),
        (
            r#"{"any": {"@type": "/google.protobuf.Empty", "value": {}}}"#,
            r#"{"any": {"@type": "/google.protobuf.Empty"}}"#,
        ),
        (
            r#"{"any": {"titl\u0065": null, "@type": "x/sample.v1.GetTitleResponse"}}"#,
            r#"{"any": {"@type": "x/sample.v1.GetTitleResponse"}}"#,
        ),
    ] {
        assert_eq!(round_trip(other), json(plain), "{other}");
    }
}

#[test]
fn mistake_has_its_path() {
    for (text, paths) in [
        (r#"{"colour": 1}"#, &["colour"][..]),
        (r#"{"int32": 1, "int32": 1}"#, &["int32"]),
        (r#"{"wrappedInt64": 1, "wrapped_int64": 1}"#, &["wrappedInt64"]),
        (r#"{"text": "", "amount": 1}"#, &["amount"]),
        (
            r#"{"int32": 1.5, "int64": "9223372036854775808", "uint32": -1, "bool": "true"}"#,
            &["int32", "int64", "uint32", "bool"],
        ),
        (
            r#"{"int32": "abc", "float": 1e39, "sint32": "01", "sint64": "+1", "fixed32": " 1", "fixed64": ""}"#,
            &["int32", "float", "sint32", "sint64", "fixed32", "fixed64"],
        ),
        (
            r#"{"numbers": [1, null], "strings": [null], "children": [null], "times": [null]}"#,
            &["numbers[1]", "strings[0]", "children[0]", "times[0]"],
        ),
        (
            r#"{"labels": {"a": null, "b": 1}, "titles": {"x": {}}, "flags": {"True": 1}}"#,
            &["labels[\"a\"]", "labels[\"b\"]", "titles[\"x\"]", "flags[\"True\"]"],
        ),
        (r#"{"labels": {"a": "", "b": "", "a": ""}}"#, &["labels[\"a\"]"]),
        (r#"{"titles": {"1": {}, "1": {}}}"#, &["titles[1]"]),
        (r#"{"struct": {"a": 1, "b": {"c": 1, "c": 2}}}"#, &["struct[\"b\"][\"c\"]"]),
        (r#"{"bytes": "a"}"#, &["bytes"]),
        (r#"{"bytes": "Y", "wrappedBytes": "é"}"#, &["bytes", "wrappedBytes"]),
        (
            r#"{"time": "10000-01-01T00:00:00Z", "duration": "1", "mask": "a_b", "genre": "DRAMA"}"#,
            &["time", "duration", "mask", "genre"],
        ),
        (r#"{"any": {"@type": "x/sample.v1.Unknown"}}"#, &["any.@type"]),
        (r#"{"any": {"@type": "sample.v1.Title"}}"#, &["any.@type"]),
        (r#"{"any": {"name": 1}}"#, &["any"]),
        (
            r#"{"any": {"@type": "/sample.v1.Title", "name": "", "colour": 1, "@type": ""}}"#,
            &["any.colour", "any.@type"],
        ),
        (r#"{"any": {"@type": "/google.protobuf.Duration", "seconds": 1}}"#, &["any.seconds", "any.value"]),
        (r#"{"any": {"name": 1, "@type": "/sample.v1.Title"}}"#, &["any.name"]),
        (r#"{"child": {"children": [{}, {"title": {"year": {}}}]}}"#, &["child.children[1].title.year"]),
        (
            r#"{"child": [], "numbers": {}, "labels": [], "any": 1, "struct": 1, "list": "", "title": true}"#,
            &["child", "numbers", "labels", "any", "struct", "list", "title"],
        ),
        ("null", &[""]),
        ("[]", &[""]),
    ] {
        assert_eq!(mistakes(text), paths, "{text}");
    }
}

#[test]
fn mistake_says_what_was_expected() {
    let said = |json| to_wire(EVERYTHING, json).map(drop).expect_err(json)[0].to_string();
    assert_eq!(said(r#"{"int32": 1.5}"#), "int32: must be a whole number of 32 bits, not 1.5");
    let genre = said(r#"{"genre": "DRAMA"}"#);
    assert!(genre.starts_with("genre: must be one of GENRE_") && genre.ends_with(", not \"DRAMA\""), "{genre}");
    assert_eq!(said(r#"{"colour": 1}"#), "colour: is no field of sample.v1.Everything");
    assert_eq!(said(r#"{"text": "", "amount": 1}"#), "amount: is one of the fields of choice, and another is given");
    assert_eq!(said(r#"{"int33": 1}"#), "int33: is no field of sample.v1.Everything; the nearest is `int32`");
    assert_eq!(said("{\n  \"int32\": x}"), "malformed JSON at line 2, column 12: expected value");
    assert_eq!(said(r#"{"string": 1}"#), "string: must be a string, not 1");
}

#[test]
fn malformed_json_has_an_offset() {
    for (text, offset) in [
        ("", 0),
        ("{", 0),
        ("{\"int32\": 1,}", 12),
        ("{} {}", 3),
        ("{}\n\nx", 4),
        (r#"{"double": 1e400}"#, 15),
        (r#"{"value": NaN}"#, 10),
        (r#"{"string": "\ud800"}"#, 18),
        ("{\"string\": \"\u{1}\"}", 12),
    ] {
        let mistakes = to_wire(EVERYTHING, text).expect_err(text);
        let [mistake] = &mistakes[..] else { panic!("{text}: {mistakes:?}") };
        let found = mistake.offset.unwrap_or_else(|| panic!("{text}: {mistake:?}"));
        assert!(found.abs_diff(offset) <= 1, "{text}: {mistake:?}");
        assert!(mistake.description.starts_with("malformed JSON"), "{text}: {mistake:?}");
    }
}

#[test]
fn mistakes_are_bounded() {
    let long = "x".repeat(1_000);
    let many: Vec<_> = (0..1_000).map(|number| format!("\"{long}{number}\": 1")).collect();
    let mistakes = to_wire(EVERYTHING, &format!("{{{}}}", many.join(","))).expect_err("mistakes");
    assert_eq!(mistakes.len(), 16);
    assert!(mistakes.iter().all(|mistake| mistake.to_string().len() < 200));
}

#[test]
fn depth_is_bounded_alike_in_both_directions() {
    let nested = |open: &str, close: &str, depth: usize| format!("{}{}", open.repeat(depth), close.repeat(depth));
    for (open, close) in [
        ("{\"child\":", "}"),
        ("{\"children\":[", "]}"),
        ("{\"value\":[", "]}"),
        ("{\"struct\":{\"a\":[", "]}}"),
        ("{\"any\":{\"@type\":\"/sample.v1.Everything\",\"child\":", "}}"),
        ("{\"any\":{\"child\":", ",\"@type\":\"/sample.v1.Everything\"}}"),
    ] {
        let inner = if open.ends_with('[') { "" } else { "{}" };
        let text = |depth: usize| {
            let nested = nested(open, close, depth);
            nested.replacen(&close.repeat(depth), &format!("{inner}{}", close.repeat(depth)), 1)
        };
        let most = (1..=MAX_DEPTH).take_while(|depth| to_wire(EVERYTHING, &text(*depth)).is_ok()).last();
        let most = most.unwrap_or_else(|| panic!("{}", text(1)));
        let wire = to_wire(EVERYTHING, &text(most)).expect("the deepest");
        let json = to_json(EVERYTHING, &wire).expect("what was read can be written");
        assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{open}");
        let descriptor = pool().get_message_by_name(EVERYTHING).expect("a message");
        assert!(DynamicMessage::decode(descriptor, &*wire).is_ok(), "{open}");
        assert!(to_wire(EVERYTHING, &text(most + 1)).is_err(), "{open}");
        assert!(to_wire(EVERYTHING, &text(100_000)).is_err(), "{open}");
    }
}

#[test]
fn deep_wire_is_refused() {
    let mut wire = Vec::new();
    for _ in 0..200 {
        let mut outer = Vec::new();
        crate::wire::put_bytes(&mut outer, 17, &wire);
        wire = outer;
    }
    assert_eq!(to_json(EVERYTHING, &wire), Err(WireError::TooDeep));
}

/// Pieces of wire of Everything, in an order of their own.
fn wire(pieces: &[&str]) -> Vec<u8> {
    pieces.iter().flat_map(|json| to_wire(EVERYTHING, json).expect(json)).collect()
}

#[test]
fn wire_out_of_order_is_normalised() {
    for (pieces, expected) in [
        (&[r#"{"int64": 4}"#, r#"{"int32": 3}"#][..], r#"{"int32": 3, "int64": "4"}"#),
        (&[r#"{"int32": 3}"#, r#"{"int32": 4}"#], r#"{"int32": 4}"#),
        (&[r#"{"text": "a"}"#, r#"{"amount": "4"}"#], r#"{"amount": "4"}"#),
        (&[r#"{"amount": "4"}"#, r#"{"text": "a"}"#], r#"{"text": "a"}"#),
        (&[r#"{"labels": {"a": "1"}}"#, r#"{"labels": {"a": "2"}}"#], r#"{"labels": {"a": "2"}}"#),
        (&[r#"{"struct": {"a": 1}}"#, r#"{"struct": {"a": 2.0}}"#], r#"{"struct": {"a": 2.0}}"#),
        (
            &[r#"{"numbers": [1]}"#, r#"{"labels": {}, "flags": {"true": 1}}"#, r#"{"numbers": [2]}"#],
            r#"{"numbers": [1, 2], "flags": {"true": "1"}}"#,
        ),
        (&[r#"{"value": {"a": 1}}"#, r#"{"value": [2.0]}"#], r#"{"value": [2.0]}"#),
        (&[r#"{"mask": "b"}"#, r#"{"mask": "a"}"#], r#"{"mask": "b,a"}"#),
    ] {
        let json: serde_json::Value = json(&to_json(EVERYTHING, &wire(pieces)).expect("JSON"));
        let zeros: serde_json::Value = serde_json::from_str(&to_json(EVERYTHING, b"").expect("JSON")).expect("JSON");
        let mut json = json;
        json.as_object_mut().expect("an object").retain(|name, value| zeros.get(name) != Some(value));
        assert_eq!(json, self::json(expected), "{pieces:?}");
    }
}

#[test]
fn message_given_twice_is_merged() {
    let twice = wire(&[r#"{"child": {"int32": 1}}"#, r#"{"child": {"int64": 2}}"#]);
    let json = json(&to_json(EVERYTHING, &twice).expect("JSON"));
    assert_eq!((&json["child"]["int32"], &json["child"]["int64"]), (&1.into(), &"2".into()));
}

#[test]
fn any_within_any_is_normalised_in_linear_time() {
    // The innermost is out of order, so each level above might begin anew.
    let mut content = wire(&[r#"{"int64": 4}"#, r#"{"int32": 3}"#]);
    for _ in 0..40 {
        let mut any = Vec::new();
        crate::wire::put_bytes(&mut any, 1, b"/sample.v1.Everything");
        crate::wire::put_bytes(&mut any, 2, &content);
        content.clear();
        crate::wire::put_bytes(&mut content, 50, &any);
        content.extend(wire(&[r#"{"int32": 3}"#]));
    }
    let json = to_json(EVERYTHING, &content).expect("JSON");
    assert!(json.contains(r#""int64":"4""#));
}

#[test]
fn wire_without_json_is_refused() {
    let refused = |pieces: &[u8]| to_json(EVERYTHING, pieces).expect_err("no JSON");
    let message = |number: u32, content: &[u8]| {
        let mut wire = Vec::new();
        crate::wire::put_bytes(&mut wire, number, content);
        wire
    };
    let mut infinite = vec![0x11];
    infinite.extend(f64::INFINITY.to_le_bytes());
    assert!(matches!(refused(&message(57, &infinite)), WireError::NotInJson(_)));
    assert!(matches!(refused(&message(56, &[0x10, 0xff, 0xff, 0xff, 0xff, 0x0f])), WireError::NotInJson(_)));
    assert!(matches!(refused(&message(53, &message(1, b"a\"B"))), WireError::NotInJson(_)));
    assert_eq!(refused(&message(50, &message(1, b"x/Unknown"))), WireError::UnknownType("x/Unknown".to_owned()));
    assert!(matches!(refused(&message(14, b"\xff")), WireError::Malformed(_)), "a string that is not UTF-8");
    assert!(matches!(refused(&[0x1d, 0, 0, 0, 0]), WireError::Malformed(_)), "a varint laid out as fixed32");
    assert!(matches!(refused(&[0x8b, 0x01, 0x8c, 0x01]), WireError::Malformed(_)), "a message laid out as a group");
    // What a later value replaces is checked as well.
    let wrapped = message(59, &[message(1, b"\xff"), message(1, b"a")].concat());
    assert!(matches!(refused(&wrapped), WireError::Malformed(_)), "a wrapped string that is not UTF-8");
    let label = message(40, &[message(1, b"\xff"), message(1, b"a")].concat());
    assert!(matches!(refused(&label), WireError::Malformed(_)), "a key that is not UTF-8");
}

#[test]
fn path_of_a_field_mask_is_escaped() {
    let mut mask = Vec::new();
    crate::wire::put_bytes(&mut mask, 1, b"a\",\"b");
    let mut wire = Vec::new();
    crate::wire::put_bytes(&mut wire, 53, &mask);
    assert!(to_json(EVERYTHING, &wire).is_err(), "a comma divides paths");
    mask.clear();
    crate::wire::put_bytes(&mut mask, 1, b"a\":\"b");
    wire.clear();
    crate::wire::put_bytes(&mut wire, 53, &mask);
    assert_eq!(json(&to_json(EVERYTHING, &wire).expect("JSON"))["mask"], "a\":\"b");
}

#[test]
fn text_of_a_url_becomes_a_field() {
    let everything = schema().message(EVERYTHING).expect("a message");
    let write = |name: &str, text: &str| {
        let mut wire = Vec::new();
        let field = everything.field(name).expect("a field");
        field.text_to_wire(text, &mut wire).map(|()| wire).map_err(|error| error.to_string())
    };
    for (name, text, expected) in [
        ("int32", "-5", r#"{"int32": -5}"#),
        ("uint64", "18446744073709551615", r#"{"uint64": "18446744073709551615"}"#),
        ("bool", "true", r#"{"bool": true}"#),
        ("genre", "GENRE_DRAMA", r#"{"genre": "GENRE_DRAMA"}"#),
        ("genre", "2", r#"{"genre": "GENRE_COMEDY"}"#),
        ("string", "a+b", r#"{"string": "a+b"}"#),
        ("bytes", "aGk", r#"{"bytes": "aGk="}"#),
        ("float", "NaN", r#"{"float": "NaN"}"#),
        ("time", "1970-01-01T00:00:01Z", r#"{"time": "1970-01-01T00:00:01Z"}"#),
        ("duration", "1s", r#"{"duration": "1s"}"#),
        ("mask", "a,b", r#"{"mask": "a,b"}"#),
        ("wrapped_int64", "0", r#"{"wrappedInt64": "0"}"#),
        ("wrapped_string", "x", r#"{"wrappedString": "x"}"#),
        ("times", "1970-01-01T00:00:01Z", r#"{"times": ["1970-01-01T00:00:01Z"]}"#),
    ] {
        let wire = write(name, text).unwrap_or_else(|error| panic!("{name}={text}: {error}"));
        assert_eq!(to_wire(EVERYTHING, expected), Ok(wire), "{name}={text}");
    }
    let element = write("numbers", "7").expect("an element");
    assert_eq!(json(&to_json(EVERYTHING, &element).expect("JSON"))["numbers"], serde_json::json!([7]), "of a list");
    assert_eq!(write("int32", "x").expect_err("a mistake"), "int32: must be a whole number of 32 bits, not \"x\"");
    for (name, text) in [
        ("bool", "1"),
        ("genre", "x"),
        ("genre", ""),
        ("child", "{}"),
        ("struct", "{}"),
        ("labels", "a"),
        ("int32", "2147483648"),
        ("wrapped_int64", "x"),
        ("time", "now"),
    ] {
        write(name, text).expect_err(name);
    }
}

#[test]
fn written_wire_is_what_prost_reflect_reads() {
    let text = r#"{"int32": 1, "numbers": [1, 2], "titles": {"1": {"name": "x"}}, "struct": {"a": [1]}}"#;
    let wire = to_wire(EVERYTHING, text).expect("wire");
    let descriptor = pool().get_message_by_name(EVERYTHING).expect("a message");
    let message = DynamicMessage::decode(descriptor, &*wire).expect("a message");
    assert_eq!(message.get_field_by_name("int32").and_then(|value| value.as_i32()), Some(1));
    assert_eq!(to_json(EVERYTHING, &prost::Message::encode_to_vec(&message)), to_json(EVERYTHING, &wire));
}
