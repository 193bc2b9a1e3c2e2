//! What plugins write ends at its limit and stays harmless.

use modelhost_tests::host::{Host, wait_until};
use modelhost_tests::inference::behaviour;

use super::arena::Arena;

/// The lines that the plugin wrote during one call of this behaviour, and how many the host says it dropped.
#[track_caller]
fn logged(host: &Host, name: &str, amount: u64) -> (Vec<String>, u64) {
    let skip = host.log().len();
    let id = format!("{name}-{amount}");
    host.send(&behaviour("hostile", name, amount).header("X-Request-Id", &id)).expect(200);
    // The line about the request comes after all of the plugin's; lines about earlier requests may still come.
    wait_until("the request is in the log", || host.log()[skip..].contains(&id));
    let log = host.log()[skip..].to_owned();
    let lines = log.lines().filter(|line| line.contains("hostile/1"));
    let (dropped, lines): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.contains("lines dropped"));
    let count = |line: &str| line.rsplit("lines=").next()?.split(' ').next()?.parse().ok();
    let dropped = dropped.first().and_then(|line| count(line)).unwrap_or(0);
    (lines.into_iter().map(str::to_owned).collect(), dropped)
}

#[test]
fn logs_end_at_their_limit() {
    let arena = Arena::new();
    for name in ["log", "print"] {
        let (lines, dropped) = logged(&arena.host, name, 10);
        assert_eq!((lines.len(), dropped), (10, 0), "{name}");
        let (lines, dropped) = logged(&arena.host, name, 5000);
        let bytes: usize = lines.iter().map(|line| line.matches('x').count()).sum();
        assert!(bytes <= 4096 && bytes > 3000, "{name}: {bytes} bytes");
        assert_eq!(lines.len() as u64 + dropped, 5000, "{name}");
    }
    let (lines, dropped) = logged(&arena.host, "print-without-end", 20);
    let bytes: usize = lines.iter().map(|line| line.matches('x').count()).sum();
    assert!(bytes <= 4096 && dropped > 0, "{bytes} bytes, {dropped} lines dropped");
    arena.assert_recovered();
}

#[test]
fn a_log_is_no_terminal() {
    let arena = Arena::new();
    let (lines, _) = logged(&arena.host, "log-control-characters", 0);
    assert_eq!(lines.len(), 1);
    assert!(lines[0].contains("[31mred") && !lines[0].chars().any(char::is_control), "{:?}", lines[0]);
}
