//! Which file of a crate uses which, and the circles that they form. `mod name;` is no use.

use std::collections::{BTreeMap, BTreeSet};

use super::modules::Crate;

/// One file uses another.
pub(crate) struct Edge {
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// The module and the name as written, from the root of the crate.
    pub(crate) written: Vec<String>,
    pub(crate) line: usize,
    pub(crate) text: String,
}

impl Crate {
    /// Every use of one file by another, in the order of the lines.
    pub(crate) fn edges(&self) -> Vec<Edge> {
        let mut edges = Vec::new();
        for (from, file) in self.files.iter().enumerate() {
            for found in &file.source.references {
                if let Some((written, to)) = self.leads_to(file, found) {
                    edges.push(Edge { from, to, written, line: found.line, text: found.text() });
                }
            }
        }
        edges
    }

    /// The edges that files of a circle use each other by, the first of each pair of files; none if there is no circle.
    pub(crate) fn circles(&self) -> Vec<Vec<Edge>> {
        let mut edges = BTreeMap::new();
        for edge in self.edges().into_iter().filter(|edge| edge.from != edge.to) {
            edges.entry((edge.from, edge.to)).or_insert(edge);
        }
        let reach: Vec<BTreeSet<usize>> = (0..self.files.len())
            .map(|file| {
                let (mut reached, mut ahead) = (BTreeSet::new(), vec![file]);
                while let Some(file) = ahead.pop() {
                    let next = edges.keys().filter(|(from, _)| *from == file).map(|(_, to)| *to);
                    ahead.extend(next.filter(|to| reached.insert(*to)));
                }
                reached
            })
            .collect();
        // Files that reach each other reach the same files.
        let mut circles: BTreeMap<&BTreeSet<usize>, Vec<Edge>> = BTreeMap::new();
        for ((from, to), edge) in edges {
            if reach[to].contains(&from) {
                circles.entry(&reach[from]).or_default().push(edge);
            }
        }
        circles.into_values().collect()
    }

    /// An edge as a failure shows it.
    pub(crate) fn show(&self, edge: &Edge) -> String {
        format!("{}:{}: `{}`", self.files[edge.from].name, edge.line, edge.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The edges of each circle.
    fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let find = |name: &str| files.iter().find(|(file, _)| format!("it/{file}") == name);
        let load = |name: &str| find(name).map(|(_, text)| (*text).to_owned());
        let read = Crate::read(&["it".to_owned()], "src/lib.rs", &load);
        read.circles().iter().map(|edges| edges.iter().map(|edge| read.show(edge)).collect()).collect()
    }

    #[test]
    fn circle_of_two_files_is_found() {
        let files = [
            ("src/lib.rs", "mod a;\nmod b;"),
            ("src/a.rs", "\nuse crate::b::B;\nuse crate::b::C;"),
            ("src/b.rs", "fn f() { super::a::A }"),
        ];
        assert_eq!(circles(&files), [["it/src/a.rs:2: `use crate::b::B`", "it/src/b.rs:1: `super::a::A`"]]);
    }

    #[test]
    fn circle_with_the_parent_is_found() {
        let files = [
            ("src/lib.rs", "mod a;"),
            ("src/a.rs", "mod b;\npub use b::B;\nstruct A;"),
            ("src/a/b.rs", "use super::A;\nstruct B;"),
        ];
        assert_eq!(circles(&files), [["it/src/a.rs:2: `use b::B`", "it/src/a/b.rs:1: `use super::A`"]]);
        let through_a_call = [files[0], ("src/a.rs", "mod b;\nfn f() { b::g() }\nstruct A;"), files[2]];
        assert_eq!(circles(&through_a_call), [["it/src/a.rs:2: `b::g`", "it/src/a/b.rs:1: `use super::A`"]]);
    }

    #[test]
    fn circle_through_a_re_export_is_found() {
        let files = [
            ("src/lib.rs", "mod a;\nmod b;\npub use a::A;"),
            ("src/a.rs", "use crate::b::{self, C};\nstruct A;"),
            ("src/b.rs", "mod c;\npub use c::*;"),
            ("src/b/c.rs", "use crate::A;\nstruct C;"),
        ];
        let expected = ["it/src/a.rs:1: `use crate::b::C`", "it/src/b/c.rs:1: `use crate::A`"];
        let found = circles(&files).concat();
        assert!(expected.iter().all(|edge| found.iter().any(|found| found == edge)), "{found:?}");
    }

    #[test]
    fn circles_of_different_files_are_reported_separately() {
        let files = [
            ("src/lib.rs", "mod a; mod b; mod c; mod d;"),
            ("src/a.rs", "use super::b::B;"),
            ("src/b.rs", "use super::a::A; use super::c::C;"),
            ("src/c.rs", "use super::d::D;"),
            ("src/d.rs", "use super::c::C;"),
        ];
        assert_eq!(circles(&files).iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
    }

    #[test]
    fn files_without_a_circle_pass() {
        let files = [
            ("src/lib.rs", "mod a;\nmod b;\npub use a::A;\npub use b::B;"),
            ("src/a.rs", "mod c;\n// use crate::b::B;\npub use c::C;\n#[cfg(test)]\nmod tests { use crate::b::B; }"),
            ("src/a/c.rs", "use std::fmt;\n/// [`super::super::b::B`]\nstruct C;"),
            ("src/b.rs", "use crate::{A, a::C};\nconst D: &str = \"crate::b::B\";\nfn f() { a::b() }"),
        ];
        assert_eq!(circles(&files), Vec::<Vec<String>>::new());
    }
}
