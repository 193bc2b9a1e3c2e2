//! What the operating system says about a process, and the signals that it is sent.

use std::fs;
use std::process::Command;

/// Kibibytes of memory that a process has in use.
pub fn resident_kib(pid: u32) -> u64 {
    status_kib(pid, "VmRSS:")
}

/// The most kibibytes of memory that a process has had in use.
pub fn peak_resident_kib(pid: u32) -> u64 {
    status_kib(pid, "VmHWM:")
}

fn status_kib(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")).and_then(|kib| kib.trim().parse().ok());
    kib.unwrap_or_else(|| panic!("process {pid} does not run"))
}

/// The command lines of a process's children.
pub fn children(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let listed = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let pids: Vec<String> =
        listed.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect();
    pids.iter()
        .filter_map(|child| fs::read_to_string(format!("/proc/{child}/cmdline")).ok())
        .map(|command| command.replace('\0', " "))
        .collect()
}

/// The command lines of all processes that mention this text.
pub fn mentioning(text: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| fs::read_to_string(process.path().join("cmdline")).ok())
        .map(|command| command.replace('\0', " "))
        .filter(|command| command.contains(text))
        .collect()
}

/// Asks a process to end.
pub fn terminate(pid: u32) {
    signal(pid, "-TERM");
}

/// Ends a process at once, as a power failure would.
pub fn kill(pid: u32) {
    signal(pid, "-KILL");
}

fn signal(pid: u32, signal: &str) {
    let sent = Command::new("kill").args([signal, &pid.to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "process {pid} cannot be signalled");
}
