//! What a model's configuration means on this host: what it leaves open follows the settings of the host. Knows
//! nothing of where a configuration is kept or who made it.

use std::num::NonZeroU32;

use modelhost_core::{DynamicBatching, ModelConfiguration};
use modelhost_inference::{BatchingPolicy, BatchingSettings};
use modelhost_runtime::Scheduling;

use crate::settings::ServingSettings;

/// What holds for models whose configuration does not say otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Defaults {
    max_concurrent_requests: usize,
    max_queued_requests: usize,
    batching: BatchingSettings,
}

/// How much a model may have at one moment, and its share beside others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The share of the slots, where models compete for them.
    pub(crate) weight: NonZeroU32,
    /// Requests that run.
    pub(crate) running: usize,
    /// Requests that wait.
    pub(crate) waiting: usize,
}

impl Defaults {
    pub(crate) fn new(settings: &ServingSettings, batching: BatchingSettings) -> Defaults {
        Defaults {
            max_concurrent_requests: settings.max_concurrent_requests_per_model.max(1),
            max_queued_requests: settings.max_queued_requests_per_model,
            batching,
        }
    }

    /// What admission has to know.
    pub(crate) fn limits(&self, configuration: &ModelConfiguration) -> Limits {
        let running = configuration.max_concurrent_requests.map(|number| number.get() as usize);
        let waiting = configuration.max_queued_requests.map(|number| number as usize);
        Limits {
            weight: weight(configuration),
            running: running.unwrap_or(self.max_concurrent_requests),
            waiting: waiting.unwrap_or(self.max_queued_requests),
        }
    }

    /// What the runtime has to know.
    pub(crate) fn scheduling(&self, configuration: &ModelConfiguration) -> Scheduling {
        let of_model = configuration.dynamic_batching;
        let graphs = configuration.graphs.iter();
        Scheduling {
            weight: weight(configuration),
            batching: self.policy(of_model),
            graphs: graphs.map(|(name, own)| (name.clone(), self.policy(own.or(of_model)))).collect(),
        }
    }

    fn policy(&self, batching: DynamicBatching) -> BatchingPolicy {
        let defaults = self.batching;
        let settings = BatchingSettings {
            max_batch_size: batching.max_batch_size.map_or(defaults.max_batch_size, NonZeroU32::get),
            max_queue_delay_microseconds: batching
                .max_queue_delay_microseconds
                .unwrap_or(defaults.max_queue_delay_microseconds),
            max_queue_size: batching.max_queue_size.map_or(defaults.max_queue_size, NonZeroU32::get),
        };
        settings.into()
    }
}

fn weight(configuration: &ModelConfiguration) -> NonZeroU32 {
    configuration.weight.unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_left_open_follows_the_host() {
        let defaults = Defaults::new(&ServingSettings::default(), BatchingSettings::default());
        let nothing = ModelConfiguration::default();
        let settings = ServingSettings::default();
        let expected = Limits {
            weight: NonZeroU32::MIN,
            running: settings.max_concurrent_requests_per_model,
            waiting: settings.max_queued_requests_per_model,
        };
        assert_eq!(defaults.limits(&nothing), expected);
        assert_eq!(defaults.scheduling(&nothing).batching, BatchingSettings::default().into());
    }

    #[test]
    fn a_graph_follows_its_model_and_the_model_the_host() {
        let defaults = Defaults::new(&ServingSettings::default(), BatchingSettings::default());
        let own = DynamicBatching { max_batch_size: NonZeroU32::new(4), ..DynamicBatching::default() };
        let of_model =
            DynamicBatching { max_queue_delay_microseconds: Some(70), ..DynamicBatching::default() };
        let configuration = ModelConfiguration {
            weight: NonZeroU32::new(3),
            max_queued_requests: Some(0),
            dynamic_batching: of_model,
            graphs: BTreeMap::from([("encoder".to_owned(), own)]),
            ..ModelConfiguration::default()
        };
        assert_eq!(defaults.limits(&configuration).waiting, 0);
        let scheduling = defaults.scheduling(&configuration);
        assert_eq!(scheduling.weight.get(), 3);
        let (encoder, other) = (scheduling.batching_of("encoder"), scheduling.batching_of("other"));
        let delay = Duration::from_micros(70);
        assert_eq!((encoder.max_batch_size, encoder.max_queue_delay), (4, delay));
        assert_eq!((other.max_batch_size, other.max_queue_delay), (32, delay));
        assert_eq!(encoder.max_queue_size, 1_024);
    }
}
