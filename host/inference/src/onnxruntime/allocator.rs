//! The memory that ONNX Runtime computes in. Counts what the run or the load on this thread takes, and ends it with a
//! C++ `std::bad_alloc`, which the library turns into an error of that run, where it would take too much.
//!
//! The library's own ways do not bound a run: its arena has one limit for the whole process, so that one run could
//! starve the others, and keeps what it once took.

use std::alloc::{Layout, alloc, dealloc};
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::null_mut;

use ort::sys::{OrtAllocator, OrtMemoryInfo};

use super::native::MemoryInfo;

/// What the C++ runtime calls `operator new(size_t)`.
pub(super) type OperatorNew = unsafe extern "C-unwind" fn(usize) -> *mut c_void;

/// No allocation is that large, so `operator new` throws.
const IMPOSSIBLE_BYTES: usize = isize::MAX as usize;

/// Kernels use vector instructions of up to this width; the length of each block lies in front of it.
const ALIGNMENT: usize = 64;

/// What the memory on this thread is taken for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    /// Bytes that are taken at this moment. Below zero where others' memory was freed.
    pub(super) used: i64,
    /// The most that may be taken.
    limit: i64,
    /// What was asked for beyond the limit, if anything was.
    pub(super) refused: Option<u64>,
    /// Each byte counts this many times.
    weight: u32,
}

thread_local! {
    static ACCOUNT: Cell<Option<Account>> = const { Cell::new(None) };
}

/// Calls `work` and says what the memory was that the library took on this thread meanwhile and did not give back.
pub(super) fn counted<T>(limit: u64, weight: u32, work: impl FnOnce() -> T) -> (T, Account) {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let fresh = Account { used: 0, limit, refused: None, weight: weight.max(1) };
    let outer = ACCOUNT.replace(Some(fresh));
    let _restore = Restore(outer);
    let result = work();
    (result, ACCOUNT.get().unwrap_or_default())
}

/// Counts bytes that the host itself takes for what runs on this thread, as they are and until that ends. Whether they are
/// within the limit: if not, none are counted.
pub(super) fn charge(bytes: u64) -> bool {
    let Some(mut account) = ACCOUNT.get() else { return true };
    let is_granted = account.count(i64::try_from(bytes).unwrap_or(i64::MAX));
    ACCOUNT.set(Some(account));
    is_granted
}

/// Puts the account of before back, also where the work panics.
struct Restore(Option<Account>);

impl Drop for Restore {
    fn drop(&mut self) {
        ACCOUNT.set(self.0);
    }
}

impl Account {
    /// Whether that many bytes more, with their weight, are within the limit; they are counted if so.
    fn take(&mut self, bytes: usize) -> bool {
        self.count(i64::try_from(bytes).unwrap_or(i64::MAX).saturating_mul(i64::from(self.weight)))
    }

    fn count(&mut self, counted: i64) -> bool {
        let used = self.used.saturating_add(counted);
        if used > self.limit {
            self.refused = Some(u64::try_from(used).unwrap_or(0));
            return false;
        }
        self.used = used;
        true
    }

    fn give_back(&mut self, bytes: usize) {
        let counted = i64::try_from(bytes).unwrap_or(i64::MAX).saturating_mul(i64::from(self.weight));
        self.used = self.used.saturating_sub(counted);
    }
}

/// What the library gets. Lives as long as the process.
#[repr(C)]
pub(super) struct Allocator {
    /// First, so that a pointer to it is one to the whole.
    interface: OrtAllocator,
    memory: MemoryInfo,
    operator_new: OperatorNew,
}

impl Allocator {
    /// An allocator for the memory of the processor.
    pub(super) fn leaked(memory: MemoryInfo, operator_new: OperatorNew) -> *mut OrtAllocator {
        type Allocate = unsafe extern "system" fn(*mut OrtAllocator, usize) -> *mut c_void;
        type Unwinding = unsafe extern "C-unwind" fn(*mut OrtAllocator, usize) -> *mut c_void;
        let unwinding: Unwinding = allocate;
        // SAFETY: the two calling conventions are one on the platforms that this host runs on. They differ in what
        // a Rust caller may expect; all callers of this function are C++.
        let allocate = unsafe { std::mem::transmute::<Unwinding, Allocate>(unwinding) };
        // SAFETY: a structure of optional pointers.
        let mut interface = unsafe { OrtAllocator::default() };
        interface.Alloc = Some(allocate);
        interface.Free = Some(free);
        interface.Info = Some(info);
        Box::into_raw(Box::new(Allocator { interface, memory, operator_new })).cast()
    }
}

/// Room for the length in front of a block.
fn layout(bytes: usize) -> Option<Layout> {
    Layout::from_size_align(bytes.checked_add(ALIGNMENT)?, ALIGNMENT).ok()
}

/// Without values that have to be dropped: a C++ exception passes through.
unsafe extern "C-unwind" fn allocate(this: *mut OrtAllocator, bytes: usize) -> *mut c_void {
    let is_granted = match ACCOUNT.get() {
        // A thread of the library's own pool, or an output that is made outside of a run.
        None => true,
        Some(mut account) => {
            let is_granted = account.take(bytes);
            ACCOUNT.set(Some(account));
            is_granted
        }
    };
    if is_granted && let Some(layout) = layout(bytes) {
        // SAFETY: the layout is not empty.
        let block = unsafe { alloc(layout) };
        if !block.is_null() {
            // SAFETY: the block is longer than the length in front, and aligned for it.
            return unsafe {
                block.cast::<usize>().write(bytes);
                block.add(ALIGNMENT).cast()
            };
        }
    }
    // SAFETY: `this` is what `leaked` made. The call throws: the caller is C++ that is ready for it, because its own
    // allocator does the same.
    unsafe { ((*this.cast::<Allocator>()).operator_new)(IMPOSSIBLE_BYTES) }
}

unsafe extern "system" fn free(_this: *mut OrtAllocator, data: *mut c_void) {
    if data.is_null() {
        return;
    }
    // SAFETY: `allocate` put the length in front of every block that it gave.
    let (block, bytes) = unsafe {
        let block = data.cast::<u8>().sub(ALIGNMENT);
        (block, block.cast::<usize>().read())
    };
    if let Some(mut account) = ACCOUNT.get() {
        account.give_back(bytes);
        ACCOUNT.set(Some(account));
    }
    if let Some(layout) = layout(bytes) {
        // SAFETY: the block was allocated with this layout.
        unsafe { dealloc(block, layout) };
    }
}

unsafe extern "system" fn info(this: *const OrtAllocator) -> *const OrtMemoryInfo {
    if this.is_null() {
        return null_mut();
    }
    // SAFETY: `this` is what `leaked` made.
    unsafe { (*this.cast::<Allocator>()).memory.as_ptr() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_ends_at_its_limit() {
        let mut account = Account { limit: 100, weight: 1, ..Account::default() };
        assert!(account.take(60));
        assert!(!account.take(41));
        assert_eq!((account.used, account.refused), (60, Some(101)));
        account.give_back(20);
        assert!(account.take(60));
        assert!(!account.take(usize::MAX));
    }

    #[test]
    fn a_weight_counts_bytes_several_times() {
        let mut account = Account { limit: 100, weight: 3, ..Account::default() };
        assert!(account.take(33));
        assert!(!account.take(1));
        account.give_back(33);
        assert_eq!(account.used, 0);
    }

    #[test]
    fn what_the_host_takes_counts_without_weight() {
        let (charged, account) = counted(100, 3, || (charge(60), charge(41), charge(40)));
        assert_eq!(charged, (true, false, true));
        assert_eq!((account.used, account.refused), (100, Some(101)));
        assert!(charge(u64::MAX), "nothing runs");
    }

    #[test]
    fn accounts_nest() {
        let ((), outer) = counted(10, 1, || {
            let ((), inner) = counted(5, 1, || {});
            assert_eq!(inner.used, 0);
            ACCOUNT.set(ACCOUNT.get().map(|account| Account { used: 7, ..account }));
        });
        assert_eq!(outer.used, 7);
        assert_eq!(ACCOUNT.get(), None);
    }
}
