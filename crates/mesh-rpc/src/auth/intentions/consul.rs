//! Intentions in Consul.
//!
//! Guarantees:
//! - What is not understood denies: a permission that allows under such a condition is left out, and one that denies
//!   does so without the condition.
//! - Callers in other clusters, partitions and namespaces belong to other meshes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use consul_api_client::intentions::{self, Action, HttpPermission, Intention};

use super::table::{Calls, Permission, Rule, Table};

/// Each service, and the namespace of all.
const ALL: &str = "*";
const DEFAULT: &str = "default";

/// The table of intentions by the service that is called, and what of them is not understood, each with its services.
pub(super) fn table(found: BTreeMap<String, Vec<Intention>>) -> (Table, BTreeSet<String>) {
    let (mut table, mut unknown) = (Table::default(), BTreeSet::new());
    for (called, mut found) in found {
        found.sort_by_key(|intention| Reverse(intention.precedence));
        let rules = found.iter().filter_map(|intention| {
            let Intention { source_name: source, destination_name: destination, .. } = intention;
            rule(intention, &mut |what| _ = unknown.insert(format!("{source} to {destination}: {what}")))
        });
        let rules = rules.collect();
        table.0.insert(called, rules);
    }
    (table, unknown)
}

/// The rule of an intention, if its caller can be one of this mesh.
fn rule(intention: &Intention, note: &mut dyn FnMut(&str)) -> Option<Rule> {
    if let Some(elsewhere) = elsewhere(intention) {
        note(elsewhere);
        return None;
    }
    let caller = (intention.source_name != ALL).then(|| intention.source_name.clone());
    let mut unknown: Vec<_> = intention.other_conditions().collect();
    unknown.extend(intention.needs_token.then_some("JWT"));
    unknown.extend((!intention.source_sameness_group.is_empty()).then_some("SourceSamenessGroup"));
    unknown.iter().for_each(|condition| note(condition));
    let permissions = if !unknown.is_empty() {
        Vec::new()
    } else if intention.permissions.is_empty() {
        vec![Permission { calls: Calls::All, allows: allows(intention.action, note) }]
    } else {
        intention.permissions.iter().filter_map(|found| permission(found, note)).collect()
    };
    Some(Rule { caller, permissions })
}

/// The kind of place that a caller is in, if it is not that of this mesh.
fn elsewhere(intention: &Intention) -> Option<&'static str> {
    let Intention { source_peer, source_partition, source_namespace, .. } = intention;
    let places = [
        ("SourcePeer", source_peer, &[""][..]),
        ("SourcePartition", source_partition, &["", DEFAULT]),
        ("SourceNS", source_namespace, &["", DEFAULT, ALL]),
    ];
    places.into_iter().find(|(_, place, own)| !own.contains(&place.as_str())).map(|(what, ..)| what)
}

fn permission(found: &intentions::Permission, note: &mut dyn FnMut(&str)) -> Option<Permission> {
    let (allows, mut is_understood) = (allows(found.action, note), true);
    for condition in found.other_conditions() {
        note(condition);
        is_understood = false;
    }
    (is_understood || !allows).then(|| Permission { calls: calls(&found.http), allows })
}

fn allows(action: Action, note: &mut dyn FnMut(&str)) -> bool {
    if action == Action::None {
        note("Action");
    }
    action == Action::Allow
}

/// Calls of gRPC are POST.
fn calls(HttpPermission { path_exact, path_prefix, methods, .. }: &HttpPermission) -> Calls {
    let has_verbs = !methods.is_empty();
    match (path_exact.as_str(), path_prefix.as_str()) {
        _ if has_verbs && !methods.iter().any(|verb| verb.eq_ignore_ascii_case("POST")) => Calls::OtherVerbs,
        ("", "" | "/") if has_verbs => Calls::Below("/".to_owned()),
        ("", "" | "/") => Calls::All,
        ("", start) => Calls::Below(start.to_owned()),
        (path, _) => Calls::Path(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::table::Intended;
    use super::*;
    use crate::call::{HttpMethods, Methods};

    const GET: &str = "/google.longrunning.Operations/GetOperation";
    const CANCEL: &str = "/google.longrunning.Operations/CancelOperation";

    /// An intention for calls of `a`, in any order: with the precedence that Consul gives it.
    fn intention(from: &str, to: &str, more: Value) -> Intention {
        let precedence = if to == ALL { 6 } else { 9 } - i32::from(from == ALL);
        let mut whole =
            json!({"SourceName": from, "DestinationName": to, "SourceNS": "default", "Precedence": precedence});
        for (key, value) in more.as_object().unwrap() {
            whole[key] = value.clone();
        }
        serde_json::from_value(whole).unwrap()
    }

    fn action(from: &str, to: &str, action: &str) -> Intention {
        intention(from, to, json!({"Action": action}))
    }

    fn permissions(permissions: Value) -> Vec<Intention> {
        vec![intention("b", "a", json!({"Permissions": permissions})), action(ALL, ALL, "allow")]
    }

    /// Whether `b` may get and cancel an operation of `a`, and call it by HTTP; and what is not understood.
    fn of_b(found: Vec<Intention>) -> ([bool; 3], Vec<String>) {
        let (table, unknown) = table(BTreeMap::from([("a".to_owned(), found)]));
        let methods = Methods::of(&[]);
        let allows = |method| {
            let intended = Intended { service: "b".to_owned(), called: Some("a"), method };
            table.allows(&intended, &["a"])
        };
        let [get, cancel] = [GET, CANCEL].map(|path| allows(methods.find(path)));
        ([get, cancel, allows(HttpMethods::of("a").other)], unknown.into_iter().collect())
    }

    const ALLOWED: [bool; 3] = [true; 3];
    const DENIED: [bool; 3] = [false; 3];

    #[test]
    fn most_exact_intention_decides() {
        for (found, expected, why) in [
            (vec![], DENIED, "no intention"),
            (vec![action("b", "a", "allow")], ALLOWED, "exact"),
            (vec![action("c", "a", "allow")], DENIED, "another caller"),
            (vec![action(ALL, "a", "allow")], ALLOWED, "any caller"),
            (vec![action("b", ALL, "allow")], ALLOWED, "any service"),
            (vec![action(ALL, ALL, "allow")], ALLOWED, "any caller of any service"),
            (vec![action(ALL, "a", "deny"), action("b", "a", "allow")], ALLOWED, "the exact caller first"),
            (vec![action(ALL, "a", "allow"), action("b", "a", "deny")], DENIED, "the exact caller first"),
            (vec![action("b", ALL, "allow"), action(ALL, "a", "deny")], DENIED, "the exact service first"),
            (
                vec![action(ALL, ALL, "allow"), action("b", ALL, "deny")],
                DENIED,
                "the exact caller of any service first",
            ),
        ] {
            assert_eq!(of_b(found), (expected, Vec::new()), "{why}");
        }
    }

    /// A contract that all services of a process serve.
    #[test]
    fn denial_of_one_service_counts_for_what_several_serve() {
        let allows = |of_a: &str, of_c: &str| {
            let found = [("a", of_a), ("c", of_c)].map(|(to, decision)| {
                let found = if decision.is_empty() { Vec::new() } else { vec![action("b", to, decision)] };
                (to.to_owned(), found)
            });
            let intended = Intended { service: "b".to_owned(), called: None, method: Methods::of(&[]).find(GET) };
            table(found.into()).0.allows(&intended, &["a", "c"])
        };
        assert!(allows("allow", "") && allows("allow", "allow"));
        assert!(!allows("allow", "deny") && !allows("deny", "allow") && !allows("", ""));
    }

    #[test]
    fn permissions_allow_methods_by_their_paths() {
        let below = "/google.longrunning.Operations/Get";
        for (found, expected, why) in [
            (json!([{"Action": "allow", "HTTP": {"PathExact": GET}}]), [true, false, false], "one method"),
            (json!([{"Action": "allow", "HTTP": {"PathExact": &GET[1..]}}]), DENIED, "no path"),
            (json!([{"Action": "allow", "HTTP": {"PathPrefix": below}}]), [true, false, false], "a prefix"),
            (json!([{"Action": "allow", "HTTP": {"PathPrefix": "/"}}]), ALLOWED, "any path"),
            (
                json!([{"Action": "allow", "HTTP": {"PathPrefix": "/", "Methods": ["POST"]}}]),
                [true, true, false],
                "POST",
            ),
            (json!([{"Action": "allow", "HTTP": {"PathExact": GET, "Methods": ["GET", "PUT"]}}]), DENIED, "no POST"),
            (
                json!([{"Action": "deny", "HTTP": {"PathExact": GET}}, {"Action": "allow", "HTTP": {"PathPrefix": "/"}}]),
                [false, true, false],
                "all but one: a request of HTTP may be that one",
            ),
            (
                json!([{"Action": "allow", "HTTP": {"PathExact": GET}}, {"Action": "deny", "HTTP": {"PathPrefix": "/"}}]),
                [true, false, false],
                "the first permission that matches",
            ),
        ] {
            assert_eq!(of_b(permissions(found)), (expected, Vec::new()), "{why}");
        }
    }

    #[test]
    fn what_is_not_understood_denies_and_is_named() {
        let header = json!([{"Name": "x-a", "Present": true}]);
        let all = json!({"Action": "allow", "HTTP": {"PathPrefix": "/"}});
        for (found, expected, name) in [
            (permissions(json!([{"Action": "allow", "HTTP": {"PathRegex": "/g.*"}}])), DENIED, "PathRegex"),
            (
                permissions(json!([{"Action": "allow", "HTTP": {"PathPrefix": "/", "Header": header}}])),
                DENIED,
                "Header",
            ),
            (permissions(json!([{"Action": "deny", "HTTP": {"PathRegex": "/x"}}, all])), DENIED, "PathRegex"),
            (
                permissions(json!([{"Action": "deny", "HTTP": {"PathExact": GET, "Header": header}}, all])),
                [false, true, false],
                "Header",
            ),
            (permissions(json!([{"Action": "allow", "JWT": {"Providers": []}, "HTTP": {}}])), DENIED, "JWT"),
            (permissions(json!([{"Action": "allow", "Moon": "full"}])), DENIED, "Moon"),
            (permissions(json!([{"Action": "log", "HTTP": {"PathPrefix": "/"}}])), DENIED, "Action"),
            (vec![action("b", "a", "log")], DENIED, "Action"),
            (vec![intention("b", "a", json!({"Action": "allow", "JWT": {"Providers": []}}))], DENIED, "JWT"),
            (
                vec![
                    intention("b", "a", json!({"Action": "deny", "SourceSamenessGroup": "x"})),
                    action(ALL, "a", "allow"),
                ],
                DENIED,
                "SourceSamenessGroup",
            ),
            (
                vec![intention("b", "a", json!({"Action": "allow", "Until": "noon"})), action(ALL, "a", "allow")],
                DENIED,
                "Until",
            ),
            (
                vec![intention("b", "a", json!({"Action": "deny", "SourcePeer": "west"})), action(ALL, "a", "allow")],
                ALLOWED,
                "SourcePeer",
            ),
            (vec![intention("b", "a", json!({"Action": "allow", "SourcePeer": "west"}))], DENIED, "SourcePeer"),
            (vec![intention("b", "a", json!({"Action": "allow", "SourcePartition": "x"}))], DENIED, "SourcePartition"),
            (vec![intention("b", "a", json!({"Action": "allow", "SourceNS": "x"}))], DENIED, "SourceNS"),
        ] {
            assert_eq!(of_b(found), (expected, vec![format!("b to a: {name}")]));
        }
        let namespaces = intention(ALL, "a", json!({"Action": "allow", "SourceNS": "*", "SourcePartition": "default"}));
        assert_eq!(of_b(vec![namespaces]), (ALLOWED, Vec::new()));
    }
}
