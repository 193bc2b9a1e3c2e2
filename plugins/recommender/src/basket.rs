//! What a request says: its baskets, and how many items to offer for each. Knows nothing of scores.

use modelhost_guest::{Error, Request, Tensor};

use crate::parameters::{DEFAULT_K, ITEMS};

/// The different known items of one basket, as indices into [`ITEMS`], in the order of their first occurrence.
#[derive(Debug, PartialEq)]
pub(crate) struct Basket(Vec<usize>);

impl Basket {
    /// Names of no item are ignored, and so is the padding.
    fn new(names: &[&str]) -> Basket {
        let mut items = Vec::new();
        for item in names.iter().filter_map(|name| ITEMS.binary_search(name).ok()) {
            if !items.contains(&item) {
                items.push(item);
            }
        }
        Basket(items)
    }

    pub(crate) fn contains(&self, item: usize) -> bool {
        self.0.contains(&item)
    }
}

/// Baskets without names take no space in a request, but an answer each.
const MAX_BASKETS: usize = 65_536;

/// The baskets in `items`, BYTES `[baskets, names]`.
pub(crate) fn baskets(items: &Tensor) -> Result<Vec<Basket>, Error> {
    let names = items.strings()?;
    let [count, width] = *items.shape() else {
        return Err(Error::internal(format!(
            "{items} has shape {:?}: expected two dimensions",
            items.shape()
        )));
    };
    if count > MAX_BASKETS {
        return Err(Error::invalid_input(format!(
            "input \"items\" has {count} rows: expected at most {MAX_BASKETS}"
        )));
    }
    Ok((0..count).map(|row| Basket::new(&names[row * width..(row + 1) * width])).collect())
}

/// How many items to offer for each basket: at least one, and never more than the fullest leaves.
pub(crate) fn offers(request: &Request, baskets: &[Basket]) -> Result<usize, Error> {
    let all = ITEMS.len();
    let asked = request.parameters().integer("k")?;
    let k = asked.map_or(Some(DEFAULT_K), |k| usize::try_from(k).ok()).filter(|k| (1..=all).contains(k));
    let Some(k) = k else {
        let asked = asked.unwrap_or_default();
        return Err(Error::invalid_input(format!("parameter \"k\" is {asked}: expected 1 to {all}")));
    };
    match baskets.iter().enumerate().find(|(_, basket)| k > all - basket.0.len()) {
        None => Ok(k),
        Some((row, basket)) => {
            let taken = basket.0.len();
            Err(Error::invalid_input(format!(
                "parameter \"k\" is {k}: expected at most {}, because basket {row} has {taken} of the {all} items",
                all - taken
            )))
        }
    }
}

/// INT64 `[baskets, items]` for the network: item 0 is number 1, and number 0 fills the shorter rows.
pub(crate) fn ids(baskets: &[Basket]) -> Result<Tensor, Error> {
    let width = baskets.iter().map(|basket| basket.0.len()).max().unwrap_or(0).max(1);
    let mut ids = Vec::with_capacity(baskets.len() * width);
    for (index, basket) in baskets.iter().enumerate() {
        ids.extend(basket.0.iter().map(|item| *item as i64 + 1));
        ids.resize((index + 1) * width, 0);
    }
    Tensor::new([baskets.len(), width], ids)
}

#[cfg(test)]
mod tests {
    use modelhost_guest::Parameter;

    use super::*;

    fn asked(k: i64) -> Request {
        Request::default().with_parameter("k", Parameter::Integer(k))
    }

    fn message(result: Result<usize, Error>) -> String {
        match result {
            Err(Error::InvalidInput(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_basket_holds_each_known_item_once() {
        assert!(ITEMS.is_sorted(), "searched by halves");
        assert_eq!(
            Basket::new(&["", ITEMS[7], "calzone", ITEMS[3], ITEMS[7], "Hawaiian"]),
            Basket(vec![7, 3])
        );
        assert_eq!(Basket::new(&["", " "]), Basket(vec![]));
    }

    #[test]
    fn baskets_are_rows_and_may_have_no_width() {
        let items = Tensor::from_strings([2, 2], [ITEMS[0], "", ITEMS[2], ITEMS[1]]).unwrap();
        assert_eq!(baskets(&items), Ok(vec![Basket(vec![0]), Basket(vec![2, 1])]));
        let none: [&str; 0] = [];
        assert_eq!(
            baskets(&Tensor::from_strings([2, 0], none).unwrap()),
            Ok(vec![Basket(vec![]), Basket(vec![])])
        );
        assert_eq!(
            baskets(&Tensor::from_strings([MAX_BASKETS + 1, 0], none).unwrap()),
            Err(Error::invalid_input("input \"items\" has 65537 rows: expected at most 65536"))
        );
    }

    #[test]
    fn ids_begin_at_one_and_are_filled_with_zeros() {
        let ids = ids(&[Basket(vec![4, 0]), Basket(vec![]), Basket(vec![9])]).unwrap();
        assert_eq!(ids.shape(), [3, 2]);
        assert_eq!(ids.as_slice::<i64>(), Ok(&[5, 1, 0, 0, 10, 0][..]));
        assert_eq!(super::ids(&[Basket(vec![])]).unwrap().shape(), [1, 1]);
    }

    #[test]
    fn k_stays_between_one_and_what_is_left() {
        assert_eq!(offers(&Request::default(), &[]), Ok(DEFAULT_K));
        let all = ITEMS.len() as i64;
        assert_eq!(offers(&asked(all), &[Basket(vec![])]), Ok(ITEMS.len()));
        for k in [i64::MIN, 0, all + 1, i64::MAX] {
            assert_eq!(
                message(offers(&asked(k), &[])),
                format!("parameter \"k\" is {k}: expected 1 to {all}")
            );
        }
        let baskets = [Basket(vec![1]), Basket(vec![0, 5])];
        assert_eq!(offers(&asked(all - 2), &baskets), Ok(ITEMS.len() - 2));
        assert_eq!(
            message(offers(&asked(all - 1), &baskets)),
            format!(
                "parameter \"k\" is {}: expected at most {}, because basket 1 has 2 of the {all} items",
                all - 1,
                all - 2
            )
        );
    }
}
