//! The parts of a job's output: each is a folder with predictions and failed rows, which is committed as a whole by one
//! rename. What was not committed is thrown away when the job goes on. Knows files and formats, not where rows come from.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use modelhost_core::{Digest, ErrorCode, Hasher};
use modelhost_registry::durable;
use modelhost_serving::Error;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

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

    /// Begins a part, in a folder of its own.
    ///
    /// # Errors
    /// Failures of the disk.
    pub(crate) fn begin(
        &self,
        first_row: u64,
        format: DataFormat,
        schema: &SchemaRef,
    ) -> Result<UnfinishedPart, Error> {
        let prefix = format!("{UNFINISHED}{first_row:015}-");
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir_in(&self.folder)?;
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
    /// Removed where it is dropped: what stays after a crash is thrown away when the job goes on.
    folder: TempDir,
    first_row: u64,
    format: DataFormat,
    schema: SchemaRef,
    predictions: Option<PredictionWriter>,
    failures: Option<BufWriter<File>>,
    succeeded: u64,
    failed: u64,
}

/// The rows that a part answers for.
pub(crate) struct Answered {
    /// The number after the last one.
    pub(crate) end_row: u64,
    /// How many of them the job has to answer for.
    pub(crate) counted: u64,
    /// Whether some of them may not have been wanted.
    pub(crate) may_be_filtered: bool,
}

impl UnfinishedPart {
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
                let path = self.folder.path().join(file_name(self.format));
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
                None => self.failures.insert(BufWriter::new(File::create(self.folder.path().join(FAILED))?)),
            };
            serde_json::to_writer(&mut *writer, row).map_err(io::Error::from)?;
            writer.write_all(b"\n")?;
            self.failed += 1;
        }
        Ok(())
    }

    /// Commits these rows: those that have neither a prediction nor a fault were not wanted.
    ///
    /// # Errors
    /// Failures of the disk, and rows that are missing or too many: nothing is committed then.
    pub(crate) fn commit(mut self, rows: &Answered) -> Result<Part, Error> {
        let filtered = self.filtered(rows)?;
        let file = match self.predictions.take() {
            Some(writer) => Some(writer.finish(file_name(self.format))?),
            None => None,
        };
        if let Some(writer) = self.failures.take() {
            let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
        }
        let UnfinishedPart { parts, folder, first_row, succeeded, failed, .. } = self;
        let end_row = rows.end_row;
        let part = Part { first_row, end_row, succeeded, failed, filtered, file };
        let summary = serde_json::to_vec(&part).map_err(Error::internal)?;
        let mut file = File::create(folder.path().join(SUMMARY))?;
        file.write_all(&summary)?;
        file.sync_all()?;
        durable::sync_dir(folder.path())?;
        fs::rename(folder.path(), parts.folder.join(folder_name(first_row, end_row)))?;
        // It is elsewhere now.
        let _ = folder.keep();
        durable::sync_dir(&parts.folder)?;
        Ok(part)
    }

    fn filtered(&self, rows: &Answered) -> Result<u64, Error> {
        let Answered { end_row, counted, may_be_filtered } = rows;
        let answered = self.succeeded + self.failed;
        match counted.checked_sub(answered) {
            Some(filtered) if filtered == 0 || *may_be_filtered => Ok(filtered),
            _ => Err(Error::internal(format!(
                "of the {counted} rows from {} to {end_row} there are {answered}",
                self.first_row
            ))),
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
    trouble: Trouble,
}

/// What the file said when it could not be written: the encoders wrap that in errors of their own, or in texts.
#[derive(Clone, Default)]
struct Trouble(Arc<OnceLock<io::ErrorKind>>);

impl Trouble {
    fn remember(&self, error: io::Error) -> io::Error {
        self.0.get_or_init(|| error.kind());
        error
    }

    /// A full disk is told as such, whatever the encoder makes of it.
    fn explain(&self, error: impl std::fmt::Display) -> Error {
        match self.0.get() {
            Some(kind) => Error::from(io::Error::new(*kind, error.to_string())),
            None => Error::internal(error),
        }
    }
}

enum Encoder {
    Parquet(Box<ArrowWriter<HashingFile>>),
    Csv(Box<arrow::csv::Writer<HashingFile>>),
    JsonLines(Box<arrow::json::LineDelimitedWriter<HashingFile>>),
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
        let trouble = Trouble::default();
        let file = HashingFile::create(path, trouble.clone())?;
        let encoder = match format {
            DataFormat::Parquet => {
                let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
                let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties));
                Encoder::Parquet(Box::new(writer.map_err(|error| trouble.explain(error))?))
            }
            DataFormat::Csv => {
                let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(file);
                // The header is there even where no row is.
                let header = writer.write(&RecordBatch::new_empty(schema.clone()));
                header.map_err(|error| trouble.explain(error))?;
                Encoder::Csv(Box::new(writer))
            }
            DataFormat::Jsonl => Encoder::JsonLines(Box::new(arrow::json::LineDelimitedWriter::new(file))),
        };
        Ok(PredictionWriter { encoder, trouble })
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        let PredictionWriter { encoder, trouble } = self;
        match encoder {
            Encoder::Parquet(writer) => writer.write(rows).map_err(|error| trouble.explain(error)),
            Encoder::Csv(writer) => writer.write(rows).map_err(|error| trouble.explain(error)),
            Encoder::JsonLines(writer) => writer.write(rows).map_err(|error| trouble.explain(error)),
        }
    }

    /// Ends the file, and makes it durable.
    ///
    /// # Errors
    /// Failures of the disk.
    pub(crate) fn finish(self, name: String) -> Result<PartFile, Error> {
        let PredictionWriter { encoder, trouble } = self;
        let file = match encoder {
            Encoder::Parquet(writer) => writer.into_inner().map_err(|error| trouble.explain(error))?,
            Encoder::Csv(writer) => writer.into_inner(),
            Encoder::JsonLines(mut writer) => {
                writer.finish().map_err(|error| trouble.explain(error))?;
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
    trouble: Trouble,
}

impl HashingFile {
    fn create(path: &Path, trouble: Trouble) -> io::Result<HashingFile> {
        let file = BufWriter::with_capacity(128 << 10, File::create(path)?);
        Ok(HashingFile { file, hasher: Hasher::default(), bytes: 0, trouble })
    }

    fn finish(self) -> io::Result<(u64, Digest)> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok((self.bytes, self.hasher.finish()))
    }
}

impl Write for HashingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes).map_err(|error| self.trouble.remember(error))?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush().map_err(|error| self.trouble.remember(error))
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

    fn answered(end_row: u64, counted: u64) -> Answered {
        Answered { end_row, counted, may_be_filtered: true }
    }

    #[test]
    fn a_part_is_there_as_a_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let parts = Parts::open(folder.path().join("parts")).unwrap();
        let mut part = parts.begin(10, DataFormat::Parquet, &schema()).unwrap();
        part.write(&rows(&[10, 11])).unwrap();
        part.fail(&[failed(12)]).unwrap();
        assert!(parts.committed().unwrap().is_empty());
        let committed = part.commit(&answered(15, 5)).unwrap();
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
    fn a_part_leaves_its_neighbours_alone() {
        let folder = tempfile::tempdir().unwrap();
        let parts = Parts::open(folder.path().join("parts")).unwrap();
        let begin = || {
            let mut part = parts.begin(10, DataFormat::Csv, &schema()).unwrap();
            part.write(&rows(&[10])).unwrap();
            part
        };
        let (first, second) = (begin(), begin());
        drop(second);
        first.commit(&answered(11, 1)).unwrap();
        // Nor does another one take the place of what is committed.
        assert!(begin().commit(&answered(11, 1)).is_err());
        assert_eq!(parts.committed().unwrap().len(), 1);
    }

    #[test]
    fn rows_do_not_vanish() {
        let folder = tempfile::tempdir().unwrap();
        let parts = Parts::open(folder.path().join("parts")).unwrap();
        let commit = |counted, may_be_filtered| {
            let mut part = parts.begin(0, DataFormat::Csv, &schema()).unwrap();
            part.write(&rows(&[0, 1])).unwrap();
            part.fail(&[failed(2)]).unwrap();
            part.commit(&Answered { end_row: 5, counted, may_be_filtered })
        };
        assert!(commit(5, false).is_err(), "two rows are missing");
        assert!(commit(2, true).is_err(), "one row is too many");
        assert!(parts.committed().unwrap().is_empty());
        assert_eq!(commit(3, false).unwrap().filtered, 0);
    }

    #[test]
    fn a_full_disk_is_told_as_such_in_every_format() {
        for format in [DataFormat::Parquet, DataFormat::Csv, DataFormat::Jsonl] {
            // A device that is always full.
            let written = PredictionWriter::create(Path::new("/dev/full"), format, &schema());
            let ids: Vec<i64> = (0..50_000).collect();
            let written = written.and_then(|mut writer| {
                writer.write(&rows(&ids))?;
                writer.finish("f".into())
            });
            assert_eq!(written.unwrap_err().code, ErrorCode::StorageFull, "{format}");
        }
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
