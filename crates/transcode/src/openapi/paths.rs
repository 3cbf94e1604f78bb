//! The paths of a document.

use prost_reflect::FieldDescriptor;

use super::bounds::Bounds;
use crate::binding::Binding;
use crate::template::{Segment, Variable};

/// A path, whose parameters span one segment each.
pub(super) struct Shape {
    /// The path with nameless parameters. Two paths that differ in names alone are one to OpenAPI.
    pub(super) pattern: String,
    /// The names of the parameters, from left to right.
    pub(super) names: Vec<String>,
}

/// A parameter of a path.
pub(super) struct Parameter<'b> {
    pub(super) name: String,
    /// The field, if the parameter is its whole value.
    pub(super) field: Option<&'b FieldDescriptor>,
    /// What the field's own pattern says about the parameter, if it is a part of the value.
    pub(super) pattern: String,
}

impl Shape {
    pub(super) fn of(binding: &Binding) -> Self {
        let template = &binding.template;
        let mut pattern = String::new();
        for segment in &template.segments {
            pattern.push('/');
            pattern.push_str(match segment {
                Segment::Literal(text) => text,
                Segment::One | Segment::Rest => "{}",
            });
        }
        if let Some(verb) = &template.verb {
            pattern.push(':');
            pattern.push_str(verb);
        }
        let names = parameters(binding).into_iter().map(|parameter| parameter.name).collect();
        Self { pattern, names }
    }

    /// The path with the names of its parameters.
    pub(super) fn path(&self) -> String {
        let mut names = self.names.iter();
        let mut path = String::new();
        for (index, part) in self.pattern.split("{}").enumerate() {
            if index > 0 {
                path.extend(["{", names.next().map_or("", String::as_str), "}"]);
            }
            path.push_str(part);
        }
        path
    }
}

/// The parameters of a path, from left to right.
pub(super) fn parameters(binding: &Binding) -> Vec<Parameter<'_>> {
    let template = &binding.template;
    let mut found: Vec<Parameter<'_>> = Vec::new();
    for (index, segment) in template.segments.iter().enumerate() {
        if matches!(segment, Segment::Literal(_)) {
            continue;
        }
        let holds = |variable: &&Variable| (variable.start..variable.end).contains(&index);
        let at = template.variables.iter().position(|variable| holds(&variable));
        let held = at.map(|at| (&template.variables[at], binding.variables[at].leaf().descriptor()));
        let field = held.filter(|(variable, _)| variable.end - variable.start == 1).map(|(_, field)| field);
        let of_segment = |(variable, field): (&Variable, &FieldDescriptor)| {
            Bounds::of(field).of_segment(index - variable.start, variable.end - variable.start)
        };
        let pattern = held.filter(|_| field.is_none()).map(of_segment).unwrap_or_default();
        let name = match (field, index.checked_sub(1).map(|before| &template.segments[before])) {
            (Some(field), _) => field.json_name().to_owned(),
            (None, Some(Segment::Literal(collection))) => singular(collection),
            _ => "segment".to_owned(),
        };
        let taken =
            found.iter().filter(|other| other.name.trim_end_matches(|c: char| c.is_ascii_digit()) == name).count();
        let name = if taken == 0 { name } else { format!("{name}{}", taken + 1) };
        found.push(Parameter { name, field, pattern });
    }
    found
}

/// The name of a resource, by that of its collection.
fn singular(collection: &str) -> String {
    let name: String = collection.chars().filter(char::is_ascii_alphanumeric).collect();
    match name.strip_suffix('s') {
        Some(singular) if !singular.is_empty() => singular.to_owned(),
        _ => name,
    }
}
