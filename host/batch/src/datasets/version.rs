//! A version of a dataset: what is recorded about it and shown. Immutable.

use std::fmt;

use jiff::Timestamp;
use modelhost_core::{DatasetName, Digest, ModelName, VersionNumber};
use serde::{Deserialize, Serialize};
use url::Url;

use super::card::DatasetCard;
use super::reference::DatasetReference;
use super::schema::DatasetSchema;

/// One state of a dataset, under a number of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatasetVersion {
    /// Of which dataset.
    pub name: DatasetName,
    /// 1, 2, 3 … per dataset; never used twice.
    pub number: VersionNumber,
    /// When it was made.
    pub created: Timestamp,
    /// By whom, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What all of its files are.
    pub format: DataFormat,
    /// Rows in all files.
    pub rows: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// The columns.
    pub schema: DatasetSchema,
    /// What may be done with it.
    pub card: DatasetCard,
    /// What it was made of, where a job made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Lineage>,
    /// The files, in their order: row numbers run through all of them.
    pub files: Vec<DataFile>,
}

impl DatasetVersion {
    /// The reference that names it and no other.
    pub fn reference(&self) -> DatasetReference {
        DatasetReference::exact(self.name.clone(), self.number)
    }
}

/// How the rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataFormat {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated values with a header line, as RFC 4180 has them. An empty field is a missing value.
    Csv,
    /// One JSON object a line.
    Jsonl,
}

impl DataFormat {
    /// Of the name of a file, with which formats are told apart too.
    pub fn extension(self) -> &'static str {
        match self {
            DataFormat::Parquet => "parquet",
            DataFormat::Csv => "csv",
            DataFormat::Jsonl => "jsonl",
        }
    }

    /// The format that the name of a file, or the path of a URL, promises.
    pub fn of_name(name: &str) -> Option<DataFormat> {
        let (_, extension) = name.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "parquet" | "pq" => Some(DataFormat::Parquet),
            "csv" => Some(DataFormat::Csv),
            "jsonl" | "ndjson" => Some(DataFormat::Jsonl),
            _ => None,
        }
    }

    /// The format that a media type promises; parameters do not count.
    pub fn of_media_type(media_type: &str) -> Option<DataFormat> {
        let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/vnd.apache.parquet" | "application/parquet" | "application/x-parquet" => {
                Some(DataFormat::Parquet)
            }
            "text/csv" | "application/csv" => Some(DataFormat::Csv),
            "application/jsonl"
            | "application/x-ndjson"
            | "application/ndjson"
            | "application/json-lines" => Some(DataFormat::Jsonl),
            _ => None,
        }
    }
}

impl fmt::Display for DataFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            DataFormat::Parquet => "Parquet",
            DataFormat::Csv => "CSV",
            DataFormat::Jsonl => "JSON lines",
        })
    }
}

/// One file of a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataFile {
    /// As whoever put it there called it.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Where it is.
    #[serde(flatten)]
    pub location: FileLocation,
}

/// Where a file is, and how a change of it is noticed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "location", rename_all = "lowercase")]
pub enum FileLocation {
    /// In the data folder, under its digest.
    Stored {
        /// Of its bytes.
        digest: Digest,
    },
    /// In an object store of the operator's; read where it is.
    Registered {
        /// Where.
        #[serde(with = "url_as_text")]
        url: Url,
        /// What the object store said it was when it was registered. An object with another one is not read.
        etag: String,
    },
}

/// What a version was made of, and by what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lineage {
    /// The dataset version that the job read.
    pub input: DatasetReference,
    /// The model that it asked.
    pub model: ModelName,
    /// Which version of that.
    pub model_version: VersionNumber,
    /// The digest of that version's component.
    pub model_digest: Digest,
    /// The job, by its identifier.
    pub job: String,
    /// Who started it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When predicting began: no row is older than that. Of a job that tries failed rows again, when the first one began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Timestamp>,
    /// When the job ended.
    pub time: Timestamp,
}

mod url_as_text {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};
    use url::Url;

    pub(super) fn serialize<S: Serializer>(url: &Url, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(url.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_promised_by_names_and_media_types() {
        assert_eq!(DataFormat::of_name("a/b.c/part-0.PARQUET"), Some(DataFormat::Parquet));
        assert_eq!(DataFormat::of_name("x.csv"), Some(DataFormat::Csv));
        assert_eq!(DataFormat::of_name("x.ndjson"), Some(DataFormat::Jsonl));
        for name in ["", "csv", "x.csv.gz", "x.json", "x."] {
            assert_eq!(DataFormat::of_name(name), None, "{name}");
        }
        assert_eq!(DataFormat::of_media_type("text/CSV; charset=utf-8"), Some(DataFormat::Csv));
        assert_eq!(DataFormat::of_media_type("application/octet-stream"), None);
    }

    #[test]
    fn a_file_says_where_it_is_in_plain_fields() {
        let digest = Digest::of(b"x");
        let stored =
            DataFile { name: "a.csv".into(), rows: 1, bytes: 2, location: FileLocation::Stored { digest } };
        let json = serde_json::to_value(&stored).unwrap();
        assert_eq!(json["location"], "stored");
        assert_eq!(json["digest"], digest.to_string());
        assert_eq!(serde_json::from_value::<DataFile>(json).unwrap(), stored);
        let url = "s3://bucket/a.csv".parse().unwrap();
        let registered =
            DataFile { location: FileLocation::Registered { url, etag: "\"e\"".into() }, ..stored };
        let json = serde_json::to_value(&registered).unwrap();
        assert_eq!(json["url"], "s3://bucket/a.csv");
        assert_eq!(serde_json::from_value::<DataFile>(json).unwrap(), registered);
    }
}
