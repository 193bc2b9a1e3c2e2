//! Going on with a text: token after token, until there are enough, a chapter ends or the text comes to a stop.

use modelhost_guest::{Error, Parameters};

use crate::emission::Emission;
use crate::sampling::Sampling;
use crate::tokens::{CONTEXT, END, Token, encode, text_of};

const DEFAULT_TOKENS: i64 = 64;
const MOST_TOKENS: i64 = 2_048;
/// The most that one request may say about where to stop.
const MOST_STOPS: usize = 4;
const LONGEST_STOP: usize = 256;

/// A text that is being written.
pub(crate) struct Generation {
    /// The last tokens, which are all that the network reads.
    window: [i64; CONTEXT],
    pub(crate) prompt_tokens: usize,
    left: usize,
    sampling: Sampling,
    emission: Emission,
}

/// What one step adds.
pub(crate) struct Step {
    pub(crate) text: String,
    pub(crate) tokens: usize,
    /// Why the text ends with it, if it does.
    pub(crate) finish_reason: Option<&'static str>,
}

impl Generation {
    /// Begins after a prompt, as the parameters want it.
    ///
    /// # Errors
    /// Invalid input where a parameter is out of its range.
    pub(crate) fn new(prompt: &[u8], stops: &[&str], parameters: &Parameters) -> Result<Generation, Error> {
        let most = parameters.integer("max_tokens")?.unwrap_or(DEFAULT_TOKENS);
        if !(1..=MOST_TOKENS).contains(&most) {
            let message = format!("parameter \"max_tokens\" is {most}: expected 1 to {MOST_TOKENS}");
            return Err(Error::invalid_input(message));
        }
        let asked = parameters.texts("stop")?;
        if asked.len() > MOST_STOPS || asked.iter().any(|stop| !(1..=LONGEST_STOP).contains(&stop.len())) {
            return Err(Error::invalid_input(format!(
                "parameter \"stop\" must be up to {MOST_STOPS} texts of 1 to {LONGEST_STOP} bytes"
            )));
        }
        let tokens = encode(prompt);
        let mut generation = Generation {
            window: [i64::from(END); CONTEXT],
            prompt_tokens: tokens.len(),
            left: usize::try_from(most)?,
            sampling: Sampling::from_parameters(parameters)?,
            emission: Emission::new(asked.iter().chain(stops).map(|stop| stop.as_bytes().to_vec()).collect()),
        };
        let last = tokens.len().saturating_sub(CONTEXT);
        tokens.into_iter().skip(last).for_each(|token| generation.read(token));
        Ok(generation)
    }

    /// Writes the next token. `network` gives a score to each token that may follow the last ones.
    ///
    /// # Errors
    /// Those of the network.
    pub(crate) fn step(
        &mut self,
        network: impl FnOnce(&[i64; CONTEXT]) -> Result<Vec<f32>, Error>,
    ) -> Result<Step, Error> {
        let token = self.sampling.choose(&network(&self.window)?)?;
        if token == END {
            return Ok(Step { text: self.emission.finish(), tokens: 0, finish_reason: Some("stop") });
        }
        self.read(token);
        self.left = self.left.saturating_sub(1);
        let (mut text, has_stopped) = self.emission.push(text_of(token));
        let finish_reason = match (has_stopped, self.left) {
            (true, _) => Some("stop"),
            (false, 0) => Some("length"),
            _ => None,
        };
        if finish_reason == Some("length") {
            text.push_str(&self.emission.finish());
        }
        Ok(Step { text, tokens: 1, finish_reason })
    }

    fn read(&mut self, token: Token) {
        self.window.rotate_left(1);
        if let Some(last) = self.window.last_mut() {
            *last = i64::from(token);
        }
    }
}
