//! The yardstick: one process without sandboxes and checkpoints. As many threads as there are cores take row groups of
//! the file, and for each batch of rows run the plugin's own pre- and post-processing, compiled for this machine, and its
//! network on the same engine, and write the same columns to a Parquet file of their own.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use arrow::array::{ArrayRef, AsArray, Float32Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use modelhost_core::Datatype;
use modelhost_guest::{Error, Request, Response, Tensor};
use modelhost_inference::{Engine as _, ExecutableGraph, RunLimits, TractEngine};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use super::data::{CENSUS, checkout};

/// As in a job.
const BATCH_ROWS: usize = 1_024;

/// How long the loop takes.
pub fn run(plugin: &'static str, file: &Path, folder: &Path) -> Result<Duration> {
    let network = std::fs::read(checkout(&format!("plugins/{plugin}/model.onnx")))?;
    let graph = TractEngine::new().load(&network)?;
    let metadata = ArrowReaderMetadata::load(&File::open(file)?, Default::default())?;
    let groups = metadata.metadata().num_row_groups();
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (0..std::thread::available_parallelism()?.get())
            .map(|number| {
                let worker = Worker { plugin, graph: &graph, file, metadata: &metadata };
                let output = folder.join(format!("plain-{number}.parquet"));
                let next = &next;
                scope.spawn(move || {
                    worker.run(&output, || {
                        Some(next.fetch_add(1, Ordering::Relaxed)).filter(|group| *group < groups)
                    })
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().ok().context("a thread of the loop panicked")?)
    })?;
    Ok(began.elapsed())
}

struct Worker<'a> {
    plugin: &'static str,
    graph: &'a Arc<dyn ExecutableGraph>,
    file: &'a Path,
    metadata: &'a ArrowReaderMetadata,
}

impl Worker<'_> {
    fn run(&self, output: &Path, next_group: impl Fn() -> Option<usize>) -> Result<()> {
        let mut writer = None;
        while let Some(group) = next_group() {
            let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(
                File::open(self.file)?,
                self.metadata.clone(),
            );
            for batch in reader.with_row_groups(vec![group]).with_batch_size(BATCH_ROWS).build()? {
                let predicted = self.predict(&batch?)?;
                let writer = match &mut writer {
                    Some(writer) => writer,
                    None => {
                        let properties =
                            WriterProperties::builder().set_compression(Compression::SNAPPY).build();
                        writer.insert(ArrowWriter::try_new(
                            File::create(output)?,
                            predicted.schema(),
                            Some(properties),
                        )?)
                    }
                };
                writer.write(&predicted)?;
            }
        }
        if let Some(writer) = writer {
            writer.close()?;
        }
        Ok(())
    }

    fn predict(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let response = match self.plugin {
            "income" => income::answer(&census(batch)?, |features| self.network(&[features])),
            _ => spam::answer(&mails(batch)?, |ids, weights| self.network(&[ids, weights])),
        };
        columns(batch, &response.map_err(|error| anyhow::anyhow!("{error}"))?)
    }

    fn network(&self, inputs: &[Tensor]) -> Result<Tensor, Error> {
        let limits = RunLimits::new(Instant::now() + Duration::from_secs(60), 1 << 30);
        let inputs = inputs.iter().map(to_host).collect::<Result<Vec<_>, _>>()?;
        let outputs = self.graph.run(inputs, &limits).map_err(|error| Error::internal(error.to_string()))?;
        let output = outputs.first().ok_or_else(|| Error::internal("the network answers nothing"))?;
        let shape: Vec<usize> = output.shape().iter().map(|extent| *extent as usize).collect();
        let (elements, _) = output.data().as_chunks::<4>();
        Tensor::new(shape, elements.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect::<Vec<f32>>())
    }
}

fn to_host(tensor: &Tensor) -> Result<modelhost_core::Tensor, Error> {
    let shape = tensor.shape().iter().map(|extent| *extent as u64).collect();
    let (datatype, data): (Datatype, Vec<u8>) = match tensor.as_slice::<f32>() {
        Ok(elements) => (Datatype::Fp32, elements.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Err(_) => (Datatype::Int64, tensor.as_slice::<i64>()?.iter().flat_map(|x| x.to_le_bytes()).collect()),
    };
    modelhost_core::Tensor::new(datatype, shape, data.into())
        .map_err(|error| Error::internal(error.to_string()))
}

fn census(batch: &RecordBatch) -> Result<Request> {
    let input = |name: &&'static str| {
        let column = batch.column_by_name(name).with_context(|| format!("there is no column {name}"))?;
        let tensor = match column.as_primitive_opt::<Int64Type>() {
            Some(numbers) => Tensor::column(numbers.values().iter().map(|number| *number as f32)),
            None => texts(column)?,
        };
        Ok((*name, tensor))
    };
    Ok(Request::new(CENSUS.iter().map(input).collect::<Result<Vec<_>>>()?))
}

fn mails(batch: &RecordBatch) -> Result<Request> {
    let column = batch.column_by_name("text").context("there is no column text")?;
    Ok(Request::new([("text", texts(column)?)]))
}

fn texts(column: &ArrayRef) -> Result<Tensor> {
    let texts = column.as_string::<i32>().iter().map(|text| text.unwrap_or("?"));
    Tensor::string_column(texts).map_err(|error| anyhow::anyhow!("{error}"))
}

/// The key and what both plugins answer.
fn columns(batch: &RecordBatch, response: &Response) -> Result<RecordBatch> {
    let said = |error: Error| anyhow::anyhow!("{error}");
    let label: StringArray =
        response.output("label").map_err(said)?.strings().map_err(said)?.into_iter().map(Some).collect();
    let probability: &[f32] = response.output("probability").map_err(said)?.as_slice().map_err(said)?;
    let id = batch.column_by_name("id").context("there is no column id")?;
    Ok(RecordBatch::try_from_iter([
        ("id", id.clone()),
        ("label", Arc::new(label) as ArrayRef),
        ("probability", Arc::new(Float32Array::from(probability.to_vec())) as ArrayRef),
    ])?)
}
