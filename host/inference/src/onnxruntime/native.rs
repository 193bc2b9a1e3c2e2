//! The C interface of ONNX Runtime, as far as it is used: handles that release themselves, and calls that give a
//! `Result`. Knows nothing about graphs or limits. Every function here needs the library to be open, which
//! [`super::library::Library`] sees to before it makes the first of these handles.

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::{NonNull, null_mut};

use ort::sys::{self, ONNXTensorElementDataType as ElementType};
use ort::{Error, api};

use super::allocator::charge;

/// A handle of the library, released when it is dropped.
macro_rules! handle {
    ($(#[$meta:meta])* $name:ident, $raw:ty, $release:ident) => {
        $(#[$meta])*
        pub(super) struct $name(NonNull<$raw>);

        impl $name {
            /// Takes a handle that the library just made.
            fn new(raw: *mut $raw) -> Result<$name, Error> {
                NonNull::new(raw).map($name).ok_or_else(|| Error::new("the library gave no handle"))
            }

            pub(super) fn as_ptr(&self) -> *mut $raw {
                self.0.as_ptr()
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: the handle came from the library and is released here only.
                unsafe { (api().$release)(self.0.as_ptr()) }
            }
        }

        // SAFETY: the library's objects belong to no thread.
        unsafe impl Send for $name {}
        // SAFETY: what is shared is either not changed, or documented to be safe to call from several threads (`Run`,
        // `RunOptionsSetTerminate`).
        unsafe impl Sync for $name {}
    };
}

handle!(
    /// How a session is to be made.
    SessionOptions, sys::OrtSessionOptions, ReleaseSessionOptions
);
handle!(
    /// A loaded network.
    SessionHandle, sys::OrtSession, ReleaseSession
);
handle!(
    /// What can be said to one run.
    RunOptions, sys::OrtRunOptions, ReleaseRunOptions
);
handle!(
    /// A tensor, or nothing.
    Value, sys::OrtValue, ReleaseValue
);
handle!(
    /// Where memory lies.
    MemoryInfo, sys::OrtMemoryInfo, ReleaseMemoryInfo
);
handle!(
    /// The type of an input or output.
    TypeInfo, sys::OrtTypeInfo, ReleaseTypeInfo
);
handle!(
    /// The element type and shape of a tensor.
    TensorInfo, sys::OrtTensorTypeAndShapeInfo, ReleaseTensorTypeAndShapeInfo
);

/// The result of a call, from the status that it gave.
pub(super) fn checked(status: sys::OrtStatusPtr) -> Result<(), Error> {
    // SAFETY: every caller passes the status of a call right on: it is owned here.
    unsafe { Error::result_from_status(status) }
}

/// Counts bytes that the host is about to take for the run on this thread.
pub(super) fn charged(bytes: usize) -> Result<(), Error> {
    if charge(bytes as u64) { Ok(()) } else { Err(Error::new("the run would take too much memory")) }
}

impl SessionOptions {
    pub(super) fn create() -> Result<SessionOptions, Error> {
        let mut raw = null_mut();
        // SAFETY: the pointer to the result is valid.
        checked(unsafe { (api().CreateSessionOptions)(&mut raw) })?;
        SessionOptions::new(raw)
    }

    /// Calls a setter that takes only the options.
    pub(super) fn set(
        &self,
        setter: unsafe extern "system" fn(*mut sys::OrtSessionOptions) -> sys::OrtStatusPtr,
    ) -> Result<(), Error> {
        // SAFETY: the options are valid, and not shared.
        checked(unsafe { setter(self.as_ptr()) })
    }

    /// Calls a setter that takes a number.
    pub(super) fn set_number(
        &self,
        setter: unsafe extern "system" fn(*mut sys::OrtSessionOptions, i32) -> sys::OrtStatusPtr,
        number: i32,
    ) -> Result<(), Error> {
        // SAFETY: as above.
        checked(unsafe { setter(self.as_ptr(), number) })
    }

    /// Sets a named value. Versions that do not know the name ignore it.
    pub(super) fn configure(&self, key: &CStr, value: &CStr) -> Result<(), Error> {
        // SAFETY: both strings end in a zero, and the library copies them.
        checked(unsafe { (api().AddSessionConfigEntry)(self.as_ptr(), key.as_ptr(), value.as_ptr()) })
    }
}

impl SessionHandle {
    /// Loads a network from the bytes of its file, which are not needed afterwards.
    pub(super) fn create(
        environment: *const sys::OrtEnv,
        model: &[u8],
        options: &SessionOptions,
    ) -> Result<SessionHandle, Error> {
        let mut raw = null_mut();
        let data = model.as_ptr().cast::<c_void>();
        // SAFETY: the environment lives as long as the process; the bytes are copied as long as the configuration
        // does not say otherwise.
        checked(unsafe {
            (api().CreateSessionFromArray)(environment, data, model.len(), options.as_ptr(), &mut raw)
        })?;
        SessionHandle::new(raw)
    }

    /// The names and types of the inputs.
    pub(super) fn inputs(&self) -> Result<Vec<(CString, TypeInfo)>, Error> {
        let api = api();
        self.described(api.SessionGetInputCount, api.SessionGetInputName, api.SessionGetInputTypeInfo)
    }

    /// The names and types of the outputs.
    pub(super) fn outputs(&self) -> Result<Vec<(CString, TypeInfo)>, Error> {
        let api = api();
        self.described(api.SessionGetOutputCount, api.SessionGetOutputName, api.SessionGetOutputTypeInfo)
    }

    fn described(
        &self,
        count: unsafe extern "system" fn(*const sys::OrtSession, *mut usize) -> sys::OrtStatusPtr,
        name: NameOf,
        type_info: unsafe extern "system" fn(
            *const sys::OrtSession,
            usize,
            *mut *mut sys::OrtTypeInfo,
        ) -> sys::OrtStatusPtr,
    ) -> Result<Vec<(CString, TypeInfo)>, Error> {
        let mut length = 0;
        // SAFETY: the session and the pointer to the result are valid.
        checked(unsafe { count(self.as_ptr(), &mut length) })?;
        let describe = |index| {
            let mut raw = null_mut();
            // SAFETY: as above; the index is below the count.
            checked(unsafe { type_info(self.as_ptr(), index, &mut raw) })?;
            Ok((self.name(name, index)?, TypeInfo::new(raw)?))
        };
        (0..length).map(describe).collect()
    }

    fn name(&self, name: NameOf, index: usize) -> Result<CString, Error> {
        let mut allocator = null_mut();
        let mut raw: *mut c_char = null_mut();
        // SAFETY: the default allocator lives as long as the library.
        checked(unsafe { (api().GetAllocatorWithDefaultOptions)(&mut allocator) })?;
        // SAFETY: the index is below the count; on success the name is a string that ends in a zero.
        checked(unsafe { name(self.as_ptr(), index, allocator, &mut raw) })?;
        // SAFETY: as above.
        let owned = unsafe { CStr::from_ptr(raw) }.to_owned();
        // SAFETY: the name was allocated by this allocator and is not used any more.
        checked(unsafe { (api().AllocatorFree)(allocator, raw.cast()) })?;
        Ok(owned)
    }

    /// Runs the network. Any number of threads may do so at once. Gives one value for each output name, none where the
    /// network left an optional output out.
    pub(super) fn run(
        &self,
        options: &RunOptions,
        input_names: &[*const c_char],
        inputs: &[&Value],
        output_names: &[*const c_char],
    ) -> Result<Vec<Option<Value>>, Error> {
        debug_assert_eq!(input_names.len(), inputs.len());
        let raw_inputs: Vec<*const sys::OrtValue> =
            inputs.iter().map(|input| input.as_ptr().cast_const()).collect();
        let mut raw_outputs: Vec<*mut sys::OrtValue> = vec![null_mut(); output_names.len()];
        // SAFETY: the library documents that `Run` may be called by several threads at once for one session, and does
        // not change the session in a way that they could see. All pointers are valid for their lengths; the names
        // end in a zero. Null outputs ask the library to allocate them.
        let status = unsafe {
            (api().Run)(
                self.as_ptr(),
                options.as_ptr(),
                input_names.as_ptr(),
                raw_inputs.as_ptr(),
                raw_inputs.len(),
                output_names.as_ptr(),
                raw_outputs.len(),
                raw_outputs.as_mut_ptr(),
            )
        };
        // Owned before the status is looked at, so that nothing is lost should a failed run leave some.
        let outputs = raw_outputs.into_iter().map(|raw| NonNull::new(raw).map(Value)).collect();
        checked(status)?;
        Ok(outputs)
    }
}

type NameOf = unsafe extern "system" fn(
    *const sys::OrtSession,
    usize,
    *mut sys::OrtAllocator,
    *mut *mut c_char,
) -> sys::OrtStatusPtr;

impl RunOptions {
    pub(super) fn create() -> Result<RunOptions, Error> {
        let mut raw = null_mut();
        // SAFETY: the pointer to the result is valid.
        checked(unsafe { (api().CreateRunOptions)(&mut raw) })?;
        RunOptions::new(raw)
    }

    /// Lets the run that uses these options end at its next operator.
    pub(super) fn terminate(&self) -> Result<(), Error> {
        // SAFETY: meant to be called from another thread than the one that runs.
        checked(unsafe { (api().RunOptionsSetTerminate)(self.as_ptr()) })
    }

    /// Makes options that were used for terminating usable again.
    pub(super) fn reset(&self) -> Result<(), Error> {
        // SAFETY: no run uses these options at this moment.
        checked(unsafe { (api().RunOptionsUnsetTerminate)(self.as_ptr()) })
    }
}

impl MemoryInfo {
    /// The memory of the processor.
    pub(super) fn cpu() -> Result<MemoryInfo, Error> {
        let mut raw = null_mut();
        let (allocator, memory) =
            (sys::OrtAllocatorType::OrtDeviceAllocator, sys::OrtMemType::OrtMemTypeDefault);
        // SAFETY: the pointer to the result is valid.
        checked(unsafe { (api().CreateCpuMemoryInfo)(allocator, memory, &mut raw) })?;
        MemoryInfo::new(raw)
    }
}

impl TypeInfo {
    /// Element type and shape, where the type is a tensor.
    pub(super) fn tensor(&self) -> Result<Option<(ElementType, Vec<i64>)>, Error> {
        let mut raw: *const sys::OrtTensorTypeAndShapeInfo = std::ptr::null();
        // SAFETY: the result, null where this is no tensor, belongs to this type.
        checked(unsafe { (api().CastTypeInfoToTensorInfo)(self.as_ptr(), &mut raw) })?;
        if raw.is_null() { Ok(None) } else { element_type_and_shape(raw).map(Some) }
    }
}

fn element_type_and_shape(
    info: *const sys::OrtTensorTypeAndShapeInfo,
) -> Result<(ElementType, Vec<i64>), Error> {
    // A number, and not the enumeration: a newer library may know types that this one does not.
    let mut element = 0_i32;
    let mut rank = 0;
    // SAFETY: the enumeration has the size of the number; the information is valid.
    checked(unsafe { (api().GetTensorElementType)(info, (&raw mut element).cast()) })?;
    // SAFETY: the pointer to the result is valid.
    checked(unsafe { (api().GetDimensionsCount)(info, &mut rank) })?;
    let mut shape = vec![0_i64; rank];
    // SAFETY: the buffer has that many places.
    checked(unsafe { (api().GetDimensions)(info, shape.as_mut_ptr(), rank) })?;
    Ok((super::tensors::element_type(element), shape))
}

impl Value {
    /// A tensor over memory that somebody else owns.
    ///
    /// # Safety
    /// The memory stays valid and unchanged as long as the value and every value that a run made of it live; it is
    /// aligned for the element type.
    pub(super) unsafe fn borrowed(
        memory: &MemoryInfo,
        data: &[u8],
        shape: &[i64],
        element: ElementType,
    ) -> Result<Value, Error> {
        let mut raw = null_mut();
        let pointer = data.as_ptr().cast_mut().cast::<c_void>();
        // SAFETY: the library checks that shape and length agree, and does not write to the inputs of a run.
        checked(unsafe {
            (api().CreateTensorWithDataAsOrtValue)(
                memory.as_ptr(),
                pointer,
                data.len(),
                shape.as_ptr(),
                shape.len(),
                element,
                &mut raw,
            )
        })?;
        Value::new(raw)
    }

    /// A tensor of strings, to be filled.
    pub(super) fn strings(allocator: *mut sys::OrtAllocator, shape: &[i64]) -> Result<Value, Error> {
        let mut raw = null_mut();
        let element = ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING;
        // SAFETY: the allocator lives as long as the library.
        checked(unsafe {
            (api().CreateTensorAsOrtValue)(allocator, shape.as_ptr(), shape.len(), element, &mut raw)
        })?;
        Value::new(raw)
    }

    /// Sets one string of a tensor of strings.
    pub(super) fn set_string(&self, index: usize, text: &[u8]) -> Result<(), Error> {
        let mut buffer: *mut c_char = null_mut();
        // SAFETY: the library checks the index and gives a buffer of that length.
        checked(unsafe {
            (api().GetResizedStringTensorElementBuffer)(self.as_ptr(), index, text.len(), &mut buffer)
        })?;
        if !text.is_empty() {
            // SAFETY: as above; the two do not overlap.
            unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast::<u8>(), text.len()) };
        }
        Ok(())
    }

    /// Element type and shape of this tensor; an error where it is none.
    pub(super) fn tensor(&self) -> Result<(ElementType, Vec<i64>), Error> {
        let mut raw = null_mut();
        // SAFETY: the library checks that the value is a tensor.
        checked(unsafe { (api().GetTensorTypeAndShape)(self.as_ptr(), &mut raw) })?;
        element_type_and_shape(TensorInfo::new(raw)?.as_ptr())
    }

    /// Where the elements of a tensor of numbers begin.
    pub(super) fn data(&self) -> Result<*const u8, Error> {
        let mut pointer = null_mut();
        // SAFETY: the library checks that the value is a tensor.
        checked(unsafe { (api().GetTensorMutableData)(self.as_ptr(), &mut pointer) })?;
        Ok(pointer.cast_const().cast())
    }

    /// The bytes of all strings of a tensor, one after the other, and where each begins.
    pub(super) fn text(&self, count: usize) -> Result<(Vec<u8>, Vec<usize>), Error> {
        let mut length = 0;
        // SAFETY: the library checks that the value is a tensor of strings.
        checked(unsafe { (api().GetStringTensorDataLength)(self.as_ptr(), &mut length) })?;
        charged(length.saturating_add(count.saturating_mul(size_of::<usize>())))?;
        let mut text = vec![0_u8; length];
        let mut offsets = vec![0_usize; count];
        // SAFETY: both buffers have the lengths that are given; the library checks that they are enough.
        checked(unsafe {
            (api().GetStringTensorContent)(
                self.as_ptr(),
                text.as_mut_ptr().cast(),
                length,
                offsets.as_mut_ptr(),
                count,
            )
        })?;
        Ok((text, offsets))
    }
}
