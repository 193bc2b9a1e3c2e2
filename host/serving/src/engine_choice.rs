//! Which engine is to run a graph: each one that loads it answers the same inputs, and where the answers agree the
//! faster one is taken. Decided once, at upload, and recorded; here nothing is known of models and versions.
//!
//! Where the answers differ it is the built-in engine, however long it takes: each operator that it accepts was compared
//! with reference answers, in every use that it accepts.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use modelhost_core::{Digest, EngineCandidate, EngineChoice, EngineName};
use modelhost_inference::{Engines, Graph, GraphCache, Priority};
use modelhost_runtime::{NamedTensors, Runtime};

use crate::difference::difference;

/// After this no further inputs are compared. What was compared until then decides.
const COMPARISON_BUDGET: Duration = Duration::from_secs(5);
/// Of all timed runs together. A graph that takes longer for one round is timed once.
const TIME_BUDGET: Duration = Duration::from_millis(200);
/// Enough for a median that an interruption does not move.
const MAX_ROUNDS: usize = 100;
/// Of one run.
const RUN_TIMEOUT: Duration = Duration::from_secs(10);
/// An engine that gains less than this is not worth leaving the built-in one for: by so much medians differ between
/// two runs of the same.
const WORTHWHILE: f64 = 0.9;

/// A graph that engines are compared on.
pub(crate) struct Contest<'a> {
    /// What the graph is called.
    pub(crate) name: &'a str,
    pub(crate) digest: Digest,
    /// The file that holds its bytes.
    pub(crate) file: &'a Path,
    /// Engines that refused it under limits, which must not be given it without, and why they did.
    pub(crate) refusals: Vec<(EngineName, String)>,
    /// What to run it with, each by itself.
    pub(crate) inputs: Vec<NamedTensors>,
}

/// An engine in a contest.
struct Entrant {
    engine: EngineName,
    version: String,
    /// The graph on this engine, or why it does not run there.
    graph: Result<Arc<Graph>, String>,
    /// One for each round over all inputs.
    times: Vec<Duration>,
}

/// What came of a contest.
struct Verdict {
    engine: EngineName,
    reason: String,
    max_difference: Option<f64>,
}

impl Contest<'_> {
    /// Compares the engines of a host. Blocks for as long as loading and running the graph takes.
    pub(crate) fn decide(mut self, runtime: &Runtime, handle: &tokio::runtime::Handle) -> EngineChoice {
        let mut entrants = entrants(runtime.graph_cache(), &self);
        let run = |graph: &Arc<Graph>, inputs: NamedTensors| {
            let computed = handle.block_on(runtime.compute(graph, inputs, RUN_TIMEOUT, Priority::default()));
            computed.map_err(|error| error.to_string())
        };
        let Verdict { engine, reason, max_difference } = self.judge(&mut entrants, &run);
        let candidates = entrants.into_iter().map(Entrant::into_candidate).collect();
        EngineChoice { engine, reason, candidates, max_difference }
    }

    fn judge(&mut self, entrants: &mut [Entrant], run: &Run<'_>) -> Verdict {
        if let Some(verdict) = without_comparison(entrants, &self.inputs) {
            return verdict;
        }
        match self.compare(entrants, run) {
            Err(Disagreement::Fails { engine, error }) => {
                tracing::warn!(graph = %self.name, digest = %self.digest, %engine, error, "one engine fails where another answers");
                let reason = format!("{engine} fails where it answers: {error}");
                Verdict { engine: others(entrants, engine), reason, max_difference: None }
            }
            Err(Disagreement::Differs { sentence, max_difference }) => {
                tracing::warn!(graph = %self.name, digest = %self.digest, "the engines answer differently: {sentence}");
                let reason = format!("the engines answer differently: {sentence}");
                Verdict { engine: EngineName::Tract, reason, max_difference }
            }
            Ok(None) => Verdict {
                engine: EngineName::Tract,
                reason: "no engine answers the inputs that there are to compare them with".to_owned(),
                max_difference: None,
            },
            Ok(Some(max_difference)) => {
                self.time(entrants, run);
                let (engine, reason) = fastest(entrants);
                Verdict { engine, reason, max_difference: Some(max_difference) }
            }
        }
    }

    /// How far the answers are apart at most; none where nothing was answered. Inputs that nobody answers, and those
    /// for which there is no time left, are left out from here on.
    fn compare(&mut self, entrants: &[Entrant], run: &Run<'_>) -> Result<Option<f64>, Disagreement> {
        let mut max_difference = 0.0_f64;
        let began = Instant::now();
        let mut compared = Vec::new();
        for inputs in std::mem::take(&mut self.inputs) {
            let mut answers = Vec::with_capacity(entrants.len());
            let mut failure = None;
            for entrant in entrants.iter() {
                let Ok(graph) = &entrant.graph else { continue };
                match run(graph, inputs.clone()) {
                    Ok(outputs) => answers.push(outputs),
                    Err(error) => failure = Some((entrant.engine, error)),
                }
            }
            match failure {
                Some((engine, error)) if !answers.is_empty() => {
                    return Err(Disagreement::Fails { engine, error });
                }
                // Made-up inputs are often such that no engine takes them.
                Some(_) => {}
                None => {
                    max_difference = max_difference.max(furthest(&answers)?);
                    compared.push(inputs);
                }
            }
            if began.elapsed() > COMPARISON_BUDGET {
                break;
            }
        }
        self.inputs = compared;
        Ok((!self.inputs.is_empty()).then(|| significant(max_difference)))
    }

    /// In turns, so that what else the machine does falls on all alike.
    fn time(&self, entrants: &mut [Entrant], run: &Run<'_>) {
        let began = Instant::now();
        for _ in 0..MAX_ROUNDS {
            for entrant in entrants.iter_mut() {
                let Ok(graph) = &entrant.graph else { continue };
                let mut time = Duration::ZERO;
                for inputs in &self.inputs {
                    let inputs = inputs.clone();
                    let began = Instant::now();
                    // What was answered a moment ago is answered again.
                    let _ = run(graph, inputs);
                    time += began.elapsed();
                }
                entrant.times.push(time);
            }
            if began.elapsed() > TIME_BUDGET {
                return;
            }
        }
    }
}

type Run<'a> = dyn Fn(&Arc<Graph>, NamedTensors) -> Result<NamedTensors, String> + 'a;

/// Why engines are not timed.
enum Disagreement {
    /// This one does not run what others run.
    Fails { engine: EngineName, error: String },
    /// Their answers are not the same.
    Differs { sentence: String, max_difference: Option<f64> },
}

impl Entrant {
    fn median(&self) -> Option<Duration> {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.get(times.len() / 2).copied()
    }

    fn into_candidate(self) -> EngineCandidate {
        EngineCandidate {
            engine: self.engine,
            median_microseconds: self.median().map(microseconds),
            version: Some(self.version),
            error: self.graph.err(),
        }
    }
}

/// The engines that are there, each with the graph or the reason why it does not run on it.
fn entrants(cache: &GraphCache, contest: &Contest<'_>) -> Vec<Entrant> {
    let engines: &Engines = cache.engines();
    let enter = |engine: &Arc<dyn modelhost_inference::Engine>| {
        let read = || std::fs::read(contest.file);
        let refusal = contest.refusals.iter().find(|(refusing, _)| *refusing == engine.name());
        let graph = match refusal {
            Some((_, reason)) => Err(reason.clone()),
            None => {
                cache.get_or_load(&contest.digest, engine.name(), read).map_err(|error| error.to_string())
            }
        };
        Entrant { engine: engine.name(), version: engine.version(), graph, times: Vec::new() }
    };
    engines.available().map(enter).collect()
}

/// The engine, where there is nothing to compare or to compare with.
fn without_comparison(entrants: &[Entrant], inputs: &[NamedTensors]) -> Option<Verdict> {
    let able: Vec<EngineName> =
        entrants.iter().filter(|entrant| entrant.graph.is_ok()).map(|entrant| entrant.engine).collect();
    let (engine, reason) = match able[..] {
        [] => (EngineName::Tract, "no engine runs the graph"),
        [engine] if entrants.len() == 1 => (engine, "it is the only engine of this host"),
        [engine] => (engine, "it is the only engine that runs the graph"),
        _ if inputs.is_empty() => (EngineName::Tract, "there are no inputs to compare the engines with"),
        _ => return None,
    };
    Some(Verdict { engine, reason: reason.to_owned(), max_difference: None })
}

/// The engine that is left, the built-in one if there is none.
fn others(entrants: &[Entrant], failed: EngineName) -> EngineName {
    let able = entrants.iter().find(|entrant| entrant.engine != failed && entrant.graph.is_ok());
    able.map_or(EngineName::Tract, |entrant| entrant.engine)
}

fn furthest(answers: &[NamedTensors]) -> Result<f64, Disagreement> {
    let Some((first, rest)) = answers.split_first() else { return Ok(0.0) };
    let mut furthest = 0.0_f64;
    for other in rest {
        for ((name, expected), (_, actual)) in first.iter().zip(other) {
            let differs =
                |sentence: String, max_difference| Disagreement::Differs { sentence, max_difference };
            let apart = difference(expected, actual)
                .map_err(|reason| differs(format!("output {name:?}: {reason}"), None))?;
            if apart > 1.0 {
                let known = apart.is_finite().then(|| significant(apart));
                let times = known.map_or("infinitely".to_owned(), |known| format!("{known} times"));
                let sentence = format!("output {name:?} is {times} as far apart as is tolerated");
                return Err(differs(sentence, known));
            }
            furthest = furthest.max(apart);
        }
    }
    Ok(furthest)
}

fn fastest(entrants: &[Entrant]) -> (EngineName, String) {
    let timed = || entrants.iter().filter_map(|entrant| Some((entrant.engine, entrant.median()?)));
    let mut best: Option<(EngineName, Duration)> = None;
    // The built-in engine comes first, and is left only for a better one.
    for (engine, time) in timed() {
        if best.is_none_or(|(_, least)| time.as_secs_f64() < least.as_secs_f64() * WORTHWHILE) {
            best = Some((engine, time));
        }
    }
    let Some((engine, _)) = best else {
        return (EngineName::Tract, "the engines could not be timed".to_owned());
    };
    let times: Vec<String> =
        timed().map(|(engine, time)| format!("{engine} {} µs", microseconds(time))).collect();
    let least = timed().map(|(_, time)| time).min();
    let is_least = timed().any(|(timed, time)| timed == engine && Some(time) == least);
    let why = if is_least { "it is the fastest" } else { "no other is faster by a tenth" };
    (engine, format!("{why}: {}", times.join(", ")))
}

fn microseconds(time: Duration) -> f64 {
    significant(time.as_secs_f64() * 1e6)
}

/// Three digits, which is more than is reproducible and less than what a record would be read back as differently.
fn significant(number: f64) -> f64 {
    format!("{number:.2e}").parse().unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use modelhost_core::{Datatype, Tensor, TensorDescription};
    use modelhost_inference::{Engine, ExecutableGraph, LoadError, RunError, RunLimits};

    use super::*;

    /// Answers what it is given, times a factor, after a while.
    #[derive(Clone, Copy)]
    struct Scripted {
        engine: EngineName,
        factor: f32,
        takes: Duration,
        loads: bool,
    }

    const QUICK: Scripted =
        Scripted { engine: EngineName::OnnxRuntime, factor: 1.0, takes: Duration::ZERO, loads: true };
    const BUILT_IN: Scripted =
        Scripted { engine: EngineName::Tract, takes: Duration::from_millis(2), ..QUICK };

    struct Multiplying(Scripted, Vec<TensorDescription>);

    impl Engine for Scripted {
        fn name(&self) -> EngineName {
            self.engine
        }

        fn version(&self) -> String {
            "1".to_owned()
        }

        fn load(&self, _onnx: &[u8]) -> Result<Arc<dyn ExecutableGraph>, LoadError> {
            if !self.loads {
                return Err(LoadError::Operators { operators: vec!["Odd".to_owned()] });
            }
            let x = TensorDescription { name: "x".into(), datatype: Datatype::Fp32, shape: vec![-1] };
            Ok(Arc::new(Multiplying(*self, vec![x])))
        }
    }

    impl ExecutableGraph for Multiplying {
        fn inputs(&self) -> &[TensorDescription] {
            &self.1
        }

        fn outputs(&self) -> &[TensorDescription] {
            &self.1
        }

        fn resident_bytes(&self) -> u64 {
            0
        }

        fn time_follows_from_extents(&self) -> bool {
            true
        }

        fn rows_are_independent(&self) -> bool {
            true
        }

        fn run(&self, inputs: Vec<Tensor>, _limits: &RunLimits) -> Result<Vec<Tensor>, RunError> {
            thread::sleep(self.0.takes);
            if self.0.factor.is_nan() {
                return Err(RunError::Failed { reason: "it is scripted so".to_owned() });
            }
            let product = inputs[0].data().as_chunks::<4>().0.iter();
            let product =
                product.flat_map(|bytes| (f32::from_le_bytes(*bytes) * self.0.factor).to_le_bytes());
            Ok(vec![Tensor::new(Datatype::Fp32, vec![1], product.collect::<Vec<u8>>().into()).unwrap()])
        }
    }

    fn decided(built_in: Scripted, other: Scripted) -> EngineChoice {
        let engines = Engines::new(Arc::new(built_in), Ok(Arc::new(other)));
        let file = tempfile::NamedTempFile::new().unwrap();
        let one = Tensor::new(Datatype::Fp32, vec![1], 1.0_f32.to_le_bytes().to_vec().into()).unwrap();
        let inputs = vec![vec![("x".to_owned(), one)]];
        let refusals = Vec::new();
        let contest = Contest { name: "g", digest: Digest::of(b""), file: file.path(), refusals, inputs };
        let settings = modelhost_runtime::RuntimeSettings::default();
        let inference = modelhost_inference::InferenceSettings::default();
        let runtime = Runtime::new(settings, &inference, engines).unwrap();
        let threads = tokio::runtime::Runtime::new().unwrap();
        contest.decide(&runtime, threads.handle())
    }

    #[test]
    fn the_faster_of_two_that_agree_is_taken() {
        let choice = decided(BUILT_IN, Scripted { factor: 1.0001, ..QUICK });
        assert_eq!(choice.engine, EngineName::OnnxRuntime, "{choice:?}");
        assert!(choice.reason.starts_with("it is the fastest: tract 2"), "{}", choice.reason);
        assert!(choice.max_difference.is_some_and(|apart| 0.0 < apart && apart < 1.0), "{choice:?}");
        assert!(choice.candidates.iter().all(|candidate| candidate.median_microseconds.is_some()));
        let equal = decided(BUILT_IN, Scripted { takes: BUILT_IN.takes, ..QUICK });
        assert_eq!(equal.engine, EngineName::Tract, "{equal:?}");
    }

    #[test]
    fn the_built_in_engine_is_right_where_answers_differ() {
        let choice = decided(BUILT_IN, Scripted { factor: 1.1, ..QUICK });
        assert_eq!(choice.engine, EngineName::Tract);
        assert!(choice.reason.contains("as far apart as is tolerated"), "{}", choice.reason);
        assert!(choice.max_difference.is_some_and(|apart| apart > 1.0));
        let infinite = decided(BUILT_IN, Scripted { factor: f32::INFINITY, ..QUICK });
        assert_eq!((infinite.engine, infinite.max_difference), (EngineName::Tract, None));
    }

    #[test]
    fn one_that_cannot_is_named_and_not_taken() {
        let unloadable = decided(Scripted { loads: false, ..BUILT_IN }, QUICK);
        assert_eq!(unloadable.engine, EngineName::OnnxRuntime);
        assert_eq!(unloadable.reason, "it is the only engine that runs the graph");
        assert!(unloadable.candidates[0].error.as_ref().is_some_and(|error| error.contains("Odd")));
        let failing = decided(BUILT_IN, Scripted { factor: f32::NAN, ..QUICK });
        assert_eq!(failing.engine, EngineName::Tract);
        assert!(failing.reason.starts_with("onnxruntime fails where it answers"), "{}", failing.reason);
        let other = decided(Scripted { factor: f32::NAN, ..BUILT_IN }, QUICK);
        assert_eq!(other.engine, EngineName::OnnxRuntime, "{other:?}");
        let both = decided(Scripted { factor: f32::NAN, ..BUILT_IN }, Scripted { factor: f32::NAN, ..QUICK });
        assert_eq!((both.engine, both.max_difference), (EngineName::Tract, None), "{both:?}");
    }

    #[test]
    fn recorded_numbers_are_read_back_as_they_are() {
        for number in [0.0, 1.0 / 3.0, 12_345.678, 1.234e-9, 9.999] {
            let short = significant(number);
            let json = serde_json::to_string(&short).unwrap();
            assert_eq!(serde_json::from_str::<f64>(&json).unwrap(), short);
        }
    }
}
