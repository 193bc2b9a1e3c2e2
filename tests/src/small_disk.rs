//! A disk without room: a small file system in memory in the place of a folder. Only who may mount has one.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of its own, until this is dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// One of so many bytes, in the place of this folder. None where this user may not mount.
    pub fn mount(at: &Path, bytes: usize) -> Option<SmallDisk> {
        let size = format!("size={bytes}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).status();
        mounted.is_ok_and(|status| status.success()).then(|| SmallDisk(at.to_owned()))
    }

    /// Leaves only so many bytes of it free, by this file.
    pub fn fill_all_but(&self, filler: &Path, left: u64) {
        let output = Command::new("df").args(["--output=avail", "-B1"]).arg(&self.0).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let available: u64 = text.lines().nth(1).unwrap().trim().parse().unwrap();
        std::fs::write(filler, vec![0; available.saturating_sub(left) as usize]).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
