//! The responses of an operation.

use std::collections::BTreeMap;

use super::comments::Failure;
use super::info::{Answer, Info};
use super::schemas::Schemas;
use crate::binding::Binding;
use crate::code;
use crate::json::{Json, Object};

/// The name of the schema of errors.
const PROBLEM: &str = "Problem";

/// The status that has a challenge in its headers.
const UNAUTHORIZED: u16 = 401;

/// The failures that a status answers, each with its reasons and their domains.
type Failures<'f> = Vec<(&'f Failure, Vec<(&'f str, String)>)>;

/// The responses: that of success, one for each status that the comment leads to, and one for all others.
pub(super) fn of(
    binding: &Binding,
    failures: &[Failure],
    links: Object,
    (info, schemas): (Info<'_>, &mut Schemas),
) -> Object {
    let of_token = of_token(binding, info);
    let mut by_status: BTreeMap<u16, Failures<'_>> = BTreeMap::new();
    for failure in failures.iter().chain(&of_token) {
        if failure.reasons.is_empty() {
            by_status.entry(code::http_status(failure.code)).or_default().push((failure, Vec::new()));
        }
        for reason in &failure.reasons {
            let Answer { statuses, domain } = (info.answer)(binding, failure.code, reason);
            for status in statuses {
                let answered = by_status.entry(status).or_default();
                match answered.iter_mut().find(|(other, _)| *other == failure) {
                    Some((_, reasons)) => reasons.push((reason, domain.clone())),
                    None => answered.push((failure, vec![(reason, domain.clone())])),
                }
            }
        }
    }
    let responses = Object::new().with("200", success(binding, schemas).with_some("links", links));
    let failed = by_status.into_iter().map(|(status, failures)| (status.to_string(), failed(status, &failures)));
    responses.and(failed.collect()).with("default", other(binding, info))
}

/// The failures for a token, a code each.
fn of_token(binding: &Binding, info: Info<'_>) -> Vec<Failure> {
    let Some(scopes) = info.bearer.scopes(binding) else { return Vec::new() };
    let of_scopes = if scopes.is_empty() { &[] } else { info.bearer.scope_failures };
    let mut by_code: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    for (code, reason) in info.bearer.failures.iter().chain(of_scopes) {
        by_code.entry(*code).or_default().push((*reason).to_owned());
    }
    let failure =
        |(code, reasons): (i32, Vec<String>)| Failure { code, text: format!("{}.", reasons.join(", ")), reasons };
    by_code.into_iter().map(failure).collect()
}

/// The response of all statuses that no comment leads to.
fn other(binding: &Binding, info: Info<'_>) -> Object {
    let mut examples = Object::new();
    for (code, reason) in info.failures {
        let Answer { statuses, domain } = (info.answer)(binding, *code, reason);
        if let Some(status) = statuses.first() {
            examples = examples.with(*reason, Object::new().with("value", example(*status, *code, reason, &domain)));
        }
    }
    Object::new().with("description", "Another error.").with("content", content(examples))
}

fn success(binding: &Binding, schemas: &mut Schemas) -> Object {
    let described = |text: &str| Object::new().with("description", text);
    if binding.is_raw_response() {
        return described("The content, with its content type.")
            .with("content", Object::new().with("*/*", Object::new()));
    }
    let schema = Object::new().with("schema", schemas.message(&binding.response_message()));
    if binding.method.is_server_streaming() {
        let events = Object::new().with("schema", Object::new().with("type", "string"));
        let content = Object::new().with("text/event-stream", events).with("application/x-ndjson", schema);
        return described("A message an event, or a message a line.").with("content", content);
    }
    let answer = described("The answer.");
    let answer = if binding.answers_revision {
        let text = Object::new().with("schema", Object::new().with("type", "string"));
        answer.with("headers", Object::new().with("ETag", text.with("description", "The revision.")))
    } else {
        answer
    };
    answer.with("content", Object::new().with("application/json", schema))
}

/// The response of a status: what the comment says about its codes, and an example a reason.
fn failed(status: u16, failures: &Failures<'_>) -> Json {
    let texts: Vec<_> =
        failures.iter().map(|(failure, _)| format!("{}: {}", code::code_name(failure.code), failure.text)).collect();
    let mut examples = Object::new();
    for (failure, reasons) in failures {
        for (reason, domain) in reasons {
            if !examples.has(reason) {
                let value = example(status, failure.code, reason, domain);
                examples = examples.with(*reason, Object::new().with("value", value));
            }
        }
    }
    let answer = Object::new().with("description", texts.join("\n\n"));
    let answer = if status == UNAUTHORIZED {
        let text = Object::new().with("schema", Object::new().with("type", "string"));
        answer.with("headers", Object::new().with("WWW-Authenticate", text.with("description", "What is needed.")))
    } else {
        answer
    };
    answer.with("content", content(examples)).into()
}

fn content(examples: Object) -> Object {
    let schema = Object::new().with("$ref", format!("#/components/schemas/{PROBLEM}"));
    Object::new().with("application/problem+json", Object::new().with("schema", schema).with_some("examples", examples))
}

fn example(status: u16, code: i32, reason: &str, domain: &str) -> Object {
    let detail = Object::new()
        .with("@type", "type.googleapis.com/google.rpc.ErrorInfo")
        .with("reason", reason)
        .with("domain", domain);
    Object::new()
        .with("type", format!("/errors/{domain}/{reason}"))
        .with("title", code::title(reason))
        .with("status", i64::from(status))
        .with("code", i64::from(code))
        .with("message", code::title(reason))
        .with("details", vec![detail])
}

/// Adds the schema of errors.
pub(super) fn problem(schemas: &mut Schemas) {
    let typed = |name: &str, text: &str| Object::new().with("type", name).with("description", text);
    let detail = Object::new()
        .with("type", "object")
        .with("properties", Object::new().with("@type", Object::new().with("type", "string")))
        .with("required", vec!["@type"])
        .with("additionalProperties", true);
    let properties = Object::new()
        .with("type", typed("string", "What went wrong: `/errors/{service}/{REASON}`, or `about:blank`."))
        .with("title", typed("string", "What went wrong, for people. The same for all errors of the type."))
        .with("status", typed("integer", "The status of HTTP."))
        .with("detail", typed("string", "What went wrong with this request."))
        .with("code", typed("integer", "The code of gRPC."))
        .with("message", typed("string", "As `detail`."))
        .with("details", Object::new().with("type", "array").with("items", detail));
    let schema = Object::new()
        .with("type", "object")
        .with("description", "An error: RFC 9457, with the members of google.rpc.Status beside it.")
        .with("properties", properties)
        .with("required", vec!["type", "title", "status", "code", "message", "details"]);
    schemas.add(PROBLEM, schema);
}
