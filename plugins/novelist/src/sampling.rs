//! Which token comes next, by the scores of the network. Knows nothing of texts.

use modelhost_guest::{Error, Parameters};

use crate::tokens::Token;

/// How tokens are chosen.
pub(crate) struct Sampling {
    temperature: f64,
    top_p: f64,
    random: fastrand::Rng,
}

impl Sampling {
    /// From the parameters `temperature` (0, the default, takes the likeliest token), `top_p` and `seed`.
    ///
    /// # Errors
    /// Invalid input where one of them is out of its range.
    pub(crate) fn from_parameters(parameters: &Parameters) -> Result<Sampling, Error> {
        let number = |name, default, most| match parameters.number(name)? {
            Some(value) if (0.0..=most).contains(&value) => Ok(value),
            Some(value) => {
                Err(Error::invalid_input(format!("parameter {name:?} is {value}: expected 0 to {most}")))
            }
            None => Ok(default),
        };
        let (temperature, top_p) = (number("temperature", 0.0, 2.0)?, number("top_p", 1.0, 1.0)?);
        let random = match parameters.integer("seed")? {
            // Any bits will do.
            Some(seed) => fastrand::Rng::with_seed(seed as u64),
            None => fastrand::Rng::new(),
        };
        Ok(Sampling { temperature, top_p, random })
    }

    /// Chooses a token.
    ///
    /// # Errors
    /// Internal where the network gave no scores.
    pub(crate) fn choose(&mut self, scores: &[f32]) -> Result<Token, Error> {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        let score = |index: &usize| scores.get(*index).copied().unwrap_or(f32::NEG_INFINITY);
        // Of equal ones the first, as everywhere.
        order.sort_by(|one, other| score(other).total_cmp(&score(one)));
        let best = order.first().map(score).ok_or_else(|| Error::internal("the network gave no scores"))?;
        if self.temperature == 0.0 {
            order.truncate(1);
        }
        let weight = |index| ((f64::from(score(index)) - f64::from(best)) / self.temperature.max(1e-6)).exp();
        let weights: Vec<f64> = order.iter().map(weight).collect();
        let kept = nucleus(&weights, self.top_p);
        let mut drawn = self.random.f64() * kept.iter().sum::<f64>();
        let chosen = kept.iter().position(|weight| {
            drawn -= weight;
            drawn < 0.0
        });
        let token = chosen.and_then(|place| order.get(place)).or(order.first()).copied().unwrap_or_default();
        Ok(Token::try_from(token)?)
    }
}

/// The first weights, as many as it takes for this part of their sum.
fn nucleus(weights: &[f64], part: f64) -> &[f64] {
    let wanted = weights.iter().sum::<f64>() * part;
    let mut sum = 0.0;
    let is_enough = |weight: &f64| {
        sum += weight;
        sum >= wanted
    };
    let last = weights.iter().position(is_enough).map_or(weights.len(), |last| last + 1);
    weights.get(..last).unwrap_or(weights)
}

#[cfg(test)]
mod tests {
    use modelhost_guest::{Parameter, Request};

    use super::*;

    fn sampling(parameters: &[(&str, f64)]) -> Sampling {
        let request = parameters.iter().fold(Request::default(), |request, (name, value)| {
            request.with_parameter(*name, Parameter::Number(*value))
        });
        let request = request.with_parameter("seed", Parameter::Integer(7));
        Sampling::from_parameters(request.parameters()).unwrap()
    }

    fn counts(mut sampling: Sampling, scores: &[f32]) -> Vec<usize> {
        let mut counts = vec![0; scores.len()];
        (0..3_000).for_each(|_| counts[usize::from(sampling.choose(scores).unwrap())] += 1);
        counts
    }

    #[test]
    fn temperature_zero_is_the_likeliest() {
        assert_eq!(counts(sampling(&[]), &[0.0, 2.0, 2.0, 1.0]), [0, 3_000, 0, 0]);
    }

    #[test]
    fn tokens_come_as_often_as_they_are_likely() {
        // Weights 1 : 2 : 1.
        let scores = [0.0, 2.0_f32.ln(), 0.0];
        let drawn = counts(sampling(&[("temperature", 1.0)]), &scores);
        assert!((600..900).contains(&drawn[0]) && (1_350..1_650).contains(&drawn[1]), "{drawn:?}");
        let hot = counts(sampling(&[("temperature", 2.0)]), &scores);
        assert!(hot[1] < drawn[1], "{hot:?}");
        assert_eq!(counts(sampling(&[("temperature", 1.0), ("top_p", 0.4)]), &scores), [0, 3_000, 0]);
        assert_eq!(counts(sampling(&[("temperature", 1.0), ("top_p", 0.0)]), &scores), [0, 3_000, 0]);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for (name, value) in
            [("temperature", 2.1), ("temperature", -1.0), ("top_p", 1.5), ("top_p", f64::NAN)]
        {
            let request = Request::default().with_parameter(name, Parameter::Number(value));
            assert!(Sampling::from_parameters(request.parameters()).is_err(), "{name} {value}");
        }
    }
}
