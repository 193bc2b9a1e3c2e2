//! What a request costs in modelhost, layer by layer, beside what it would cost without. All figures come
//! from one run on one machine; read the ratios. `cargo xtask bench` builds everything and starts this.

mod bare_hyper;
mod layers;
mod load;
mod networks;
mod servers;
mod timing;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use serde_json::json;

use crate::load::{Target, Throughput};
use crate::networks::Network;
use crate::timing::Effort;

#[derive(Parser)]
#[command(about = "Measures what a request costs, layer by layer")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Seconds that each measurement runs.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
}

#[derive(Subcommand)]
enum Command {
    /// Serves as the yardstick. Started by the benchmark itself.
    #[command(hide = true)]
    BareHyper {
        /// Bytes of each answer.
        answer_bytes: usize,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Command::BareHyper { answer_bytes }) = arguments.command {
        return bare_hyper::serve(answer_bytes).await;
    }
    let effort = Effort {
        warm_up: Duration::from_secs_f64(arguments.seconds / 4.0),
        measure: Duration::from_secs_f64(arguments.seconds),
    };
    let modelhost = built("MODELHOST_BINARY")?;
    let generic = built("MODELHOST_PLUGINS")?.join("onnx.wasm");
    let generic = std::fs::read(&generic).with_context(|| format!("cannot read {}", generic.display()))?;
    let networks = [networks::tiny(), networks::million()];
    let mut layers = Table::new();
    layers.load_style(ASCII_MARKDOWN).set_header([
        "network",
        "layer",
        "median µs",
        "p99 µs",
        "over the engine µs",
    ]);
    let mut rates = Table::new();
    rates.load_style(ASCII_MARKDOWN).set_header([
        "network",
        "connections",
        "server",
        "requests/s",
        "median µs",
        "p99 µs",
        "of bare hyper",
    ]);
    for network in &networks {
        eprintln!("measuring {} …", network.name);
        let times = layers::measure(network, &modelhost, &generic, effort).await?;
        let folder = tempfile::tempdir()?;
        let server = serve(&modelhost, network, folder.path())?;
        let target = target(&server.address, network)?;
        let one = load::run(&target, 1, effort).await?;
        add_layers(&mut layers, network, &times, &one);
        add_rates(&mut rates, network, &target, effort).await?;
    }
    println!("{layers}\n\n{rates}");
    Ok(())
}

fn built(variable: &str) -> Result<PathBuf> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .with_context(|| format!("{variable} is not set: run `cargo xtask bench`"))
}

fn serve(modelhost: &Path, network: &Network, folder: &Path) -> Result<servers::Server> {
    let onnx = folder.join("model.onnx");
    std::fs::write(&onnx, &network.onnx)?;
    let server = servers::modelhost(modelhost, folder)?;
    servers::push(modelhost, &server, "bench", &onnx)?;
    Ok(server)
}

fn target(address: &str, network: &Network) -> Result<Target> {
    let row: Vec<f32> = (0..network.inputs).map(|index| index as f32 / 64.0).collect();
    let body =
        json!({"inputs": [{"name": "x", "shape": [1, network.inputs], "datatype": "FP32", "data": row}]});
    Ok(Target {
        address: address.to_owned(),
        path: "/v2/models/bench/infer".to_owned(),
        body: serde_json::to_vec(&body)?.into(),
    })
}

fn add_layers(table: &mut Table, network: &Network, times: &layers::LayerTimes, http: &Throughput) {
    let rows = [
        ("engine, called directly", times.engine),
        ("wasi-nn, instance used again", times.reused),
        ("wasi-nn, fresh instance", times.fresh),
        ("whole call in the host", times.call),
        ("HTTP on loopback, one connection", http.times),
    ];
    for (layer, layer_times) in rows {
        let over = layer_times.median.as_secs_f64() - times.engine.median.as_secs_f64();
        table.add_row([
            network.name.to_owned(),
            layer.to_owned(),
            microseconds(layer_times.median),
            microseconds(layer_times.p99),
            format!("{:.1}", over * 1e6),
        ]);
    }
}

/// Alternates the two servers, so that both see the same moments of a noisy machine.
async fn add_rates(table: &mut Table, network: &Network, modelhost: &Target, effort: Effort) -> Result<()> {
    let answer = load::answer(modelhost).await?;
    let bare = servers::bare_hyper(answer.len())?;
    let yardstick = Target { address: bare.address.clone(), ..modelhost.clone() };
    for connections in [1, 16] {
        let theirs = load::run(&yardstick, connections, effort).await?;
        let ours = load::run(modelhost, connections, effort).await?;
        for (name, result) in [("bare hyper", theirs), ("modelhost", ours)] {
            table.add_row([
                network.name.to_owned(),
                connections.to_string(),
                name.to_owned(),
                format!("{:.0}", result.requests_per_second),
                microseconds(result.times.median),
                microseconds(result.times.p99),
                format!("{:.0} %", 100.0 * result.requests_per_second / theirs.requests_per_second),
            ]);
        }
    }
    Ok(())
}

fn microseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e6)
}
