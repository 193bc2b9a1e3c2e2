//! Batch jobs: a dataset version through a model version into a new dataset version, in parts that are committed one by
//! one, so that a job goes on where it was after whatever ended the host.

mod specification;

pub use specification::{ErrorPolicy, FilledColumn, InputMapping, JobSpecification, Output, OutputFormat};
