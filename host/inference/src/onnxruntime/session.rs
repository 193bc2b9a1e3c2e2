//! A loaded network: made with limits, described, and run by any number of threads at the same time.

use std::ffi::{CStr, CString, c_char};
use std::sync::Arc;

use modelhost_core::{MAX_RANK, Tensor, TensorDescription};
use ort::sys::{ExecutionMode, GraphOptimizationLevel};
use ort::{Error, ErrorCode, api};

use super::allocator::{Account, counted};
use super::library::Library;
use super::message::{missing_operator, operator_of_run, sentence};
use super::model::Model;
use super::native::{SessionHandle, SessionOptions, TypeInfo, checked};
use super::tensors;
use crate::engine::{ExecutableGraph, LoadError, RunError, RunLimits};
use crate::tract::Proven;

/// The most that a graph may take when it is loaded, beside a multiple of its file: a few bytes can ask for a constant
/// of any size.
const MAX_CONSTANT_BYTES: u64 = 1 << 30;

/// Weights are held as they come, and packed for the processor.
const COPIES_OF_WEIGHTS: u64 = 3;

/// A string in the library is an object of this size, and its bytes elsewhere, which are not counted.
const STRING_OBJECT_BYTES: usize = 32;

/// A session of ONNX Runtime.
pub(super) struct Session {
    /// Declared before the library, so that it goes first.
    handle: SessionHandle,
    library: Arc<Library>,
    inputs: Vec<TensorDescription>,
    outputs: Vec<TensorDescription>,
    input_names: Names,
    output_names: Names,
    symbols: Vec<Vec<Option<String>>>,
    longest_text: Option<usize>,
    resident_bytes: u64,
    proven: Proven,
}

/// Names as the library wants them.
struct Names {
    /// Into `_owned`, whose strings do not move.
    pointers: Vec<*const c_char>,
    _owned: Vec<CString>,
}

// SAFETY: the pointers are to strings that are owned here and never change.
unsafe impl Send for Names {}
// SAFETY: as above.
unsafe impl Sync for Names {}

impl Names {
    fn new(owned: Vec<CString>) -> Names {
        Names { pointers: owned.iter().map(|name| name.as_ptr()).collect(), _owned: owned }
    }
}

impl Session {
    /// Loads a checked file, of which it is proven elsewhere or not that its rows are independent.
    pub(super) fn load(library: Arc<Library>, model: Model, proven: Proven) -> Result<Session, LoadError> {
        let Model { bytes, symbols, longest_text } = model;
        let file_bytes = bytes.len() as u64;
        let limit = file_bytes.saturating_mul(COPIES_OF_WEIGHTS).saturating_add(MAX_CONSTANT_BYTES);
        let load = || {
            let options = options(&library)?;
            SessionHandle::create(library.environment(), &bytes, &options)
        };
        let (loaded, account) = counted(limit, 1, load);
        let handle = loaded.map_err(|error| load_error(&error, &account))?;
        drop(bytes);
        let said = |error: Error| load_error(&error, &account);
        let (input_names, inputs) = described("input", handle.inputs().map_err(said)?)?;
        let (output_names, outputs) = described("output", handle.outputs().map_err(said)?)?;
        Ok(Session {
            handle,
            library,
            inputs,
            outputs,
            input_names,
            output_names,
            symbols,
            longest_text,
            resident_bytes: u64::try_from(account.used).unwrap_or(0).max(file_bytes),
            proven,
        })
    }

    /// Inputs whose free extents have one name have one extent.
    fn check_symbols(&self, inputs: &[Tensor]) -> Result<(), RunError> {
        let places = self.symbols.iter().enumerate().flat_map(|(input, symbols)| {
            symbols
                .iter()
                .enumerate()
                .filter_map(move |(axis, symbol)| Some((symbol.as_deref()?, input, axis)))
        });
        let extent = |input: usize, axis: usize| {
            inputs.get(input).and_then(|tensor| tensor.shape().get(axis)).copied()
        };
        let mut seen: Vec<(&str, usize, usize)> = Vec::new();
        for (symbol, input, axis) in places {
            let Some((_, first, first_axis)) = seen.iter().find(|(known, ..)| *known == symbol).copied()
            else {
                seen.push((symbol, input, axis));
                continue;
            };
            if extent(input, axis) != extent(first, first_axis) {
                return Err(RunError::InvalidInput {
                    reason: format!(
                        "dimension {axis} of input {:?} is {}: expected {}, as dimension {first_axis} of input {:?}",
                        self.inputs[input].name,
                        extent(input, axis).unwrap_or(0),
                        extent(first, first_axis).unwrap_or(0),
                        self.inputs[first].name,
                    ),
                });
            }
        }
        Ok(())
    }

    /// How many times each byte of a run counts: strings are counted as objects, whose texts are as long as the
    /// longest that can occur.
    fn weight(&self, inputs: &[Tensor]) -> u32 {
        let Some(in_file) = self.longest_text else { return 1 };
        let texts = inputs.iter().filter(|input| input.datatype().size().is_none());
        let in_inputs = texts.flat_map(|input| input.bytes_elements().map(<[u8]>::len)).max().unwrap_or(0);
        let longest = in_file.max(in_inputs).div_ceil(STRING_OBJECT_BYTES);
        u32::try_from(longest).unwrap_or(u32::MAX).saturating_add(1)
    }
}

impl ExecutableGraph for Session {
    fn inputs(&self) -> &[TensorDescription] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorDescription] {
        &self.outputs
    }

    /// What the library holds of the counted memory once the graph is loaded: weights, as they are and packed. At least
    /// the size of the file: some weights, such as those of convolutions, are laid out anew in memory that is not
    /// counted.
    fn resident_bytes(&self) -> u64 {
        self.resident_bytes
    }

    fn rows_are_independent(&self) -> bool {
        self.proven.rows_are_independent
    }

    fn time_follows_from_extents(&self) -> bool {
        self.proven.time_follows_from_extents
    }

    fn run(&self, inputs: Vec<Tensor>, limits: &RunLimits) -> Result<Vec<Tensor>, RunError> {
        limits.check()?;
        self.check_symbols(&inputs)?;
        let weight = self.weight(&inputs);
        let inputs: Result<Vec<_>, _> =
            inputs.iter().map(|tensor| tensors::Input::new(&self.library, tensor)).collect();
        let inputs = inputs?;
        let values: Vec<_> = inputs.iter().map(|input| &input.value).collect();
        let (result, account) = counted(limits.max_tensor_bytes, weight, || {
            self.library.watchdog.guard(limits, |options| {
                self.handle.run(options, &self.input_names.pointers, &values, &self.output_names.pointers)
            })
        });
        let values = result.map_err(|error| run_error(&error, &account, limits))?;
        let outputs = values.into_iter().zip(&self.outputs).map(|(value, described)| {
            let value = value.ok_or_else(|| RunError::Failed {
                reason: format!("the network made no output {:?} for these inputs", described.name),
            })?;
            tensors::output(value, &inputs)
        });
        outputs.collect()
    }
}

fn options(library: &Library) -> Result<SessionOptions, Error> {
    let api = api();
    let options = SessionOptions::create()?;
    // One allocator for all, which counts; nothing is kept between runs, whose number and shapes are not known.
    options.configure(c"session.use_env_allocators", c"1")?;
    options.set(api.DisableCpuMemArena)?;
    options.set(api.DisableMemPattern)?;
    if library.shares_threads() {
        options.set(api.DisablePerSessionThreads)?;
    } else {
        // The thread that calls is the only one: threads do not grow with the number of graphs.
        options.set_number(api.SetIntraOpNumThreads, 1)?;
        options.set_number(api.SetInterOpNumThreads, 1)?;
    }
    options.configure(c"session.intra_op.allow_spinning", c"0")?;
    options.configure(c"session.inter_op.allow_spinning", c"0")?;
    let limit = CString::new(MAX_CONSTANT_BYTES.to_string()).unwrap_or_default();
    options.configure(c"optimization.constant_folding_max_output_size_in_bytes", &limit)?;
    // SAFETY: the options are valid and not shared; the values are of the library's enumerations.
    checked(unsafe { (api.SetSessionExecutionMode)(options.as_ptr(), ExecutionMode::ORT_SEQUENTIAL) })?;
    // SAFETY: as above.
    checked(unsafe {
        (api.SetSessionGraphOptimizationLevel)(options.as_ptr(), GraphOptimizationLevel::ORT_ENABLE_ALL)
    })?;
    Ok(options)
}

fn described(
    role: &str,
    tensors: Vec<(CString, TypeInfo)>,
) -> Result<(Names, Vec<TensorDescription>), LoadError> {
    let descriptions = tensors.iter().map(|(name, of)| description(role, name, of));
    let descriptions = descriptions.collect::<Result<Vec<_>, _>>()?;
    Ok((Names::new(tensors.into_iter().map(|(name, _)| name).collect()), descriptions))
}

fn description(role: &str, name: &CStr, of: &TypeInfo) -> Result<TensorDescription, LoadError> {
    let name = name.to_string_lossy().into_owned();
    let unsupported = |what: &str| LoadError::Unsupported { reason: format!("{role} {name:?} {what}") };
    let tensor = of.tensor().map_err(|error| unsupported(&sentence(error.message())))?;
    let Some((element, shape)) = tensor else {
        return Err(unsupported(
            "is a sequence or a map, and not a tensor: export it as one, for scikit-learn with the option zipmap=False",
        ));
    };
    let datatype = tensors::datatype(element)
        .ok_or_else(|| unsupported("has an element type that this host does not have"))?;
    if shape.len() > MAX_RANK {
        return Err(unsupported(&format!(
            "has {} dimensions: at most {MAX_RANK} are supported",
            shape.len()
        )));
    }
    let shape = shape.into_iter().map(|extent| extent.max(-1)).collect();
    Ok(TensorDescription { name, datatype, shape })
}

fn load_error(error: &Error, account: &Account) -> LoadError {
    if let Some(bytes) = account.refused {
        return LoadError::TooLarge {
            reason: format!("it would take {bytes} bytes of memory when it is loaded"),
        };
    }
    let message = error.message();
    if let Some(operator) = missing_operator(message) {
        return LoadError::Unsupported { reason: format!("ONNX Runtime has no operator {operator} for it") };
    }
    let reason = sentence(message);
    match error.code() {
        ErrorCode::InvalidProtobuf | ErrorCode::InvalidGraph | ErrorCode::InvalidArgument => {
            LoadError::Invalid { reason }
        }
        _ if message.contains("bad_alloc") => {
            LoadError::TooLarge { reason: "its constants do not fit".to_owned() }
        }
        _ => LoadError::Unsupported { reason },
    }
}

fn run_error(error: &Error, account: &Account, limits: &RunLimits) -> RunError {
    let message = error.message();
    if let Some(bytes) = account.refused {
        let operator = operator_of_run(message).unwrap_or("of the network").to_owned();
        return RunError::TooLarge { operator, bytes, limit: limits.max_tensor_bytes };
    }
    if let Err(stopped) = limits.check() {
        return stopped;
    }
    match error.code() {
        ErrorCode::InvalidArgument if operator_of_run(message).is_none() => {
            RunError::InvalidInput { reason: sentence(message) }
        }
        _ => RunError::Failed { reason: sentence(message) },
    }
}
