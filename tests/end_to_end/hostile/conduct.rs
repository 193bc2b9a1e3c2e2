//! Answers that break the contract, calls that make no sense, and ways to end that are none.

use modelhost_tests::inference::behaviour;

use super::arena::Arena;

#[test]
fn answers_that_the_signature_does_not_allow() {
    let arena = Arena::new();
    let cases: [(&str, &[&str]); 6] = [
        ("wrong-shape", &["broke its signature", "\"y\"", "[1, 1]", "[-1]"]),
        ("wrong-datatype", &["broke its signature", "\"y\"", "FP64", "FP32"]),
        ("wrong-name", &["broke its signature", "\"z\"", "y"]),
        ("no-output", &["broke its signature", "\"y\"", "missing"]),
        ("one-output-too-many", &["broke its signature", "\"z\""]),
        ("same-output-twice", &["broke its signature", "\"y\"", "more than once"]),
    ];
    for (name, words) in cases {
        arena.attack(&behaviour("hostile", name, 0), 502, words);
    }
}

#[test]
fn traps_exits_and_panics() {
    let arena = Arena::new();
    arena.attack(&behaviour("hostile", "trap", 0), 502, &["hostile", "trapped", "unreachable"]);
    arena.attack(&behaviour("hostile", "panic", 0), 502, &["trapped"]);
    arena.attack(&behaviour("hostile", "exit", 0), 502, &["exit"]);
    let log = arena.host.log();
    let why = |line: &&str| {
        line.contains("request failed") && line.contains("model=hostile") && line.contains("version=1")
    };
    assert!(
        log.lines().filter(why).any(|line| line.contains("unreachable")),
        "the log says model, version and reason"
    );
    assert!(log.contains("as asked for"), "a panic's message is in the plugin's log");
}

#[test]
fn nonsense_for_wasi_nn_is_answered_with_errors() {
    let arena = Arena::new();
    let request = behaviour("hostile", "nonsense", 0);
    for _ in 0..5 {
        arena.host.send(&request).expect(200);
    }
    arena.assert_recovered();
    arena.attack(
        &behaviour("hostile", "nn-tensor-too-short", 0),
        502,
        &["trapped", "4000000 bytes", "4 were given"],
    );
}

#[test]
fn whose_fault_it_is_decides_the_status() {
    let arena = Arena::new();
    arena.attack(&behaviour("hostile", "invalid", 0), 400, &["the plugin does not like it"]);
    arena.attack(&behaviour("hostile", "unavailable", 0), 503, &["the plugin is busy"]);
    arena.attack(&behaviour("hostile", "internal", 0), 502, &["the plugin gave up"]);
    let long = arena.host.send(&behaviour("hostile", "long-message", 1_000_000)).error(502);
    assert!(long.len() < 1200 && !long.contains('\n'), "{} bytes", long.len());
}
