//! Finds the binding for a method and a path among many templates.
//!
//! Guarantees:
//! - A literal wins over `*`, and `*` over `**`, from left to right. A verb wins over the same text as a value.
//! - The search is a loop. It visits a node of the tree at most once, so a path costs its length and no more than the
//!   templates have segments.
//! - Does not: decode. The segments match as they arrive.

use std::collections::BTreeMap;

use crate::template::{Segment, Template};

/// The kind of a custom pattern that takes every method.
const ANY: &str = "*";

/// Templates as a tree of segments, each with the index of its binding.
pub(crate) struct Router {
    nodes: Vec<Node>,
}

#[derive(Default)]
struct Node {
    literals: BTreeMap<String, usize>,
    one: Option<usize>,
    rest: Option<usize>,
    /// The templates that end here.
    ends: Vec<End>,
}

struct End {
    verb: Option<String>,
    http_method: String,
    binding: usize,
}

/// What a search found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'r> {
    /// The binding, and how much of the path stands before the verb.
    Binding(usize, usize),
    /// The path has a binding for these methods only.
    Methods(Vec<&'r str>),
    Nothing,
}

impl Router {
    pub(crate) fn new() -> Self {
        Self { nodes: vec![Node::default()] }
    }

    /// Adds a template.
    ///
    /// # Errors
    ///
    /// The binding that has the same method and matches the same paths.
    pub(crate) fn insert(&mut self, http_method: &str, template: &Template, binding: usize) -> Result<(), usize> {
        let end = template.segments.iter().fold(0, |node, segment| self.child(node, segment));
        let ends = &mut self.nodes[end].ends;
        if let Some(other) = ends.iter().find(|end| end.verb == template.verb && end.http_method == http_method) {
            return Err(other.binding);
        }
        ends.push(End { verb: template.verb.clone(), http_method: http_method.to_owned(), binding });
        Ok(())
    }

    fn child(&mut self, node: usize, segment: &Segment) -> usize {
        let next = self.nodes.len();
        let node = &mut self.nodes[node];
        let child = match segment {
            Segment::Literal(text) => *node.literals.entry(text.clone()).or_insert(next),
            Segment::One => *node.one.get_or_insert(next),
            Segment::Rest => *node.rest.get_or_insert(next),
        };
        if child == next {
            self.nodes.push(Node::default());
        }
        child
    }

    /// Finds the binding for a path, which starts with `/`.
    pub(crate) fn find(&self, http_method: &str, path: &str) -> Found<'_> {
        if let Some((before, verb)) = path.rsplit_once(':')
            && let found @ (Found::Binding(..) | Found::Methods(_)) = self.walk(http_method, before, Some(verb))
        {
            return found;
        }
        self.walk(http_method, path, None)
    }

    /// Searches depth first. A node is one prefix of templates, so no node is reached twice.
    fn walk(&self, http_method: &str, path: &str, verb: Option<&str>) -> Found<'_> {
        let mut methods = Vec::new();
        let mut open = vec![(0, path.strip_prefix('/'))];
        while let Some((node, left)) = open.pop() {
            let node = &self.nodes[node];
            let Some(left) = left else {
                match node.end(http_method, verb, &mut methods) {
                    Some(binding) => return Found::Binding(binding, path.len()),
                    // `**` also matches nothing.
                    None => open.extend(node.rest.map(|rest| (rest, None))),
                }
                continue;
            };
            let (segment, behind) = match left.split_once('/') {
                Some((segment, behind)) => (segment, Some(behind)),
                None => (left, None),
            };
            // The last that is pushed is tried first.
            open.extend(node.rest.map(|rest| (rest, None)));
            open.extend(node.one.filter(|_| !segment.is_empty()).map(|one| (one, behind)));
            open.extend(node.literals.get(segment).map(|&literal| (literal, behind)));
        }
        if methods.is_empty() { Found::Nothing } else { Found::Methods(methods) }
    }
}

impl Node {
    /// The binding of a template that ends here. Adds the methods of the others to `methods`.
    fn end<'r>(&'r self, http_method: &str, verb: Option<&str>, methods: &mut Vec<&'r str>) -> Option<usize> {
        let ends = || self.ends.iter().filter(|end| end.verb.as_deref() == verb);
        let of = |wanted: &str| ends().find(|end| end.http_method == wanted);
        if let Some(end) = of(http_method).or_else(|| of(ANY)) {
            return Some(end.binding);
        }
        for end in ends() {
            if !methods.contains(&end.http_method.as_str()) {
                methods.push(&end.http_method);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(rules: &[(&str, &str)]) -> Router {
        let mut router = Router::new();
        for (index, (http_method, template)) in rules.iter().enumerate() {
            let template = Template::parse(template).unwrap();
            router.insert(http_method, &template, index).unwrap();
        }
        router
    }

    /// The index of the binding for GET.
    fn get(router: &Router, path: &str) -> Option<usize> {
        match router.find("GET", path) {
            Found::Binding(binding, _) => Some(binding),
            Found::Methods(_) | Found::Nothing => None,
        }
    }

    #[test]
    fn router_prefers_literals_to_one_and_one_to_rest() {
        let router = router(&[("GET", "/a/{x=**}"), ("GET", "/a/{x}"), ("GET", "/a/b"), ("GET", "/a/{x}/c")]);
        for (path, binding) in [
            ("/a/b", Some(2)),
            ("/a/x", Some(1)),
            ("/a/b/c", Some(3)),
            ("/a/b/d", Some(0)),
            ("/a", Some(0)),
            ("/a/", Some(0)),
            ("/a//b", Some(0)),
            ("/", None),
            ("/b", None),
            ("//a/b", None),
            ("/A/b", None),
        ] {
            assert_eq!(get(&router, path), binding, "{path}");
        }
    }

    #[test]
    fn router_takes_no_empty_segment_for_a_value() {
        let router = router(&[("GET", "/v1/titles"), ("GET", "/v1/titles/{id}"), ("GET", "/v1/{a}/x/{b}")]);
        for path in ["/v1/titles/", "/v1//titles", "/v1/titles//", "/v1//x/b", "/v1/titles/a/", "/v1/a/x/"] {
            assert_eq!(get(&router, path), None, "{path}");
        }
    }

    #[test]
    fn router_gives_a_verb_to_the_value_unless_a_rule_has_it() {
        let router = router(&[
            ("GET", "/person/{id}"),
            ("GET", "/titles/{id}"),
            ("GET", "/titles/{id}:cancel"),
            ("GET", "/titles:batchGet"),
            ("GET", "/{name=operations/**}:cancel"),
        ]);
        for (path, binding, end) in [
            ("/person/jason:other", 0, 19),
            // Another collection has the verb.
            ("/person/jason:cancel", 0, 20),
            ("/titles/a:cancel", 2, 9),
            ("/titles/a:b:cancel", 2, 11),
            ("/titles/a:cancel:b", 1, 18),
            ("/titles/a%3Acancel", 1, 18),
            ("/titles/:cancel", 1, 15),
            ("/titles/a:", 1, 10),
            ("/titles:batchGet", 3, 7),
            ("/operations/a/b:cancel", 4, 15),
        ] {
            assert_eq!(router.find("GET", path), Found::Binding(binding, end), "{path}");
        }
        assert_eq!(router.find("GET", "/titles:cancel/a"), Found::Nothing);
        assert_eq!(router.find("GET", "/titles:other"), Found::Nothing);
    }

    #[test]
    fn router_names_the_methods_of_a_path() {
        let router = router(&[("GET", "/a/{x}"), ("PATCH", "/a/{y}"), ("POST", "/a/b"), ("POST", "/a/{x}:v")]);
        assert_eq!(router.find("PUT", "/a/x"), Found::Methods(vec!["GET", "PATCH"]));
        assert_eq!(router.find("PUT", "/a/b"), Found::Methods(vec!["POST", "GET", "PATCH"]));
        assert_eq!(router.find("PATCH", "/a/b"), Found::Binding(1, 4));
        assert_eq!(router.find("GET", "/a/x:v"), Found::Methods(vec!["POST"]));
        assert_eq!(router.find("get", "/a/x"), Found::Methods(vec!["GET", "PATCH"]));
    }

    #[test]
    fn router_takes_every_method_for_a_custom_kind_of_any() {
        let router = router(&[("*", "/a"), ("GET", "/a"), ("WEBSOCKET", "/a")]);
        assert_eq!(router.find("GET", "/a"), Found::Binding(1, 2));
        assert_eq!(router.find("PURGE", "/a"), Found::Binding(0, 2));
        assert_eq!(router.find("WEBSOCKET", "/a"), Found::Binding(2, 2));
    }

    #[test]
    fn router_refuses_two_templates_for_the_same_paths() {
        for (first, second) in
            [("/a/{x}", "/a/{y}"), ("/a/{x}", "/a/*"), ("/{n=a/*}", "/a/{x}"), ("/{x=**}:v", "/**:v")]
        {
            let mut router = router(&[("GET", first)]);
            let second = Template::parse(second).unwrap();
            assert_eq!(router.insert("GET", &second, 1), Err(0), "{first}");
            assert_eq!(router.insert("POST", &second, 1), Ok(()), "{first}");
        }
    }

    /// Sixteen levels of a literal beside `*`: a search that went back for every choice would take 65,536 walks.
    #[test]
    fn router_visits_a_node_once() {
        let mut router = Router::new();
        for depth in 0..16 {
            let segments = |at: usize| if at == depth { "/{x}" } else { "/a" };
            let template: String = (0..16).map(segments).collect();
            router.insert("GET", &Template::parse(&template).unwrap(), depth).unwrap();
        }
        assert_eq!(router.find("GET", &"/a".repeat(15)), Found::Nothing);
        assert_eq!(router.find("GET", &format!("{}/b", "/a".repeat(15))), Found::Binding(15, 32));
        for path in ["/".repeat(1_000), "/a".repeat(100_000), ":".repeat(100_000), "/a:".repeat(10_000)] {
            assert_eq!(router.find("GET", &path), Found::Nothing);
        }
    }
}
