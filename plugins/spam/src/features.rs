//! From a text to the weights of its words and pairs of words. The same steps as `tokens` and `features` in
//! `training/train.py`. Knows nothing of batches and of the network.

use crc32fast::Hasher;
use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;

use crate::parameters::{BUCKETS, MAX_FEATURES, MAX_TOKEN_CHARS};

/// A bucket of hashed words, and how much it counts in the text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Feature {
    pub(crate) bucket: u32,
    pub(crate) weight: f32,
}

/// At most [`MAX_FEATURES`] features, in the order of their first occurrence. None for a text without words.
pub(crate) fn features(text: &str) -> Vec<Feature> {
    let counts = counts(&text.to_lowercase());
    let weight = |count: u32| (1.0 + f64::from(count)).ln();
    let length = counts.values().map(|count| weight(*count).powi(2)).sum::<f64>().sqrt();
    let feature = |(bucket, count)| Feature { bucket, weight: (weight(count) / length) as f32 };
    counts.into_iter().map(feature).collect()
}

/// How often each bucket occurs. Hashing without a random seed: this map holds one client's own words, and a random
/// number would be one more thing to ask the host for.
type Counts = IndexMap<u32, u32, FxBuildHasher>;

fn counts(lower_case: &str) -> Counts {
    let mut counts = Counts::default();
    let mut previous: Option<Hasher> = None;
    for token in tokens(lower_case) {
        let mut word = Hasher::new();
        word.update(token.as_bytes());
        count(&mut counts, word.clone());
        // The checksum of "previous token" goes on where that of "previous" ended.
        if let Some(mut pair) = previous.replace(word) {
            pair.update(b" ");
            pair.update(token.as_bytes());
            count(&mut counts, pair);
        }
    }
    counts
}

fn count(counts: &mut Counts, feature: Hasher) {
    let bucket = feature.finalize() % BUCKETS;
    if let Some(count) = counts.get_mut(&bucket) {
        *count += 1;
    } else if counts.len() < MAX_FEATURES {
        counts.insert(bucket, 1);
    }
}

fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|character: char| !character.is_alphanumeric());
    words.filter(|word| !word.is_empty() && word.chars().count() <= MAX_TOKEN_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bucket of a feature, from its text as a whole.
    fn bucket(feature: &str) -> u32 {
        crc32fast::hash(feature.as_bytes()) % BUCKETS
    }

    fn buckets(text: &str) -> Vec<u32> {
        features(text).iter().map(|feature| feature.bucket).collect()
    }

    #[test]
    fn tokens_are_runs_of_letters_and_digits() {
        fn split(text: &str) -> Vec<&str> {
            tokens(text).collect()
        }
        assert_eq!(split("don't under_score 3.14"), ["don", "t", "under", "score", "3", "14"]);
        assert_eq!(split("grüße, 免费 हिन्दी ½"), ["grüße", "免费", "हिन", "दी", "½"]);
        let (longest, too_long) = ("é".repeat(MAX_TOKEN_CHARS), "é".repeat(MAX_TOKEN_CHARS + 1));
        assert_eq!(split(&format!("{longest} {too_long} a")), [&longest, "a"]);
        assert!(split(" \n!!").is_empty());
    }

    #[test]
    fn words_and_pairs_come_in_the_order_of_their_first_occurrence() {
        // The checksum that zlib's documentation gives for its algorithm, and those that follow from it.
        assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
        assert_eq!(
            buckets("Win FREE\u{a0}money"),
            ["win", "free", "win free", "money", "free money"].map(bucket)
        );
        // Dropped tokens have no neighbours: a pair joins those that stay.
        assert_eq!(buckets(&format!("win {} free", "x".repeat(99))), ["win", "free", "win free"].map(bucket));
    }

    #[test]
    fn weights_grow_with_the_count_and_have_length_one() {
        let features = features("free free free prize");
        let weight = |name| features.iter().find(|feature| feature.bucket == bucket(name)).unwrap().weight;
        assert!((weight("free") / weight("prize") - 4.0_f32.ln() / 2.0_f32.ln()).abs() < 1e-6);
        assert!((weight("free free") / weight("prize") - 3.0_f32.ln() / 2.0_f32.ln()).abs() < 1e-6);
        let length: f32 = features.iter().map(|feature| feature.weight * feature.weight).sum();
        assert!((length - 1.0).abs() < 1e-6);
        assert!(super::features("").is_empty());
    }

    #[test]
    fn late_buckets_are_ignored_and_known_ones_count_on() {
        let many: String = (0..MAX_FEATURES).map(|number| format!("word{number} ")).collect();
        let features = features(&format!("{many} unheard word0"));
        assert_eq!(features.len(), MAX_FEATURES);
        assert_eq!(features[0].bucket, bucket("word0"));
        assert!(features[0].weight > features[1].weight);
        assert!(features.iter().all(|feature| feature.bucket != bucket("unheard")));
    }
}
