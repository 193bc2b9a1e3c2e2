//! How the two halves become one order. Knows nothing of names, tables and the network.

use crate::basket::Basket;
use crate::lists::List;

/// An item that is offered, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Offer {
    pub(crate) item: usize,
    /// What it is ranked by among those of the list, and among those that are not.
    pub(crate) score: f32,
    /// Of last night; 0 where it is not in the list.
    pub(crate) list_score: f32,
    /// Of the network, for what was clicked now.
    pub(crate) click_score: f32,
}

/// The `k` best items that were not clicked, best first: those of the list by the geometric mean of both scores, then the
/// others by the network alone. Equal scores go by the order of the items.
pub(crate) fn rerank(list: Option<&List>, click_scores: &[f32], clicked: &Basket, k: usize) -> Vec<Offer> {
    let offer = |(item, click_score): (usize, &f32)| {
        let listed = list.and_then(|list| list.score(item));
        let score = listed.map_or(*click_score, |score| (score * click_score).max(0.0).sqrt());
        Offer { item, score, list_score: listed.unwrap_or(0.0), click_score: *click_score }
    };
    let is_listed = |offer: &Offer| list.is_some_and(|list| list.score(offer.item).is_some());
    let mut offers: Vec<Offer> =
        click_scores.iter().enumerate().filter(|(item, _)| !clicked.contains(*item)).map(offer).collect();
    // Stable, and so equal scores stay as they are.
    offers.sort_by(|one, other| {
        is_listed(other).cmp(&is_listed(one)).then_with(|| other.score.total_cmp(&one.score))
    });
    offers.truncate(k);
    offers
}

#[cfg(test)]
mod tests {
    use modelhost_guest::Tensor;

    use super::*;
    use crate::basket::baskets;
    use crate::parameters::ITEMS;

    fn clicked(name: &str) -> Basket {
        baskets(&Tensor::from_strings([1, 1], [name]).unwrap()).unwrap().remove(0)
    }

    fn items(offers: &[Offer]) -> Vec<usize> {
        offers.iter().map(|offer| offer.item).collect()
    }

    #[test]
    fn both_halves_count() {
        let list = List::new([(ITEMS[0], 0.9), (ITEMS[1], 0.1), (ITEMS[2], 0.2)], 1, false);
        let mut click_scores = vec![0.01; ITEMS.len()];
        click_scores[1] = 0.95;
        click_scores[7] = 0.5;
        let offers = rerank(Some(&list), &click_scores, &clicked(""), 5);
        // 0.1 × 0.95 > 0.9 × 0.01 > 0.2 × 0.01, and then what is not in the list.
        assert_eq!(items(&offers), [1, 0, 2, 7, 3]);
        assert_eq!((offers[0].list_score, offers[0].click_score), (0.1, 0.95));
        assert_eq!((offers[3].list_score, offers[3].score), (0.0, 0.5));
    }

    #[test]
    fn without_a_list_the_network_decides_and_nothing_clicked_is_offered() {
        let mut click_scores = vec![0.1; ITEMS.len()];
        click_scores[5] = 0.8;
        click_scores[6] = 0.7;
        assert_eq!(items(&rerank(None, &click_scores, &clicked(ITEMS[5]), 3)), [6, 0, 1]);
        let list = List::new([(ITEMS[5], 0.9)], 1, false);
        assert_eq!(items(&rerank(Some(&list), &click_scores, &clicked(ITEMS[5]), 1)), [6]);
    }
}
