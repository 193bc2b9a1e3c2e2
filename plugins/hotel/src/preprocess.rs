//! From the columns of a request to the features of the network: dates taken apart, one-hot encoding, NaN for what
//! is missing. The same steps as `preprocess` in `training/train.py`. Knows nothing of the network.

use jiff::civil::Date;
use modelhost_guest::{Error, Request, Tensor};

use crate::parameters::{CATEGORICAL, Categorical, DATE, FEATURES, NUMERIC};

/// The trees learnt, at each branch, where to go without the value.
const MISSING: f32 = f32::NAN;

/// FP32 `[rows, FEATURES]`: a feature for each number, two for the date, then a block of features for each category.
pub(crate) fn features(request: &Request) -> Result<Tensor, Error> {
    let rows = request.batch_size()?;
    let mut features = vec![0.0_f32; rows * FEATURES];
    for (start, name) in NUMERIC.iter().enumerate() {
        let values = request.input(name)?.as_slice::<f32>()?;
        for (row, value) in features.chunks_exact_mut(FEATURES).zip(values) {
            row[start] = number(*value);
        }
    }
    let mut start = NUMERIC.len();
    let dates = request.input(DATE)?.strings()?;
    for (index, (row, value)) in features.chunks_exact_mut(FEATURES).zip(dates).enumerate() {
        row[start..start + 2].copy_from_slice(&date(index, value)?);
    }
    start += 2;
    for column in CATEGORICAL {
        let end = start + column.categories.len();
        let values = request.input(column.name)?.strings()?;
        for (row, value) in features.chunks_exact_mut(FEATURES).zip(values) {
            column.encode(value, &mut row[start..end]);
        }
        start = end;
    }
    Tensor::new([rows, FEATURES], features)
}

fn number(value: f32) -> f32 {
    if value.is_finite() && value >= 0.0 { value } else { MISSING }
}

/// The day of the year and the day of the week, Monday being 0.
fn date(row: usize, value: &str) -> Result<[f32; 2], Error> {
    let Some(value) = present(value) else { return Ok([MISSING; 2]) };
    let date: Date = value.parse().map_err(|_| {
        let expected = "expected a date as in \"2017-07-15\", or \"\" where it is not known";
        Error::invalid_input(format!("row {row} of input {DATE:?} is {value:?}: {expected}"))
    })?;
    Ok([f32::from(date.day_of_year()), f32::from(date.weekday().to_monday_zero_offset())])
}

impl Categorical {
    /// Fills the block of a row, which is 0. A category that is rare or not known to training leaves it so.
    fn encode(&self, value: &str, block: &mut [f32]) {
        let Some(value) = present(value) else { return block.fill(MISSING) };
        let value = value.to_ascii_lowercase();
        if let Ok(category) = self.categories.binary_search(&value.as_str()) {
            block[category] = 1.0;
        }
    }
}

/// None for the two ways to say that a value is missing.
fn present(value: &str) -> Option<&str> {
    match value.trim_matches(' ') {
        "" | "?" => None,
        value => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn categorical(name: &str) -> &'static Categorical {
        CATEGORICAL.iter().find(|column| column.name == name).unwrap()
    }

    fn encoded(column: &str, value: &str) -> Vec<f32> {
        let column = categorical(column);
        let mut block = vec![0.0; column.categories.len()];
        column.encode(value, &mut block);
        block
    }

    #[test]
    fn the_blocks_fill_the_features() {
        let blocks: usize = CATEGORICAL.iter().map(|column| column.categories.len()).sum();
        assert_eq!(NUMERIC.len() + 2 + blocks, FEATURES);
        assert!(CATEGORICAL.iter().all(|column| column.categories.is_sorted()), "searched by halves");
    }

    #[test]
    fn missing_numbers_are_nan_and_others_stay() {
        for missing in [-1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(number(missing).is_nan(), "{missing}");
        }
        assert_eq!([0.0, 45.0, 3e38].map(number), [0.0, 45.0, 3e38]);
    }

    #[test]
    fn a_date_is_a_day_of_the_year_and_of_the_week() {
        assert_eq!(date(0, "2017-01-01"), Ok([1.0, 6.0]));
        assert_eq!(date(0, " 2016-12-31 "), Ok([366.0, 5.0]));
        for missing in ["", "?", "  "] {
            assert!(date(0, missing).unwrap().iter().all(|feature| feature.is_nan()), "{missing:?}");
        }
    }

    #[test]
    fn what_is_no_date_is_refused_with_its_row() {
        for wrong in ["15.07.2017", "2017-02-29", "2017-7-1", "tomorrow"] {
            let Err(Error::InvalidInput(message)) = date(3, wrong) else { panic!("{wrong:?} is accepted") };
            assert!(
                message.starts_with(&format!("row 3 of input \"arrival_date\" is {wrong:?}")),
                "{message}"
            );
        }
    }

    #[test]
    fn a_category_is_one_feature_a_missing_one_is_none_and_an_unseen_one_is_nothing() {
        let british = encoded("country", "gbr");
        assert_eq!(british.iter().sum::<f32>(), 1.0);
        assert_eq!(encoded("country", "  GBR "), british);
        for missing in ["", "?", " ? "] {
            assert!(encoded("country", missing).iter().all(|feature| feature.is_nan()), "{missing:?}");
        }
        for unseen in ["atlantis", "Österreich", "\tgbr"] {
            assert_eq!(encoded("country", unseen), vec![0.0; british.len()], "{unseen:?}");
        }
    }
}
