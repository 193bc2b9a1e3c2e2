//! Graphs are loaded once per engine and live as long as somebody uses them.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use modelhost_core::{Digest, EngineName};
use modelhost_inference::{Engine, Engines, ExecutableGraph, GraphCache, LoadError, TractEngine};

use crate::onnx::linear;

/// The real engine, with a count of its loads.
struct Counting {
    engine: TractEngine,
    loads: Arc<AtomicUsize>,
}

impl Engine for Counting {
    fn name(&self) -> EngineName {
        self.engine.name()
    }

    fn version(&self) -> String {
        self.engine.version()
    }

    fn load(&self, onnx: &[u8]) -> Result<Arc<dyn ExecutableGraph>, LoadError> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        self.engine.load(onnx)
    }
}

fn counting() -> (GraphCache, Arc<AtomicUsize>) {
    let loads = Arc::new(AtomicUsize::new(0));
    let engine = Counting { engine: TractEngine::new(), loads: loads.clone() };
    let engines = Engines::new(Arc::new(engine), Err("there is none".to_owned()));
    (GraphCache::new(engines), loads)
}

#[test]
fn concurrent_first_loads_of_one_digest_load_once() {
    let (cache, loads) = counting();
    let onnx = linear().build();
    let digest = Digest::of(&onnx);
    let start = Barrier::new(16);
    let graphs: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    cache.get_or_load(&digest, EngineName::Tract, || Ok(onnx.clone())).unwrap()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    assert!(graphs.iter().all(|graph| Arc::ptr_eq(graph, &graphs[0])));
    assert_eq!(graphs[0].digest(), &digest);
}

#[test]
fn a_graph_goes_with_its_last_user() {
    let (cache, loads) = counting();
    let onnx = linear().build();
    let digest = Digest::of(&onnx);
    let first = cache.get_or_load(&digest, EngineName::Tract, || Ok(onnx.clone())).unwrap();
    let second = cache.get_or_load(&digest, EngineName::Tract, || unreachable!("it is loaded")).unwrap();
    assert_eq!(cache.len(), 1);
    drop(first);
    assert_eq!(cache.len(), 1);
    drop(second);
    assert!(cache.is_empty());
    let _third = cache.get_or_load(&digest, EngineName::Tract, || Ok(onnx.clone())).unwrap();
    assert_eq!(loads.load(Ordering::SeqCst), 2);
}

#[test]
fn a_failure_is_not_kept() {
    let (cache, _) = counting();
    let onnx = linear().build();
    let digest = Digest::of(&onnx);
    let missing = cache.get_or_load(&digest, EngineName::Tract, || Err(io::ErrorKind::NotFound.into()));
    assert!(matches!(missing, Err(LoadError::Read(_))));
    let broken = cache.get_or_load(&digest, EngineName::Tract, || Ok(b"nonsense".to_vec()));
    assert!(matches!(broken, Err(LoadError::Invalid { .. })));
    assert!(cache.is_empty());
    assert!(cache.get_or_load(&digest, EngineName::Tract, || Ok(onnx)).is_ok());
}

#[test]
fn an_engine_that_is_not_there_is_named() {
    let (cache, _) = counting();
    let onnx = linear().build();
    let loaded = cache.get_or_load(&Digest::of(&onnx), EngineName::OnnxRuntime, || Ok(onnx.clone()));
    let sentence = loaded.unwrap_err().to_string();
    assert_eq!(sentence, "engine onnxruntime is not available: there is none");
}
