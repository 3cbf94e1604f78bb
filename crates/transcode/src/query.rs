//! The fields of a request from the query of its URL.
//!
//! Guarantees:
//! - An unknown name, a field of path or body, a second value for a field that takes one, and a second member of a
//!   oneof are mistakes.
//! - `+` is a plus sign.

use std::collections::{BTreeMap, BTreeSet};

use crate::bad_request::BadRequest;
use crate::binding::{Binding, Body};
use crate::field_path::FieldPath;
use crate::percent;
use crate::table::Cardinality;

/// How much of an unknown name is repeated in its error.
const SHOWN: usize = 100;

/// Appends the fields of a query. Returns whether the query gives `update_mask`.
pub(crate) fn bind(binding: &Binding, query: &str, out: &mut Vec<u8>, bad: &mut BadRequest) -> bool {
    let mut given = Given::default();
    let mut leaf = Vec::new();
    // Behind the last mistake that is reported, nothing is looked up: a name that is not there is compared with all
    // others.
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        if bad.is_full() {
            break;
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let path = match percent::decode(name).map_err(str::to_owned).and_then(|name| field(binding, &name)) {
            Ok(path) => path,
            Err(what) => {
                bad.add(name.chars().take(SHOWN).collect::<String>(), what);
                continue;
            }
        };
        leaf.clear();
        match given.add(&path).map(|()| percent::decode(value)) {
            Err(what) => bad.add(path.name(), what),
            Ok(Err(what)) => bad.add(path.name(), what),
            Ok(Ok(value)) => match path.leaf().text_to_wire(&value, &mut leaf) {
                Ok(()) => path.append(&leaf, out),
                Err(error) => bad.add_text(&path.name(), error),
            },
        }
    }
    binding.update_mask.as_ref().is_some_and(|mask| given.fields.contains([mask.number()].as_slice()))
}

/// The field of a name, unless path, body or a header have it.
fn field(binding: &Binding, name: &str) -> Result<FieldPath, String> {
    let path = FieldPath::find(&binding.input, name, true)?;
    let numbers = path.numbers();
    if binding.variables.iter().any(|variable| variable.numbers() == numbers) {
        return Err("is a field of the path".to_owned());
    }
    let is_in_body = match &binding.body {
        Body::None => false,
        Body::Whole | Body::WholeRaw => true,
        Body::Field(field) | Body::FieldRaw(field) => numbers.first() == Some(&field.number()),
    };
    if is_in_body {
        return Err("is a field of the body".to_owned());
    }
    // A page of another site can send a form with any query, but not the header.
    if binding.body.is_raw() && path.name() == "request_id" {
        return Err("is given by the header Idempotency-Key alone".to_owned());
    }
    Ok(path)
}

/// What a query has given so far.
#[derive(Default)]
struct Given {
    /// The numbers that lead to each field.
    fields: BTreeSet<Vec<u32>>,
    /// The member that has a value, of a oneof with its message, by the numbers that lead there.
    chosen: BTreeMap<(Vec<u32>, String), u32>,
}

impl Given {
    fn add(&mut self, path: &FieldPath) -> Result<(), String> {
        let numbers = path.numbers();
        for (depth, field) in path.fields().enumerate() {
            let oneof = field.descriptor().containing_oneof().filter(|oneof| !oneof.is_synthetic());
            let Some(oneof) = oneof else { continue };
            let key = (numbers[..depth].to_vec(), oneof.name().to_owned());
            if *self.chosen.entry(key).or_insert(field.number()) != field.number() {
                return Err(format!("is one of the fields of {}, and another is given", oneof.name()));
            }
        }
        let is_new = self.fields.insert(numbers);
        if is_new || path.leaf().cardinality() == Cardinality::Repeated {
            return Ok(());
        }
        Err("takes one value".to_owned())
    }
}
