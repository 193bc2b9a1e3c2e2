//! Lookups by plugins that misbehave on purpose: they fail their own request at most, within its limits.

use modelhost_tests::inference::behaviour;
use serde_json::json;

use super::{grant, table_of};
use crate::hostile::arena::Arena;

/// The limit of the arena on tensors is 16 MiB: 1,024 rows of `wide` are twice as much.
const WIDE: usize = 32 << 10;

fn arena() -> Arena {
    let mut arena = Arena::new();
    let row = |key: &str, bytes: usize| json!({ "key": key, "value": "v".repeat(bytes), "list": [1, 2] });
    table_of(&arena.host, "wide", &[row("wide", WIDE), row("small", 10)]);
    table_of(&arena.host, "other", &[row("wide", 10)]);
    grant(&arena.host, "hostile", &["wide"]);
    for _ in 0..5 {
        arena.host.send(&behaviour("hostile", "lookup-nonsense", 0)).expect(200);
    }
    // The first query brings its threads and caches.
    arena.accept_memory();
    arena
}

#[test]
fn lookups_that_make_no_sense_are_answered_with_errors() {
    let arena = arena();
    for _ in 0..5 {
        arena.host.send(&behaviour("hostile", "lookup-nonsense", 0)).expect(200);
        arena.host.send(&behaviour("hostile", "lookup-too-large", 0)).expect(200);
    }
    arena.assert_recovered();
}

#[test]
fn rows_that_are_kept_count_as_tensors_and_handles() {
    let arena = arena();
    arena.assert_limit("collect-rows", 190, 201, &["limit of 200 resource handles"]);
    arena.attack(&behaviour("hostile", "collect-rows", 0), 502, &["limit of 200 resource handles"]);
}

#[test]
fn lookups_without_end_end_at_the_deadline() {
    let arena = arena();
    arena.attack(&behaviour("hostile", "lookup-forever", 0), 504, &["hostile", "1500 ms"]);
}

#[test]
fn keys_that_are_copied_over_and_over_end_the_call() {
    let arena = arena();
    arena.host.send(&behaviour("hostile", "lookup-long-keys", 4)).expect(200);
    arena.attack(&behaviour("hostile", "lookup-long-keys", 40), 502, &["trapped"]);
}
