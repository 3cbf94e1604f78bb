//! The request of a method from body, query, path and headers, as wire.
//!
//! Guarantees:
//! - The values of the path stand behind the body, and protobuf takes the last: the path wins over the body.
//! - All mistakes are reported at once, each with its field, up to a limit.
//! - The work is linear in the request.

use prost_reflect::FieldDescriptor;

use crate::annotations::Behavior;
use crate::bad_request::BadRequest;
use crate::binding::Body;
use crate::field_path::FieldPath;
use crate::route::Matched;
use crate::scan::{self, Value};
use crate::table::{Field, Kind};
use crate::wire::{WireType, begin, end, put_bytes, put_tag, put_varint};
use crate::{mask, percent, query};

/// The body of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'b> {
    /// No body. A message is unset.
    Empty,
    /// JSON. A binding that takes the body as it is takes JSON like any other bytes.
    Json(&'b [u8]),
    /// Bytes of another content type.
    Raw {
        /// The content type, for a `google.api.HttpBody`.
        content_type: &'b str,
        /// The bytes.
        data: &'b [u8],
    },
}

/// The value of a field, from a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FromHeader<'h> {
    /// The header, for errors.
    pub header: &'h str,
    /// The path of the field, such as `title.revision`.
    pub field: &'h str,
    /// The value, as text.
    pub value: &'h str,
}

impl Matched<'_> {
    /// Appends the wire of the method's request to `out`.
    ///
    /// A field that `headers` give, and that the request also has elsewhere, must have the same value there.
    ///
    /// # Errors
    ///
    /// All mistakes of the request. `out` is as it was.
    pub fn request(
        &self,
        query: Option<&str>,
        body: Input<'_>,
        headers: &[FromHeader<'_>],
        out: &mut Vec<u8>,
    ) -> Result<(), BadRequest> {
        let start = out.len();
        let mut bad = BadRequest::default();
        self.body(body, out, &mut bad);
        self.others(query, Some(body), headers, start, out, &mut bad);
        if bad.violations.is_empty() {
            return Ok(());
        }
        out.truncate(start);
        Err(bad)
    }

    /// The wire before and behind a body of `length` bytes that is taken as it is, so that the body itself can pass
    /// through.
    ///
    /// # Errors
    ///
    /// All mistakes of the request; a binding that takes JSON or no body.
    pub fn request_around(
        &self,
        query: Option<&str>,
        content_type: &str,
        length: usize,
        headers: &[FromHeader<'_>],
    ) -> Result<(Vec<u8>, Vec<u8>), BadRequest> {
        let mut bad = BadRequest::default();
        let (mut before, mut after) = (Vec::new(), Vec::new());
        match &self.binding.body {
            Body::WholeRaw => before_data(content_type, length, &mut before),
            Body::FieldRaw(field) => before_field(field, content_type, length, &mut before),
            Body::None | Body::Whole | Body::Field(_) => bad.add("", "the method takes no body of this content type"),
        }
        self.others(query, None, headers, 0, &mut after, &mut bad);
        if bad.violations.is_empty() { Ok((before, after)) } else { Err(bad) }
    }

    fn body(&self, body: Input<'_>, out: &mut Vec<u8>, bad: &mut BadRequest) {
        let (content_type, data) = match body {
            Input::Empty => return,
            Input::Json(data) => ("application/json", data),
            Input::Raw { content_type, data } => (content_type, data),
        };
        match &self.binding.body {
            Body::None => bad.add("", "the method takes no body"),
            Body::WholeRaw => {
                before_data(content_type, data.len(), out);
                out.extend_from_slice(data);
            }
            Body::FieldRaw(field) => {
                before_field(field, content_type, data.len(), out);
                out.extend_from_slice(data);
            }
            Body::Whole | Body::Field(_) if matches!(body, Input::Raw { .. }) => bad.add("", "the method takes JSON"),
            Body::Whole => {
                if let Err(error) = self.binding.input.to_wire(data, out) {
                    bad.add_all("", error);
                }
            }
            Body::Field(field) => {
                // A rule whose body is no message has been refused.
                let Some(message) = field.message() else { return };
                put_tag(out, field.number(), WireType::Bytes);
                let start = begin(out);
                match message.to_wire(data, out) {
                    Ok(()) => end(out, start),
                    Err(error) => bad.add_all(field.name(), error),
                }
            }
        }
    }

    /// Query, mask, path and headers. The request starts at `start`.
    fn others(
        &self,
        query: Option<&str>,
        body: Option<Input<'_>>,
        headers: &[FromHeader<'_>],
        start: usize,
        out: &mut Vec<u8>,
        bad: &mut BadRequest,
    ) {
        let has_mask = query.is_some_and(|query| query::bind(self.binding, query, out, bad));
        if let (Some(Input::Json(json)), false, true) = (body, has_mask, bad.violations.is_empty()) {
            self.mask(json, out, bad);
        }
        self.path(out, bad);
        // The wire of a request with mistakes may be incomplete.
        let checked = bad.violations.is_empty();
        for header in headers {
            let given = if checked { &out[start..] } else { &[] };
            if let Some((path, leaf)) = self.header(header, given, bad) {
                path.append(&leaf, out);
            }
        }
    }

    /// Derives the `update_mask` of a PATCH.
    fn mask(&self, json: &[u8], out: &mut Vec<u8>, bad: &mut BadRequest) {
        let (Some(update_mask), Body::Field(field)) = (&self.binding.update_mask, &self.binding.body) else { return };
        let Some(message) = field.message() else { return };
        let bound = self.binding.variables.iter().map(FieldPath::name).chain(self.binding.revision.clone());
        let prefix = format!("{}.", field.name());
        let bound: Vec<_> = bound.filter_map(|path| path.strip_prefix(&prefix).map(str::to_owned)).collect();
        let skip = |path: &str, field: &FieldDescriptor| {
            bound.iter().any(|bound| bound == path) || Behavior::of(field).output_only
        };
        match mask::paths(json, message.descriptor(), &skip) {
            Ok(paths) => {
                let mut mask = Vec::new();
                paths.iter().for_each(|path| put_bytes(&mut mask, 1, path.as_bytes()));
                put_bytes(out, update_mask.number(), &mask);
            }
            Err(error) => bad.add(field.name(), error.to_string()),
        }
    }

    fn path(&self, out: &mut Vec<u8>, bad: &mut BadRequest) {
        let template = self.binding.template.variables.iter();
        for ((path, variable), value) in self.binding.variables.iter().zip(template).zip(&self.values) {
            let decoded = if variable.multi { percent::decode_segments(value) } else { percent::decode(value) };
            let mut leaf = Vec::new();
            match decoded.map(|value| path.leaf().text_to_wire(&value, &mut leaf)) {
                Ok(Ok(())) => path.append(&leaf, out),
                Ok(Err(error)) => bad.add_text(&path.name(), error),
                Err(what) => bad.add(path.name(), what),
            }
        }
    }

    /// The field of a header and its wire, unless the request `given` has the same value.
    fn header(&self, from: &FromHeader<'_>, given: &[u8], bad: &mut BadRequest) -> Option<(FieldPath, Vec<u8>)> {
        let FromHeader { header, field: path, value } = *from;
        let found = FieldPath::find(&self.binding.input, path, false).map_err(|what| bad.add(path, what)).ok()?;
        let mut leaf = Vec::new();
        found.leaf().text_to_wire(value, &mut leaf).map_err(|error| bad.add_text(header, error)).ok()?;
        let value = scan::fields(&leaf).next().and_then(Result::ok).map(|field| field.value);
        match found.last(given) {
            Ok(Some(other)) if Some(other) == value => None,
            // An unset field may be written as zero or empty.
            Ok(None | Some(Value::Varint(0) | Value::Bytes([]))) => Some((found, leaf)),
            Ok(Some(_)) | Err(_) => {
                bad.add(path, format!("has another value than the header {header}"));
                None
            }
        }
    }
}

/// What stands before the bytes of a field that is bytes or a `google.api.HttpBody`.
fn before_field(field: &Field, content_type: &str, length: usize, out: &mut Vec<u8>) {
    put_tag(out, field.number(), WireType::Bytes);
    if field.kind() == Kind::Bytes {
        put_varint(out, length as u64);
        return;
    }
    let mut before = Vec::new();
    before_data(content_type, length, &mut before);
    put_varint(out, (before.len() + length) as u64);
    out.append(&mut before);
}

/// What stands before the bytes of a `google.api.HttpBody`: its content type, and the tag and length of its data.
fn before_data(content_type: &str, length: usize, out: &mut Vec<u8>) {
    put_bytes(out, 1, content_type.as_bytes());
    put_tag(out, 2, WireType::Bytes);
    put_varint(out, length as u64);
}

#[cfg(test)]
mod tests;
