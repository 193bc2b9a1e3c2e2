//! From the scores of all items to those that are offered. Knows nothing of names and of the network.

use crate::basket::Basket;

/// The `k` items with the highest scores that are not in the basket, best first; equal scores in the order of the
/// items. Fewer where fewer are left.
pub(crate) fn best(scores: &[f32], basket: &Basket, k: usize) -> Vec<usize> {
    let mut items: Vec<usize> = (0..scores.len()).filter(|item| !basket.contains(*item)).collect();
    // Stable, and so equal scores stay as they are.
    items.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    items.truncate(k);
    items
}
