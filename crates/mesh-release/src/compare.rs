//! Compares how a caller and a service see one contract: each was built with its own version of it.
//!
//! Guarantees:
//! - What is **broken** fails, or does something else, for some calls. What is **degraded** works with less.
//! - Messages are compared by the numbers of their fields, recursively, each pair of types once: time is linear in the
//!   two contracts, or the comparison is refused.
//! - What differs in a message is found at each place that reaches it.
//!
//! Does not: know whether a caller sets a field, or reads it.

use std::collections::{BTreeMap, HashMap};

use mesh_proto::buf::validate::FieldRules;

use super::bounds;
use super::kinds::{self, Class, class, kind, loses};
use super::options::{Audience, Repeats};
use super::view::{FieldView, MessageView, MethodView, View};

/// How bad a difference is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The two work together, with less.
    Degraded,
    /// Some calls fail, or do something else.
    Broken,
}

/// A difference between two views of a contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The method, the type of an event, or what is stored.
    pub place: String,
    /// What differs; empty if the place is missing.
    pub what: String,
}

/// A message on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    /// From a caller to a service.
    Request,
    /// From a service to a caller.
    Response,
    /// From a source to a follower.
    Event,
    /// From a build to a later one, or back, by way of the database.
    Stored,
}

/// What the two ends of a way are called.
impl Way {
    fn ends(self) -> (&'static str, &'static str) {
        match self {
            Self::Request => ("caller", "service"),
            Self::Response => ("service", "caller"),
            Self::Event => ("source", "follower"),
            Self::Stored => ("writer", "reader"),
        }
    }

    /// Whether the receiver checks what it gets.
    fn is_checked(self) -> bool {
        matches!(self, Self::Request | Self::Stored)
    }
}

/// One comparison of two views.
pub(crate) struct Comparison {
    findings: Vec<Finding>,
    /// The pairs of types that were met, by their names.
    numbers: HashMap<(Way, String, String), usize>,
    pairs: Vec<Pair>,
    /// The fields that may still be compared.
    left: usize,
    /// The pairs and findings that may still be visited from further places.
    visits: usize,
    /// The places so far.
    places: usize,
}

/// What a sender and a receiver take for one message.
struct Pair {
    sent: String,
    read: String,
    /// `None` before it is compared.
    compared: Option<Compared>,
    /// The last place from which it was visited.
    visited: usize,
    /// Neither it nor what it contains differs.
    is_clean: bool,
}

/// What differs in one message, and the pairs that it contains.
#[derive(Default)]
struct Compared {
    found: Vec<(Severity, String)>,
    contains: Vec<usize>,
}

impl Comparison {
    /// Of these views.
    pub(crate) fn of(a: &View, b: &View) -> Self {
        let fields = |view: &View| view.messages.values().map(BTreeMap::len).sum::<usize>() + view.messages.len();
        // Each message is compared with few others, and most places reach few that differ.
        let left = 1000 + 16 * (fields(a) + fields(b));
        let (visits, places) = (left + (1 << 18), 0);
        Self { findings: Vec::new(), numbers: HashMap::new(), pairs: Vec::new(), left, visits, places }
    }

    pub(crate) fn finish(self) -> Vec<Finding> {
        self.findings
    }

    pub(crate) fn note(&mut self, severity: Severity, place: &str, what: String) {
        self.findings.push(Finding { severity, place: place.to_owned(), what });
    }

    /// Compares a method. `is_outside`: the caller passes on calls from outside of the mesh.
    pub(crate) fn method(
        &mut self,
        place: &str,
        caller: (&View, &MethodView),
        service: (&View, &MethodView),
        is_outside: bool,
    ) {
        let ((a, from), (b, to)) = (caller, service);
        if from.streams != to.streams {
            self.note(
                Severity::Broken,
                place,
                format!("it is {} at the service, and {} at the caller", streams(to), streams(from)),
            );
            return;
        }
        let (at, expected) = (&to.options, &from.options);
        if at.repeats == Repeats::Never && expected.repeats != Repeats::Never {
            self.note(
                Severity::Broken,
                place,
                "the caller repeats it, and the service says no more that it is idempotent".to_owned(),
            );
        }
        if at.access < expected.access {
            // A service of the mesh calls as itself.
            let severity = if is_outside { Severity::Broken } else { Severity::Degraded };
            let (at, expected) = (audience(at.access), audience(expected.access));
            self.note(severity, place, format!("it is {at} at the service, and {expected} at the caller"));
        }
        let added: Vec<_> =
            at.scopes.iter().filter(|scope| !expected.scopes.contains(scope)).map(String::as_str).collect();
        if !added.is_empty() {
            self.note(
                Severity::Broken,
                place,
                format!("the token of a user needs the scope {} at the service", added.join(", ")),
            );
        }
        if let Some(deadline) = at.deadline
            && expected.deadline.is_none_or(|expected| deadline < expected)
        {
            self.note(Severity::Degraded, place, "the service has a shorter default deadline".to_owned());
        }
        self.messages(place, Way::Request, (a, &from.request), (b, &to.request));
        self.messages(place, Way::Response, (b, &to.response), (a, &from.response));
    }

    /// Compares the HTTP rules of a method: a gateway serves them to clients outside of the mesh.
    pub(crate) fn http(&mut self, place: &str, before: &MethodView, now: &MethodView) {
        if before.options.access < Audience::Public {
            return;
        }
        let now = &now.options.http;
        for rule in before.options.http.iter().filter(|rule| !now.contains(rule)) {
            self.note(Severity::Broken, place, format!("its HTTP rule {rule} is gone or another one"));
        }
    }

    /// Compares a message, and all that it contains, as the sender writes and the receiver reads it.
    pub(crate) fn messages(&mut self, place: &str, way: Way, sender: (&View, &str), receiver: (&View, &str)) {
        self.places += 1;
        let before = self.findings.len();
        let mut pending = vec![self.number(way, sender.1, receiver.1)];
        let mut visited = Vec::new();
        while let Some(at) = pending.pop() {
            if self.pairs[at].is_clean || self.pairs[at].visited == self.places {
                continue;
            }
            self.pairs[at].visited = self.places;
            visited.push(at);
            let compared = match self.pairs[at].compared.take() {
                Some(compared) => Some(compared).filter(|compared| spend(&mut self.visits, 1 + compared.found.len())),
                None => self.compare(at, way, sender.0, receiver.0),
            };
            let Some(compared) = compared else {
                self.note(Severity::Broken, place, "its messages are too entangled to compare".to_owned());
                return;
            };
            for (severity, what) in &compared.found {
                self.note(*severity, place, what.clone());
            }
            pending.extend(&compared.contains);
            self.pairs[at].compared = Some(compared);
        }
        if self.findings.len() == before {
            visited.into_iter().for_each(|at| self.pairs[at].is_clean = true);
        }
    }

    /// The number of a pair of types.
    fn number(&mut self, way: Way, sent: &str, read: &str) -> usize {
        let (sent, read) = (sent.to_owned(), read.to_owned());
        *self.numbers.entry((way, sent.clone(), read.clone())).or_insert_with(|| {
            self.pairs.push(Pair { sent, read, compared: None, visited: 0, is_clean: false });
            self.pairs.len() - 1
        })
    }

    /// Compares the fields of a pair; `None` if too many were compared before.
    fn compare(&mut self, at: usize, way: Way, sender: &View, receiver: &View) -> Option<Compared> {
        let none = MessageView::new();
        let Pair { sent, read, .. } = &self.pairs[at];
        let from = sender.messages.get(sent).unwrap_or(&none);
        let to = receiver.messages.get(read).unwrap_or(&none);
        if !spend(&mut self.left, from.len() + to.len() + 1) {
            return None;
        }
        let message = read.rsplit('.').next().unwrap_or_default().to_owned();
        let (mut compared, mut found) = (Compared::default(), Vec::new());
        let mut field = Fields { found: &mut found, way, message: &message };
        for (number, field_sent) in from {
            match to.get(number) {
                Some(field_read) => {
                    if field.both((sender, field_sent), (receiver, field_read)) && field_sent.kind == kinds::MESSAGE {
                        let number = self.number(way, &field_sent.type_name, &field_read.type_name);
                        compared.contains.push(number);
                    }
                }
                None => field.only_sent(field_sent),
            }
        }
        for (_, field_read) in to.iter().filter(|(number, _)| !from.contains_key(number)) {
            field.only_read(field_read);
        }
        apart(from, to, |read, other, name| {
            let (sender, receiver) = way.ends();
            field.note(
                Severity::Degraded,
                read,
                &format!("is in the oneof `{name}` with `{other}` at the {receiver}, and the {sender} may send both"),
            );
        });
        compared.found = found;
        Some(compared)
    }

    /// The pairs of types that were met.
    #[cfg(test)]
    pub(crate) fn pairs(&self) -> usize {
        self.pairs.len()
    }
}

/// Notes the fields that are in one oneof at the receiver with an earlier field, and not at the sender.
fn apart(from: &MessageView, to: &MessageView, mut note: impl FnMut(&FieldView, &str, &str)) {
    let mut firsts: BTreeMap<i32, (&FieldView, &FieldView)> = BTreeMap::new();
    for (number, read) in to {
        let (Some(oneof), Some(sent)) = (&read.oneof, from.get(number)) else { continue };
        let (first_sent, first) = *firsts.entry(oneof.0).or_insert((sent, read));
        let is_one =
            sent.oneof.is_some() && sent.oneof.as_ref().map(|it| it.0) == first_sent.oneof.as_ref().map(|it| it.0);
        if first.name != read.name && !is_one {
            note(read, &first.name, &oneof.1);
        }
    }
}

/// Takes from what is left; `false` if that is too little.
fn spend(left: &mut usize, cost: usize) -> bool {
    let is_enough = *left >= cost;
    *left = left.saturating_sub(cost);
    is_enough
}

/// The fields of one message.
struct Fields<'a> {
    found: &'a mut Vec<(Severity, String)>,
    way: Way,
    message: &'a str,
}

impl Fields<'_> {
    fn note(&mut self, severity: Severity, field: &FieldView, what: &str) {
        self.found.push((severity, format!("`{}` of {} {what}", field.name, self.message)));
    }

    /// Compares a field that both have; `false` if its content cannot be compared.
    fn both(&mut self, (a, sent): (&View, &FieldView), (b, read): (&View, &FieldView)) -> bool {
        let (from, to) = self.way.ends();
        let (wires, kinds) = ((class(sent.kind), class(read.kind)), (kind(sent.kind), kind(read.kind)));
        if wires.0 != wires.1 || (sent.kind == kinds::BYTES && read.kind == kinds::STRING) {
            self.note(Severity::Broken, read, &format!("is {} at the {from}, and {} at the {to}", kinds.0, kinds.1));
            return false;
        }
        if sent.repeated != read.repeated {
            let shown = |repeated| if repeated { "a list" } else { "one value" };
            let (sent, of) = (shown(sent.repeated), shown(read.repeated));
            self.note(Severity::Broken, read, &format!("is {sent} at the {from}, and {of} at the {to}"));
            return false;
        }
        let is_number = matches!(wires.0, Class::Varint | Class::ZigZag | Class::Fixed32 | Class::Fixed64);
        if sent.kind != read.kind && is_number && loses(sent.kind, read.kind) {
            self.note(Severity::Degraded, read, &format!("is {} at the {from}, and {} at the {to}", kinds.0, kinds.1));
        }
        if self.way.is_checked() && !self.is_of_services(sent, read) {
            if read.options.required && !sent.options.required {
                self.note(Severity::Broken, read, &format!("is REQUIRED at the {to}, and the {from} may leave it out"));
            }
            let none = FieldRules::default();
            let rules = |field: &FieldView| field.options.rules.clone().unwrap_or_else(|| none.clone());
            for (is_narrower, what) in bounds::narrower(&rules(sent), &rules(read)) {
                let severity = if is_narrower { Severity::Broken } else { Severity::Degraded };
                self.note(severity, read, &format!("{what} at the {to}"));
            }
        }
        if sent.kind == kinds::ENUM && read.kind == kinds::ENUM {
            self.values((a, sent), (b, read));
        }
        true
    }

    /// Values of an enum that the receiver does not know.
    fn values(&mut self, (a, sent): (&View, &FieldView), (b, read): (&View, &FieldView)) {
        let (Some(from), Some(to)) = (a.enums.get(&sent.type_name), b.enums.get(&read.type_name)) else { return };
        let unknown: Vec<_> =
            from.iter().filter(|(number, _)| !to.contains_key(number)).map(|(_, name)| &**name).collect();
        if !unknown.is_empty() {
            let (_, end) = self.way.ends();
            self.note(
                Severity::Degraded,
                read,
                &format!("may be {}, which the {end} does not know", unknown.join(", ")),
            );
        }
    }

    fn only_sent(&mut self, sent: &FieldView) {
        let (_, to) = self.way.ends();
        // A caller does not mind more than it reads.
        if self.way.is_checked() && !sent.options.output_only {
            self.note(Severity::Degraded, sent, &format!("is ignored by the {to}"));
        }
    }

    fn only_read(&mut self, read: &FieldView) {
        let (from, to) = self.way.ends();
        if self.way.is_checked() {
            if read.options.required && !read.options.output_only {
                self.note(Severity::Broken, read, &format!("is REQUIRED at the {to}, and the {from} does not know it"));
            }
        } else if !read.options.input_only {
            self.note(Severity::Degraded, read, &format!("is not sent by the {from}"));
        }
    }

    /// Whether only services set the field, so that no caller sends it.
    fn is_of_services(&self, sent: &FieldView, read: &FieldView) -> bool {
        sent.options.output_only && read.options.output_only
    }
}

fn streams(method: &MethodView) -> &'static str {
    match method.streams {
        (false, false) => "unary",
        (true, false) => "a stream of requests",
        (false, true) => "a stream of responses",
        (true, true) => "a stream of both",
    }
}

fn audience(access: Audience) -> &'static str {
    match access {
        Audience::Internal => "internal",
        Audience::Authenticated => "for callers with an identity",
        Audience::Public => "public",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::catalog;

    const NOW: &str = "service S { rpc Get(Ask) returns (Title) { option idempotency_level = IDEMPOTENT; \
         option (mesh.options.v1.authorization) = {access: ACCESS_PUBLIC}; \
         option (mesh.options.v1.default_deadline) = {seconds: 2}; } } \
         message Ask { string id = 1 [(google.api.field_behavior) = REQUIRED, (buf.validate.field).string.max_len = 10]; \
         int64 at = 2; Kind kind = 3; repeated string tags = 4; Title title = 5; } \
         message Title { string name = 1; int64 year = 2; Kind kind = 3; \
         string made = 4 [(google.api.field_behavior) = OUTPUT_ONLY]; } \
         enum Kind { KIND_UNSPECIFIED = 0; FILM = 1; }";

    /// What a caller of `NOW` finds at a service whose contract has these changes.
    fn changed(changes: &[(&str, &str)]) -> Vec<(Severity, String)> {
        compared(
            NOW,
            &changes.iter().fold(NOW.to_owned(), |text, (from, to)| {
                assert!(text.contains(from), "{from}");
                text.replace(from, to)
            }),
        )
    }

    fn compared(caller: &str, service: &str) -> Vec<(Severity, String)> {
        let [a, b] = [caller, service].map(|text| View::read(&catalog(text)).unwrap());
        let method = "catalog.v1.S/Get";
        let mut compared = Comparison::of(&a, &b);
        compared.method(method, (&a, &a.methods[method]), (&b, &b.methods[method]), false);
        compared.finish().into_iter().map(|finding| (finding.severity, finding.what)).collect()
    }

    #[track_caller]
    fn is(found: &[(Severity, String)], severity: Severity, words: &str) {
        assert!(found.iter().any(|(is, what)| *is == severity && what.contains(words)), "{words}: {found:?}");
    }

    use Severity::{Broken, Degraded};

    #[test]
    fn additions_are_no_findings() {
        assert_eq!(changed(&[]), []);
        // A response may have more, a request may need no more, and names do not count.
        assert_eq!(changed(&[("string name = 1;", "string title = 1; string more = 9;")]), []);
        assert_eq!(
            changed(&[("string id = 1", "string more = 9; string id = 1"), ("max_len = 10", "max_len = 20")]),
            []
        );
        assert_eq!(changed(&[("= IDEMPOTENT", "= NO_SIDE_EFFECTS"), ("seconds: 2", "seconds: 3")]), []);
    }

    #[test]
    fn broken_is_what_fails() {
        for (change, words) in [
            (
                ("returns (Title)", "returns (stream Title)"),
                "a stream of responses at the service, and unary at the caller",
            ),
            (("int64 at = 2", "string at = 2"), "is int64 at the caller, and string at the service"),
            (("int64 year = 2", "double year = 2"), "is double at the service, and int64 at the caller"),
            (("int64 at = 2", "sint64 at = 2"), "sint64"),
            (("repeated string tags", "string tags"), "a list at the caller, and one value at the service"),
            (
                ("int64 at = 2;", "int64 at = 2 [(google.api.field_behavior) = REQUIRED];"),
                "`at` of Ask is REQUIRED at the service, and",
            ),
            (
                ("Title title = 5;", "Title title = 5; string key = 6 [(google.api.field_behavior) = REQUIRED];"),
                "does not know it",
            ),
            (("= IDEMPOTENT", "= IDEMPOTENCY_UNKNOWN"), "the caller repeats it"),
            (("max_len = 10", "max_len = 9"), "has a length of at most 9"),
            (("max_len = 10", "uuid = true"), "is a UUID"),
            (("ACCESS_PUBLIC", "ACCESS_AUTHENTICATED, scopes: 'catalog.read'"), "scope catalog.read"),
        ] {
            is(&changed(&[change]), Broken, words);
        }
        assert_eq!(changed(&[("int64 at = 2", "string at = 2")]).len(), 1, "and nothing else");
    }

    #[test]
    fn degraded_is_what_works_with_less() {
        for (change, words) in [
            (("int64 at = 2;", ""), "`at` of Ask is ignored by the service"),
            (("int64 year = 2;", ""), "`year` of Title is not sent by the service"),
            (("FILM = 1;", "FILM = 1; SERIES = 2;"), "`kind` of Title may be SERIES, which the caller does not know"),
            (("FILM = 1;", ""), "`kind` of Ask may be FILM, which the service does not know"),
            (("int64 at = 2", "int32 at = 2"), "is int64 at the caller, and int32 at the service"),
            (
                ("int64 at = 2; Kind kind = 3;", "oneof by { int64 at = 2; Kind kind = 3; }"),
                "`kind` of Ask is in the oneof `by` with `at` at the service, and the caller may send both",
            ),
            (("seconds: 2", "seconds: 1"), "shorter default deadline"),
            (("ACCESS_PUBLIC", "ACCESS_INTERNAL"), "internal at the service, and public at the caller"),
        ] {
            let found = changed(&[change]);
            is(&found, Degraded, words);
            assert!(found.iter().all(|(severity, _)| *severity == Degraded), "{found:?}");
        }
        // What only the service sets is not sent to it.
        let found = changed(&[("string made = 4 [(google.api.field_behavior) = OUTPUT_ONLY];", "")]);
        assert!(found.iter().all(|(_, what)| what.contains("not sent by the service")), "{found:?}");
    }

    #[test]
    fn numbers_that_do_not_fit_are_degraded() {
        let text = |kind: &str| format!("service S {{ rpc Get(Ask) returns (Ask); }} message Ask {{ {kind} at = 1; }}");
        for (old, new, count) in [
            ("sint64", "sint32", 1),
            ("fixed32", "sfixed32", 2),
            ("sfixed64", "fixed64", 2),
            ("int64", "int32", 1),
            ("uint32", "uint64", 1),
            ("fixed64", "fixed64", 0),
        ] {
            let found = compared(&text(old), &text(new));
            assert_eq!(found.len(), count, "{old} {new}: {found:?}");
            assert!(found.iter().all(|(severity, _)| *severity == Degraded), "{found:?}");
        }
    }

    #[test]
    fn fields_that_were_in_one_oneof_may_stay_there() {
        let text = |fields: &str| {
            format!("service S {{ rpc Get(Ask) returns (None); }} message Ask {{ {fields} }} message None {{}}")
        };
        let one = text("oneof a { string x = 1; string y = 2; }");
        let found = compared(&one, &text("oneof b { string x = 1; string y = 2; string z = 3; }"));
        assert_eq!(found, [], "only its name differs");
        assert_eq!(compared(&text("string x = 1;"), &one), [], "one field cannot be sent twice");
        assert_eq!(compared(&one, &text("string x = 1; string y = 2;")), [], "one of both is sent");
        let optional = "optional string x = 1; optional string y = 2;";
        assert_eq!(compared(&text(optional), &text(optional)), []);
        assert_eq!(compared(&text(optional), &one).len(), 1);
        assert_eq!(compared(&text("oneof a { string x = 1; } oneof b { string y = 2; }"), &one).len(), 1);
    }

    #[test]
    fn what_differs_in_a_shared_message_is_found_at_each_method() {
        let text = |kind: &str| {
            format!(
                "service S {{ rpc Get(Ask) returns (Title); rpc List(Ask) returns (Titles); rpc Drop(Ask) returns (Ask); }}
                 message Ask {{ string id = 1; }} message Titles {{ repeated Title titles = 1; }}
                 message Title {{ Year year = 1; }} message Year {{ {kind} year = 1; }}"
            )
        };
        let view = |kind: &str| View::read(&catalog(&text(kind))).unwrap();
        let (a, b) = (view("int64"), view("string"));
        let mut compared = Comparison::of(&a, &b);
        for name in ["Drop", "Get", "List"] {
            let method = format!("catalog.v1.S/{name}");
            compared.method(&method, (&a, &a.methods[&method]), (&b, &b.methods[&method]), false);
        }
        let places: Vec<_> = compared.finish().into_iter().map(|finding| finding.place).collect();
        assert_eq!(places, ["catalog.v1.S/Get", "catalog.v1.S/List"]);
    }

    #[test]
    fn messages_that_contain_themselves_are_compared_once() {
        let tree = |leaf: &str| {
            format!(
                "service S {{ rpc Get(Tree) returns (Tree); }} message Tree {{ repeated Tree below = 1; {leaf} leaf = 2; }}"
            )
        };
        let found = compared(&tree("int64"), &tree("bytes"));
        assert_eq!(found.len(), 2, "once for each way: {found:?}");
    }
}
