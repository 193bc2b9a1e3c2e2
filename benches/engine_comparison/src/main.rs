//! Runs one network with tract and with rten, one thread each, and prints what each costs and how far its answers are
//! from the expected ones, as a line of JSON. `compare.py` starts it for each file and puts ONNX Runtime beside.

mod case;
mod rten_engine;
mod timing;
mod tract_engine;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use clap::Parser;
use serde_json::{Value, json};

use crate::case::{Array, Case};

/// Runs a loaded network once.
type Run = Box<dyn FnMut() -> Result<Vec<Array>>>;

/// Loads a network, and its inputs in the engine's own form.
type Load = fn(&[u8], &Case) -> Result<Run>;

const ENGINES: [(&str, Load); 2] = [("tract", tract_engine::load), ("rten", rten_engine::load)];

#[derive(Parser)]
#[command(about = "Runs an ONNX file with tract and with rten, one thread each")]
struct Arguments {
    /// The network.
    onnx: PathBuf,
    /// Its inputs and expected outputs, as JSON.
    case: PathBuf,
    /// Seconds that each engine is measured.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Only this engine.
    #[arg(long)]
    engine: Option<String>,
}

struct Loaded {
    name: &'static str,
    load_time: Duration,
    run: Run,
    difference: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let onnx = std::fs::read(&arguments.onnx)?;
    let case = Case::read(&arguments.case)?;
    let mut report = serde_json::Map::new();
    let mut loaded = Vec::new();
    let wanted = |name: &str| arguments.engine.as_deref().is_none_or(|only| only == name);
    for (name, load) in ENGINES.into_iter().filter(|(name, _)| wanted(name)) {
        match caught(|| try_out(name, load, &onnx, &case)) {
            Ok(engine) => loaded.push(engine),
            Err(error) => drop(report.insert(name.to_owned(), json!({ "error": format!("{error:#}") }))),
        }
    }
    let mut runs: Vec<&mut Run> = loaded.iter_mut().map(|engine| &mut engine.run).collect();
    let times = timing::alternating(&mut runs, Duration::from_secs_f64(arguments.seconds))?;
    for (engine, shortest) in loaded.iter().zip(times) {
        report.insert(engine.name.to_owned(), described(engine, shortest));
    }
    println!("{}", Value::Object(report));
    Ok(())
}

fn try_out(name: &'static str, load: Load, onnx: &[u8], case: &Case) -> Result<Loaded> {
    let begin = Instant::now();
    let mut run = load(onnx, case)?;
    let load_time = begin.elapsed();
    let difference = case.difference(&run()?)?;
    Ok(Loaded { name, load_time, run, difference })
}

fn described(engine: &Loaded, shortest: Duration) -> Value {
    json!({
        "load_ms": engine.load_time.as_secs_f64() * 1e3,
        "shortest_us": shortest.as_secs_f64() * 1e6,
        "difference": engine.difference,
    })
}

/// A panic of an engine is a finding too.
fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(anyhow!("panic: {}", text.unwrap_or_default()))
    })
}
