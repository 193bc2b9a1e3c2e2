//! An inference answer as a table: one row for each element of the batch.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;

use crate::client::Answer;
use crate::failure::Failure;
use crate::table;

/// More elements than this in one cell are counted, not shown; `--json` has them all.
const MAX_SHOWN: usize = 16;

#[derive(Deserialize)]
struct InferenceAnswer {
    #[serde(default)]
    model_version: Option<String>,
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    datatype: String,
    shape: Vec<u64>,
    #[serde(default)]
    data: Value,
}

/// The outputs for people.
///
/// # Errors
/// An answer that is none of the protocol.
pub fn describe(answer: &Answer) -> Result<String, Failure> {
    let answer: InferenceAnswer = answer.read()?;
    let elements: Vec<Vec<&Value>> = answer.outputs.iter().map(|output| flat(&output.data)).collect();
    let mut shown = match batch(&answer.outputs, &elements) {
        Some(size) => by_row(&answer.outputs, &elements, size),
        None => by_output(&answer.outputs, &elements),
    };
    if let Some(version) = answer.model_version {
        // Writing to a String cannot fail.
        let _ = write!(shown, "\n\nanswered by version {version}");
    }
    Ok(shown)
}

/// The elements of data that may be nested.
fn flat(data: &Value) -> Vec<&Value> {
    match data {
        Value::Array(items) => items.iter().flat_map(flat).collect(),
        Value::Null => Vec::new(),
        element => vec![element],
    }
}

/// The first dimension, where all outputs have the same and hold what their shapes say.
fn batch(outputs: &[Output], elements: &[Vec<&Value>]) -> Option<usize> {
    let size = *outputs.first()?.shape.first()?;
    let is_batched = |(output, elements): (&Output, &Vec<&Value>)| {
        output.shape.first() == Some(&size) && output.shape.iter().product::<u64>() == elements.len() as u64
    };
    let size = usize::try_from(size).ok().filter(|size| *size > 0)?;
    outputs.iter().zip(elements).all(is_batched).then_some(size)
}

fn by_row(outputs: &[Output], elements: &[Vec<&Value>], size: usize) -> String {
    let header = ["row"].into_iter().chain(outputs.iter().map(|output| output.name.as_str()));
    let rows = (0..size).map(|row| {
        let cells = elements.iter().map(|elements| {
            let width = elements.len() / size;
            cell(elements.get(row * width..(row + 1) * width).unwrap_or_default())
        });
        [row.to_string()].into_iter().chain(cells).collect()
    });
    table::columns(header.map(str::to_owned).collect(), rows)
}

fn by_output(outputs: &[Output], elements: &[Vec<&Value>]) -> String {
    let row = |(output, elements): (&Output, &Vec<&Value>)| {
        [output.name.clone(), output.datatype.clone(), format!("{:?}", output.shape), cell(elements)]
    };
    table::rows(["output", "datatype", "shape", "data"], outputs.iter().zip(elements).map(row))
}

fn cell(elements: &[&Value]) -> String {
    if let [element] = elements {
        return element.as_str().map_or_else(|| element.to_string(), str::to_owned);
    }
    let mut shown: Vec<String> = elements.iter().take(MAX_SHOWN).map(ToString::to_string).collect();
    if elements.len() > MAX_SHOWN {
        shown.push(format!("… {} more", elements.len() - MAX_SHOWN));
    }
    format!("[{}]", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(outputs: &str) -> String {
        let text = format!(r#"{{"model_name":"m","model_version":"3","outputs":{outputs}}}"#);
        describe(&Answer { is_created: false, text }).unwrap()
    }

    #[test]
    fn a_batch_is_shown_by_row() {
        let shown = described(
            r#"[{"name":"label","datatype":"BYTES","shape":[2,1],"data":["low","high"]},
                {"name":"odds","datatype":"FP32","shape":[2,2],"data":[[0.25,0.75],[1,0]]}]"#,
        );
        let expected =
            "ROW  LABEL  ODDS\n0    low    [0.25, 0.75]\n1    high   [1, 0]\n\nanswered by version 3";
        assert_eq!(shown, expected);
    }

    #[test]
    fn outputs_of_different_lengths_are_shown_one_by_one() {
        let shown = described(
            r#"[{"name":"a","datatype":"INT64","shape":[2],"data":[1,2]},
                {"name":"b","datatype":"INT64","shape":[],"data":[7]}]"#,
        );
        assert!(
            shown.starts_with("OUTPUT  DATATYPE  SHAPE  DATA\na       INT64     [2]    [1, 2]\nb"),
            "{shown}"
        );
    }

    #[test]
    fn long_rows_are_cut() {
        let data = vec!["1"; 20].join(",");
        let shown =
            described(&format!(r#"[{{"name":"a","datatype":"INT64","shape":[1,20],"data":[{data}]}}]"#));
        assert!(shown.contains("1, … 4 more]"), "{shown}");
    }

    #[test]
    fn answers_that_contradict_themselves_are_still_shown() {
        let shown = described(r#"[{"name":"a","datatype":"INT64","shape":[3],"data":[1]}]"#);
        assert!(shown.contains("[3]"), "{shown}");
    }
}
