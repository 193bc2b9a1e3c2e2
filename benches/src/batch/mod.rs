//! Batch jobs: rows a second beside a plain loop over the same file that calls the same engine on all cores, and beside a
//! client that asks row by row; peak memory for ten times as many rows; and what a job does to requests beside it.

mod data;
mod host;
mod plain_loop;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;

use self::data::Rows;
use self::host::{CoreShare, Host};
use crate::load::Load;
use crate::timing::Effort;

/// Requests a second beside a job, at random moments.
const RATE: f64 = 500.0;
/// How often requests are measured alone, and beside a job.
const ROUNDS: usize = 5;
/// How often the dataset beside which requests are measured has the file, so that a job outlasts them.
const TIMES_OVER: usize = 12;

/// What is measured.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Rows of the census data
    #[arg(long, default_value_t = 1_000_000)]
    rows: usize,
    /// Mails
    #[arg(long, default_value_t = 100_000)]
    mails: usize,
    /// Measure peak memory for the rows and for ten times as many
    #[arg(long)]
    memory: bool,
    /// Seconds that requests beside a job, and one by one, are measured
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

/// A plugin with its rows.
pub(crate) struct Case {
    pub(crate) plugin: &'static str,
    pub(crate) rows: Rows,
}

/// Measures and prints.
pub async fn run(arguments: &Arguments) -> Result<()> {
    let plugins = crate::built("MODELHOST_PLUGINS")?;
    let binary = crate::built("MODELHOST_BINARY")?;
    let effort = Effort::of_seconds(arguments.seconds);
    let mut speed =
        table(&["plugin", "rows", "job rows/s", "plain loop rows/s", "share", "one by one rows/s", "times"]);
    let cases = [
        Case { plugin: "income", rows: Rows::Census(arguments.rows) },
        Case { plugin: "spam", rows: Rows::Mails(arguments.mails) },
    ];
    for case in &cases {
        eprintln!("measuring {} …", case.plugin);
        measure_speed(case, &plugins, &binary, effort, &mut speed).await?;
    }
    println!("\nRows per second (target: a share of at least 0.8)\n\n{speed}\n");
    let mut beside = table(&[
        "the job may use",
        "alone: median µs",
        "p99 µs",
        "beside it: median µs",
        "p99 µs",
        "p99 over alone",
    ]);
    measure_requests(&plugins, &binary, effort, arguments.rows, &mut beside).await?;
    println!(
        "Requests of one row beside a job, {RATE} a second; the middle of {ROUNDS} rounds (target at the default: p99 at \
         most 1.5 times)\n\n{beside}\n"
    );
    if arguments.memory {
        let mut memory = table(&["rows", "rows/s", "peak memory, bytes", "over the smaller"]);
        measure_memory(&plugins, &binary, arguments.rows, &mut memory).await?;
        println!("Peak resident memory of the host (target: within 1.1)\n\n{memory}\n");
    }
    Ok(())
}

async fn measure_speed(
    case: &Case,
    plugins: &Path,
    binary: &Path,
    effort: Effort,
    table: &mut Table,
) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rows.parquet");
    std::fs::write(&file, case.rows.parquet()?)?;
    // The plain loop has all cores too.
    let host = Host::start(binary, plugins, case.plugin, folder.path(), CoreShare::All).await?;
    host.put("rows", &file, 1)?;
    // Side by side, twice, so that whatever else the machine does falls on both.
    let (mut job, mut plain) = (Duration::MAX, Duration::MAX);
    for round in 0..2 {
        job = job.min(host.run_job(case, &format!("out{round}")).await?);
        plain = plain.min(plain_loop::run(case.plugin, &file, folder.path())?);
    }
    let one_by_one = host.one_by_one(case, effort).await?;
    let rows = case.rows.count() as f64;
    let (job, plain) = (rows / job.as_secs_f64(), rows / plain.as_secs_f64());
    table.add_row([
        case.plugin.to_owned(),
        case.rows.count().to_string(),
        format!("{job:.0}"),
        format!("{plain:.0}"),
        format!("{:.2}", job / plain),
        format!("{one_by_one:.0}"),
        format!("{:.0}", job / one_by_one),
    ]);
    Ok(())
}

/// Requests alone and beside a job, in turn, so that whatever else the machine does falls on both.
async fn measure_requests(
    plugins: &Path,
    binary: &Path,
    effort: Effort,
    rows: usize,
    table: &mut Table,
) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rows.parquet");
    let case = Case { plugin: "income", rows: Rows::Census(rows) };
    std::fs::write(&file, case.rows.parquet()?)?;
    for share in [CoreShare::Default, CoreShare::All] {
        let folder = tempfile::tempdir()?;
        let host = Host::start(binary, plugins, case.plugin, folder.path(), share).await?;
        host.put("rows", &file, TIMES_OVER)?;
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            alone.push(host.requests(&case, RATE, effort).await?);
            let job = host.start_job(&case, &format!("out{round}"))?;
            beside.push(host.requests(&case, RATE, effort).await?);
            let state = host.state(job).await?;
            ensure!(state == "running", "the job is {state}: give it more rows");
            host.cancel(job).await?;
        }
        let ((median, p99), (job_median, job_p99)) = (middle(&alone), middle(&beside));
        let share = match share {
            CoreShare::Default => "half of the cores (the default)",
            CoreShare::All => "all cores",
        };
        table.add_row([
            share.to_owned(),
            format!("{median:.0}"),
            format!("{p99:.0}"),
            format!("{job_median:.0}"),
            format!("{job_p99:.0}"),
            format!("{:.2}", job_p99 / p99),
        ]);
    }
    Ok(())
}

/// The middle of the rounds: of their medians, and of their p99, in microseconds.
fn middle(loads: &[Load]) -> (f64, f64) {
    let middle = |time: fn(&Load) -> Duration| {
        let mut times: Vec<Duration> = loads.iter().map(time).collect();
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e6
    };
    (middle(|load| load.times.median), middle(|load| load.times.p99))
}

async fn measure_memory(plugins: &Path, binary: &Path, rows: usize, table: &mut Table) -> Result<()> {
    let mut smaller = None;
    for rows in [rows, 10 * rows] {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("rows.parquet");
        let case = Case { plugin: "income", rows: Rows::Census(rows) };
        std::fs::write(&file, case.rows.parquet()?)?;
        let host = Host::start(binary, plugins, case.plugin, folder.path(), CoreShare::All).await?;
        host.put("rows", &file, 1)?;
        // Reading the upload is not what is measured.
        let host = host.restart(folder.path()).await?;
        let time = host.run_job(&case, "out").await?;
        let peak = host.peak_memory().context("the peak of the host's memory is not known")?;
        let smallest = *smaller.get_or_insert(peak);
        table.add_row([
            rows.to_string(),
            format!("{:.0}", rows as f64 / time.as_secs_f64()),
            peak.to_string(),
            format!("{:.2}", peak as f64 / smallest as f64),
        ]);
    }
    Ok(())
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(header.to_vec());
    table
}
