//! The request parameters that mean something to the server itself, whichever way a request came: everything else is
//! for the plugin. What the protocol reserves and this server does not do is refused rather than ignored.

use std::time::Duration;

use modelhost_core::Parameter;

use crate::parameters::take;
use crate::shortened;

/// What a request says to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    /// How long the client wants to wait at most: `timeout`, in microseconds, as in Triton.
    pub timeout: Option<Duration>,
    /// Which requests of the model go first: `priority`, as in Triton. 1 is the highest; none is the default.
    pub priority: Option<u32>,
}

/// A reserved parameter that cannot be obeyed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidParameter {
    /// No number of microseconds.
    #[error("parameter \"timeout\" must be a whole number of microseconds from 1 up")]
    Timeout,
    /// No number of a priority.
    #[error("parameter \"priority\" must be a whole number: 1 is the highest, 0 the default")]
    Priority,
    /// The request belongs to a sequence.
    #[error("parameter {name:?}: sequences are not supported, every request stands alone")]
    Sequence {
        /// `sequence_id`, `sequence_start` or `sequence_end`.
        name: &'static str,
    },
    /// A name that the protocol keeps for servers.
    #[error("parameter {name:?} is reserved: give it another name")]
    Reserved {
        /// The parameter.
        name: String,
    },
}

/// The prefix of parameters that the protocol keeps for servers.
const RESERVED_PREFIX: &str = "triton_";

/// Takes what is reserved out of the parameters of a request.
///
/// # Errors
/// [`InvalidParameter`] for a value that cannot be obeyed.
pub fn take_reserved(parameters: &mut Vec<(String, Parameter)>) -> Result<Reserved, InvalidParameter> {
    let timeout = take(parameters, "timeout").map(microseconds).transpose()?;
    let priority = take(parameters, "priority").map(priority).transpose()?.flatten();
    for name in ["sequence_id", "sequence_start", "sequence_end"] {
        // What is sent by clients that always say something.
        match take(parameters, name) {
            None | Some(Parameter::Integer(0) | Parameter::Boolean(false)) => {}
            Some(Parameter::Text(text)) if text.is_empty() => {}
            Some(_) => return Err(InvalidParameter::Sequence { name }),
        }
    }
    let is_reserved = |name: &str| name == "headers" || name.starts_with(RESERVED_PREFIX);
    match parameters.iter().find(|(name, _)| is_reserved(name)) {
        Some((name, _)) => Err(InvalidParameter::Reserved { name: shortened(name) }),
        None => Ok(Reserved { timeout, priority }),
    }
}

fn microseconds(parameter: Parameter) -> Result<Duration, InvalidParameter> {
    match parameter {
        Parameter::Integer(microseconds @ 1..) => Ok(Duration::from_micros(microseconds.unsigned_abs())),
        _ => Err(InvalidParameter::Timeout),
    }
}

fn priority(parameter: Parameter) -> Result<Option<u32>, InvalidParameter> {
    match parameter {
        Parameter::Integer(0) => Ok(None),
        Parameter::Integer(priority @ 1..) => Ok(Some(u32::try_from(priority).unwrap_or(u32::MAX))),
        _ => Err(InvalidParameter::Priority),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserved(name: &str, value: Parameter) -> Result<Reserved, String> {
        let mut parameters = vec![("temperature".to_owned(), Parameter::Number(0.5)), (name.into(), value)];
        let taken = take_reserved(&mut parameters).map_err(|error| error.to_string())?;
        assert_eq!(parameters, [("temperature".to_owned(), Parameter::Number(0.5))]);
        Ok(taken)
    }

    #[test]
    fn the_server_takes_what_it_obeys() {
        let timeout = reserved("timeout", Parameter::Integer(20)).unwrap().timeout;
        assert_eq!(timeout, Some(Duration::from_micros(20)));
        assert_eq!(reserved("priority", Parameter::Integer(1)).unwrap().priority, Some(1));
        assert_eq!(reserved("priority", Parameter::Integer(0)).unwrap().priority, None);
    }

    #[test]
    fn a_sequence_is_refused_and_no_sequence_is_not() {
        for value in [Parameter::Integer(0), Parameter::Text(String::new()), Parameter::Boolean(false)] {
            assert_eq!(reserved("sequence_id", value), Ok(Reserved::default()));
        }
        for value in [Parameter::Integer(7), Parameter::Text("a".into())] {
            assert!(reserved("sequence_id", value).unwrap_err().contains("sequences are not supported"));
        }
        assert!(reserved("sequence_start", Parameter::Boolean(true)).is_err());
        assert!(reserved("sequence_end", Parameter::Boolean(false)).is_ok());
    }

    #[test]
    fn reserved_names_are_refused() {
        for name in ["triton_anything", "headers"] {
            let sentence = reserved(name, Parameter::Boolean(true)).unwrap_err();
            assert!(sentence.contains("is reserved"), "{sentence}");
        }
    }
}
