//! Translation allocates nothing but its output.

use std::hint::black_box;

use prost_reflect::DescriptorPool;
use transcode::Schema;

/// A message with a list of messages that have texts, numbers and enums.
fn document(count: usize) -> String {
    let field = r#"{"name":"title","number":1,"label":"LABEL_OPTIONAL","type":"TYPE_STRING","jsonName":"title"}"#;
    format!(r#"{{"name":"Title","field":[{}]}}"#, vec![field; count].join(","))
}

/// The allocations of a translation whose output has its memory already.
fn allocations(translate: impl FnOnce(&mut Vec<u8>)) -> u64 {
    let mut out = Vec::with_capacity(1 << 20);
    allocation_counter::measure(|| translate(&mut out)).count_total
}

#[test]
fn translation_allocates_nothing_for_fields() {
    assert_eq!(allocations(|_| drop(black_box(Box::new(1)))), 1, "allocations are not counted");
    let schema = Schema::new(&DescriptorPool::global());
    let message = schema.message("google.protobuf.DescriptorProto").expect("prost-reflect has it");
    for count in [1, 1_000] {
        let (json, mut wire) = (document(count), Vec::new());
        message.to_wire(json.as_bytes(), &mut wire).expect("a document");
        let read = allocations(|out| message.to_wire(json.as_bytes(), out).expect("a document"));
        let written = allocations(|out| message.to_json(&wire, out).expect("a message"));
        assert_eq!((read, written), (0, 0), "fields: {count}");
    }
}
