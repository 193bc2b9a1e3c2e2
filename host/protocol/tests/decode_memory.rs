//! Decoding takes memory by what a body holds, not by what it declares, and elements are written once, where they
//! stay: measured with an allocator that counts.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use modelhost_core::{Datatype, Tensor, VersionNumber};
use modelhost_protocol::{InferResponse, ResponseOutput, decode_json_request, encode_response};

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// Of all that was ever taken, in pieces that could hold a tensor.
static LARGE: AtomicUsize = AtomicUsize::new(0);
const LARGE_PIECE: usize = 16 << 10;

// SAFETY: every call is handed on to the system's allocator as it is; counting touches no memory of callers.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(held, Relaxed);
        if layout.size() >= LARGE_PIECE {
            LARGE.fetch_add(layout.size(), Relaxed);
        }
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many times its own size decoding a body takes at its peak.
fn factor(body: &str) -> f64 {
    let before = HELD.load(Relaxed);
    PEAK.store(before, Relaxed);
    let _ = decode_json_request(body.as_bytes());
    (PEAK.load(Relaxed) - before) as f64 / body.len() as f64
}

fn input(datatype: &str, shape: &str, data: &str) -> String {
    format!(r#"{{"inputs":[{{"name":"x","shape":{shape},"datatype":"{datatype}","data":{data}}}]}}"#)
}

fn repeated(item: &str, count: usize) -> String {
    vec![item; count].join(",")
}

/// One test, so that nothing else allocates meanwhile.
#[test]
fn memory_follows_what_is_there() {
    is_a_small_multiple_of_the_body();
    elements_are_written_once();
}

/// An input as of an image, and the same as output: one piece of memory of its size for each direction.
fn elements_are_written_once() {
    let elements = 3 * 224 * 224;
    let text: Vec<String> = (0..elements).map(|index| format!("{:?}", index as f32 / 1e5)).collect();
    let body = input("FP32", "[1,3,224,224]", &format!("[{}]", text.join(",")));
    let before = LARGE.load(Relaxed);
    let request = decode_json_request(body.as_bytes()).unwrap();
    assert_eq!(LARGE.load(Relaxed) - before, 4 * elements, "decoding took other memory than the tensor's");
    let tensor = &request.inputs[0].1;
    assert_eq!((tensor.datatype(), tensor.data().len()), (Datatype::Fp32, 4 * elements));
    encoding_takes_one_piece(tensor);
}

fn encoding_takes_one_piece(tensor: &Tensor) {
    let model = "m".parse().unwrap();
    let outputs = [ResponseOutput { name: "y", tensor, is_binary: false }];
    let response = InferResponse { model: &model, version: VersionNumber(1), id: None, outputs: &outputs };
    let before = LARGE.load(Relaxed);
    let body = encode_response(&response).unwrap();
    let text: usize = body.pieces.iter().map(bytes::Bytes::len).sum();
    let taken = LARGE.load(Relaxed) - before;
    // Room for the longest texts of its elements, taken once.
    assert!(
        (text..4 * tensor.data().len() + 1_000).contains(&taken),
        "encoding took {taken} bytes for {text}"
    );
}

fn is_a_small_multiple_of_the_body() {
    let million = 1_000_000;
    let bodies = [
        ("declared only", input("FP64", "[1000000000000]", "[1]") + &" ".repeat(1000)),
        ("declared and long", input("FP64", "[1000000000000]", &format!("[{}]", repeated("1", million)))),
        ("numbers", input("INT64", "[1000000]", &format!("[{}]", repeated("1", million)))),
        ("nested numbers", input("FP64", "[1000000,1]", &format!("[{}]", repeated("[1]", million)))),
        ("empty strings", input("BYTES", "[1000000]", &format!("[{}]", repeated("\"\"", million)))),
        ("escaped strings", input("BYTES", "[100000]", &format!("[{}]", repeated(r#""\n""#, 100_000)))),
        ("brackets", input("INT8", "[1]", &format!("{}{}", "[".repeat(million), "]".repeat(million)))),
        ("open brackets", "[".repeat(million)),
        ("a long shape", input("INT8", &format!("[{}]", repeated("1", million)), "[1]")),
        (
            "inputs",
            format!(r#"{{"inputs":[{}]}}"#, repeated(r#"{"name":"","shape":[],"datatype":""}"#, million)),
        ),
        ("outputs", format!(r#"{{"inputs":[],"outputs":[{}]}}"#, repeated(r#"{"name":""}"#, million))),
        ("unknown fields", format!(r#"{{"a":[{}],"inputs":[]}}"#, repeated("{}", million))),
        ("a long id", format!(r#"{{"id":"{}","inputs":[]}}"#, "x".repeat(million))),
    ];
    for (what, body) in bodies {
        let factor = factor(&body);
        println!("{what}: {} bytes, {factor:.2} times as much", body.len());
        assert!(factor < 5.0, "{what}: {factor:.2} times the {} bytes of the body", body.len());
    }
}
