//! Small trees without walking. Every test of a tree is made for several rows at once, and removes the leaves that a row
//! cannot reach any more: the first one that is left is where the row ends. No step waits for the one before it. Of FP32 alone,
//! and for processors with vectors of 256 bits: others walk.

use tract_onnx::prelude::DatumType;

use super::forest::Number;
use super::layout::{MISSING_STAYS, MOVES, Node, TESTS};

/// Rows that are tested at once.
const ROWS: usize = 16;

/// One bit for each leaf.
type LeafSet = u32;

/// Some rows, each feature's values together. Rows that there are not have zeros.
pub(super) struct Columns {
    groups: Vec<Vec<[f32; ROWS]>>,
}

impl Columns {
    /// Of rows with `columns` values, of which the first `features` are used.
    pub(super) fn of(x: &[f32], columns: usize, features: usize) -> Columns {
        let group = |rows: &[f32]| {
            let mut group = vec![[0.0; ROWS]; features];
            for (place, row) in rows.chunks_exact(columns).enumerate() {
                group.iter_mut().zip(row).for_each(|(column, value)| column[place] = *value);
            }
            group
        };
        Columns { groups: x.chunks(ROWS * columns).map(group).collect() }
    }
}

#[derive(Clone, Debug)]
pub(super) struct SmallTree {
    /// Of which NaN fails every one.
    tests: Vec<Test>,
    /// Of which NaN passes every one.
    lenient: Vec<Test>,
    /// The node of each leaf, from the side of those that pass to the side of those that fail.
    leaves: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Test {
    threshold: f32,
    feature: usize,
    /// The leaves that a value above the threshold can still reach.
    left: LeafSet,
}

impl SmallTree {
    /// None where the tree has too many leaves, or numbers of another type, or the processor no such vectors.
    pub(super) fn new<T: Number>(nodes: &[Node<T>], root: u32) -> Option<SmallTree> {
        if T::datum_type() != DatumType::F32 || !has_vectors() {
            return None;
        }
        let mut tree = SmallTree { tests: Vec::new(), lenient: Vec::new(), leaves: Vec::new() };
        tree.collect(nodes, root, LeafSet::BITS)?;
        Some(tree)
    }

    fn collect<T: Number>(&mut self, nodes: &[Node<T>], mut at: u32, depth: u32) -> Option<()> {
        let node = loop {
            let node = nodes.get(at as usize)?;
            if node.tag & (MOVES | TESTS) != MOVES {
                break node;
            }
            at = node.next;
        };
        let start = self.leaves.len() as u32;
        if node.tag & MOVES == 0 {
            self.leaves.push(at);
            return (start < LeafSet::BITS).then_some(());
        }
        let depth = depth.checked_sub(1)?;
        self.collect(nodes, node.next, depth)?;
        let end = self.leaves.len() as u32;
        self.collect(nodes, node.next + 1, depth)?;
        // Not all leaves: there is at least one on the other side.
        let removed = ((1 << (end - start)) - 1) << start;
        let (threshold, feature) = (node.threshold.to_float(), node.feature as usize);
        let test = Test { threshold, feature, left: !removed };
        match node.tag & MISSING_STAYS != 0 {
            // Only NaN passes: such a test is neither kind.
            true if threshold.is_nan() => return None,
            true => self.lenient.push(test),
            false => self.tests.push(test),
        }
        Some(())
    }

    /// Writes the node at which each row ends, for as many rows as there is room.
    pub(super) fn ends(&self, columns: &Columns, ends: &mut [u32]) {
        for (group, ends) in columns.groups.iter().zip(ends.chunks_mut(ROWS)) {
            for (end, left) in ends.iter_mut().zip(self.left(group)) {
                *end = self.leaves[left.trailing_zeros() as usize];
            }
        }
    }

    /// The leaves that each row of a group can reach. The one where it ends is the first of them.
    #[cfg(target_arch = "x86_64")]
    fn left(&self, group: &[[f32; ROWS]]) -> [LeafSet; ROWS] {
        // SAFETY: there are small trees only where the processor has these vectors.
        unsafe { self.left_by_vectors(group) }
    }

    /// There are no small trees on other processors.
    #[cfg(not(target_arch = "x86_64"))]
    fn left(&self, _group: &[[f32; ROWS]]) -> [LeafSet; ROWS] {
        [LeafSet::MAX; ROWS]
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn left_by_vectors(&self, group: &[[f32; ROWS]]) -> [LeafSet; ROWS] {
        use std::arch::x86_64::{_CMP_LE_OQ, _CMP_NGT_UQ};

        let mut left = [vectors::all(); 2];
        for test in &self.tests {
            left = test.applied::<_CMP_LE_OQ>(&group[test.feature], left);
        }
        for test in &self.lenient {
            left = test.applied::<_CMP_NGT_UQ>(&group[test.feature], left);
        }
        vectors::to_array(left)
    }
}

/// Whether the processor has the vectors that are needed.
fn has_vectors() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

#[cfg(target_arch = "x86_64")]
mod vectors {
    //! The rows of a group as two vectors of eight.

    use std::arch::x86_64::{
        __m256, __m256i, _mm256_and_si256, _mm256_castps_si256, _mm256_cmp_ps, _mm256_loadu_ps,
        _mm256_or_si256, _mm256_set1_epi32, _mm256_set1_ps, _mm256_storeu_si256,
    };

    use super::{LeafSet, ROWS, Test};

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn all() -> __m256i {
        _mm256_set1_epi32(-1)
    }

    impl Test {
        /// What each row can still reach after this test.
        #[inline]
        #[target_feature(enable = "avx2")]
        pub(super) fn applied<const PASSES: i32>(
            &self,
            column: &[f32; ROWS],
            left: [__m256i; 2],
        ) -> [__m256i; 2] {
            let threshold = _mm256_set1_ps(self.threshold);
            let reachable = _mm256_set1_epi32(self.left.cast_signed());
            let halves = column.as_ptr_range();
            // SAFETY: sixteen values lie there, eight from the start on and eight up to the end.
            let values =
                unsafe { [_mm256_loadu_ps(halves.start), _mm256_loadu_ps(halves.end.sub(ROWS / 2))] };
            [
                kept::<PASSES>(values[0], threshold, reachable, left[0]),
                kept::<PASSES>(values[1], threshold, reachable, left[1]),
            ]
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn kept<const PASSES: i32>(
        values: __m256,
        threshold: __m256,
        reachable: __m256i,
        left: __m256i,
    ) -> __m256i {
        let passes = _mm256_castps_si256(_mm256_cmp_ps::<PASSES>(values, threshold));
        _mm256_and_si256(left, _mm256_or_si256(passes, reachable))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn to_array(left: [__m256i; 2]) -> [LeafSet; ROWS] {
        let mut array = [0; ROWS];
        let halves = array.as_mut_ptr_range();
        // SAFETY: there is room for sixteen sets, eight from the start on and eight up to the end.
        unsafe {
            _mm256_storeu_si256(halves.start.cast(), left[0]);
            _mm256_storeu_si256(halves.end.sub(ROWS / 2).cast(), left[1]);
        }
        array
    }
}
