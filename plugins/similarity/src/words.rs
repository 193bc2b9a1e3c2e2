//! From a text to its words, as buckets with weights. The same steps as `words` and `features` in `training/train.py`.
//! Knows nothing of batches and of the network.

use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;

const BUCKETS: u32 = 8_192;
/// Different words that count.
const MAX_WORDS: usize = 1_024;

/// The words of a text.
pub(crate) struct Words {
    /// How many there are.
    pub(crate) count: usize,
    /// Buckets, in the order of their first word, and how much each counts.
    pub(crate) features: Vec<(u32, f32)>,
}

impl Words {
    pub(crate) fn of(text: &str) -> Words {
        let lower_case = text.to_lowercase();
        let words = lower_case.split(|character: char| !character.is_alphanumeric());
        let mut counts: IndexMap<u32, u32, FxBuildHasher> = IndexMap::default();
        let mut count = 0;
        for word in words.filter(|word| !word.is_empty()) {
            count += 1;
            let bucket = crc32fast::hash(word.as_bytes()) % BUCKETS;
            if counts.len() < MAX_WORDS || counts.contains_key(&bucket) {
                *counts.entry(bucket).or_default() += 1;
            }
        }
        let weight = |count: u32| (1.0 + f64::from(count).ln()) as f32;
        let features = counts.into_iter().map(|(bucket, count)| (bucket, weight(count))).collect();
        Words { count, features }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_count_more_the_more_often_they_come() {
        let words = Words::of("Tea, TEA! and käse");
        assert_eq!(words.count, 4);
        let bucket = |word: &str| crc32fast::hash(word.as_bytes()) % BUCKETS;
        let expected = [(bucket("tea"), 1.0 + 2.0_f32.ln()), (bucket("and"), 1.0), (bucket("käse"), 1.0)];
        assert_eq!(words.features, expected);
        assert!(Words::of(" \n!").features.is_empty());
    }

    #[test]
    fn late_words_are_ignored() {
        let many: String = (0..20_000).map(|number| format!("w{number} ")).collect();
        let words = Words::of(&many);
        assert_eq!((words.count, words.features.len()), (20_000, MAX_WORDS));
    }
}
