//! Opens what it never closes. An amount of 0 is without end.

use std::mem::forget;

use modelhost_guest::bindings::modelhost::plugin::tensors::{Datatype, Tensor};
use modelhost_guest::bindings::wasi::nn::graph;

fn repeat(amount: usize, mut open: impl FnMut()) {
    let mut opened = 0;
    while amount == 0 || opened < amount {
        open();
        opened += 1;
    }
}

/// Handles to one and the same tensor.
pub fn share_tensors(amount: usize) {
    if let Ok(tensor) = Tensor::create(Datatype::Uint8, &[1], &[7]) {
        repeat(amount, || forget(tensor.share()));
    }
}

/// Handles to the plugin's own graph.
pub fn load_graphs(amount: usize) {
    repeat(amount, || forget(graph::load_by_name("graph")));
}

/// Errors of wasi:nn.
pub fn collect_errors(amount: usize) {
    repeat(amount, || forget(graph::load_by_name("no graph has this name")));
}

/// Timers of the standard library's own kind: each thread that sleeps has one for that time only, so what is
/// left of many sleeps must be nothing.
pub fn collect_clocks(amount: usize) {
    repeat(amount, || std::thread::sleep(std::time::Duration::from_nanos(1)));
}

/// Tensors of one MiB each, all at once.
pub fn hold_tensors(amount: usize) {
    let data = vec![7_u8; 1 << 20];
    repeat(amount, || forget(Tensor::create(Datatype::Uint8, &[1 << 20], &data)));
}
