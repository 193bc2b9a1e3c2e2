//! What the operating system gives to this process: file descriptors and mappings of memory, of which each loaded plugin
//! takes some.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Measured with a thousand small plugins: one, for the file of compiled code, from which the images of memories are mapped
/// too. Another one for a component whose images have to be copied out of it.
const DESCRIPTORS_OF_A_PLUGIN: u64 = 2;
/// Measured likewise: three to four, for the parts of the file that are mapped with different rights. And some for images
/// in sandboxes that are kept.
const MAPPINGS_OF_A_PLUGIN: u64 = 6;

/// Where the kernel says how many mappings a process may have.
const MAX_MAPPINGS: &str = "/proc/sys/vm/max_map_count";

/// Lets this process open as many files as it may: the lower limit is for programs that keep them in a fixed table.
pub(crate) fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}

/// Plugins that may be loaded at one moment: half of what there is goes to them, and half to connections, uploads and
/// sandboxes.
pub(crate) fn max_loaded_plugins() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let mappings = std::fs::read_to_string(MAX_MAPPINGS).ok().and_then(|text| text.trim().parse().ok());
    let mappings: u64 = mappings.unwrap_or(65_530);
    let plugins = (descriptors / 2 / DESCRIPTORS_OF_A_PLUGIN).min(mappings / 2 / MAPPINGS_OF_A_PLUGIN);
    usize::try_from(plugins).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_plugins() {
        raise_descriptor_limit();
        assert_eq!(getrlimit(Resource::Nofile).current, getrlimit(Resource::Nofile).maximum);
        assert!(max_loaded_plugins() >= 1);
    }
}
