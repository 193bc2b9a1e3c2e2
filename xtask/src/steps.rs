//! Owns how progress looks: one line per step, with what it is and how long it took.
//!
//! It must not know what any step does.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

/// Runs a step that prints nothing itself; a terminal shows a spinner meanwhile.
pub fn quiet<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let spinner = spinner(what);
    let started = Instant::now();
    let result = work();
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    report(what, started.elapsed(), result.is_ok());
    result
}

/// Runs a step whose own output goes to the terminal, between a heading and a closing line.
pub fn loud<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("  .. {what}");
    let started = Instant::now();
    let result = work();
    report(what, started.elapsed(), result.is_ok());
    result
}

/// A line between steps.
pub fn note(text: &str) {
    eprintln!("     {text}");
}

/// A heading over a group of steps.
pub fn heading(text: &str) {
    eprintln!("\n== {text}");
}

fn report(what: &str, elapsed: Duration, ok: bool) {
    let mark = if ok { "ok" } else { "FAILED" };
    eprintln!("{mark:>4} {what}  {}", readable(elapsed));
}

/// Short times with a decimal, long ones in words.
fn readable(elapsed: Duration) -> String {
    if elapsed < Duration::from_secs(120) {
        format!("{:.1} s", elapsed.as_secs_f64())
    } else {
        HumanDuration(elapsed).to_string()
    }
}

fn spinner(what: &str) -> Option<ProgressBar> {
    if !std::io::stderr().is_terminal() {
        eprintln!("  .. {what}");
        return None;
    }
    let style = ProgressStyle::with_template("{spinner:>4} {msg}  {elapsed}").ok()?;
    let spinner = ProgressBar::new_spinner().with_style(style).with_message(what.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(120));
    Some(spinner)
}
