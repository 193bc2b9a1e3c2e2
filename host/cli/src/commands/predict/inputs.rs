//! Values as they are typed, and the tensors that they are for a given model. Elements are passed on letter by
//! letter, so that no number loses a digit on its way.

use std::io::Read as _;
use std::path::PathBuf;
use std::str::FromStr;
use std::{fs, io};

use anyhow::Context as _;
use modelhost_core::{Datatype, TensorDescription};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::failure::Failure;

/// One `--input`.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A whole request.
    Request(Source),
    /// The values of one tensor.
    Tensor { name: String, values: Values },
}

/// Where the values of a tensor are.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    Typed(String),
    In(Source),
}

/// Where text is read from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    StandardInput,
    File(PathBuf),
}

impl Source {
    pub(super) fn read(&self) -> Result<String, Failure> {
        Ok(match self {
            Source::StandardInput => {
                let mut text = String::new();
                io::stdin().lock().read_to_string(&mut text).context("cannot read standard input")?;
                text
            }
            Source::File(path) => {
                fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?
            }
        })
    }
}

impl FromStr for Input {
    type Err = String;

    fn from_str(argument: &str) -> Result<Input, String> {
        if argument == "-" {
            return Ok(Input::Request(Source::StandardInput));
        }
        if let Some(path) = argument.strip_prefix('@') {
            return Ok(Input::Request(Source::File(path.into())));
        }
        match argument.split_once('=') {
            Some((name, values)) if !name.is_empty() => {
                let values = match values.strip_prefix('@') {
                    Some(path) => Values::In(Source::File(path.into())),
                    None => Values::Typed(values.to_owned()),
                };
                Ok(Input::Tensor { name: name.to_owned(), values })
            }
            _ => Err("expected NAME=JSON, NAME=@FILE, @FILE or -".to_owned()),
        }
    }
}

/// An input of a request.
#[derive(Debug, Serialize)]
pub struct InputTensor {
    name: String,
    shape: Vec<u64>,
    datatype: Datatype,
    data: Vec<Box<RawValue>>,
}

/// The tensors of a request, for a model that takes these inputs.
///
/// # Errors
/// [`Failure::Usage`] where a name is not known or values do not fit.
pub fn tensors(inputs: &[Input], descriptions: &[TensorDescription]) -> Result<Vec<InputTensor>, Failure> {
    inputs.iter().map(|input| tensor(input, descriptions)).collect()
}

fn tensor(input: &Input, descriptions: &[TensorDescription]) -> Result<InputTensor, Failure> {
    let Input::Tensor { name, values } = input else {
        return Err(Failure::Usage("a whole request cannot be joined with another --input".to_owned()));
    };
    let Some(description) = descriptions.iter().find(|description| description.name == *name) else {
        let known: Vec<&str> = descriptions.iter().map(|description| description.name.as_str()).collect();
        return Err(Failure::Usage(format!(
            "the model has no input {name:?}: expected {}",
            known.join(", ")
        )));
    };
    let text = match values {
        Values::Typed(text) => text.clone(),
        Values::In(source) => source.read()?,
    };
    fill(description, &text).map_err(|reason| Failure::Usage(format!("input {name:?}: {reason}")))
}

fn fill(description: &TensorDescription, text: &str) -> Result<InputTensor, String> {
    let json = match plain_text(description.datatype, text) {
        Some(quoted) => quoted,
        None => serde_json::from_str::<Box<RawValue>>(text).map_err(|error| format!("no JSON: {error}"))?,
    };
    let mut elements = Vec::new();
    let given = unfold(&json, &mut elements)?;
    let shape = fit(&description.shape, &given, elements.len() as u64)
        .ok_or_else(|| format!("values of shape {given:?} do not fit: expected {:?}", description.shape))?;
    Ok(InputTensor { name: description.name.clone(), shape, datatype: description.datatype, data: elements })
}

/// For a tensor of texts, a text that was typed without the quotes of JSON.
fn plain_text(datatype: Datatype, text: &str) -> Option<Box<RawValue>> {
    let is_json =
        text.trim_start().starts_with(['[', '"']) && serde_json::from_str::<&RawValue>(text).is_ok();
    if datatype != Datatype::Bytes || is_json {
        return None;
    }
    RawValue::from_string(serde_json::Value::from(text).to_string()).ok()
}

/// Collects the elements of nested arrays in their order; answers the shape of the nesting.
fn unfold(json: &RawValue, elements: &mut Vec<Box<RawValue>>) -> Result<Vec<u64>, String> {
    if !json.get().starts_with('[') {
        elements.push(json.to_owned());
        return Ok(Vec::new());
    }
    let items: Vec<&RawValue> = serde_json::from_str(json.get()).map_err(|error| error.to_string())?;
    let mut shapes = items.iter().map(|item| unfold(item, elements));
    let inner = shapes.next().transpose()?;
    for shape in shapes {
        if Some(shape?) != inner {
            return Err("arrays side by side have different lengths".to_owned());
        }
    }
    let mut shape = vec![items.len() as u64];
    shape.extend(inner.unwrap_or_default());
    Ok(shape)
}

/// The shape that values have in the end, so that a batch of one, or a column, can be typed without brackets:
/// as it was typed where the number of dimensions is right; a single value or a plain list fills the one free
/// dimension; else a first dimension of one is added.
fn fit(declared: &[i64], given: &[u64], count: u64) -> Option<Vec<u64>> {
    if given.len() == declared.len() {
        return Some(given.to_vec());
    }
    if given.len() > declared.len() {
        return None;
    }
    let free = declared.iter().filter(|extent| **extent < 0).count();
    if given.len() <= 1 && free <= 1 {
        return fill_free_dimension(declared, count);
    }
    (given.len() + 1 == declared.len()).then(|| [&[1], given].concat())
}

fn fill_free_dimension(declared: &[i64], count: u64) -> Option<Vec<u64>> {
    let fixed = declared.iter().filter_map(|extent| u64::try_from(*extent).ok());
    let fixed: u64 = fixed.clone().try_fold(1_u64, u64::checked_mul)?;
    let free = count.checked_div(fixed)?;
    let shape: Vec<u64> = declared.iter().map(|extent| u64::try_from(*extent).unwrap_or(free)).collect();
    (shape.iter().product::<u64>() == count).then_some(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(datatype: Datatype, shape: &[i64]) -> TensorDescription {
        TensorDescription { name: "x".to_owned(), datatype, shape: shape.to_vec() }
    }

    fn filled(datatype: Datatype, shape: &[i64], text: &str) -> Result<String, String> {
        let tensor = fill(&described(datatype, shape), text)?;
        Ok(format!("{:?} {}", tensor.shape, serde_json::to_string(&tensor.data).unwrap()))
    }

    #[test]
    fn inputs_are_told_apart() {
        let parse = |text: &str| text.parse::<Input>();
        assert_eq!(parse("-").unwrap(), Input::Request(Source::StandardInput));
        assert_eq!(parse("@a.json").unwrap(), Input::Request(Source::File("a.json".into())));
        let tensor = |values| Input::Tensor { name: "x".to_owned(), values };
        assert_eq!(parse("x=[1,2]").unwrap(), tensor(Values::Typed("[1,2]".to_owned())));
        assert_eq!(parse("x=a=b").unwrap(), tensor(Values::Typed("a=b".to_owned())));
        assert_eq!(parse("x=@f").unwrap(), tensor(Values::In(Source::File("f".into()))));
        assert!(parse("x").is_err() && parse("=1").is_err());
    }

    #[test]
    fn brackets_may_be_left_out() {
        let fp32 = |shape: &[i64], text: &str| filled(Datatype::Fp32, shape, text).unwrap();
        assert_eq!(fp32(&[-1, 3], "[1, 2.50, 3e0]"), "[1, 3] [1,2.50,3e0]");
        assert_eq!(fp32(&[-1, 3], "[[1,2,3],[4,5,6]]"), "[2, 3] [1,2,3,4,5,6]");
        assert_eq!(fp32(&[-1, 1], "[39, 52]"), "[2, 1] [39,52]");
        assert_eq!(fp32(&[-1], "39"), "[1] [39]");
        assert_eq!(fp32(&[-1, -1], "[1,2]"), "[1, 2] [1,2]");
        assert_eq!(fp32(&[-1, 2, 2], "[[1,2],[3,4]]"), "[1, 2, 2] [1,2,3,4]");
        assert_eq!(fp32(&[2, 2], "[1,2,3,4]"), "[2, 2] [1,2,3,4]");
        assert_eq!(fp32(&[-1, 3], "[]"), "[0, 3] []");
        assert_eq!(fp32(&[], "0.1"), "[] [0.1]");
    }

    #[test]
    fn texts_need_no_quotes() {
        let bytes = |text: &str| filled(Datatype::Bytes, &[-1], text).unwrap();
        assert_eq!(bytes("free \"money\" now"), r#"[1] ["free \"money\" now"]"#);
        assert_eq!(bytes(r#"["a","b"]"#), r#"[2] ["a","b"]"#);
        assert_eq!(bytes(r#""quoted""#), r#"[1] ["quoted"]"#);
        assert_eq!(bytes("12"), r#"[1] ["12"]"#);
        assert_eq!(bytes("[sic] is no JSON"), r#"[1] ["[sic] is no JSON"]"#);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let wrong = |shape: &[i64], text: &str| filled(Datatype::Fp32, shape, text).unwrap_err();
        assert_eq!(wrong(&[-1, 3], "[1,2]"), "values of shape [2] do not fit: expected [-1, 3]");
        assert_eq!(wrong(&[-1], "[[1,2],[3,4]]"), "values of shape [2, 2] do not fit: expected [-1]");
        assert!(wrong(&[-1, 3, 2], "[[1,2],[3]]").contains("different lengths"));
        assert!(wrong(&[-1], "[1,").contains("no JSON"));
        assert!(wrong(&[0, -1], "[1]").contains("do not fit"));
    }

    #[test]
    fn names_must_be_the_models() {
        let inputs = ["y=1".parse().unwrap()];
        let failure = tensors(&inputs, &[described(Datatype::Fp32, &[-1])]).unwrap_err();
        assert_eq!(failure.to_string(), "the model has no input \"y\": expected x");
        let inputs = ["x=1".parse().unwrap(), "-".parse().unwrap()];
        assert!(tensors(&inputs, &[described(Datatype::Fp32, &[-1])]).is_err());
    }
}
