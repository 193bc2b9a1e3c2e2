//! The inspecting process: what it is asked, what it says meanwhile, and what it answers. The host starts it through
//! [`crate::datasets::inspector`]; this side reads the files that the request names, and writes lines of JSON.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Candidate, Contents, Problem, Types, inspect, inspect_footers};
use crate::datasets::schema::parse_type;
use crate::datasets::version::DataFormat;

/// What is to be looked into.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::datasets) struct Request {
    pub(in crate::datasets) task: Task,
    /// Types of columns of text, as Arrow writes them.
    pub(in crate::datasets) types: BTreeMap<String, String>,
    pub(in crate::datasets) files: Vec<RequestedFile>,
}

/// What the files are.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::datasets) enum Task {
    /// Whole files of this format.
    Files(DataFormat),
    /// The footers of Parquet files, without their last eight bytes.
    Footers,
}

/// A file of a request.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::datasets) struct RequestedFile {
    /// For sentences.
    pub(in crate::datasets) name: String,
    /// In the folder in which the process is started.
    pub(in crate::datasets) file: String,
}

/// A line that the process writes. The last one is the answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::datasets) enum Message {
    /// Where it is, so that the host knows where it ended.
    At { file: String, row: u64 },
    /// What is in the files.
    Found(Contents),
    /// What is wrong with them.
    Wrong(String),
}

/// The whole work of the process, once it has confined itself: looks into the files that the request in this file names,
/// and says what is in them.
///
/// # Errors
/// Where the machine fails, not the files.
pub fn run_inspection(request: &Path) -> io::Result<()> {
    let request: Request = serde_json::from_slice(&fs::read(request)?)?;
    let answer = match answer(&request) {
        Ok(contents) => Message::Found(contents),
        Err(problem) => Message::Wrong(problem.to_string()),
    };
    say(&answer)
}

fn answer(request: &Request) -> Result<Contents, Problem> {
    let files: Vec<Candidate<'_>> = request
        .files
        .iter()
        .map(|RequestedFile { name, file }| Candidate { name, path: Path::new(file), begins: &say_where })
        .collect();
    match request.task {
        Task::Footers => inspect_footers(&files),
        Task::Files(format) => inspect(&files, format, &types(&request.types)?),
    }
}

fn types(texts: &BTreeMap<String, String>) -> Result<Types, Problem> {
    let parse = |(name, text): (&String, &String)| {
        // The host has read it before.
        let data_type = parse_type(text).ok_or_else(|| Problem(format!("{text:?} is no Arrow type")))?;
        Ok((name.clone(), data_type))
    };
    texts.iter().map(parse).collect()
}

fn say_where(file: &str, row: u64) {
    // Without it the host only knows less about where the end came.
    let _ = say(&Message::At { file: file.to_owned(), row });
}

fn say(message: &Message) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    let mut output = io::stdout().lock();
    output.write_all(&line)?;
    output.flush()
}
