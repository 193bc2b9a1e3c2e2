//! How a process that looks at hostile bytes confines itself, under limits of the operating system that it cannot
//! lift, before it opens any of them. It knows nothing of what is looked at.

use std::path::Path;
use std::process::Stdio;

use rustix::process::{Resource, Rlimit, nice, setrlimit};

/// A command that runs this binary to look at hostile bytes: with nothing of this process but pipes, and ended with it.
pub fn command(executable: &Path) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(executable);
    command
        .env_clear()
        // What an allocator reserves and does not use would count against the limit of address space.
        .env("MALLOC_ARENA_MAX", "2")
        .env("MIMALLOC_ARENA_RESERVE", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Limits this process: bytes of address space, and seconds of processor time. Going over the first is a failed
/// allocation, over the second the end.
///
/// # Errors
/// An operating system that does not allow it.
pub fn limit_this_process(memory_bytes: u64, seconds: u64) -> std::io::Result<()> {
    let both = |limit| Rlimit { current: Some(limit), maximum: Some(limit) };
    setrlimit(Resource::As, both(memory_bytes))?;
    setrlimit(Resource::Cpu, both(seconds))?;
    setrlimit(Resource::Core, both(0))?;
    // Those who are being served go first.
    nice(10)?;
    Ok(())
}

/// Ends this process when the host does, however it ends: the host holds the other side of the standard
/// input, and writes nothing to it. Nobody is left behind who still writes into the data folder.
///
/// # Errors
/// A machine that has no thread left.
pub fn end_with_the_host() -> std::io::Result<()> {
    std::thread::Builder::new().stack_size(64 << 10).spawn(|| {
        // An error is an end too.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        std::process::exit(1);
    })?;
    Ok(())
}
