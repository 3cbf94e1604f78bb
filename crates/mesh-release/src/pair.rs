//! Compares two builds: the calls of one to the other, the events that it follows, and what one leaves to the other in
//! the database.

use mesh_proto::mesh::release::v1::Call;

use super::compare::{Comparison, Finding, Severity, Way};
use super::manifest::Build;

/// What `caller` calls and follows of `peer`, and what does not fit. A finding without words says that the peer does
/// not have what is asked for.
pub fn uses(caller: &Build, peer: &Build) -> Vec<Finding> {
    let mut found = Comparison::of(&caller.view, &peer.view);
    // A gateway and programs outside of the mesh serve nothing.
    let is_outside = caller.manifest.serves.is_empty();
    let calls = caller.manifest.calls.iter().filter(|call| call.peer == peer.service());
    for Call { method, optional, .. } in calls {
        // The calls of a manifest are in its contracts.
        let Some(expected) = caller.view.methods.get(method) else { continue };
        let is_served =
            method.split_once('/').is_some_and(|(contract, _)| peer.manifest.serves.iter().any(|it| it == contract));
        match peer.view.methods.get(method).filter(|_| is_served) {
            Some(served) => found.method(method, (&caller.view, expected), (&peer.view, served), is_outside),
            None => found.note(if *optional { Severity::Degraded } else { Severity::Broken }, method, String::new()),
        }
    }
    let followed = caller.manifest.follows.iter().filter(|followed| followed.source == peer.service());
    for event in followed.flat_map(|followed| &followed.types) {
        if peer.manifest.publishes.contains(event) {
            found.messages(event, Way::Event, (&peer.view, event), (&caller.view, event));
        } else {
            found.note(Severity::Broken, event, String::new());
        }
    }
    found.finish()
}

/// What a client of one build finds at a later one, whichever methods it calls and events it follows.
pub fn clients(before: &Build, now: &Build) -> Vec<Finding> {
    let mut found = Comparison::of(&before.view, &now.view);
    let mut served = before.view.methods_of(&before.manifest.serves);
    // A gateway serves what it calls.
    if before.manifest.serves.is_empty() {
        served.extend(before.manifest.calls.iter().map(|call| &*call.method));
    }
    for method in served {
        let Some(expected) = before.view.methods.get(method) else { continue };
        match now.view.methods.get(method) {
            Some(served) => {
                found.method(method, (&before.view, expected), (&now.view, served), true);
                found.http(method, expected, served);
            }
            None => found.note(Severity::Broken, method, String::new()),
        }
    }
    for event in &before.manifest.publishes {
        if now.manifest.publishes.contains(event) {
            found.messages(event, Way::Event, (&now.view, event), (&before.view, event));
        } else {
            found.note(Severity::Broken, event, String::new());
        }
    }
    found.finish()
}

/// What `writer` keeps in the database of the service, and `reader`, another build of the service, cannot read.
pub fn stored(writer: &Build, reader: &Build) -> Vec<Finding> {
    let mut found = Comparison::of(&writer.view, &reader.view);
    for stored in &writer.manifest.stores {
        if !reader.manifest.stores.contains(stored) {
            found.note(Severity::Broken, stored, String::new());
        } else if stored.contains('.') {
            found.messages(stored, Way::Stored, (&writer.view, stored), (&reader.view, stored));
        }
    }
    found.finish()
}

/// What the contracts of a later build have in addition, in messages and enums that both know: fields and values.
pub fn additions(before: &Build, now: &Build) -> Vec<String> {
    let fields = now.view.messages.iter().flat_map(|(message, fields)| {
        let known = before.view.messages.get(message);
        let added = fields.iter().filter(move |(number, _)| known.is_some_and(|known| !known.contains_key(number)));
        added.map(move |(_, field)| format!("`{}` to {message}", field.name))
    });
    let values = now.view.enums.iter().flat_map(|(of, values)| {
        let known = before.view.enums.get(of);
        let added = values.iter().filter(move |(number, _)| known.is_some_and(|known| !known.contains_key(number)));
        added.map(move |(_, value)| format!("{value} to {of}"))
    });
    let mut additions: Vec<_> = fields.chain(values).collect();
    additions.sort();
    additions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{Declared, set};

    #[test]
    fn additions_are_fields_and_values_of_what_both_know() {
        let build = |fields: &str, values: &str, more: &str| {
            let text = format!(
                "service S {{ rpc Get(Ask) returns (Title); {more} }} message Ask {{ string id = 1; }} \
                 message Title {{ Kind kind = 1; {fields} }} enum Kind {{ NONE = 0; {values} }} message Other {{ string x = 1; }}"
            );
            Declared::new("catalog", "1.0").serves("catalog.v1.S", &set("catalog", &text)).build()
        };
        let (before, now) =
            (build("", "", ""), build("string name = 2;", "FILM = 1;", "rpc List(Ask) returns (Other);"));
        assert_eq!(additions(&before, &now), ["FILM to catalog.v1.Kind", "`name` to catalog.v1.Title"]);
        assert_eq!(additions(&now, &before), Vec::<String>::new());
    }

    #[test]
    fn http_rules_of_public_methods_stay() {
        let build = |access: &str, rule: &str| {
            let text = format!(
                "import \"google/api/annotations.proto\"; service S {{ rpc Get(Ask) returns (Ask) {{ \
                 option (google.api.http) = {{{rule}}}; option (mesh.options.v1.authorization) = {{access: {access}}}; }} }} \
                 message Ask {{ string id = 1; string at = 2; }}"
            );
            Declared::new("catalog", "1.0").serves("catalog.v1.S", &set("catalog", &text)).build()
        };
        let found = |access: &str, now: &str| {
            let found = clients(&build(access, "post: '/a/{id}' body: '*'"), &build(access, now));
            found.into_iter().map(|finding| (finding.severity, finding.what)).collect::<Vec<_>>()
        };
        let public = "ACCESS_PUBLIC";
        assert_eq!(found(public, "post: '/a/{id}' body: '*'"), []);
        let more = "post: '/b/{id}' body: '*' additional_bindings { post: '/a/{id}' body: '*' }";
        assert_eq!(found(public, more), []);
        let gone = (Severity::Broken, "its HTTP rule POST /a/{id} with body `*` is gone or another one".to_owned());
        for now in ["post: '/b/{id}' body: '*'", "post: '/a/{id}'", "put: '/a/{id}' body: '*'"] {
            assert_eq!(found(public, now), std::slice::from_ref(&gone), "{now}");
        }
        assert_eq!(found("ACCESS_INTERNAL", "get: '/b'"), [], "no gateway serves it");
    }
}
