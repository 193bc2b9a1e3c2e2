//! A forest laid out flat: one array of small nodes, each tree's nodes together, the two children of a branch side by
//! side, and every test turned into the same one, so that a step is the same few instructions everywhere.
//!
//! The only test is "at most". "Below" a number is "at most" the number before it; "at least" and "above" are these with
//! the children swapped; "equal" is two of them. Where NaN goes is a bit of the node.

use tract_onnx::prelude::TractResult;
use tract_onnx::tract_core::internal::{bail, ensure, format_err};

use super::forest::{Branch, Forest, Number, Place, Test};
use super::small::SmallTree;

/// One node. A leaf's `next` is itself, and it has none of the flags: a walker that stands on it stays there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node<T> {
    /// Of a branch: values at most this go to `next`, others to the node after it. Of a leaf with one weight: the weight.
    pub(super) threshold: T,
    pub(super) feature: u32,
    pub(super) next: u32,
    /// The flags below, and above them `LEAF_SHIFT`, of a leaf: its target where each leaf has one weight, else its
    /// place among the leaves.
    pub(super) tag: u32,
}

impl<T> Node<T> {
    pub(super) fn leaf(&self) -> usize {
        (self.tag >> LEAF_SHIFT) as usize
    }
}

/// Whether values above the threshold go to the node after `next`: the number that is added to `next`.
pub(super) const TESTS: u32 = 1;
/// Whether the node leads anywhere.
pub(super) const MOVES: u32 = 2;
/// Whether NaN goes to `next`.
pub(super) const MISSING_STAYS: u32 = 4;

const LEAF_SHIFT: u32 = 3;

fn leaf_tag(leaf: usize) -> TractResult<u32> {
    let tag = u32::try_from(leaf).ok().and_then(|leaf| leaf.checked_mul(1 << LEAF_SHIFT));
    tag.ok_or_else(|| format_err!("there are more leaves than can be counted"))
}

/// What the leaves add.
#[derive(Clone, Debug)]
pub(super) enum Leaves<T> {
    /// Each leaf has one weight: it is in the node, with its target.
    One,
    /// Each leaf has a weight for every target, in their order.
    Dense(Vec<T>),
    /// Leaf n has the pairs from `starts[n]` to `starts[n + 1]`.
    Sparse { starts: Vec<u32>, weights: Vec<(u32, T)> },
}

#[derive(Clone, Debug)]
pub(super) struct Layout<T> {
    pub(super) nodes: Vec<Node<T>>,
    pub(super) roots: Vec<u32>,
    /// For each root, the tree in another form, if it is small enough.
    pub(super) small: Vec<Option<SmallTree>>,
    pub(super) leaves: Leaves<T>,
    pub(super) targets: usize,
    /// One more than the largest feature that is asked for.
    pub(super) features: usize,
    /// Whether NaN must be looked for: where no branch treats it apart, it fails every comparison by itself.
    pub(super) asks_for_missing: bool,
}

impl<T: Number> Layout<T> {
    /// Lays a forest out.
    ///
    /// # Errors
    /// A sentence where the forest is not one: a place that does not exist, or a way that leads back to where it was.
    pub(super) fn new(forest: &Forest) -> TractResult<Layout<T>> {
        ensure!(!forest.roots.is_empty(), "expected at least one tree");
        check_ways(forest)?;
        let mut builder =
            Builder { forest, nodes: Vec::new(), slots: vec![None; forest.branches.len()], open: Vec::new() };
        let leaves = leaves(forest)?;
        let mut roots = Vec::with_capacity(forest.roots.len());
        for root in &forest.roots {
            let slot = builder.slot()?;
            roots.push(slot);
            builder.open.push((*root, slot));
            builder.place_open(&leaves)?;
        }
        // What the walk relies on without looking.
        let exists = |node: &Node<T>| ((node.next + (node.tag & TESTS)) as usize) < builder.nodes.len();
        ensure!(builder.nodes.iter().all(exists), "a branch leads nowhere");
        let features = builder.nodes.iter().map(|node| node.feature as usize + 1).max().unwrap_or(0);
        let asks_for_missing = builder.nodes.iter().any(|node| node.tag & MISSING_STAYS != 0);
        let small = roots.iter().map(|root| SmallTree::new(&builder.nodes, *root)).collect();
        Ok(Layout {
            nodes: builder.nodes,
            small,
            roots,
            leaves,
            targets: forest.targets,
            features,
            asks_for_missing,
        })
    }
}

fn leaves<T: Number>(forest: &Forest) -> TractResult<Leaves<T>> {
    let of = |range: &std::ops::Range<usize>| forest.weights.get(range.clone()).unwrap_or(&[]);
    for (target, _) in &forest.weights {
        ensure!(
            *target < forest.targets,
            "a leaf has a weight for target {target}: there are {}",
            forest.targets
        );
    }
    if forest.leaves.iter().all(|leaf| leaf.len() == 1) {
        return Ok(Leaves::One);
    }
    let targets = |range: &std::ops::Range<usize>| of(range).iter().map(|(target, _)| *target);
    if forest.leaves.iter().all(|leaf| targets(leaf).eq(0..forest.targets)) {
        let weights =
            forest.leaves.iter().flat_map(|leaf| of(leaf).iter().map(|(_, weight)| T::from_double(*weight)));
        return Ok(Leaves::Dense(weights.collect()));
    }
    let mut starts = vec![0];
    let mut weights = Vec::with_capacity(forest.weights.len());
    for leaf in &forest.leaves {
        weights.extend(of(leaf).iter().map(|(target, weight)| (*target as u32, T::from_double(*weight))));
        starts.push(u32::try_from(weights.len())?);
    }
    Ok(Leaves::Sparse { starts, weights })
}

/// Whether every way ends at a leaf: no branch is reached from itself.
fn check_ways(forest: &Forest) -> TractResult<()> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        /// Some way from here is not followed to its end yet.
        Open,
        Done,
    }
    let mut states = vec![State::New; forest.branches.len()];
    let mut open: Vec<(usize, bool)> = Vec::new();
    for root in &forest.roots {
        open.extend(branch_of(*root).map(|branch| (branch, false)));
        while let Some((branch, is_done)) = open.pop() {
            let state = states.get_mut(branch).ok_or_else(|| format_err!("there is no branch {branch}"))?;
            match *state {
                _ if is_done => *state = State::Done,
                State::Done => {}
                State::Open => bail!("expected trees, but a branch leads back to itself"),
                State::New => {
                    *state = State::Open;
                    open.push((branch, true));
                    let Branch { passed, failed, .. } = &forest.branches[branch];
                    let next = [*passed, *failed].into_iter().filter_map(branch_of);
                    open.extend(next.map(|branch| (branch, false)));
                }
            }
        }
    }
    Ok(())
}

fn branch_of(place: Place) -> Option<usize> {
    match place {
        Place::Branch(branch) => Some(branch),
        Place::Leaf(_) => None,
    }
}

struct Builder<'a, T> {
    forest: &'a Forest,
    nodes: Vec<Node<T>>,
    /// Where each branch is, once it has a place. Tests for categories share what follows: it is written once, and all
    /// other ways there are a step.
    slots: Vec<Option<u32>>,
    /// Places for which a slot was made and whose node is still to be written.
    open: Vec<(Place, u32)>,
}

impl<T: Number> Builder<'_, T> {
    fn slot(&mut self) -> TractResult<u32> {
        let slot = u32::try_from(self.nodes.len())?;
        // A slot that is not written yet stays where it is, as a leaf does.
        self.nodes.push(Node { threshold: T::zero(), feature: 0, next: slot, tag: 0 });
        Ok(slot)
    }

    fn pair(&mut self) -> TractResult<u32> {
        let slot = self.slot()?;
        self.slot()?;
        Ok(slot)
    }

    fn place_open(&mut self, leaves: &Leaves<T>) -> TractResult<()> {
        while let Some((place, slot)) = self.open.pop() {
            match place {
                Place::Leaf(leaf) => self.leaf(leaf, slot, leaves)?,
                Place::Branch(branch) => self.branch(branch, slot)?,
            }
        }
        Ok(())
    }

    fn leaf(&mut self, leaf: usize, slot: u32, leaves: &Leaves<T>) -> TractResult<()> {
        let range = self.forest.leaves.get(leaf).ok_or_else(|| format_err!("there is no leaf {leaf}"))?;
        let node = &mut self.nodes[slot as usize];
        node.tag = leaf_tag(leaf)?;
        if matches!(leaves, Leaves::One)
            && let Some((target, weight)) = self.forest.weights.get(range.start)
        {
            node.tag = leaf_tag(*target)?;
            node.threshold = T::from_double(*weight);
        }
        Ok(())
    }

    fn branch(&mut self, index: usize, slot: u32) -> TractResult<()> {
        let branch =
            self.forest.branches.get(index).ok_or_else(|| format_err!("there is no branch {index}"))?;
        if let Some(shared) = self.slots[index] {
            self.step(slot, shared);
            return Ok(());
        }
        self.slots[index] = Some(slot);
        let missing = branch.missing_passes;
        let number = |threshold: &f64| T::from_double(*threshold);
        // Nothing passes a comparison with NaN: all values have to stay on the side of those that fail.
        let swappable = |number: T, threshold: f64| if threshold.is_nan() { T::infinity() } else { number };
        match &branch.test {
            Test::AtMost(threshold) => self.split(branch, slot, number(threshold), missing, false),
            Test::Below(threshold) => self.split(branch, slot, number(threshold).below(), missing, false),
            Test::AtLeast(threshold) => {
                self.split(branch, slot, swappable(number(threshold).below(), *threshold), !missing, true)
            }
            Test::Above(threshold) => {
                self.split(branch, slot, swappable(number(threshold), *threshold), !missing, true)
            }
            Test::Is(threshold) => self.chain(branch, slot, &[*threshold], missing, false),
            // NaN is not equal to anything: it passes without being asked for.
            Test::IsNot(threshold) => self.chain(branch, slot, &[*threshold], false, true),
            Test::IsOneOf(members) => self.chain(branch, slot, members, missing, false),
        }
    }

    /// One test: values at most the threshold go to where the branch passes, or fails if it is swapped.
    fn split(
        &mut self,
        branch: &Branch,
        slot: u32,
        threshold: T,
        missing_stays: bool,
        swapped: bool,
    ) -> TractResult<()> {
        let next = self.pair()?;
        self.test(branch, slot, threshold, missing_stays, next)?;
        let (stays, leaves) =
            if swapped { (branch.failed, branch.passed) } else { (branch.passed, branch.failed) };
        // What is written first lies nearest.
        self.open.push((leaves, next + 1));
        self.open.push((stays, next));
        Ok(())
    }

    /// Tests for each of the members in turn: a member is at most itself and not at most what is below it. All ways to
    /// the same end after the first one are steps without a test.
    fn chain(
        &mut self,
        branch: &Branch,
        slot: u32,
        members: &[f64],
        missing_found: bool,
        swapped: bool,
    ) -> TractResult<()> {
        let (found, missed) =
            if swapped { (branch.failed, branch.passed) } else { (branch.passed, branch.failed) };
        let found_slot = self.slot()?;
        let missed_slot = self.slot()?;
        let mut here = slot;
        for (index, member) in members.iter().enumerate() {
            let member = T::from_double(*member);
            let outer = self.pair()?;
            let inner = self.pair()?;
            // NaN has to be sent to where it belongs by the first test; the second one lets it through to its end.
            self.test(branch, here, member, missing_found && index == 0, outer)?;
            self.test(branch, outer, member.below(), false, inner)?;
            self.step(inner + 1, found_slot);
            // What is below the member may still be another one, like what is above it.
            let rest = if index + 1 == members.len() { missed_slot } else { self.slot()? };
            self.step(inner, rest);
            self.step(outer + 1, rest);
            here = rest;
        }
        if members.is_empty() {
            let next = self.pair()?;
            self.test(branch, slot, T::nan(), missing_found, next)?;
            self.step(next, found_slot);
            self.step(next + 1, missed_slot);
        }
        self.open.push((missed, missed_slot));
        self.open.push((found, found_slot));
        Ok(())
    }

    fn test(
        &mut self,
        branch: &Branch,
        slot: u32,
        threshold: T,
        missing_stays: bool,
        next: u32,
    ) -> TractResult<()> {
        let feature = u32::try_from(branch.feature)?;
        let tag = TESTS | MOVES | if missing_stays { MISSING_STAYS } else { 0 };
        self.nodes[slot as usize] = Node { threshold, feature, next, tag };
        Ok(())
    }

    fn step(&mut self, slot: u32, next: u32) {
        self.nodes[slot as usize] = Node { threshold: T::zero(), feature: 0, next, tag: MOVES };
    }
}
