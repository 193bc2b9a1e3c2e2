//! The words that every other crate of modelhost speaks: tensors and their data types, signatures, names,
//! digests and the kinds of failure. Nothing here reads, writes, waits or knows who is asking.

mod datatype;
mod digest;
mod engine_choice;
mod ensemble;
mod error_code;
mod fair_queue;
mod metadata;
mod model_configuration;
mod names;
mod parameter;
mod signature;
mod table_key;
mod tensor;

pub use datatype::Datatype;
pub use digest::{Digest, Hasher, InvalidDigest};
pub use engine_choice::{EngineCandidate, EngineChoice};
pub use ensemble::{
    DeclaredEnsemble, DeclaredStep, Ensemble, EnsembleDeclaration, EnsembleFlow, EnsemblePlan, EnsembleStep,
    InvalidEnsemble, MAX_ENSEMBLE_DEPTH, MAX_ENSEMBLE_STEPS, ReadyStep, StepTitle, UnexpectedTensors,
};
pub use error_code::ErrorCode;
pub use fair_queue::{FairQueue, FlowId, Standing, Ticket, Turn};
pub use metadata::{Capabilities, ComponentMetadata, SampleSection};
pub use model_configuration::{
    DynamicBatching, EngineName, EnginePreference, InvalidConfiguration, ModelConfiguration,
};
pub use names::{AliasName, DatasetName, InvalidName, ModelName, ScheduleName, TableName, VersionNumber};
pub use parameter::Parameter;
pub use signature::{GraphDescription, Signature, SignatureMismatch, TensorDescription};
pub use table_key::TableKey;
pub use tensor::{BytesElements, InvalidTensor, MAX_RANK, Tensor, element_count};
