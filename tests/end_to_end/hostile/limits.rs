//! Every limit of a call holds at the value that is configured.

use modelhost_tests::guest::Guest;
use modelhost_tests::host::Setup;
use modelhost_tests::http::Request;
use modelhost_tests::inference::{behaviour, column};

use super::arena::{Arena, assert_sentence};

fn attack_on(model: &str) -> Request {
    column(model, &[1.0])
}

#[test]
fn memory_ends_at_its_limit() {
    let arena = Arena::new();
    arena.assert_limit("allocate", 30, 80, &["memory limit of 67108864 bytes"]);
    arena.attack(&behaviour("hostile", "allocate", 0), 502, &["memory limit of 67108864 bytes"]);
    let at_once = "(if (i32.eq (memory.grow (i32.const 60000)) (i32.const -1)) (then unreachable))";
    arena.host.deploy_new("grower", &Guest::answering("y").before_predict(at_once).component());
    arena.attack(&attack_on("grower"), 502, &["memory limit of 67108864 bytes"]);
}

#[test]
fn a_refused_growth_that_is_lived_with_is_no_failure() {
    let arena = Arena::new();
    let guest = Guest::answering("y").before_predict("(drop (memory.grow (i32.const 60000)))");
    arena.host.deploy_new("modest", &guest.component());
    arena.host.send(&attack_on("modest")).expect(200);
}

#[test]
fn recursion_ends_at_the_end_of_the_stack() {
    let arena = Arena::new();
    arena.attack(&behaviour("hostile", "recurse", 1), 502, &["call stack exhausted"]);
}

#[test]
fn tables_end_at_their_limit() {
    let arena = Arena::new();
    let growing = |to: u32| {
        let grow = format!(
            "(if (i32.eq (table.grow $t (ref.null func) (i32.const {})) (i32.const -1)) (then unreachable))",
            to - 10
        );
        Guest::answering("y").with_items("(table $t 10 funcref)").before_predict(&grow).component()
    };
    arena.host.deploy_new("grower", &growing(2000));
    arena.host.send(&attack_on("grower")).expect(200);
    for elements in [2001, 4_000_000_000] {
        arena.host.deploy_new("grower", &growing(elements));
        arena.attack(&attack_on("grower"), 502, &["table limit of 2000 elements"]);
    }
    let without_end =
        "(loop $again (br_if $again (i32.ne (table.grow $t (ref.null func) (i32.const 1)) (i32.const -1))))
        unreachable";
    let guest = Guest::answering("y").with_items("(table $t 10 funcref)").before_predict(without_end);
    arena.host.deploy_new("grower", &guest.component());
    arena.attack(&attack_on("grower"), 502, &["table limit of 2000 elements"]);
}

#[test]
fn handles_end_at_their_limit() {
    let arena = Arena::new();
    for name in ["share-tensors", "load-graphs", "collect-errors"] {
        arena.assert_limit(name, 190, 201, &["limit of 200 resource handles"]);
        arena.attack(&behaviour("hostile", name, 0), 502, &["limit of 200 resource handles"]);
    }
}

#[test]
fn tensors_end_at_their_limit() {
    let arena = Arena::new();
    arena.assert_limit("hold-tensors", 14, 17, &["tensor limit of 16777216 bytes"]);
    arena.attack(&behaviour("hostile", "hold-tensors", 0), 502, &["tensor limit of 16777216 bytes"]);
}

#[test]
fn outputs_end_at_their_limit() {
    let arena = Arena::new();
    arena.assert_limit("huge-output", 1 << 20, (1 << 20) + 4, &["output limit of 1048576 bytes"]);
}

#[test]
fn graphs_from_bytes_end_at_their_limit() {
    let setup =
        Setup::new().set("runtime.allow_graph_load", true).set("runtime.limits.graph_load_bytes", 1000);
    let arena = Arena::with(setup);
    arena.attack(&behaviour("hostile", "load-junk", 1000), 502, &["invalid-encoding"]);
    arena.attack(&behaviour("hostile", "load-junk", 1001), 502, &["too-large", "1000 bytes"]);
}

#[test]
fn graphs_compute_within_their_limit() {
    // All tensors of a run together: input and output.
    let arena = Arena::with(Setup::new().set("runtime.limits.graph_memory_bytes", 8000));
    arena.host.send(&column("steady", &[1.0; 1000])).expect(200);
    assert_sentence(&arena.host.send(&column("steady", &[1.0; 1001])), 502, &["8000"]);
}
