//! The shared library of ONNX Runtime, opened once per process, with everything that its sessions share. Knows no
//! graphs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use libloading::{Library as Dynamic, Symbol};
use ort::AsPointer as _;
use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::logging::LogLevel;
use ort::sys::OrtAllocator;
use parking_lot::Mutex;

use super::allocator::{Allocator, OperatorNew};
use super::discovery;
use super::native::{MemoryInfo, checked};
use super::watchdog::Watchdog;

/// An open library.
pub(super) struct Library {
    file: PathBuf,
    version: String,
    environment: Environment,
    memory: MemoryInfo,
    allocator: *mut OrtAllocator,
    shares_threads: bool,
    pub(super) watchdog: Watchdog,
}

// SAFETY: the allocator has no state but what lies in each thread's own place.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

/// The library allows one environment in a process, and none after it.
static OPEN: Mutex<Option<Arc<Library>>> = Mutex::new(None);

impl Library {
    /// Opens this file, or gives the library that is open already.
    pub(super) fn open(file: &Path, intra_op_threads: usize) -> Result<Arc<Library>, String> {
        let mut open = OPEN.lock();
        if let Some(library) = &*open {
            return if library.file == file {
                Ok(library.clone())
            } else {
                Err(format!("{} is open already in this process", library.file.display()))
            };
        }
        let library = Arc::new(Library::open_first(file, intra_op_threads)?);
        Ok(open.insert(library).clone())
    }

    fn open_first(file: &Path, intra_op_threads: usize) -> Result<Library, String> {
        // A library that is too old makes `ort` panic: it is looked at before.
        let version = discovery::version_of(file)?;
        let operator_new = operator_new(file)?;
        let said = |error: ort::Error| super::message::sentence(error.message());
        let builder = ort::init_from(file).map_err(|error| error.to_string())?;
        let shares_threads = intra_op_threads > 1;
        let mut builder = builder.with_name("modelhost").with_telemetry(false).with_logger(Arc::new(log));
        if shares_threads {
            let threads = GlobalThreadPoolOptions::default();
            let threads = threads.with_intra_threads(intra_op_threads).map_err(said)?;
            let threads = threads.with_inter_threads(1).map_err(said)?;
            builder = builder.with_global_thread_pool(threads.with_spin_control(false).map_err(said)?);
        }
        let environment = builder.build().map_err(said)?;
        environment.set_log_level(LogLevel::Warning);
        let allocator = Allocator::leaked(MemoryInfo::cpu().map_err(said)?, operator_new);
        // SAFETY: the environment is valid; the allocator lives as long as the process.
        checked(unsafe { (ort::api().RegisterAllocator)(environment.ptr().cast_mut(), allocator) })
            .map_err(said)?;
        Ok(Library {
            file: file.to_owned(),
            version,
            environment,
            memory: MemoryInfo::cpu().map_err(said)?,
            allocator,
            shares_threads,
            watchdog: Watchdog::start().map_err(|error| format!("no thread can be started: {error}"))?,
        })
    }

    pub(super) fn file(&self) -> &PathBuf {
        &self.file
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    pub(super) fn environment(&self) -> *const ort::sys::OrtEnv {
        self.environment.ptr()
    }

    /// Where the tensors of requests lie.
    pub(super) fn memory(&self) -> &MemoryInfo {
        &self.memory
    }

    /// The allocator that counts.
    pub(super) fn allocator(&self) -> *mut OrtAllocator {
        self.allocator
    }

    /// Whether all sessions use one pool of threads, instead of the thread that calls.
    pub(super) fn shares_threads(&self) -> bool {
        self.shares_threads
    }
}

/// The function of the C++ runtime that this library uses.
fn operator_new(file: &Path) -> Result<OperatorNew, String> {
    // SAFETY: the file was opened before, by `version_of`: nothing new runs.
    let library = unsafe { Dynamic::new(file) }.map_err(|error| error.to_string())?;
    // SAFETY: the symbol is `operator new(size_t)` in the C++ ABI of 64-bit Linux and macOS.
    let symbol: Result<Symbol<'_, OperatorNew>, _> = unsafe { library.get(b"_Znwm\0") };
    let operator_new = *symbol.map_err(|_| "it does not use the shared C++ runtime".to_owned())?;
    // What it points to stays: the library is never closed.
    std::mem::forget(library);
    Ok(operator_new)
}

/// What the library reports as an error comes back to the caller as well, and is said there.
fn log(level: LogLevel, category: &str, _id: &str, location: &str, message: &str) {
    match level {
        LogLevel::Fatal => tracing::error!(category, location, "onnxruntime: {message}"),
        LogLevel::Error | LogLevel::Warning => tracing::debug!(category, location, "onnxruntime: {message}"),
        LogLevel::Info | LogLevel::Verbose => tracing::trace!(category, location, "onnxruntime: {message}"),
    }
}
