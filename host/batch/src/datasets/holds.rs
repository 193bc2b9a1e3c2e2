//! Who needs which version of a dataset at the moment, so that none is deleted under a job or a table. Held in memory:
//! whoever needs a version beyond a restart holds it again when it is opened.

use std::collections::HashMap;
use std::sync::Arc;

use modelhost_core::{DatasetName, VersionNumber};
use parking_lot::Mutex;

type Versions = HashMap<(DatasetName, VersionNumber), Vec<String>>;

/// All holds.
#[derive(Clone, Default)]
pub(super) struct Holds(Arc<Mutex<Versions>>);

impl Holds {
    /// Holds a version until the value is dropped.
    pub(super) fn hold(&self, name: &DatasetName, number: VersionNumber, holder: &str) -> Hold {
        let key = (name.clone(), number);
        self.0.lock().entry(key.clone()).or_default().push(holder.to_owned());
        Hold { holds: self.clone(), key, holder: holder.to_owned() }
    }

    /// Who needs a version.
    pub(super) fn holders(&self, name: &DatasetName, number: VersionNumber) -> Vec<String> {
        self.0.lock().get(&(name.clone(), number)).cloned().unwrap_or_default()
    }
}

/// Keeps a version of a dataset from being deleted, until it is dropped.
#[must_use = "the version may be deleted when this is dropped"]
pub struct Hold {
    holds: Holds,
    key: (DatasetName, VersionNumber),
    holder: String,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut versions = self.holds.0.lock();
        let Some(holders) = versions.get_mut(&self.key) else { return };
        if let Some(place) = holders.iter().position(|holder| *holder == self.holder) {
            holders.swap_remove(place);
        }
        if holders.is_empty() {
            versions.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_held_as_often_as_it_is_needed() {
        let holds = Holds::default();
        let (name, number) = ("d".parse().unwrap(), VersionNumber(1));
        let first = holds.hold(&name, number, "job 1");
        let second = holds.hold(&name, number, "job 1");
        let other = holds.hold(&name, number, "table t");
        drop(first);
        assert_eq!(holds.holders(&name, number).len(), 2);
        drop((second, other));
        assert!(holds.holders(&name, number).is_empty());
        assert!(holds.0.lock().is_empty());
    }
}
