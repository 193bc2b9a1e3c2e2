//! The parts of a job's output: each is a folder with predictions and failed rows, which is committed as a whole by one
//! rename. What was not committed is thrown away when the job goes on. Knows files and formats, not where rows come from.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use modelhost_core::{Digest, ErrorCode, Hasher};
use modelhost_registry::durable;
use modelhost_serving::Error;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};

use super::fault::FailedRow;
use crate::datasets::DataFormat;

const SUMMARY: &str = "part.json";
const FAILED: &str = "failed.jsonl";
/// Before the name of a folder that is not committed.
const UNFINISHED: &str = "unfinished-";

/// The parts of one job.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    folder: PathBuf,
}

/// What is in a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// The number of the first row of the input that it answers for.
    pub(crate) first_row: u64,
    /// The number after the last one.
    pub(crate) end_row: u64,
    /// Rows with a prediction.
    pub(crate) succeeded: u64,
    /// Rows without.
    pub(crate) failed: u64,
    /// Rows that were not wanted.
    pub(crate) filtered: u64,
    /// The file of the predictions, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<PartFile>,
}

/// A file of predictions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartFile {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) digest: Digest,
}

impl Parts {
    /// The parts in this folder, which is made where it is missing. Removes what was not committed.
    ///
    /// # Errors
    /// Failures of the disk.
    pub(crate) fn open(folder: PathBuf) -> Result<Parts, Error> {
        durable::create_dir(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if name_of(&path).starts_with(UNFINISHED) {
                fs::remove_dir_all(&path)?;
            }
        }
        Ok(Parts { folder })
    }

    /// The parts in a folder that somebody else may be writing to.
    pub(crate) fn at(folder: PathBuf) -> Parts {
        Parts { folder }
    }

    /// Those that are committed, by their first rows.
    ///
    /// # Errors
    /// Failures of the disk, and files that are not what was written.
    pub(crate) fn committed(&self) -> Result<BTreeMap<u64, Part>, Error> {
        let mut parts = BTreeMap::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if name_of(&path).starts_with(UNFINISHED) {
                continue;
            }
            let summary = fs::read(path.join(SUMMARY))?;
            let part: Part = serde_json::from_slice(&summary).map_err(Error::internal)?;
            parts.insert(part.first_row, part);
        }
        Ok(parts)
    }

    /// The file of predictions of a part.
    pub(crate) fn file(&self, part: &Part) -> Option<PathBuf> {
        Some(self.folder.join(folder_name(part.first_row, part.end_row)).join(&part.file.as_ref()?.name))
    }

    /// The failed rows of a part, one JSON object a line.
    pub(crate) fn failed_file(&self, part: &Part) -> Option<PathBuf> {
        let folder = self.folder.join(folder_name(part.first_row, part.end_row));
        (part.failed > 0).then(|| folder.join(FAILED))
    }

    /// Begins a part.
    ///
    /// # Errors
    /// Failures of the disk.
    pub(crate) fn begin(
        &self,
        first_row: u64,
        format: DataFormat,
        schema: &SchemaRef,
    ) -> Result<UnfinishedPart, Error> {
        let folder = self.folder.join(format!("{UNFINISHED}{first_row:015}"));
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir(&folder)?;
        Ok(UnfinishedPart {
            parts: self.clone(),
            folder,
            first_row,
            format,
            schema: schema.clone(),
            predictions: None,
            failures: None,
            succeeded: 0,
            failed: 0,
            is_committed: false,
        })
    }
}

fn folder_name(first_row: u64, end_row: u64) -> String {
    format!("{first_row:015}-{end_row:015}")
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A part that is being written. It leaves nothing behind where it is dropped before it is committed.
pub(crate) struct UnfinishedPart {
    parts: Parts,
    folder: PathBuf,
    first_row: u64,
    format: DataFormat,
    schema: SchemaRef,
    predictions: Option<PredictionWriter>,
    failures: Option<BufWriter<File>>,
    succeeded: u64,
    failed: u64,
    is_committed: bool,
}

impl UnfinishedPart {
    /// The number of the first row that it answers for.
    pub(crate) fn first_row(&self) -> u64 {
        self.first_row
    }

    /// Adds predictions.
    ///
    /// # Errors
    /// Failures of the disk.
    pub(crate) fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let writer = match &mut self.predictions {
            Some(writer) => writer,
            None => {
                let path = self.folder.join(file_name(self.format));
                self.predictions.insert(PredictionWriter::create(&path, self.format, &self.schema)?)
            }
        };
        writer.write(rows)?;
        self.succeeded += rows.num_rows() as u64;
        Ok(())
    }

    /// Adds rows that failed.
    ///
    /// # Errors
    /// Failures of the disk.
    pub(crate) fn fail(&mut self, rows: &[FailedRow]) -> Result<(), Error> {
        for row in rows {
            let writer = match &mut self.failures {
                Some(writer) => writer,
                None => self.failures.insert(BufWriter::new(File::create(self.folder.join(FAILED))?)),
            };
            serde_json::to_writer(&mut *writer, row).map_err(io::Error::from)?;
            writer.write_all(b"\n")?;
            self.failed += 1;
        }
        Ok(())
    }

    /// Commits everything up to `end_row`, of which so many rows count.
    ///
    /// # Errors
    /// Failures of the disk: nothing is committed then.
    pub(crate) fn commit(mut self, end_row: u64, counted: u64) -> Result<Part, Error> {
        let file = match self.predictions.take() {
            Some(writer) => Some(writer.finish(file_name(self.format))?),
            None => None,
        };
        if let Some(writer) = self.failures.take() {
            let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
        }
        let (succeeded, failed) = (self.succeeded, self.failed);
        let filtered = counted.saturating_sub(succeeded + failed);
        let part = Part { first_row: self.first_row, end_row, succeeded, failed, filtered, file };
        let summary = serde_json::to_vec(&part).map_err(Error::internal)?;
        let mut file = File::create(self.folder.join(SUMMARY))?;
        file.write_all(&summary)?;
        file.sync_all()?;
        durable::sync_dir(&self.folder)?;
        fs::rename(&self.folder, self.parts.folder.join(folder_name(self.first_row, end_row)))?;
        self.is_committed = true;
        durable::sync_dir(&self.parts.folder)?;
        Ok(part)
    }
}

impl Drop for UnfinishedPart {
    fn drop(&mut self) {
        if !self.is_committed {
            // What stays is thrown away when the job goes on.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn file_name(format: DataFormat) -> String {
    format!("predictions.{}", format.extension())
}

/// Whether a format can hold these columns.
///
/// # Errors
/// The first column that it cannot.
pub(crate) fn check_format(format: DataFormat, schema: &SchemaRef) -> Result<(), Error> {
    let is_flat = |data_type: &DataType| !data_type.is_nested() && !data_type.is_binary();
    let misfit = schema.fields().iter().find(|field| match format {
        DataFormat::Parquet => false,
        DataFormat::Csv => !is_flat(field.data_type()),
        DataFormat::Jsonl => *field.data_type() == DataType::Float16,
    });
    match misfit {
        None => Ok(()),
        Some(field) => {
            let (name, data_type) = (field.name(), field.data_type());
            let message = format!(
                "column {name:?} of the output is {data_type}, which {format} cannot hold: write Parquet"
            );
            Err(Error::new(ErrorCode::Unprocessable, message))
        }
    }
}

/// Writes rows in one of the formats.
pub(crate) struct PredictionWriter {
    encoder: Encoder,
}

enum Encoder {
    Parquet(Box<ArrowWriter<HashingFile>>),
    Csv(arrow::csv::Writer<HashingFile>),
    JsonLines(arrow::json::LineDelimitedWriter<HashingFile>),
}

impl PredictionWriter {
    /// Begins a file, with these columns.
    ///
    /// # Errors
    /// Failures of the disk.
    pub(crate) fn create(
        path: &Path,
        format: DataFormat,
        schema: &SchemaRef,
    ) -> Result<PredictionWriter, Error> {
        let file = HashingFile::create(path)?;
        let encoder = match format {
            DataFormat::Parquet => {
                let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
                let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties));
                Encoder::Parquet(Box::new(writer.map_err(parquet_error)?))
            }
            DataFormat::Csv => {
                let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(file);
                // The header is there even where no row is.
                writer.write(&RecordBatch::new_empty(schema.clone())).map_err(arrow_error)?;
                Encoder::Csv(writer)
            }
            DataFormat::Jsonl => Encoder::JsonLines(arrow::json::LineDelimitedWriter::new(file)),
        };
        Ok(PredictionWriter { encoder })
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        match &mut self.encoder {
            Encoder::Parquet(writer) => writer.write(rows).map_err(parquet_error),
            Encoder::Csv(writer) => writer.write(rows).map_err(arrow_error),
            Encoder::JsonLines(writer) => writer.write(rows).map_err(arrow_error),
        }
    }

    /// Ends the file, and makes it durable.
    ///
    /// # Errors
    /// Failures of the disk.
    pub(crate) fn finish(self, name: String) -> Result<PartFile, Error> {
        let file = match self.encoder {
            Encoder::Parquet(writer) => writer.into_inner().map_err(parquet_error)?,
            Encoder::Csv(writer) => writer.into_inner(),
            Encoder::JsonLines(mut writer) => {
                writer.finish().map_err(arrow_error)?;
                writer.into_inner()
            }
        };
        let (bytes, digest) = file.finish()?;
        Ok(PartFile { name, bytes, digest })
    }
}

/// A file whose digest is known when it is finished.
struct HashingFile {
    file: BufWriter<File>,
    hasher: Hasher,
    bytes: u64,
}

impl HashingFile {
    fn create(path: &Path) -> io::Result<HashingFile> {
        let file = BufWriter::with_capacity(128 << 10, File::create(path)?);
        Ok(HashingFile { file, hasher: Hasher::default(), bytes: 0 })
    }

    fn finish(self) -> io::Result<(u64, Digest)> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok((self.bytes, self.hasher.finish()))
    }
}

impl Write for HashingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A full disk is told as such, wherever the writers have wrapped it.
fn parquet_error(error: parquet::errors::ParquetError) -> Error {
    match error {
        parquet::errors::ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => Error::from(*error),
            Err(source) => Error::internal(source),
        },
        parquet::errors::ParquetError::ArrowError(message)
        | parquet::errors::ParquetError::General(message)
            if message.contains("os error 28") =>
        {
            Error::from(io::Error::from(io::ErrorKind::StorageFull))
        }
        other => Error::internal(other),
    }
}

fn arrow_error(error: arrow::error::ArrowError) -> Error {
    match error {
        arrow::error::ArrowError::IoError(_, error) => Error::from(error),
        other => Error::internal(other),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{Field, Schema};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    fn schema() -> SchemaRef {
        let fields =
            vec![Field::new("id", DataType::Int64, false), Field::new("label", DataType::Utf8, true)];
        Arc::new(Schema::new(fields))
    }

    fn rows(ids: &[i64]) -> RecordBatch {
        let labels: StringArray = ids.iter().map(|id| Some(format!("l{id}"))).collect();
        let ids = Arc::new(Int64Array::from(ids.to_vec()));
        RecordBatch::try_new(schema(), vec![ids, Arc::new(labels)]).unwrap()
    }

    fn failed(row: u64) -> FailedRow {
        FailedRow { row, key: Some(row.into()), code: "null".into(), reason: "because".into() }
    }

    #[test]
    fn a_part_is_there_as_a_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let parts = Parts::open(folder.path().join("parts")).unwrap();
        let mut part = parts.begin(10, DataFormat::Parquet, &schema()).unwrap();
        part.write(&rows(&[10, 11])).unwrap();
        part.fail(&[failed(12)]).unwrap();
        assert!(parts.committed().unwrap().is_empty());
        let committed = part.commit(15, 5).unwrap();
        assert_eq!((committed.succeeded, committed.failed, committed.filtered), (2, 1, 2));
        assert_eq!(parts.committed().unwrap(), BTreeMap::from([(10, committed.clone())]));
        let path = parts.file(&committed).unwrap();
        assert_eq!(committed.file.as_ref().unwrap().digest, Digest::of(&fs::read(&path).unwrap()));
        let reader =
            ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
        assert_eq!(reader.map(Result::unwrap).collect::<Vec<_>>(), [rows(&[10, 11])]);
        let failures = fs::read_to_string(parts.failed_file(&committed).unwrap()).unwrap();
        assert_eq!(serde_json::from_str::<FailedRow>(&failures).unwrap(), failed(12));
    }

    #[test]
    fn what_is_not_committed_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("parts");
        let parts = Parts::open(path.clone()).unwrap();
        let mut part = parts.begin(0, DataFormat::Csv, &schema()).unwrap();
        part.write(&rows(&[1])).unwrap();
        drop(part);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        let part = parts.begin(0, DataFormat::Csv, &schema()).unwrap();
        std::mem::forget(part);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
        assert!(Parts::open(path.clone()).unwrap().committed().unwrap().is_empty());
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }

    #[test]
    fn texts_are_written_as_people_write_them() {
        let folder = tempfile::tempdir().unwrap();
        for (format, expected) in
            [(DataFormat::Csv, "id,label\n1,l1\n"), (DataFormat::Jsonl, "{\"id\":1,\"label\":\"l1\"}\n")]
        {
            let path = folder.path().join("f");
            let mut writer = PredictionWriter::create(&path, format, &schema()).unwrap();
            writer.write(&rows(&[1])).unwrap();
            writer.finish("f".into()).unwrap();
            assert_eq!(fs::read_to_string(path).unwrap(), expected);
        }
    }

    #[test]
    fn csv_holds_no_lists() {
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        let nested = Arc::new(Schema::new(vec![Field::new("scores", DataType::List(item), true)]));
        assert!(check_format(DataFormat::Parquet, &nested).is_ok());
        assert!(check_format(DataFormat::Jsonl, &nested).is_ok());
        assert!(check_format(DataFormat::Csv, &nested).unwrap_err().message.contains("\"scores\""));
    }
}
