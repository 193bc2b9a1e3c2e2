//! Who needs which version of a dataset at the moment, so that none is deleted under a job or a table. Held in memory:
//! whoever needs a version beyond a restart holds it again when it is opened.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use modelhost_core::{DatasetName, VersionNumber};
use parking_lot::Mutex;

type Key = (DatasetName, VersionNumber);

/// All holds. A version is held or about to be deleted, never both.
#[derive(Clone, Default)]
pub(super) struct Holds(Arc<Mutex<Versions>>);

#[derive(Default)]
struct Versions {
    held: HashMap<Key, Vec<String>>,
    deleting: HashSet<Key>,
}

impl Holds {
    /// Holds a version until the value is dropped. None: it is about to be deleted.
    pub(super) fn hold(&self, name: &DatasetName, number: VersionNumber, holder: &str) -> Option<Hold> {
        let key = (name.clone(), number);
        let mut versions = self.0.lock();
        if versions.deleting.contains(&key) {
            return None;
        }
        versions.held.entry(key.clone()).or_default().push(holder.to_owned());
        Some(Hold { holds: self.clone(), key, holder: holder.to_owned() })
    }

    /// Lets nobody hold a version until the value is dropped.
    ///
    /// # Errors
    /// Who holds it.
    pub(super) fn begin_delete(
        &self,
        name: &DatasetName,
        number: VersionNumber,
    ) -> Result<Deletion, Vec<String>> {
        let key = (name.clone(), number);
        let mut versions = self.0.lock();
        if let Some(holders) = versions.held.get(&key) {
            return Err(holders.clone());
        }
        versions.deleting.insert(key.clone());
        Ok(Deletion { holds: self.clone(), key })
    }
}

/// A version that is about to be deleted. Deletions come one after the other.
pub(super) struct Deletion {
    holds: Holds,
    key: Key,
}

impl Drop for Deletion {
    fn drop(&mut self) {
        self.holds.0.lock().deleting.remove(&self.key);
    }
}

/// Keeps a version of a dataset from being deleted, until it is dropped.
#[must_use = "the version may be deleted when this is dropped"]
pub struct Hold {
    holds: Holds,
    key: Key,
    holder: String,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut versions = self.holds.0.lock();
        let Some(holders) = versions.held.get_mut(&self.key) else { return };
        if let Some(place) = holders.iter().position(|holder| *holder == self.holder) {
            holders.remove(place);
        }
        if holders.is_empty() {
            versions.held.remove(&self.key);
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
        let first = holds.hold(&name, number, "job 1").unwrap();
        let second = holds.hold(&name, number, "job 1").unwrap();
        let other = holds.hold(&name, number, "table t").unwrap();
        drop(first);
        let holders = holds.begin_delete(&name, number).err();
        assert_eq!(holders, Some(vec!["job 1".to_owned(), "table t".to_owned()]));
        drop((second, other));
        assert!(holds.0.lock().held.is_empty());
    }

    #[test]
    fn what_is_being_deleted_is_not_held() {
        let holds = Holds::default();
        let (name, number) = ("d".parse().unwrap(), VersionNumber(1));
        let deletion = holds.begin_delete(&name, number).ok().unwrap();
        assert!(holds.hold(&name, number, "job 1").is_none());
        assert!(holds.hold(&name, VersionNumber(2), "job 1").is_some());
        drop(deletion);
        assert!(holds.hold(&name, number, "job 1").is_some());
    }
}
