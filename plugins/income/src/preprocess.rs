//! From the columns of a request to the features of the network: imputation, scaling, one-hot encoding. The same
//! steps as `preprocess` in `training/train.py`. Knows nothing of the network.

use modelhost_guest::{Error, Request, Tensor};

use crate::parameters::{CATEGORICAL, CLIP, Categorical, FEATURES, NUMERIC, Numeric};

/// FP32 `[rows, FEATURES]`: a feature for each number, then a block of features for each category.
pub(crate) fn features(request: &Request) -> Result<Tensor, Error> {
    let rows = request.batch_size()?;
    let mut features = vec![0.0_f32; rows * FEATURES];
    let mut start = 0;
    for column in NUMERIC {
        let values = request.input(column.name)?.as_slice::<f32>()?;
        for (row, value) in features.chunks_exact_mut(FEATURES).zip(values) {
            row[start] = column.scaled(*value);
        }
        start += 1;
    }
    for column in CATEGORICAL {
        let values = request.input(column.name)?.strings()?;
        for (row, value) in features.chunks_exact_mut(FEATURES).zip(values) {
            // A category that training has not seen leaves the whole block 0.
            if let Some(category) = column.category(value) {
                row[start + category] = 1.0;
            }
        }
        start += column.categories.len();
    }
    Tensor::new([rows, FEATURES], features)
}

impl Numeric {
    fn scaled(&self, value: f32) -> f32 {
        let value = f64::from(value);
        let missing = !value.is_finite() || value < 0.0;
        let value = if missing { self.median } else { value };
        let value = if self.log1p { value.ln_1p() } else { value };
        ((value - self.mean) / self.std).clamp(-CLIP, CLIP) as f32
    }
}

impl Categorical {
    fn category(&self, value: &str) -> Option<usize> {
        let value = match value.trim_matches(' ') {
            "" | "?" => self.most_frequent,
            value => value,
        };
        self.categories.binary_search(&value).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(name: &str) -> &'static Numeric {
        NUMERIC.iter().find(|column| column.name == name).unwrap()
    }

    fn categorical(name: &str) -> &'static Categorical {
        CATEGORICAL.iter().find(|column| column.name == name).unwrap()
    }

    /// One row for each value; all other columns are the same in each row.
    fn request(column: &str, values: &[f32]) -> Request {
        let numbers = NUMERIC.iter().map(|each| {
            let value = |value: &f32| if each.name == column { *value } else { 40.0 };
            (each.name, Tensor::column(values.iter().map(value)))
        });
        let names = CATEGORICAL.iter().map(|each| {
            (each.name, Tensor::string_column(values.iter().map(|_| each.categories[0])).unwrap())
        });
        Request::new(numbers.chain(names))
    }

    #[test]
    fn the_blocks_fill_the_features() {
        let blocks: usize = CATEGORICAL.iter().map(|column| column.categories.len()).sum();
        assert_eq!(NUMERIC.len() + blocks, FEATURES);
        assert!(CATEGORICAL.iter().all(|column| column.categories.is_sorted()), "searched by halves");
    }

    #[test]
    fn missing_numbers_are_the_median() {
        let age = numeric("age");
        for missing in [-1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(age.scaled(missing), age.scaled(37.0));
        }
        assert_eq!(age.scaled(37.0), ((37.0 - age.mean) / age.std) as f32);
        assert_ne!(age.scaled(0.0), age.scaled(37.0));
    }

    #[test]
    fn capital_is_scaled_by_its_logarithm_and_kept_in_range() {
        let gain = numeric("capital_gain");
        assert_eq!(gain.scaled(99.0), ((100.0_f64.ln() - gain.mean) / gain.std) as f32);
        assert_eq!(numeric("age").scaled(1e9), CLIP as f32);
    }

    #[test]
    fn names_are_trimmed_of_spaces_only_and_compared_exactly() {
        let workclass = categorical("workclass");
        let private = workclass.category("Private");
        assert!(private.is_some());
        for same in [" Private  ", "", "?", "  ? "] {
            assert_eq!(workclass.category(same), private, "{same:?}");
        }
        for unseen in ["private", "\tPrivate", "自営"] {
            assert_eq!(workclass.category(unseen), None, "{unseen:?}");
        }
    }

    #[test]
    fn each_row_has_its_numbers_and_one_of_each_category() {
        let features = features(&request("age", &[20.0, 60.0])).unwrap();
        assert_eq!(features.shape(), [2, FEATURES]);
        let rows: Vec<&[f32]> = features.rows().unwrap().collect();
        assert_eq!(rows[0][0], numeric("age").scaled(20.0));
        assert_eq!(rows[1][0], numeric("age").scaled(60.0));
        assert_eq!(rows[0][1..], rows[1][1..]);
        assert_eq!(rows[0][NUMERIC.len()..].iter().sum::<f32>(), CATEGORICAL.len() as f32);
        assert_eq!(rows[0][NUMERIC.len()], 1.0);
    }
}
