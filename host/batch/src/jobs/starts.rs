//! How often a job began to work without committing anything before the host ended. A job that ends its host again and
//! again must not keep it from serving: it begins later each time, and at last not at all.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use modelhost_serving::Error;
use serde::{Deserialize, Serialize};

use super::execution::{parts_folder, write_whole};
use super::parts::Parts;

const FILE: &str = "starts.json";

/// After so many starts in vain a job is paused.
const MOST: u32 = 5;

/// Starts of a job since it has committed something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Starts {
    in_vain: u32,
    /// Parts that were committed when it began last.
    parts: usize,
}

impl Starts {
    /// Those of the job with this folder, until now.
    ///
    /// # Errors
    /// Failures of the disk.
    pub(super) fn of(folder: &Path) -> Result<Starts, Error> {
        let recorded = match fs::read(folder.join(FILE)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(Error::internal)?,
            Err(error) if error.kind() == ErrorKind::NotFound => Starts::default(),
            Err(error) => return Err(error.into()),
        };
        let folder = parts_folder(folder);
        let parts = if folder.exists() { Parts::at(folder).committed()?.len() } else { 0 };
        Ok(recorded.seen(parts))
    }

    /// The same once so many parts are committed.
    fn seen(self, parts: usize) -> Starts {
        if parts == self.parts { self } else { Starts { in_vain: 0, parts } }
    }

    /// Records one more, before it.
    ///
    /// # Errors
    /// Failures of the disk.
    pub(super) fn add(self, folder: &Path) -> Result<(), Error> {
        let starts = Starts { in_vain: self.in_vain + 1, ..self };
        write_whole(&folder.join(FILE), &serde_json::to_vec(&starts).map_err(Error::internal)?)
    }

    /// Forgets them: the host has outlived the job.
    ///
    /// # Errors
    /// Failures of the disk.
    pub(super) fn forget(folder: &Path) -> Result<(), Error> {
        match fs::remove_file(folder.join(FILE)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Why the job is not to begin once more, if so.
    pub(super) fn too_many(self) -> Option<String> {
        let Starts { in_vain, .. } = self;
        (in_vain >= MOST).then(|| {
            format!("the host ended {in_vain} times while this job worked, which has committed nothing in between: the host's log may say why")
        })
    }

    /// How long it is to wait first: a host that it ends serves others meanwhile.
    pub(super) fn wait(self) -> Duration {
        match self.in_vain {
            0..=2 => Duration::ZERO,
            3 => Duration::from_secs(1),
            _ => Duration::from_secs(5),
        }
    }

    /// Whether earlier starts were in vain, so that it should commit something soon.
    pub(super) fn is_urgent(self) -> bool {
        self.in_vain > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_count_until_a_part_is_committed() {
        let folder = tempfile::tempdir().unwrap();
        let starts = || Starts::of(folder.path()).unwrap();
        assert_eq!(starts(), Starts::default());
        assert!(!starts().is_urgent());
        for _ in 0..MOST {
            assert_eq!(starts().too_many(), None);
            starts().add(folder.path()).unwrap();
        }
        assert!(starts().is_urgent() && !starts().wait().is_zero());
        assert!(starts().too_many().unwrap().contains("5 times"));
        assert_eq!(starts().seen(1), Starts { in_vain: 0, parts: 1 });
        Starts::forget(folder.path()).unwrap();
        assert_eq!(starts(), Starts::default());
    }
}
