//! Which threads the operating system prefers to which others, and on which cores they run. Knows nothing of what they do.

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

/// Of threads for what nobody waits for: as much as there is.
const BACKGROUND_NICENESS: i32 = 19;

/// What threads may take of the machine that do what nobody waits for, such as batch jobs: a part of its cores, at the
/// lowest priority.
///
/// Priority alone does not do it: a thread of the lowest priority that computes is owed a little time by the kernel's
/// scheduler, and takes it a slice of some milliseconds at a time. A request that wakes a thread on its core meanwhile
/// waits for the end of the slice, unless there is a core that such threads never use.
#[derive(Clone, Copy, Debug)]
pub struct BackgroundThreads {
    cores: usize,
    #[cfg(target_os = "linux")]
    confined_to: Option<nix::sched::CpuSet>,
}

impl BackgroundThreads {
    /// This share of the cores that the calling thread may use, in percent; at least one core, and where the share is less
    /// than all of them, at least one less than there are.
    pub fn of_share(percent: u8) -> BackgroundThreads {
        let all = std::thread::available_parallelism().map_or(1, usize::from);
        let wanted = (all * usize::from(percent)).div_ceil(100);
        let cores = if percent < 100 { wanted.min(all - 1).max(1) } else { all };
        BackgroundThreads {
            cores,
            #[cfg(target_os = "linux")]
            confined_to: (cores < all).then(|| last_cores(cores)).flatten(),
        }
    }

    /// How many are worth having: one for each core.
    pub fn count(&self) -> usize {
        self.cores
    }

    /// Makes the calling thread one of them, and those that it starts from now on.
    pub fn enter(&self) {
        give_way(BACKGROUND_NICENESS);
        #[cfg(target_os = "linux")]
        if let Some(cores) = &self.confined_to
            && let Err(error) = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), cores)
        {
            tracing::warn!(%error, "threads of the background run on all cores");
        }
    }
}

/// So many of the cores that the calling thread may use. None where they are not known.
#[cfg(target_os = "linux")]
fn last_cores(count: usize) -> Option<nix::sched::CpuSet> {
    let usable = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).ok()?;
    let usable = (0..nix::sched::CpuSet::count()).rev().filter(|core| usable.is_set(*core).unwrap_or(false));
    let mut cores = nix::sched::CpuSet::new();
    for core in usable.take(count) {
        cores.set(core).ok()?;
    }
    Some(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_than_all_leaves_a_core() {
        let all = std::thread::available_parallelism().unwrap().get();
        assert_eq!(BackgroundThreads::of_share(100).count(), all);
        let most = BackgroundThreads::of_share(99);
        assert_eq!(most.count(), (all - 1).max(1));
        assert_eq!(BackgroundThreads::of_share(1).count(), 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn threads_and_those_that_they_start_stay_on_their_cores() {
        let all = std::thread::available_parallelism().unwrap().get();
        let background = BackgroundThreads::of_share(50);
        let seen = std::thread::spawn(move || {
            background.enter();
            std::thread::spawn(|| std::thread::available_parallelism().unwrap().get()).join().unwrap()
        });
        assert_eq!(seen.join().unwrap(), all.div_ceil(2));
        assert_eq!(std::thread::available_parallelism().unwrap().get(), all);
    }
}
