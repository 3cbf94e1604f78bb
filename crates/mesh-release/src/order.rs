//! Orders what is deployed: components of what must go together, in an order in which each can go alone.
//!
//! Guarantees: the order is one of those with the most steps, and the same for the same input.
//!
//! See: Tarjan, "Depth-first search and linear graph algorithms" (1972).

use std::collections::BTreeSet;

/// The steps of `count` services, each with the numbers of those that must go together. Of each pair in `hard` the
/// first one goes before the second. So it does of a pair in `soft`, unless that closes a circle; the earlier pairs
/// count first.
pub fn order(count: usize, hard: &[(usize, usize)], soft: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let mut groups = components(count, hard);
    groups.sort();
    let mut group_of = vec![0; count];
    for (group, services) in groups.iter().enumerate() {
        services.iter().for_each(|service| group_of[*service] = group);
    }
    let mut after = vec![BTreeSet::new(); groups.len()];
    let between = |(before, behind): &(usize, usize)| (group_of[*before], group_of[*behind]);
    for (before, behind) in hard.iter().map(between).filter(|(before, behind)| before != behind) {
        after[before].insert(behind);
    }
    for (before, behind) in soft.iter().map(between) {
        if before != behind && !reaches(&after, behind, before) {
            after[before].insert(behind);
        }
    }
    // There is no circle: each round finds a group that waits for none.
    let mut left: BTreeSet<usize> = (0..groups.len()).collect();
    let mut steps = Vec::new();
    while let Some(next) = left.iter().copied().find(|group| left.iter().all(|other| !after[*other].contains(group))) {
        left.remove(&next);
        steps.push(std::mem::take(&mut groups[next]));
    }
    steps
}

/// Whether a path leads from one group to another.
fn reaches(after: &[BTreeSet<usize>], from: usize, to: usize) -> bool {
    let (mut seen, mut pending) = (BTreeSet::new(), vec![from]);
    while let Some(group) = pending.pop() {
        if group == to {
            return true;
        }
        if seen.insert(group) {
            pending.extend(&after[group]);
        }
    }
    false
}

/// The strongly connected components, each sorted.
fn components(count: usize, edges: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let mut behind = vec![Vec::new(); count];
    edges.iter().for_each(|(from, to)| behind[*from].push(*to));
    let mut search =
        Search { behind, index: vec![None; count], low: vec![0; count], stack: Vec::new(), next: 0, found: Vec::new() };
    for service in 0..count {
        search.visit(service);
    }
    search.found
}

/// Tarjan's search, without recursion.
struct Search {
    behind: Vec<Vec<usize>>,
    index: Vec<Option<usize>>,
    low: Vec<usize>,
    stack: Vec<usize>,
    next: usize,
    found: Vec<Vec<usize>>,
}

impl Search {
    fn visit(&mut self, root: usize) {
        if self.index[root].is_some() {
            return;
        }
        self.enter(root);
        // A node, and the number of its edges that were followed.
        let mut path = vec![(root, 0)];
        while let Some((node, followed)) = path.last_mut() {
            let (node, edge) = (*node, *followed);
            *followed += 1;
            match self.behind[node].get(edge).copied() {
                Some(to) => match self.index[to] {
                    None => {
                        self.enter(to);
                        path.push((to, 0));
                    }
                    Some(index) if self.stack.contains(&to) => self.low[node] = self.low[node].min(index),
                    Some(_) => {}
                },
                None => {
                    path.pop();
                    if let Some((parent, _)) = path.last() {
                        self.low[*parent] = self.low[*parent].min(self.low[node]);
                    }
                    self.leave(node);
                }
            }
        }
    }

    fn enter(&mut self, node: usize) {
        (self.index[node], self.low[node]) = (Some(self.next), self.next);
        self.next += 1;
        self.stack.push(node);
    }

    fn leave(&mut self, node: usize) {
        if Some(self.low[node]) != self.index[node] {
            return;
        }
        let from = self.stack.iter().position(|on| *on == node).unwrap_or_default();
        let mut component = self.stack.split_off(from);
        component.sort_unstable();
        self.found.push(component);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_keeps_groups_together_and_drops_soft_circles() {
        assert_eq!(order(3, &[], &[]), [[0], [1], [2]]);
        assert_eq!(order(3, &[(2, 1), (1, 0)], &[]), [[2], [1], [0]]);
        assert_eq!(order(3, &[(2, 0), (0, 2)], &[]), [vec![0, 2], vec![1]]);
        assert_eq!(order(2, &[], &[(1, 0), (0, 1)]), [[1], [0]], "the first one counts");
        assert_eq!(order(3, &[(0, 1)], &[(1, 0), (2, 0)]), [[2], [0], [1]]);
    }

    /// Builds of some services: which fit each other, and which version run beside the new one.
    struct Random {
        services: usize,
        /// Whether the new version of a service runs already beside the old one.
        half: Vec<bool>,
        /// Pairs of builds, each a service and whether it is new, that do not fit.
        broken: BTreeSet<(usize, bool, usize, bool)>,
    }

    impl Random {
        fn new(random: &mut fastrand::Rng) -> Self {
            let (services, dense) = (random.usize(2..=5), random.f64() * 0.5);
            let mut broken = BTreeSet::new();
            for x in 0..services {
                for y in 0..services {
                    if x != y && random.f64() < dense {
                        broken.insert((x, true, y, false));
                    }
                    if x < y && random.f64() < 0.02 {
                        broken.extend([(x, true, y, true), (y, true, x, true)]);
                    }
                }
            }
            Self { services, half: (0..services).map(|_| random.f64() < 0.2).collect(), broken }
        }

        fn running(&self, service: usize) -> Vec<bool> {
            if self.half[service] { vec![false, true] } else { vec![false] }
        }

        /// Whether the new build of one service fits all builds of another one that run, before or behind its step.
        fn fits(&self, new: usize, other: usize, is_deployed: bool) -> bool {
            let running = if is_deployed { vec![true] } else { self.running(other) };
            running.into_iter().all(|version| !self.broken.contains(&(new, true, other, version)))
        }

        fn is_blocked(&self) -> bool {
            (0..self.services).any(|x| (0..self.services).any(|y| x != y && !self.fits(x, y, true)))
        }

        fn edges(&self) -> Vec<(usize, usize)> {
            let pairs = (0..self.services).flat_map(|x| (0..self.services).map(move |y| (y, x)));
            pairs.filter(|(y, x)| x != y && !self.fits(*x, *y, false)).collect()
        }

        fn is_feasible(&self, steps: &[Vec<usize>]) -> bool {
            let mut deployed: BTreeSet<usize> = BTreeSet::new();
            steps.iter().all(|step| {
                deployed.extend(step);
                let mut pairs = deployed.iter().flat_map(|x| (0..self.services).map(move |y| (*x, y)));
                pairs.all(|(x, y)| x == y || self.fits(x, y, deployed.contains(&y)))
            })
        }

        /// The most steps of all ways to deploy them.
        fn most(&self, left: &[usize], done: &mut Vec<Vec<usize>>) -> Option<usize> {
            if left.is_empty() {
                return self.is_feasible(done).then_some(done.len());
            }
            let subsets = 1..1_usize << left.len();
            let found = subsets.filter_map(|set| {
                let is_in = |at: usize| set >> at & 1 == 1;
                let part = |taken: bool| {
                    (0..left.len()).filter(|at| is_in(*at) == taken).map(|at| left[at]).collect::<Vec<_>>()
                };
                done.push(part(true));
                let most = self.most(&part(false), done);
                done.pop();
                most
            });
            found.max()
        }
    }

    #[test]
    fn order_of_random_systems_is_feasible_and_has_the_most_steps() {
        let mut random = fastrand::Rng::with_seed(25);
        let (mut blocked, mut together) = (0, 0);
        for _ in 0..3000 {
            let system = Random::new(&mut random);
            let all: Vec<_> = (0..system.services).collect();
            let most = system.most(&all, &mut Vec::new());
            if system.is_blocked() {
                blocked += 1;
                assert_eq!(most, None);
                continue;
            }
            let steps = order(system.services, &system.edges(), &[]);
            assert!(system.is_feasible(&steps), "{steps:?}: {:?}", system.broken);
            assert_eq!(Some(steps.len()), most, "{steps:?}: {:?}", system.broken);
            together += usize::from(steps.len() < system.services);
            // Soft edges change neither.
            let mut soft = system.edges();
            random.shuffle(&mut soft);
            let turned: Vec<_> = soft.iter().map(|(before, behind)| (*behind, *before)).collect();
            let again = order(system.services, &system.edges(), &turned);
            assert!(system.is_feasible(&again) && again.len() == steps.len());
        }
        assert!(blocked > 100 && together > 300, "{blocked} {together}");
    }
}
