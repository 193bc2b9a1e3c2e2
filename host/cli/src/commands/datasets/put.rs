//! `datasets put`: from files, or the URLs of objects, to a version.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use indicatif::BinaryBytes;
use modelhost_batch::datasets::{DataFormat, DatasetCard, DatasetVersion};
use modelhost_core::DatasetName;
use serde::Serialize;
use serde_json::json;
use ureq::http::Method;

use super::form::Form;
use crate::client::{Answer, Upload};
use crate::commands::Session;
use crate::failure::Failure;
use crate::upload_progress::UploadProgress;

/// What to put where.
#[derive(Debug, Args)]
pub struct Put {
    /// The dataset; made if there is none of this name
    dataset: DatasetName,
    /// Files: Parquet, CSV with a header line, or JSON lines; all of one format and with the same columns
    #[arg(required_unless_present = "urls", conflicts_with = "urls")]
    files: Vec<PathBuf>,
    /// An object that stays where it is, such as s3://bucket/file.parquet; may be repeated
    #[arg(long = "object", value_name = "URL")]
    urls: Vec<String>,
    /// The dataset card, as TOML or JSON: license, commercial_use, source, consent, sensitive_columns,
    /// retention_until, description
    #[arg(long, value_name = "FILE")]
    card: Option<PathBuf>,
    /// The format, where the names of the files do not say it: parquet, csv or jsonl
    #[arg(long, value_parser = format)]
    format: Option<DataFormat>,
    /// A type that a column of text is to have, such as zip=Utf8; may be repeated
    #[arg(long = "type", value_name = "COLUMN=TYPE", value_parser = column_type)]
    types: Vec<(String, String)>,
}

#[derive(Serialize)]
struct Registration<'a> {
    urls: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<DataFormat>,
    card: &'a DatasetCard,
    types: BTreeMap<&'a str, &'a str>,
}

/// Sends the files, or says where the objects are.
///
/// # Errors
/// Files that cannot be read, a card that is none, and a host that does not take them.
pub fn run(arguments: &Put, session: &Session) -> Result<(), Failure> {
    let card = arguments.card.as_deref().map(read_card).transpose()?.unwrap_or_default();
    let path = format!("/v1/datasets/{}/versions", arguments.dataset);
    let types: BTreeMap<&str, &str> =
        arguments.types.iter().map(|(column, text)| (column.as_str(), text.as_str())).collect();
    let answer = if arguments.urls.is_empty() {
        send_files(arguments, &card, &types, &path, session)?
    } else {
        let body = Registration { urls: &arguments.urls, format: arguments.format, card: &card, types };
        session.client.send(Method::PUT, &path, &body, None)?
    };
    session.show(&answer, describe)
}

fn send_files(
    arguments: &Put,
    card: &DatasetCard,
    types: &BTreeMap<&str, &str>,
    path: &str,
    session: &Session,
) -> Result<Answer, Failure> {
    let mut form = Form::new(format!("modelhost-{:032x}", fastrand::u128(..)));
    form.text("card", &json!(card).to_string());
    form.text("types", &json!(types).to_string());
    if let Some(format) = arguments.format {
        form.text("format", format.extension());
    }
    for file in &arguments.files {
        form.file(file)?;
    }
    let content_type = form.content_type();
    let (length, mut body) = form.finish();
    let limit = "batch.max_dataset_bytes";
    let upload = Upload { method: Method::PUT, path, content_type: &content_type, length, limit };
    let name = arguments.dataset.to_string();
    let progress = UploadProgress::start(&name, length, "the host looks into it");
    let mut bytes = progress.watch(&mut body);
    let answer = session.client.upload(&upload, &mut bytes);
    drop(progress);
    answer
}

fn describe(answer: &Answer) -> Result<String, Failure> {
    let version: DatasetVersion = answer.read()?;
    let DatasetVersion { name, number, rows, bytes, schema, .. } = &version;
    let what = format!("{rows} rows, {} columns, {}", schema.columns.len(), BinaryBytes(*bytes));
    Ok(if answer.is_created {
        format!("version {number} of dataset {name} is ready: {what}")
    } else {
        format!("version {number} of dataset {name} is the same already: {what}")
    })
}

/// TOML, unless the file's name says JSON.
fn read_card(path: &Path) -> Result<DatasetCard, Failure> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let wrong = || format!("{} is no dataset card", path.display());
    let card = if path.extension().is_some_and(|extension| extension == "json") {
        serde_json::from_str(&text).with_context(wrong)?
    } else {
        toml::from_str(&text).with_context(wrong)?
    };
    Ok(card)
}

fn format(text: &str) -> Result<DataFormat, String> {
    [DataFormat::Parquet, DataFormat::Csv, DataFormat::Jsonl]
        .into_iter()
        .find(|format| format.extension() == text)
        .ok_or_else(|| "expected parquet, csv or jsonl".to_owned())
}

fn column_type(text: &str) -> Result<(String, String), String> {
    // A name may hold anything, a type no equals sign.
    let (column, data_type) = text.rsplit_once('=').ok_or("expected COLUMN=TYPE, such as zip=Utf8")?;
    Ok((column.to_owned(), data_type.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_toml_or_json() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let toml = "license = 'CC-BY-4.0'\nretention_until = '2030-12-31'\nsensitive_columns = ['age']";
        let card = read_card(&write("card.toml", toml)).unwrap();
        let json = serde_json::to_string(&card).unwrap();
        assert_eq!(read_card(&write("card.json", &json)).unwrap(), card);
        assert_eq!(card.license.as_deref(), Some("CC-BY-4.0"));
        assert!(read_card(&write("other.toml", "licence = 'MIT'")).is_err());
    }

    #[test]
    fn types_are_typed_with_their_columns() {
        assert_eq!(column_type("a=b=Utf8"), Ok(("a=b".to_owned(), "Utf8".to_owned())));
        assert!(column_type("zip").is_err());
        assert_eq!(format("csv"), Ok(DataFormat::Csv));
        assert!(format("xlsx").is_err());
    }
}
