//! Loops compiled for the widest vectors that the processor has.

/// A loop over many numbers.
pub(in crate::tract) trait Loop {
    type Output;

    /// Runs it. Every implementation has to be `#[inline(always)]`: what is called is not compiled again for another
    /// processor. `FUSED` says that the processor multiplies and adds in one step, which rounds once.
    fn run<const FUSED: bool>(self) -> Self::Output;
}

/// Runs a loop with vectors of 256 bits where the processor has them. Unless it asks whether it is `FUSED`, only the width
/// differs: no operation is contracted or reordered, so the results are the same to the last bit.
#[inline]
pub(in crate::tract) fn widest<L: Loop>(work: L) -> L::Output {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn with_avx2<L: Loop>(work: L) -> L::Output {
            work.run::<true>()
        }

        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor was just asked for both features.
            return unsafe { with_avx2(work) };
        }
    }
    work.run::<{ cfg!(target_arch = "aarch64") }>()
}
