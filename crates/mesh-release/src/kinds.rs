//! The types of fields: what they are on the wire, how contracts write them, and what is lost between two of them.

// Numbers of `google.protobuf.FieldDescriptorProto.Type`.
const DOUBLE: i32 = 1;
const FLOAT: i32 = 2;
const INT64: i32 = 3;
const UINT64: i32 = 4;
const INT32: i32 = 5;
const FIXED64: i32 = 6;
const FIXED32: i32 = 7;
const BOOL: i32 = 8;
pub(super) const STRING: i32 = 9;
pub(super) const GROUP: i32 = 10;
pub(super) const MESSAGE: i32 = 11;
pub(super) const BYTES: i32 = 12;
const UINT32: i32 = 13;
pub(super) const ENUM: i32 = 14;
const SFIXED32: i32 = 15;
const SFIXED64: i32 = 16;
const SINT32: i32 = 17;
const SINT64: i32 = 18;

/// What is on the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Varint,
    ZigZag,
    Fixed32,
    Fixed64,
    Float,
    Double,
    Text,
    Message,
    Group,
    Unknown,
}

/// What a type is on the wire.
pub(super) fn class(kind: i32) -> Class {
    match kind {
        INT64 | UINT64 | INT32 | BOOL | UINT32 | ENUM => Class::Varint,
        SINT32 | SINT64 => Class::ZigZag,
        FIXED32 | SFIXED32 => Class::Fixed32,
        FIXED64 | SFIXED64 => Class::Fixed64,
        FLOAT => Class::Float,
        DOUBLE => Class::Double,
        STRING | BYTES => Class::Text,
        MESSAGE => Class::Message,
        GROUP => Class::Group,
        _ => Class::Unknown,
    }
}

/// The name of a type, as contracts have it.
pub(super) fn kind(kind: i32) -> &'static str {
    const NAMES: [&str; 19] = [
        "?",
        "double",
        "float",
        "int64",
        "uint64",
        "int32",
        "fixed64",
        "fixed32",
        "bool",
        "string",
        "a group",
        "a message",
        "bytes",
        "uint32",
        "an enum",
        "sfixed32",
        "sfixed64",
        "sint32",
        "sint64",
    ];
    usize::try_from(kind).ok().and_then(|kind| NAMES.get(kind)).copied().unwrap_or("?")
}

/// Whether numbers of one type may lose something when they are read as another one.
pub(super) fn loses(sent: i32, read: i32) -> bool {
    // Bits that a value may have: bool, those of 32, those of 64.
    let bits = |kind| match kind {
        BOOL => 1,
        INT32 | FIXED32 | UINT32 | ENUM | SFIXED32 | SINT32 => 32,
        _ => 64,
    };
    let is_signed = |kind| matches!(kind, INT64 | INT32 | ENUM | SFIXED32 | SFIXED64 | SINT32 | SINT64);
    bits(read) < bits(sent) || (bits(sent) > 1 && is_signed(sent) != is_signed(read)) || read == ENUM
}
