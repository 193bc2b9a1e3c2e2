//! Times the cases of the test `classical` on the engine tract, for batches of several sizes, one thread.
//!
//! ```text
//! cargo run --release -p modelhost-inference --example classical_speed -- FOLDER
//! ```
//! prints, for each case and each batch size, microseconds per run: the least of some repetitions, because whatever else
//! runs on the machine only adds to it. `compare.py` beside this file runs it and ONNX Runtime in turn on the same files,
//! and prints how many times its time this engine takes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{fs, io};

use modelhost_core::{Datatype, Tensor};
use modelhost_inference::{Engine, ExecutableGraph, RunLimits, TractEngine};
use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, TensorProto};

/// As the host has it: intermediate tensors come and go with every run.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rows of a run. Inputs are repeated where they have fewer.
const BATCHES: [usize; 3] = [1, 16, 1000];

/// For each case and batch size.
const BUDGET: Duration = Duration::from_millis(60);

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: classical_speed FOLDER");
        return ExitCode::FAILURE;
    };
    match time_all(&folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

fn time_all(folder: &Path) -> io::Result<()> {
    let mut models: Vec<PathBuf> =
        fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    models.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    models.sort();
    let engine = TractEngine::new();
    for model in models {
        let name = model.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let graph = match engine.load(&fs::read(&model)?) {
            Ok(graph) => graph,
            Err(error) => {
                eprintln!("{name}: {error}");
                continue;
            }
        };
        let data = GraphProto::decode(&*fs::read(model.with_extension("data"))?).map_err(io::Error::other)?;
        for rows in BATCHES {
            match time(&*graph, &data, rows) {
                Ok(least) => println!("{name}\t{rows}\t{:.2}", least.as_secs_f64() * 1e6),
                Err(error) => eprintln!("{name} with {rows} rows: {error}"),
            }
        }
    }
    Ok(())
}

/// The least time of a run.
fn time(graph: &dyn ExecutableGraph, data: &GraphProto, rows: usize) -> Result<Duration, String> {
    let input = |name: &str| {
        let tensor = data.initializer.iter().find(|tensor| tensor.name == name);
        repeated(tensor.ok_or_else(|| format!("there is no input {name:?}"))?, rows)
    };
    let inputs: Vec<Tensor> =
        graph.inputs().iter().map(|description| input(&description.name)).collect::<Result<_, _>>()?;
    let began = Instant::now();
    let mut least = Duration::MAX;
    while began.elapsed() < BUDGET {
        let limits = RunLimits::new(Instant::now() + Duration::from_secs(60), 1 << 30);
        let inputs = inputs.clone();
        let start = Instant::now();
        let outputs = graph.run(inputs, &limits).map_err(|error| error.to_string())?;
        least = least.min(start.elapsed());
        drop(outputs);
    }
    Ok(least)
}

/// The first rows of a tensor, from the start again where there are not enough.
fn repeated(proto: &TensorProto, rows: usize) -> Result<Tensor, String> {
    let mut shape: Vec<u64> = proto.dims.iter().map(|extent| extent.unsigned_abs()).collect();
    let known = usize::try_from(shape[0]).map_err(|error| error.to_string())?;
    shape[0] = rows as u64;
    let tensor = match DataType::try_from(proto.data_type) {
        Ok(DataType::String) => {
            let width = proto.string_data.len() / known;
            let texts: Vec<&Vec<u8>> = proto.string_data.iter().cycle().take(rows * width).collect();
            Tensor::from_bytes_elements(shape, &texts)
        }
        Ok(DataType::Float) => fixed(Datatype::Fp32, shape, &proto.raw_data, known, rows),
        Ok(DataType::Double) => fixed(Datatype::Fp64, shape, &proto.raw_data, known, rows),
        Ok(DataType::Int64) => fixed(Datatype::Int64, shape, &proto.raw_data, known, rows),
        other => return Err(format!("no input has elements of {other:?}")),
    };
    tensor.map_err(|error| error.to_string())
}

fn fixed(
    datatype: Datatype,
    shape: Vec<u64>,
    data: &[u8],
    known: usize,
    rows: usize,
) -> Result<Tensor, modelhost_core::InvalidTensor> {
    let bytes: Vec<u8> = data.iter().copied().cycle().take(data.len() / known * rows).collect();
    Tensor::new(datatype, shape, bytes.into())
}
