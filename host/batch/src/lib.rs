//! Predictions over whole datasets: what is stored, the jobs that read and write it, and what is looked up afterwards.

pub mod jobs;
