//! The `parameters` objects of a request: names with a string, a number or a boolean each.

use std::fmt;

use modelhost_core::Parameter;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use crate::shortened;

/// More than this in one object are refused; the protocol knows about a dozen.
pub const MAX_PARAMETERS: usize = 256;

/// The parameters of a request or of one of its tensors, in their order, without duplicates.
#[derive(Debug, Default)]
pub(crate) struct Parameters(pub(crate) Vec<(String, Parameter)>);

impl Parameters {
    /// Takes a parameter out, for one that the server itself answers to.
    pub(crate) fn take(&mut self, name: &str) -> Option<Parameter> {
        take(&mut self.0, name)
    }
}

/// Takes a parameter out, where it is there.
pub(crate) fn take(parameters: &mut Vec<(String, Parameter)>, name: &str) -> Option<Parameter> {
    let index = parameters.iter().position(|(known, _)| known == name)?;
    Some(parameters.remove(index).1)
}

impl<'de> Deserialize<'de> for Parameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ParametersVisitor)
    }
}

struct ParametersVisitor;

impl<'de> Visitor<'de> for ParametersVisitor {
    type Value = Parameters;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of parameters")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parameters, A::Error> {
        let mut parameters = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if parameters.iter().any(|(known, _)| *known == name) {
                return Err(A::Error::custom(format_args!(
                    "parameter {:?} is given more than once",
                    shortened(&name)
                )));
            }
            if parameters.len() == MAX_PARAMETERS {
                return Err(A::Error::custom(format_args!(
                    "more than {MAX_PARAMETERS} parameters in one object"
                )));
            }
            let Value(value) = map.next_value()?;
            parameters.push((name, value));
        }
        Ok(Parameters(parameters))
    }
}

struct Value(Parameter);

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor).map(Value)
    }
}

struct ValueVisitor;

impl Visitor<'_> for ValueVisitor {
    type Value = Parameter;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a parameter's value: a string, a number, true or false")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Parameter, E> {
        Ok(Parameter::Boolean(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Parameter, E> {
        Ok(Parameter::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Parameter, E> {
        i64::try_from(value).map(Parameter::Integer).map_err(|_| {
            E::custom(format_args!("a parameter is {value}: integers up to {} are supported", i64::MAX))
        })
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Parameter, E> {
        Ok(Parameter::Number(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Parameter, E> {
        Ok(Parameter::Text(value.to_owned()))
    }
}
