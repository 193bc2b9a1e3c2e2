//! Tests of the real binary through its front door: HTTP, the command line, signals and what lies on the disk.

mod crash;
mod hot_update;
mod plugins;
mod uploads;
