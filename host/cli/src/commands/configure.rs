//! `configure`: how a model is served. Reads what is configured, changes what was typed, and writes it back if nobody
//! else changed the model in between.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::num::NonZeroU32;

use clap::Args;
use modelhost_core::{DynamicBatching, EnginePreference, ModelConfiguration, ModelName, TableName};
use modelhost_registry::Model;
use ureq::http::Method;

use super::Session;
use crate::failure::Failure;
use crate::table;

/// What to change. Without any of these, the configuration is shown.
#[derive(Debug, Args)]
#[command(after_help = "\
A value of \"default\" takes a setting away: the host's own holds again. With --graph NAME the three settings of batches \
are those of one graph.")]
pub struct Configure {
    /// The model
    model: ModelName,
    /// Which engine runs its graphs: auto, tract or onnxruntime
    #[arg(long)]
    engine: Option<EnginePreference>,
    /// Its share of the machine beside other busy models, 1 by default
    #[arg(long, value_name = "N", value_parser = setting::<NonZeroU32>)]
    weight: Option<Setting<NonZeroU32>>,
    /// Requests that run at one moment
    #[arg(long, value_name = "N", value_parser = setting::<NonZeroU32>)]
    max_concurrent_requests: Option<Setting<NonZeroU32>>,
    /// Requests that wait for their turn
    #[arg(long, value_name = "N", value_parser = setting::<u32>)]
    max_queued_requests: Option<Setting<u32>>,
    /// The prediction tables that its plugin may read, separated by commas
    #[arg(long, value_name = "NAMES", value_parser = tables)]
    prediction_tables: Option<Setting<Tables>>,
    /// The graph that the settings of batches are for; by default all
    #[arg(long, value_name = "NAME", requires = "batching")]
    graph: Option<String>,
    #[command(flatten)]
    batching: Batching,
    /// Only if the model is still at this generation, as `modelhost model` shows it
    #[arg(long, value_name = "GENERATION")]
    if_match: Option<u64>,
}

#[derive(Debug, Args)]
#[group(id = "batching", multiple = true)]
struct Batching {
    /// Rows of one execution; 1 runs every call alone
    #[arg(long, value_name = "N", value_parser = setting::<NonZeroU32>)]
    max_batch_size: Option<Setting<NonZeroU32>>,
    /// Microseconds that a call waits for others to join it
    #[arg(long, value_name = "N", value_parser = setting::<u64>)]
    max_queue_delay_us: Option<Setting<u64>>,
    /// Calls that wait for a graph
    #[arg(long, value_name = "N", value_parser = setting::<NonZeroU32>)]
    max_queue_size: Option<Setting<NonZeroU32>>,
}

/// A value, or none: what the host says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Setting<T>(Option<T>);

fn setting<T: std::str::FromStr>(text: &str) -> Result<Setting<T>, String> {
    match text {
        "default" => Ok(Setting(None)),
        _ => text
            .parse()
            .map(|value| Setting(Some(value)))
            .map_err(|_| "expected a whole number or default".to_owned()),
    }
}

type Tables = BTreeSet<TableName>;

fn tables(text: &str) -> Result<Setting<Tables>, String> {
    if text == "default" {
        return Ok(Setting(None));
    }
    let names = text.split(',').map(|name| name.trim().parse::<TableName>());
    names.collect::<Result<_, _>>().map(|names| Setting(Some(names))).map_err(|error| error.to_string())
}

/// Changes or shows a configuration.
///
/// # Errors
/// As for all requests.
pub fn run(arguments: &Configure, session: &Session) -> Result<(), Failure> {
    let model = &arguments.model;
    let path = format!("/v1/models/{model}/configuration");
    if !arguments.changes_something() {
        let answer = session.client.get(&path)?;
        return session.show(&answer, |answer| Ok(describe(&answer.read()?)));
    }
    let record: Model = session.client.get(&format!("/v1/models/{model}"))?.read()?;
    let mut configuration = record.configuration;
    arguments.apply(&mut configuration);
    let expected = arguments.if_match.or(Some(record.generation));
    let answer = session.client.send(Method::PUT, &path, &configuration, expected)?;
    session.show(&answer, |answer| Ok(describe(&answer.read()?)))
}

impl Configure {
    fn changes_something(&self) -> bool {
        let Configure { engine, weight, max_concurrent_requests, max_queued_requests, batching, .. } = self;
        let tables = &self.prediction_tables;
        engine.is_some()
            || weight.is_some()
            || max_concurrent_requests.is_some()
            || max_queued_requests.is_some()
            || tables.is_some()
            || batching.max_batch_size.is_some()
            || batching.max_queue_delay_us.is_some()
            || batching.max_queue_size.is_some()
    }

    fn apply(&self, configuration: &mut ModelConfiguration) {
        configuration.engine = self.engine.unwrap_or(configuration.engine);
        change(&mut configuration.weight, self.weight);
        change(&mut configuration.max_concurrent_requests, self.max_concurrent_requests);
        change(&mut configuration.max_queued_requests, self.max_queued_requests);
        if let Some(Setting(tables)) = &self.prediction_tables {
            configuration.prediction_tables = tables.clone().unwrap_or_default();
        }
        match &self.graph {
            None => self.batching.apply(&mut configuration.dynamic_batching),
            Some(name) => {
                let mut batching = configuration.graphs.remove(name).unwrap_or_default();
                self.batching.apply(&mut batching);
                if batching != DynamicBatching::default() {
                    configuration.graphs.insert(name.clone(), batching);
                }
            }
        }
    }
}

impl Batching {
    fn apply(&self, batching: &mut DynamicBatching) {
        change(&mut batching.max_batch_size, self.max_batch_size);
        change(&mut batching.max_queue_delay_microseconds, self.max_queue_delay_us);
        change(&mut batching.max_queue_size, self.max_queue_size);
    }
}

fn change<T>(value: &mut Option<T>, typed: Option<Setting<T>>) {
    if let Some(Setting(typed)) = typed {
        *value = typed;
    }
}

/// A table of a configuration.
fn describe(configuration: &ModelConfiguration) -> String {
    let ModelConfiguration { engine, weight, max_concurrent_requests, max_queued_requests, .. } =
        configuration;
    let properties = table::properties([
        ("engine", engine.engine().map_or("auto", |engine| engine.as_str()).to_owned()),
        ("weight", weight.map_or_else(|| "1 (default)".to_owned(), |weight| weight.to_string())),
        ("concurrent requests", or_default(*max_concurrent_requests)),
        ("queued requests", or_default(*max_queued_requests)),
        (
            "prediction tables",
            names(&configuration.prediction_tables, ", ").unwrap_or_else(|| "none".to_owned()),
        ),
    ]);
    let graphs = configuration.graphs.iter();
    let rows = std::iter::once(row("all graphs", &configuration.dynamic_batching))
        .chain(graphs.map(|(name, batching)| row(name, &batching.or(configuration.dynamic_batching))));
    let header = ["batches of", "rows", "delay us", "queue"];
    format!("{properties}\n\n{}", table::rows(header, rows))
}

fn row(name: &str, batching: &DynamicBatching) -> [String; 4] {
    let DynamicBatching { max_batch_size, max_queue_delay_microseconds, max_queue_size } = *batching;
    [
        name.to_owned(),
        or_default(max_batch_size),
        or_default(max_queue_delay_microseconds),
        or_default(max_queue_size),
    ]
}

/// None where there are none.
fn names(tables: &Tables, separator: &str) -> Option<String> {
    let names: Vec<&str> = tables.iter().map(TableName::as_str).collect();
    (!names.is_empty()).then(|| names.join(separator))
}

fn or_default<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "default".to_owned(), |value| value.to_string())
}

/// What of a configuration is not the host's default, in one line; empty where nothing was configured.
pub(super) fn summary(configuration: &ModelConfiguration) -> String {
    let number = |name: &str, value: Option<String>| value.map(|value| format!("{name}={value}"));
    let batching = configuration.dynamic_batching;
    let graphs: Vec<&str> = configuration.graphs.keys().map(String::as_str).collect();
    let parts = [
        configuration.engine.engine().map(|engine| format!("engine={engine}")),
        number("weight", configuration.weight.map(|value| value.to_string())),
        number("concurrent", configuration.max_concurrent_requests.map(|value| value.to_string())),
        number("queued", configuration.max_queued_requests.map(|value| value.to_string())),
        number("batch", batching.max_batch_size.map(|value| value.to_string())),
        number("delay-us", batching.max_queue_delay_microseconds.map(|value| value.to_string())),
        number("queue", batching.max_queue_size.map(|value| value.to_string())),
        (!graphs.is_empty()).then(|| format!("graphs={}", graphs.join(","))),
        names(&configuration.prediction_tables, ",").map(|names| format!("tables={names}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        configure: Configure,
    }

    fn parse(line: &str) -> Result<Configure, clap::Error> {
        let words = ["configure", "m"].into_iter().chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.configure)
    }

    fn after(lines: &[&str]) -> ModelConfiguration {
        let mut configuration = ModelConfiguration::default();
        lines.iter().for_each(|line| parse(line).unwrap().apply(&mut configuration));
        configuration
    }

    #[test]
    fn only_what_is_typed_changes() {
        let configuration = after(&[
            "--weight 3 --max-queued-requests 0",
            "--engine tract --max-batch-size 8",
            "--graph net --max-queue-delay-us 50",
            "--prediction-tables top-items,prices",
        ]);
        let expected = "engine=tract weight=3 queued=0 batch=8 graphs=net tables=prices,top-items";
        assert_eq!(summary(&configuration), expected);
        let shown = describe(&configuration);
        let has =
            |words: &[&str]| shown.lines().any(|line| line.split_whitespace().collect::<Vec<_>>() == words);
        assert!(has(&["net", "8", "50", "default"]) && has(&["queued", "requests", "0"]), "{shown}");
        let again = after(&[
            "--weight 3",
            "--graph net --max-batch-size 2",
            "--weight default",
            "--graph net --max-batch-size default",
            "--prediction-tables prices",
            "--prediction-tables default",
        ]);
        assert!(again.is_default(), "{again:?}");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in [
            "--weight 0",
            "--weight -1",
            "--engine torch",
            "--graph net",
            "--graph net --weight 2",
            "--max-batch-size 0",
            "--prediction-tables a,,b",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(!parse("").unwrap().changes_something());
        assert!(parse("--max-queue-size default").unwrap().changes_something());
    }
}
