//! Owns the ordinary way: the standard library that rustup installs into the checkout's toolchain.
//!
//! It must not know that there is another way.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{TARGET, holds_std, own_rustc_prints};

/// A mirror that does not answer must not hold a set-up for minutes.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Whether the checkout's toolchain has the target's standard library.
pub fn has_target(root: &Path) -> Result<bool> {
    let folder = own_rustc_prints(root, &["--print", "target-libdir", "--target", TARGET])?;
    Ok(holds_std(Path::new(&folder)))
}

/// `rustup target add`, under a time limit.
pub fn add_target(root: &Path) -> Result<()> {
    let mut child = Command::new("rustup")
        .args(["target", "add", TARGET])
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start rustup")?;
    let stderr = child.stderr.take();
    // Read on a thread, so that a full pipe cannot stop rustup.
    let said = thread::spawn(move || {
        let mut text = String::new();
        // What could be read before a failure is still worth showing.
        let _ = stderr.map(|mut stderr| stderr.read_to_string(&mut text));
        text
    });
    let Some(status) = wait(&mut child)? else {
        bail!("no answer within {} s", TIME_LIMIT.as_secs());
    };
    let said = said.join().unwrap_or_default();
    ensure!(status.success(), "{}", reason(&said));
    ensure!(has_target(root)?, "rustup reported success, but rustc does not see the target");
    Ok(())
}

/// The exit status, or nothing when the time was up and the child was ended.
fn wait(child: &mut Child) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + TIME_LIMIT;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for rustup")? {
            return Ok(Some(status));
        }
        if Instant::now() > deadline {
            child.kill().context("cannot end rustup")?;
            child.wait().context("cannot wait for rustup")?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// The error among what rustup said, without its progress.
fn reason(said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let first = lines.iter().position(|line| line.starts_with("error"));
    let from = first.unwrap_or(lines.len().saturating_sub(3));
    lines[from..].iter().take(4).copied().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod proofs {
    use super::reason;

    #[test]
    fn the_reason_leaves_progress_out() {
        let said =
            "info: downloading component rust-std\nerror: could not download file\n\n  caused by: no route\n";
        assert_eq!(reason(said), "error: could not download file; caused by: no route");
    }

    #[test]
    fn the_reason_without_an_error_line_is_what_came_last() {
        assert_eq!(reason("a\nb\nc\nd\n"), "b; c; d");
    }
}
