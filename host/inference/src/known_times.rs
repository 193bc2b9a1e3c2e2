//! How long a graph takes for inputs of exactly the same extents, learned from its runs. Where the time of a run follows
//! from the extents, this decides which thread a run may keep busy: inputs that look alike in any weaker way, such as by
//! their bytes, may take a thousand times as long, and whoever sends them may want that.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use modelhost_core::{Datatype, Tensor};
use parking_lot::Mutex;

use crate::run_times::{moved, nanoseconds};

/// Combinations of extents that are remembered. Beyond that all are forgotten: to be known again takes one run.
const MAX_KNOWN: usize = 1_024;

/// So many calls are refused for lack of time before one is tried all the same: what is known must not stand in the way
/// for ever.
const TRIED_AGAIN_AFTER: u32 = 32;

/// The times of one graph.
#[derive(Default)]
pub(crate) struct KnownTimes {
    /// With keys that nobody outside knows, so that nobody finds extents that are taken for others.
    hasher: RandomState,
    known: Mutex<HashMap<Extents, Known>>,
}

/// All extents of the inputs of a call, and the bytes of their texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Extents(u64);

struct Known {
    nanoseconds: u64,
    refusals: u32,
}

impl KnownTimes {
    /// What tells these inputs from those that may take another time.
    pub(crate) fn extents(&self, inputs: &[Tensor]) -> Extents {
        let texts = |input: &Tensor| (input.datatype() == Datatype::Bytes).then(|| input.data().len());
        let extents: Vec<_> = inputs.iter().map(|input| (input.shape(), texts(input))).collect();
        Extents(self.hasher.hash_one(extents))
    }

    /// What a run is expected to take; none before the first one.
    pub(crate) fn expected(&self, extents: Extents) -> Option<Duration> {
        self.known.lock().get(&extents).map(|known| Duration::from_nanos(known.nanoseconds))
    }

    /// Whether a run most likely takes longer than this.
    pub(crate) fn is_too_long(&self, extents: Extents, time_left: Duration) -> bool {
        self.expected(extents).is_some_and(|expected| expected > time_left)
    }

    /// Whether one that is too long is to be tried all the same.
    pub(crate) fn is_to_be_tried(&self, extents: Extents) -> bool {
        let mut known = self.known.lock();
        let Some(known) = known.get_mut(&extents) else { return true };
        known.refusals += 1;
        known.refusals.is_multiple_of(TRIED_AGAIN_AFTER)
    }

    /// Adds a run that came to its end.
    pub(crate) fn record(&self, extents: Extents, elapsed: Duration) {
        let measured = nanoseconds(elapsed);
        self.change(extents, |before| before.map_or(measured, |before| moved(before, measured)));
    }

    /// Adds a run that ended before it had its result: with it, it would have taken at least as long.
    pub(crate) fn record_unfinished(&self, extents: Extents, elapsed: Duration) {
        let at_least = nanoseconds(elapsed);
        self.change(extents, |before| before.map_or(at_least, |before| before.max(at_least)));
    }

    fn change(&self, extents: Extents, change: impl FnOnce(Option<u64>) -> u64) {
        let mut known = self.known.lock();
        if let Some(known) = known.get_mut(&extents) {
            *known = Known { nanoseconds: change(Some(known.nanoseconds)), refusals: 0 };
            return;
        }
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(extents, Known { nanoseconds: change(None), refusals: 0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zeros(shape: &[u64]) -> Tensor {
        let elements = shape.iter().product::<u64>() as usize;
        Tensor::new(Datatype::Fp32, shape.to_vec(), vec![0; 4 * elements].into()).unwrap()
    }

    fn texts(texts: &[&[u8]]) -> Tensor {
        Tensor::from_bytes_elements(vec![texts.len() as u64], texts).unwrap()
    }

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn inputs_of_the_same_bytes_and_other_extents_are_kept_apart() {
        let times = KnownTimes::default();
        times.record(times.extents(&[zeros(&[0]), zeros(&[200])]), MILLISECOND);
        let expected = |inputs: &[Tensor]| times.expected(times.extents(inputs));
        assert_eq!(expected(&[zeros(&[0]), zeros(&[200])]), Some(MILLISECOND));
        for other in
            [[zeros(&[100]), zeros(&[100])], [zeros(&[200]), zeros(&[0])], [zeros(&[0]), zeros(&[2, 100])]]
        {
            assert_eq!(expected(&other), None);
        }
    }

    #[test]
    fn longer_texts_are_kept_apart() {
        let times = KnownTimes::default();
        times.record(times.extents(&[texts(&[b"a", b"b"])]), MILLISECOND);
        assert_eq!(times.expected(times.extents(&[texts(&[b"c", b"d"])])), Some(MILLISECOND));
        assert_eq!(times.expected(times.extents(&[texts(&[b"a", b"bb"])])), None);
    }

    #[test]
    fn what_is_refused_for_lack_of_time_is_tried_now_and_then_and_stays_as_long() {
        let times = KnownTimes::default();
        let extents = times.extents(&[zeros(&[1])]);
        assert!(!times.is_too_long(extents, Duration::ZERO), "nothing is known");
        times.record(extents, 10 * MILLISECOND);
        assert!(!times.is_too_long(extents, 20 * MILLISECOND));
        assert!(times.is_too_long(extents, MILLISECOND));
        assert_eq!((0..320).filter(|_| times.is_to_be_tried(extents)).count(), 10);
        assert_eq!(times.expected(extents), Some(10 * MILLISECOND));
    }

    #[test]
    fn a_run_without_a_result_never_makes_it_look_shorter() {
        let times = KnownTimes::default();
        let extents = times.extents(&[zeros(&[1])]);
        times.record_unfinished(extents, 5 * MILLISECOND);
        times.record_unfinished(extents, MILLISECOND);
        assert_eq!(times.expected(extents), Some(5 * MILLISECOND));
    }

    #[test]
    fn there_is_a_bound() {
        let times = KnownTimes::default();
        for extent in 0..3 * MAX_KNOWN as u64 {
            times.record(times.extents(&[zeros(&[extent, 0])]), MILLISECOND);
        }
        assert!(times.known.lock().len() <= MAX_KNOWN);
    }
}
