//! Parquet: the file says its own columns and rows; that its pages can be read is found out by reading them.

use arrow::datatypes::{Schema, SchemaRef};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};

use super::{BATCH_ROWS, Candidate, Problem};

/// The columns of a file.
pub(super) fn schema(file: &Candidate<'_>) -> Result<Schema, Problem> {
    Ok(metadata(file)?.schema().as_ref().clone())
}

/// Reads every row group of a file.
pub(super) fn read(file: &Candidate<'_>, _: &SchemaRef) -> Result<u64, Problem> {
    let metadata = metadata(file)?;
    let mut rows = 0;
    for (index, group) in metadata.metadata().row_groups().iter().enumerate() {
        let wrong = |reason: &dyn std::fmt::Display| {
            file.problem_in_row(
                rows + 1,
                &format!("row group {index}, which begins there, cannot be read: {reason}"),
            )
        };
        let declared = u64::try_from(group.num_rows()).map_err(|error| wrong(&error))?;
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file.open()?, metadata.clone())
            .with_row_groups(vec![index])
            .with_batch_size(BATCH_ROWS)
            .build();
        let mut found = 0;
        for batch in reader.map_err(|error| wrong(&error))? {
            found += batch.map_err(|error| wrong(&error))?.num_rows() as u64;
        }
        if found != declared {
            return Err(wrong(&format!("it has {found} rows and says that it has {declared}")));
        }
        rows += found;
    }
    Ok(rows)
}

fn metadata(file: &Candidate<'_>) -> Result<ArrowReaderMetadata, Problem> {
    ArrowReaderMetadata::load(&file.open()?, Default::default())
        .map_err(|error| file.problem(&format!("it is no whole Parquet file ({error})")))
}
