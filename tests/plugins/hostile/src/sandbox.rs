//! What a plugin can do to its sandbox without asking the host for anything.

use std::hint::black_box;

/// Never ends.
pub fn spin() {
    let mut turns = 0_u64;
    while black_box(true) {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Writes to ever more memory, `amount` pieces of one MiB; without end where it is 0.
pub fn allocate(amount: usize) {
    let mut pieces = Vec::new();
    while amount == 0 || pieces.len() < amount {
        pieces.push(black_box(vec![1_u8; 1 << 20]));
    }
}

/// Calls itself until the stack is full.
#[allow(unconditional_recursion, reason = "that is what it is for")]
pub fn recurse(numbers: &[u64]) -> u64 {
    let next = [black_box(numbers.iter().sum::<u64>()); 16];
    recurse(black_box(&next)).wrapping_add(1)
}

/// Executes the instruction that cannot be executed.
pub fn trap() {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
}
