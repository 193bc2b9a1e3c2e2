//! Which requests are traced, and what a trace says: Triton's extension "trace". A trace is one line in the log with
//! the moments of one request, under the names that Triton's tools know. Settings hold until the host ends; a model
//! follows those of the host but for what was set for it alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use modelhost_core::{ModelName, VersionNumber};
use parking_lot::Mutex;

use crate::error::Error;
use crate::host::ModelHost;
use crate::statistics::RequestTimes;

/// What is traced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TraceLevel {
    /// Nothing.
    #[default]
    Off,
    /// The moments of sampled requests.
    Timestamps,
}

/// Which requests are traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceSettings {
    /// What is traced.
    pub level: TraceLevel,
    /// One request of this many is; never 0.
    pub rate: u32,
    /// How many more traces there will be; none: no end.
    pub count: Option<u64>,
}

impl Default for TraceSettings {
    fn default() -> TraceSettings {
        TraceSettings { level: TraceLevel::Off, rate: 1_000, count: None }
    }
}

/// A change of some settings. The outer option is whether it is changed; the inner one is none where it is to follow the
/// host's setting again, or for the host itself the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceChange {
    /// See [`TraceSettings::level`].
    pub level: Option<Option<TraceLevel>>,
    /// See [`TraceSettings::rate`].
    pub rate: Option<Option<u32>>,
    /// See [`TraceSettings::count`].
    pub count: Option<Option<Option<u64>>>,
}

/// What was set in one place; the rest follows.
#[derive(Clone, Copy, Debug, Default)]
struct Overrides {
    level: Option<TraceLevel>,
    rate: Option<u32>,
    count: Option<Option<u64>>,
}

/// Takes samples by some settings.
#[derive(Debug)]
struct Sampler {
    settings: TraceSettings,
    seen: AtomicU64,
    /// How many traces are left, of settings with a count.
    left: AtomicI64,
}

/// The settings of the host and its models, with a sampler for each.
#[derive(Debug, Default)]
pub(crate) struct RequestTraces {
    /// So that a request on a host that traces nothing costs one load.
    is_any: AtomicBool,
    samplers: ArcSwap<Samplers>,
    changing: Mutex<()>,
}

#[derive(Clone, Debug, Default)]
struct Samplers {
    own: Overrides,
    of_host: Arc<Sampler>,
    /// Only of models for which something was set.
    of_models: HashMap<ModelName, (Overrides, Arc<Sampler>)>,
}

/// The trace of one request, from its arrival on.
#[derive(Debug)]
pub(crate) struct RequestTrace {
    id: u64,
    arrived: SystemTime,
}

/// Every trace has a number of its own, as long as the host runs.
static TRACES: AtomicU64 = AtomicU64::new(1);

impl Overrides {
    fn with(mut self, change: TraceChange) -> Overrides {
        self.level = change.level.unwrap_or(self.level);
        self.rate = change.rate.unwrap_or(self.rate);
        self.count = change.count.unwrap_or(self.count);
        self
    }

    fn is_empty(self) -> bool {
        self.level.is_none() && self.rate.is_none() && self.count.is_none()
    }

    fn over(self, settings: TraceSettings) -> TraceSettings {
        TraceSettings {
            level: self.level.unwrap_or(settings.level),
            rate: self.rate.unwrap_or(settings.rate),
            count: self.count.unwrap_or(settings.count),
        }
    }
}

impl Default for Sampler {
    fn default() -> Sampler {
        Sampler::new(TraceSettings::default())
    }
}

impl Sampler {
    fn new(settings: TraceSettings) -> Sampler {
        let left = i64::try_from(settings.count.unwrap_or(0)).unwrap_or(i64::MAX);
        Sampler { settings, seen: AtomicU64::new(0), left: AtomicI64::new(left) }
    }

    /// Whether the next request is one of those that are traced. The first is.
    fn takes_next(&self) -> bool {
        let is_on = self.settings.level == TraceLevel::Timestamps;
        is_on
            && self.seen.fetch_add(1, Relaxed).is_multiple_of(u64::from(self.settings.rate.max(1)))
            && (self.settings.count.is_none() || self.left.fetch_sub(1, Relaxed) > 0)
    }

    /// The settings, with what is left of the count.
    fn now(&self) -> TraceSettings {
        let left = u64::try_from(self.left.load(Relaxed)).unwrap_or(0);
        TraceSettings { count: self.settings.count.map(|_| left), ..self.settings }
    }
}

impl RequestTraces {
    /// Begins the trace of a request that arrives now, if it is one of those that are traced.
    pub(crate) fn sample(&self, model: &ModelName) -> Option<RequestTrace> {
        if !self.is_any.load(Relaxed) {
            return None;
        }
        let samplers = self.samplers.load();
        let sampler = samplers.of_models.get(model).map_or(&samplers.of_host, |(_, sampler)| sampler);
        sampler
            .takes_next()
            .then(|| RequestTrace { id: TRACES.fetch_add(1, Relaxed), arrived: SystemTime::now() })
    }

    fn settings(&self, model: Option<&ModelName>) -> TraceSettings {
        let samplers = self.samplers.load();
        let of_model = model.and_then(|model| samplers.of_models.get(model));
        of_model.map_or(&samplers.of_host, |(_, sampler)| sampler).now()
    }

    fn change(&self, model: Option<&ModelName>, change: TraceChange) {
        let _changing = self.changing.lock();
        let mut samplers = Samplers::clone(&self.samplers.load());
        match model {
            Some(model) => samplers.change_model(model, change),
            None => samplers.change_host(change),
        }
        let all = samplers.of_models.values().map(|(_, sampler)| sampler).chain([&samplers.of_host]);
        let is_any = all.into_iter().any(|sampler| sampler.settings.level != TraceLevel::Off);
        self.samplers.store(Arc::new(samplers));
        self.is_any.store(is_any, Relaxed);
    }
}

impl Samplers {
    fn change_host(&mut self, change: TraceChange) {
        self.own = self.own.with(change);
        let of_host = self.own.over(TraceSettings::default());
        self.of_host = Arc::new(Sampler::new(of_host));
        for (own, sampler) in self.of_models.values_mut() {
            *sampler = Arc::new(Sampler::new(own.over(of_host)));
        }
    }

    fn change_model(&mut self, model: &ModelName, change: TraceChange) {
        let own = self.of_models.get(model).map(|(own, _)| *own).unwrap_or_default().with(change);
        if own.is_empty() {
            self.of_models.remove(model);
            return;
        }
        let sampler = Arc::new(Sampler::new(own.over(self.of_host.settings)));
        self.of_models.insert(model.clone(), (own, sampler));
    }
}

impl RequestTrace {
    /// Writes it, once the request was answered. What a plugin does between several inferences is shown after all of
    /// them: a trace has one stretch of time for each part.
    pub(crate) fn write(&self, model: &ModelName, version: VersionNumber, times: &RequestTimes) {
        let since_epoch = self.arrived.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at = |offset: Duration| u64::try_from((since_epoch + offset).as_nanos()).unwrap_or(u64::MAX);
        let compute_start = times.admission.min(times.request);
        let compute_input_end = (compute_start + times.compute_input).min(times.request);
        let compute_output_start = times.request.saturating_sub(times.compute_output).max(compute_input_end);
        tracing::info!(
            target: "modelhost::trace",
            id = self.id,
            model_name = model.as_str(),
            model_version = version.0,
            REQUEST_START = at(Duration::ZERO),
            QUEUE_START = at(Duration::ZERO),
            COMPUTE_START = at(compute_start),
            COMPUTE_INPUT_END = at(compute_input_end),
            COMPUTE_OUTPUT_START = at(compute_output_start),
            COMPUTE_END = at(times.request),
            REQUEST_END = at(times.request),
            "trace"
        );
    }
}

impl ModelHost {
    /// Which requests are traced: of a model, or of all models for which nothing else was set.
    ///
    /// # Errors
    /// Unknown model.
    pub fn trace_settings(&self, model: Option<&ModelName>) -> Result<TraceSettings, Error> {
        if let Some(model) = model {
            self.live_model(model)?;
        }
        Ok(self.loader.traces.settings(model))
    }

    /// Changes that; a count begins anew.
    ///
    /// # Errors
    /// Unknown model.
    pub fn change_trace_settings(
        &self,
        model: Option<&ModelName>,
        change: TraceChange,
    ) -> Result<TraceSettings, Error> {
        if let Some(model) = model {
            self.live_model(model)?;
        }
        self.loader.traces.change(model, change);
        Ok(self.loader.traces.settings(model))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traced(traces: &RequestTraces, model: &ModelName, requests: usize) -> usize {
        (0..requests).filter(|_| traces.sample(model).is_some()).count()
    }

    #[test]
    fn one_of_so_many_and_no_more_than_so_many() {
        let (traces, model) = (RequestTraces::default(), "m".parse().unwrap());
        assert_eq!(traced(&traces, &model, 100), 0);
        let on = Some(Some(TraceLevel::Timestamps));
        traces.change(None, TraceChange { level: on, rate: Some(Some(10)), count: Some(Some(Some(3))) });
        assert_eq!(traced(&traces, &model, 15), 2);
        assert_eq!(traces.settings(None).count, Some(1));
        assert_eq!(traced(&traces, &model, 100), 1);
        assert_eq!(traces.settings(Some(&model)).count, Some(0));
    }

    #[test]
    fn a_model_follows_the_host_but_for_what_is_its_own() {
        let traces = RequestTraces::default();
        let (one, other) = ("one".parse().unwrap(), "other".parse().unwrap());
        let level = |level| TraceChange { level: Some(level), ..TraceChange::default() };
        traces.change(None, TraceChange { rate: Some(Some(1)), ..level(Some(TraceLevel::Timestamps)) });
        traces.change(Some(&one), level(Some(TraceLevel::Off)));
        assert_eq!((traced(&traces, &one, 5), traced(&traces, &other, 5)), (0, 5));
        traces.change(None, TraceChange { rate: Some(None), ..TraceChange::default() });
        assert_eq!(traces.settings(Some(&one)).rate, 1_000);
        traces.change(Some(&one), level(None));
        assert_eq!(traces.settings(Some(&one)).level, TraceLevel::Timestamps);
        traces.change(None, level(None));
        assert_eq!(traced(&traces, &other, 5), 0);
    }
}
