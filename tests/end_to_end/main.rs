//! Tests of the real binary through its front door: HTTP, the command line, signals and what lies on the disk.

#![allow(
    clippy::unwrap_used,
    reason = "what a test stands on has to be there: its absence is the test's failure"
)]

mod batching;
mod binary;
mod cli;
mod clients;
mod configuration;
mod connections;
mod crash;
mod datasets;
mod engine_choice;
mod engines;
mod ensembles;
mod extensions;
mod hostile;
mod hot_update;
mod jobs;
mod malformed;
mod memory;
mod metrics;
mod online;
mod operate;
mod overload;
mod plugins;
mod predictions;
mod queue;
mod records;
mod restart;
mod samples;
mod schedules;
mod streaming;
mod uploads;
