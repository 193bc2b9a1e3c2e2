//! Which threads the operating system prefers to which others. Knows nothing of what they do.

/// Lowers the priority of this thread: one beside it that keeps the usual one gets more of a processor that both want,
/// nine tenths for a `niceness` of 10.
pub(crate) fn give_way(niceness: i32) {
    // On Linux this is a property of each thread, elsewhere of the whole process.
    if cfg!(target_os = "linux")
        && let Err(error) = rustix::process::setpriority_process(None, niceness)
    {
        tracing::warn!(%error, "threads that should give way to others do not");
    }
}

/// Lets this thread run only where no other wants the processor, and take it back at once when one does.
///
/// The lowest priority of the usual kind is not enough: a thread that wakes up to answer a request would wait until the
/// slice is over of one that computes, some milliseconds.
pub fn run_when_idle() {
    #[cfg(target_os = "linux")]
    {
        let parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: 0 is the calling thread; the parameters are read during the call only.
        let refused = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) };
        if refused != 0 {
            let error = std::io::Error::last_os_error();
            tracing::warn!(%error, "threads of batch work are not only run when others are idle");
            give_way(19);
        }
    }
}
