//! Brings a version up to speed before it takes requests, so that its first one is as fast as any: plans for the shapes
//! of its inputs, estimates of run times, an engine's arenas and the machine's caches come from running it. It runs the
//! version's samples, or where there are none its graphs by themselves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use modelhost_core::{ErrorCode, Signature};
use modelhost_inference::Priority;
use modelhost_runtime::{CallError, CallOptions, Computation, Plugin, Recorder};

use crate::error::Error;
use crate::made_up::made_up_inputs;
use crate::samples::{Sample, unusable};

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// How often everything is run.
    rounds: u32,
    /// When it ends, done or not.
    time: Duration,
}

impl Effort {
    /// Before anybody waits.
    pub(crate) const THOROUGH: Effort = Effort { rounds: 5, time: Duration::from_secs(2) };
    /// While a request waits. More would cost it more than it gains.
    pub(crate) const BRIEF: Effort = Effort { rounds: 1, time: Duration::from_millis(5) };
}

/// Of warming up: those that somebody waits for go first.
const LOWEST: Priority = Priority(u32::MAX - 1);

/// All samples of an upload together.
const SAMPLES_TIME: Duration = Duration::from_secs(60);

/// Runs what there is to run. A failure is logged: what a version cannot do is answered when it is asked for it.
pub(crate) async fn warm_up(
    plugin: &Arc<Plugin>,
    signature: &Arc<Signature>,
    samples: &[Sample],
    effort: Effort,
) {
    let rounds = async {
        for _ in 0..effort.rounds {
            match samples {
                [] => run_graphs(plugin, effort.time).await,
                samples => run_samples(plugin, signature, samples, effort.time).await,
            }
        }
    };
    // Running out of time is no failure: what ran has helped.
    let _ = tokio::time::timeout(effort.time, rounds).await;
}

async fn run_samples(
    plugin: &Arc<Plugin>,
    signature: &Arc<Signature>,
    samples: &[Sample],
    timeout: Duration,
) {
    for sample in samples {
        let options = CallOptions { timeout, priority: LOWEST };
        if let Err(error) = run_sample(plugin, signature, sample, options, None).await {
            tracing::debug!(sample = %sample.name, %error, "a sample was not answered while warming up");
        }
    }
}

async fn run_sample(
    plugin: &Arc<Plugin>,
    signature: &Arc<Signature>,
    sample: &Sample,
    options: CallOptions,
    recorder: Option<Arc<Recorder>>,
) -> Result<(), CallError> {
    let (inputs, parameters) = (sample.inputs.clone(), sample.parameters.clone());
    plugin.predict_recorded(signature, inputs, parameters, options, recorder).await.map(|_| ())
}

/// A graph that takes less than a tenth of a millisecond runs on this thread, which is no longer than other polls take.
async fn run_graphs(plugin: &Plugin, timeout: Duration) {
    for (name, graph) in plugin.graphs() {
        let Some(inputs) = made_up_inputs(graph.inputs()) else { continue };
        if let Err(error) = plugin.runtime().compute(graph, inputs, timeout, LOWEST).await {
            tracing::debug!(graph = %name, %error, "a graph refused made-up inputs");
        }
    }
}

/// Asks a plugin of an upload its own samples, each once, and answers what they computed.
///
/// # Errors
/// [`ErrorCode::Unprocessable`] with the sample that the plugin does not answer; a host that is overloaded or fails.
pub(crate) async fn try_samples(
    plugin: &Arc<Plugin>,
    signature: &Arc<Signature>,
    samples: &[Sample],
) -> Result<Vec<Computation>, Error> {
    let recorder = Arc::new(Recorder::default());
    let began = Instant::now();
    for sample in samples {
        let timeout = SAMPLES_TIME.saturating_sub(began.elapsed());
        let options = CallOptions { timeout, priority: Priority::default() };
        let answered = run_sample(plugin, signature, sample, options, Some(recorder.clone())).await;
        answered.map_err(|error| blame(&sample.name, error))?;
    }
    Ok(recorder.take())
}

/// What the host lacks at the moment is not the sample's fault.
fn blame(sample: &str, error: CallError) -> Error {
    match error.code() {
        ErrorCode::Overloaded | ErrorCode::Internal => error.into(),
        ErrorCode::Unavailable if matches!(error, CallError::LimitExceeded(_)) => error.into(),
        _ => unusable(sample, &error),
    }
}
