//! The edges of each method, found by its number and without a lock.
//!
//! Guarantees: two threads that add the same edge get one.

use std::sync::OnceLock;

use super::edge::Edge;
use super::ends::Ends;

/// Edges by the number of their method.
pub(super) struct Table([OnceLock<Box<[List; PAGE]>>; PAGES]);

const PAGE: usize = 64;
const PAGES: usize = 64;
/// The methods that have a place: more than the contracts of a process have.
pub(super) const METHODS: usize = PAGE * PAGES;

impl Table {
    /// The edges of a method. `None`: its number is above [`METHODS`].
    pub(super) fn get(&self, number: usize) -> Option<&List> {
        if number >= METHODS {
            return None;
        }
        Some(&self.0[number / PAGE].get_or_init(|| Box::new([const { List::new() }; PAGE]))[number % PAGE])
    }
}

impl Default for Table {
    fn default() -> Self {
        Self([const { OnceLock::new() }; PAGES])
    }
}

/// The edges of a method. It only grows, at its end.
pub(super) struct List(OnceLock<Box<Node>>);

struct Node {
    edge: &'static Edge,
    next: List,
}

impl List {
    const fn new() -> Self {
        Self(OnceLock::new())
    }

    pub(super) fn find(&self, same: impl Fn(&Ends) -> bool) -> Option<&'static Edge> {
        let mut list = self;
        while let Some(node) = list.0.get() {
            if same(&node.edge.ends) {
                return Some(node.edge);
            }
            list = &node.next;
        }
        None
    }

    /// Adds an edge, unless another thread has added the same meanwhile.
    pub(super) fn add(&self, same: impl Fn(&Ends) -> bool, begin: impl Fn() -> &'static Edge) -> &'static Edge {
        let mut list = self;
        loop {
            let node = list.0.get_or_init(|| Box::new(Node { edge: begin(), next: Self::new() }));
            if same(&node.edge.ends) {
                return node.edge;
            }
            list = &node.next;
        }
    }
}
