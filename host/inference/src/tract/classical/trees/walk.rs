//! Finds the leaves of a block of rows and adds up what they say.
//!
//! A step of a walk waits for memory, so several walks go side by side: rows through one tree where there are enough
//! rows, else trees for one row. Rows come in blocks: the rows of a block, and one tree, stay in the caches.

use super::forest::{Aggregate, Number};
use super::layout::{Layout, Leaves, MISSING_STAYS, MOVES, Node, TESTS};
use super::small::Columns;

/// Walks that go side by side.
const LANES: usize = 8;

/// Rows that go through all trees before the next ones begin.
const BLOCK: usize = 128;

/// Putting a value in its column costs about a quarter of what a small tree saves for a row.
const COLUMNS_PER_TREE: usize = 4;

/// What the trees say about one row: for each target a score, and whether any leaf had a weight for it.
pub(super) struct Scores<'a, T> {
    pub(super) scores: &'a mut [T],
    pub(super) seen: &'a mut [bool],
}

/// Walks all rows of `x`, which has `columns` values for each, and hands over each row's scores in order.
///
/// Every row has as many columns as the layout has features, or more.
pub(super) fn walk<T: Number>(
    layout: &Layout<T>,
    aggregate: Aggregate,
    x: &[T],
    columns: usize,
    mut finish: impl FnMut(Scores<'_, T>),
) {
    let targets = layout.targets;
    let rows = x.len().checked_div(columns).unwrap_or(0);
    let mut scores = vec![T::zero(); BLOCK.min(rows) * targets];
    let mut seen = vec![false; BLOCK.min(rows) * targets];
    for block in x.chunks(BLOCK * columns.max(1)) {
        scores.fill(T::zero());
        seen.fill(false);
        let walker = Walker { layout, x: block, columns };
        let mut sums = Sums { layout, scores: &mut scores, seen: &mut seen };
        match (aggregate, layout.asks_for_missing) {
            (Aggregate::Sum | Aggregate::Average, false) => {
                walker.block::<false>(|row, node| sums.add(row, node))
            }
            (Aggregate::Sum | Aggregate::Average, true) => {
                walker.block::<true>(|row, node| sums.add(row, node))
            }
            (Aggregate::Min, _) => {
                walker.block::<true>(|row, node| sums.keep(row, node, |new, old| new < old))
            }
            (Aggregate::Max, _) => {
                walker.block::<true>(|row, node| sums.keep(row, node, |new, old| new > old))
            }
        }
        if aggregate == Aggregate::Average {
            let trees = T::from_double(layout.roots.len() as f64);
            scores.iter_mut().for_each(|score| *score = *score / trees);
        }
        for row in 0..block.len() / columns {
            let range = row * targets..(row + 1) * targets;
            finish(Scores { scores: &mut scores[range.clone()], seen: &mut seen[range] });
        }
    }
}

struct Walker<'a, T> {
    layout: &'a Layout<T>,
    x: &'a [T],
    columns: usize,
}

impl<T: Number> Walker<'_, T> {
    /// Calls `reached` with each row and the leaf that it reaches, for every tree, each row's trees in their order.
    fn block<const MISSING: bool>(&self, mut reached: impl FnMut(usize, &Node<T>)) {
        let rows = self.x.len() / self.columns;
        if let Some(x) = T::singles(self.x).filter(|_| self.has_worth_in_columns(rows)) {
            return self.block_in_columns::<MISSING>(x, rows, reached);
        }
        let together = rows - rows % LANES;
        for root in &self.layout.roots {
            self.rows::<MISSING>(*root, 0..together, &mut reached);
        }
        for row in together..rows {
            let (roots, rest) = self.layout.roots.as_chunks::<LANES>();
            for roots in roots {
                self.lanes::<MISSING, LANES>(*roots, [row; LANES])
                    .into_iter()
                    .for_each(|node| reached(row, node));
            }
            for root in rest {
                self.lanes::<MISSING, 1>([*root], [row]).into_iter().for_each(|node| reached(row, node));
            }
        }
    }

    /// Whether there are enough small trees, and rows, that putting the rows' values in columns pays.
    fn has_worth_in_columns(&self, rows: usize) -> bool {
        let small = self.layout.small.iter().filter(|tree| tree.is_some()).count();
        rows >= LANES && small * COLUMNS_PER_TREE >= self.layout.features
    }

    /// As [`block`](Self::block), small trees in their own way.
    fn block_in_columns<const MISSING: bool>(
        &self,
        x: &[f32],
        rows: usize,
        mut reached: impl FnMut(usize, &Node<T>),
    ) {
        let columns = Columns::of(x, self.columns, self.layout.features);
        let mut ends = vec![0; rows];
        for (root, small) in self.layout.roots.iter().zip(&self.layout.small) {
            let Some(tree) = small else {
                self.rows::<MISSING>(*root, 0..rows, &mut reached);
                continue;
            };
            tree.ends(&columns, &mut ends);
            for (row, end) in ends.iter().enumerate() {
                reached(row, &self.layout.nodes[*end as usize]);
            }
        }
    }

    /// The leaves of some rows in one tree.
    #[inline(always)]
    fn rows<const MISSING: bool>(
        &self,
        root: u32,
        rows: std::ops::Range<usize>,
        reached: &mut impl FnMut(usize, &Node<T>),
    ) {
        let together = rows.end - rows.len() % LANES;
        for row in (rows.start..together).step_by(LANES) {
            let nodes = self.lanes::<MISSING, LANES>([root; LANES], std::array::from_fn(|lane| row + lane));
            nodes.into_iter().enumerate().for_each(|(lane, node)| reached(row + lane, node));
        }
        for row in together..rows.end {
            self.lanes::<MISSING, 1>([root], [row]).into_iter().for_each(|node| reached(row, node));
        }
    }

    /// The leaves that these rows reach from these nodes.
    #[inline(always)]
    fn lanes<const MISSING: bool, const N: usize>(
        &self,
        mut at: [u32; N],
        rows: [usize; N],
    ) -> [&Node<T>; N] {
        let nodes = &self.layout.nodes[..];
        let starts = rows.map(|row| row * self.columns);
        // Once for each walk, so that no step has to look.
        assert!(starts.iter().all(|start| start + self.layout.features <= self.x.len()), "a row is cut off");
        assert!(at.iter().all(|at| (*at as usize) < nodes.len()), "a tree begins nowhere");
        loop {
            let mut moved = 0;
            for lane in 0..N {
                // SAFETY: `at` is a root, which was checked above, or what a node led to: `Layout::new` gives every node
                // that leads somewhere a `next` that exists, and a node after it where it has a test.
                let node = unsafe { nodes.get_unchecked(at[lane] as usize) };
                // SAFETY: `Layout::features` is above the feature of every node, and the row has as many columns.
                let value = unsafe { *self.x.get_unchecked(starts[lane] + node.feature as usize) };
                // NaN is not at most anything.
                #[allow(clippy::neg_cmp_op_on_partial_ord, reason = "NaN has to be on the other side")]
                let mut is_above = u32::from(!(value <= node.threshold));
                if MISSING {
                    is_above &= !(u32::from(value.is_nan()) & (node.tag / MISSING_STAYS));
                }
                at[lane] = node.next + (is_above & node.tag & TESTS);
                moved |= node.tag;
            }
            if moved & MOVES == 0 {
                return at.map(|at| &nodes[at as usize]);
            }
        }
    }
}

struct Sums<'a, T> {
    layout: &'a Layout<T>,
    scores: &'a mut [T],
    seen: &'a mut [bool],
}

impl<T: Number> Sums<'_, T> {
    #[inline]
    fn add(&mut self, row: usize, leaf: &Node<T>) {
        let start = row * self.layout.targets;
        match &self.layout.leaves {
            Leaves::One => {
                self.scores[start + leaf.leaf()] += leaf.threshold;
                self.seen[start + leaf.leaf()] = true;
            }
            Leaves::Dense(weights) => {
                let targets = self.layout.targets;
                let weights = &weights[leaf.leaf() * targets..(leaf.leaf() + 1) * targets];
                let scores = &mut self.scores[start..start + targets];
                scores.iter_mut().zip(weights).for_each(|(score, weight)| *score += *weight);
                self.seen[start..start + targets].fill(true);
            }
            Leaves::Sparse { starts, weights } => {
                for (target, weight) in
                    &weights[starts[leaf.leaf()] as usize..starts[leaf.leaf() + 1] as usize]
                {
                    self.scores[start + *target as usize] += *weight;
                    self.seen[start + *target as usize] = true;
                }
            }
        }
    }

    /// Keeps the better one of the score and what the leaf says.
    fn keep(&mut self, row: usize, leaf: &Node<T>, is_better: impl Fn(T, T) -> bool) {
        let targets = self.layout.targets;
        let start = row * targets;
        let mut offer = |target: usize, weight: T| {
            let (score, seen) = (&mut self.scores[start + target], &mut self.seen[start + target]);
            if !*seen || is_better(weight, *score) {
                *score = weight;
                *seen = true;
            }
        };
        match &self.layout.leaves {
            Leaves::One => offer(leaf.leaf(), leaf.threshold),
            Leaves::Dense(weights) => {
                let weights = &weights[leaf.leaf() * targets..(leaf.leaf() + 1) * targets];
                weights.iter().enumerate().for_each(|(target, weight)| offer(target, *weight));
            }
            Leaves::Sparse { starts, weights } => {
                let range = starts[leaf.leaf()] as usize..starts[leaf.leaf() + 1] as usize;
                weights[range].iter().for_each(|(target, weight)| offer(*target as usize, *weight));
            }
        }
    }
}
