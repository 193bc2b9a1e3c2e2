//! Loops compiled for the widest vectors that the processor has.

/// Runs a loop. The compiler makes a second version of it for processors with vectors of 256 bits, which is used on those.
/// Only the width differs: no operation is contracted or reordered, so the results are the same to the last bit.
#[inline]
pub(in crate::tract) fn widest<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn with_avx2<R>(work: impl FnOnce() -> R) -> R {
            work()
        }

        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor was just asked for both features.
            return unsafe { with_avx2(work) };
        }
    }
    work()
}
