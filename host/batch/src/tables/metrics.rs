//! How lookups end, for `/metrics`: keys by table and by where their answers came from, and how long lookups take. Labels
//! come from closed sets only: tables that exist, up to a number of them.

use std::collections::BTreeSet;
use std::time::Duration;

use modelhost_core::TableName;
use parking_lot::Mutex;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry, exponential_buckets};

/// Tables with series of their own. All others share those of [`OTHERS`].
const MAX_LABELLED: usize = 256;

/// No table can be called like this.
const OTHERS: &str = "(others)";

/// Where the answer to a key came from.
const SOURCES: [&str; 5] = ["table", "stale", "live", "missing", "error"];

/// The series of all tables.
pub(super) struct Metrics {
    keys: IntCounterVec,
    /// Lookups of clients, the model included where it was asked.
    pub(super) by_clients: Histogram,
    /// Lookups of plugins.
    pub(super) by_plugins: Histogram,
    labelled: Mutex<BTreeSet<TableName>>,
}

/// The series of one table.
pub(super) struct Counts {
    /// Keys that a version of the table answered, which is as new as it should be.
    pub(super) table: IntCounter,
    /// Keys that it answered, and is older.
    pub(super) stale: IntCounter,
    /// Keys that the model answered.
    pub(super) live: IntCounter,
    /// Keys that nobody knows.
    pub(super) missing: IntCounter,
    /// Keys that could not be looked up.
    pub(super) error: IntCounter,
}

impl Metrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// The registry has metrics of these names already.
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Metrics> {
        let keys = IntCounterVec::new(
            Opts::new("prediction_lookups_total", "Keys that were looked up, by where the answer came from"),
            &["table", "source"],
        )?;
        registry.register(Box::new(keys.clone()))?;
        let histogram = |caller: &str| -> prometheus::Result<Histogram> {
            let help = "Looking up one key or many, by who asked";
            let options = HistogramOpts::new("prediction_lookup_duration_seconds", help)
                .const_label("caller", caller)
                // From 1 µs to 16 s.
                .buckets(exponential_buckets(1e-6, 2.0, 25)?);
            let histogram = Histogram::with_opts(options)?;
            registry.register(Box::new(histogram.clone()))?;
            Ok(histogram)
        };
        let (by_clients, by_plugins) = (histogram("client")?, histogram("plugin")?);
        Ok(Metrics { keys, by_clients, by_plugins, labelled: Mutex::default() })
    }

    /// The series of a table that exists.
    pub(super) fn counts(&self, table: &TableName) -> Counts {
        let mut labelled = self.labelled.lock();
        let has_own = labelled.contains(table) || labelled.len() < MAX_LABELLED;
        if has_own {
            labelled.insert(table.clone());
        }
        let label = if has_own { table.as_str() } else { OTHERS };
        let [table, stale, live, missing, error] =
            SOURCES.map(|source| self.keys.with_label_values(&[label, source]));
        Counts { table, stale, live, missing, error }
    }

    /// Removes the series of a table that is gone.
    pub(super) fn forget(&self, table: &TableName) {
        if self.labelled.lock().remove(table) {
            for source in SOURCES {
                // It fails for those that are gone already.
                let _ = self.keys.remove_label_values(&[table.as_str(), source]);
            }
        }
    }
}

impl Counts {
    /// Counts what a lookup of so many keys came to in a version of the table.
    pub(super) fn found(&self, keys: usize, found: usize, is_stale: bool) {
        let answered = if is_stale { &self.stale } else { &self.table };
        answered.inc_by(found as u64);
        self.missing.inc_by(keys.saturating_sub(found) as u64);
    }
}

/// Counts the time of a lookup.
pub(super) fn observe(histogram: &Histogram, time: Duration) {
    histogram.observe(time.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_series_as_long_as_they_are_there_and_not_too_many() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        let name = |number: usize| -> TableName { format!("t{number}").parse().unwrap() };
        let all: Vec<Counts> = (0..MAX_LABELLED + 2).map(|number| metrics.counts(&name(number))).collect();
        all[0].found(5, 3, false);
        all[MAX_LABELLED].live.inc();
        all[MAX_LABELLED + 1].live.inc();
        observe(&metrics.by_plugins, Duration::from_micros(3));
        let text = || prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            r#"prediction_lookups_total{source="table",table="t0"} 3"#,
            r#"prediction_lookups_total{source="missing",table="t0"} 2"#,
            r#"prediction_lookups_total{source="live",table="(others)"} 2"#,
            r#"prediction_lookup_duration_seconds_count{caller="plugin"} 1"#,
        ] {
            assert!(text().contains(line), "{line} is not in\n{}", text());
        }
        assert!(!text().contains(r#"table="t256""#));
        metrics.forget(&name(0));
        metrics.forget(&name(MAX_LABELLED));
        assert!(!text().contains(r#"table="t0""#) && text().contains(OTHERS));
    }
}
