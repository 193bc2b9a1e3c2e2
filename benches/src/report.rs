//! The tables, and which targets are met.

use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use modelhost_core::EngineName;

use crate::direct::{BATCH, DirectTimes};
use crate::http::{Contender, Outcome};
use crate::networks::{Network, NetworkName};
use crate::sandbox::SandboxTimes;
use crate::tables::TableTimes;

/// Everything that is printed at the end.
pub struct Report {
    direct: Table,
    sandbox: Table,
    closed: Table,
    open: Table,
    tables: Table,
    targets: Table,
}

/// What an engine does with a network.
#[derive(Clone, Copy)]
pub struct OnEngine {
    /// The engine.
    pub engine: EngineName,
    /// Called directly.
    pub direct: DirectTimes,
}

impl Default for Report {
    fn default() -> Report {
        let columns = ["network", "engine"];
        Report {
            direct: table(
                &columns,
                &["median µs", "p99 µs", "runs/s, all cores", "16 rows µs", "gain of a batch"],
            ),
            sandbox: table(&columns, &["layer", "median µs", "p99 µs", "over the engine µs"]),
            closed: table(
                &["network", "connections", "server"],
                &["requests/s", "median µs", "p99 µs", "of bare hyper", "of the engine, all cores"],
            ),
            open: table(&["network", "server"], &["requests/s", "median µs", "p99 µs", "p99 / median"]),
            tables: table(&["lookup", "connections"], &["requests/s", "keys/s", "median µs", "p99 µs"]),
            targets: table(&["target", "network", "engine"], &["measured", "wanted", ""]),
        }
    }
}

impl Report {
    /// An engine that is not there.
    pub fn add_missing(&mut self, network: &Network, engine: EngineName, reason: &str) {
        self.direct.add_row([network.title, engine.as_str(), &format!("not there: {reason}")]);
    }

    /// The engine alone.
    pub fn add_direct(&mut self, network: &Network, on: &OnEngine) {
        let DirectTimes { one, batch, all_cores } = on.direct;
        self.direct.add_row([
            network.title.to_owned(),
            on.engine.to_string(),
            microseconds(one.median),
            microseconds(one.p99),
            format!("{all_cores:.0}"),
            microseconds(batch.median),
            format!("{:.1} ×", on.direct.gain()),
        ]);
    }

    /// The engine behind wasi-nn.
    pub fn add_sandbox(&mut self, network: &Network, on: &OnEngine, sandbox: &SandboxTimes) {
        let engine = on.direct.one.median;
        let layers = [
            ("engine, called directly", on.direct.one),
            ("wasi-nn, instance used again", sandbox.reused),
            ("wasi-nn, fresh instance", sandbox.fresh),
            ("whole call in the host", sandbox.call),
        ];
        for (layer, times) in layers {
            self.sandbox.add_row([
                network.title.to_owned(),
                on.engine.to_string(),
                layer.to_owned(),
                microseconds(times.median),
                microseconds(times.p99),
                format!("{:.1}", (times.median.as_secs_f64() - engine.as_secs_f64()) * 1e6),
            ]);
        }
        let most = engine.mul_f64(1.1) + Duration::from_micros(20);
        self.add_target(
            "wasi-nn in a fresh instance: engine × 1.10 + 20 µs",
            network,
            Some(on.engine),
            (microseconds(sandbox.fresh.median), format!("≤ {} µs", microseconds(most))),
            Some(sandbox.fresh.median <= most),
        );
    }

    /// All servers.
    pub fn add_servers(&mut self, network: &Network, engines: &[OnEngine], outcomes: &[Outcome]) {
        let bare = outcomes.iter().find(|outcome| outcome.contender == Contender::BareHyper);
        for connections in crate::http::CONNECTIONS {
            for outcome in outcomes {
                let bare = bare.and_then(|bare| bare.rate(connections));
                self.add_closed(network, connections, outcome, engines, bare);
            }
        }
        for outcome in outcomes {
            self.add_open(network, outcome);
        }
        for on in engines {
            self.add_throughput_targets(network, on, outcomes);
        }
    }

    /// A prediction table.
    pub fn add_tables(&mut self, times: &TableTimes) {
        let TableTimes { keys, bytes, publishing, lookups } = times;
        let heading = format!("{keys} keys, {} MiB", bytes >> 20);
        let publishing = format!("published in {:.1} s", publishing.as_secs_f64());
        self.tables.add_row([heading, publishing]);
        for (what, connections, load) in lookups {
            let keys = if what.starts_with("100") { 100.0 } else { 1.0 };
            self.tables.add_row([
                (*what).to_owned(),
                connections.to_string(),
                format!("{:.0}", load.requests_per_second),
                format!("{:.0}", load.requests_per_second * keys),
                microseconds(load.times.median),
                microseconds(load.times.p99),
            ]);
        }
    }

    fn add_closed(
        &mut self,
        network: &Network,
        connections: usize,
        outcome: &Outcome,
        engines: &[OnEngine],
        bare: Option<f64>,
    ) {
        let Some((_, load)) = outcome.closed.iter().find(|(known, _)| *known == connections) else { return };
        let rate = load.requests_per_second;
        let engine = match outcome.contender {
            Contender::Modelhost(deployment) => engines.iter().find(|on| on.engine == deployment.engine),
            _ => None,
        };
        let percent = |whole: f64| format!("{:.0} %", 100.0 * rate / whole);
        self.closed.add_row([
            network.title.to_owned(),
            connections.to_string(),
            label(outcome.contender),
            format!("{rate:.0}"),
            microseconds(load.times.median),
            microseconds(load.times.p99),
            bare.map(percent).unwrap_or_default(),
            engine.map(|on| percent(on.direct.all_cores)).unwrap_or_default(),
        ]);
    }

    fn add_open(&mut self, network: &Network, outcome: &Outcome) {
        let Some(load) = outcome.open else { return };
        let ratio = load.times.p99.as_secs_f64() / load.times.median.as_secs_f64();
        self.open.add_row([
            network.title.to_owned(),
            label(outcome.contender),
            format!("{:.0}", load.requests_per_second),
            microseconds(load.times.median),
            microseconds(load.times.p99),
            format!("{ratio:.1}"),
        ]);
        if let Contender::Modelhost(deployment) = outcome.contender
            && deployment.batching
        {
            let engine = Some(deployment.engine);
            let shown = (format!("{ratio:.1} ×"), "≤ 3 ×".to_owned());
            self.add_target("p99 over median at 70 % load", network, engine, shown, Some(ratio <= 3.0));
        }
    }

    fn add_throughput_targets(&mut self, network: &Network, on: &OnEngine, outcomes: &[Outcome]) {
        let rate = |batching| {
            let is_it = |outcome: &&Outcome| {
                matches!(outcome.contender, Contender::Modelhost(deployment)
                    if deployment.engine == on.engine && deployment.batching == batching)
            };
            outcomes.iter().find(is_it).and_then(|outcome| outcome.rate(16))
        };
        let (Some(alone), Some(batched)) = (rate(false), rate(true)) else { return };
        if network.name == NetworkName::Perceptron {
            let share = batched / on.direct.all_cores;
            let shown = (format!("{share:.2}"), "≥ 0.80".to_owned());
            self.add_target(
                "HTTP over 16 connections, of the engine on all cores",
                network,
                Some(on.engine),
                shown,
                Some(share >= 0.8),
            );
        }
        // The time of the tiny network is not that of its engine.
        if network.name == NetworkName::Tiny {
            return;
        }
        let gain = batched / alone;
        let engine_gains = on.direct.gain() >= 3.0;
        let wanted = if engine_gains {
            "≥ 3.0 ×".to_owned()
        } else {
            format!("the engine gains {:.1} × from {BATCH} rows", on.direct.gain())
        };
        self.add_target(
            "HTTP over 16 connections, batching on over off",
            network,
            Some(on.engine),
            (format!("{gain:.1} ×"), wanted),
            engine_gains.then_some(gain >= 3.0),
        );
    }

    fn add_target(
        &mut self,
        target: &str,
        network: &Network,
        engine: Option<EngineName>,
        (measured, wanted): (String, String),
        is_met: Option<bool>,
    ) {
        let verdict = match is_met {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "does not apply",
        };
        let engine = engine.map(|engine| engine.to_string()).unwrap_or_default();
        self.targets.add_row([
            target.to_owned(),
            network.title.to_owned(),
            engine,
            measured,
            wanted,
            verdict.to_owned(),
        ]);
    }

    /// Prints what there is.
    pub fn print(&self) {
        let parts = [
            (
                "The engine, called directly: one row on one thread, on all cores, 16 rows at once",
                &self.direct,
            ),
            ("Behind wasi-nn, one call at a time", &self.sandbox),
            ("Over HTTP, closed loop", &self.closed),
            ("Over HTTP, requests that arrive at random, at 70 % of the capacity of each", &self.open),
            ("Prediction tables over HTTP, closed loop", &self.tables),
            ("Targets", &self.targets),
        ];
        for (heading, table) in parts {
            if table.row_count() > 0 {
                println!("## {heading}\n\n{table}\n");
            }
        }
    }
}

fn table(columns: &[&str], more: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header([columns, more].concat());
    table
}

fn label(contender: Contender) -> String {
    match contender {
        Contender::BareHyper => "bare hyper".to_owned(),
        Contender::Python => "Python, onnxruntime".to_owned(),
        Contender::Modelhost(deployment) if deployment.batching => {
            format!("modelhost, {}", deployment.engine)
        }
        Contender::Modelhost(deployment) => format!("modelhost, {}, no batching", deployment.engine),
    }
}

fn microseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e6)
}
