//! What exists and what is deployed, durably: models, versions, aliases, revisions, and the files they are made of; and
//! records of things that are no models, whose contents their owners know.
//!
//! Nothing here knows of Wasm, HTTP or async. Every call blocks, on the disk if it changes something; an async
//! caller uses a blocking thread.
//!
//! # The data folder
//!
//! | path | what it is |
//! | --- | --- |
//! | `lock` | locked by the one process that uses the folder |
//! | `journal.jsonl` | every change, one JSON object a line, with sequence number, time, model and checksum: **the truth** |
//! | `registry/` | sled: the state that the journal leads to, for reading |
//! | `artifacts/components/<hex>.wasm` | uploaded components, named by their SHA-256 digest |
//! | `artifacts/ensembles/<hex>.json` | declared ensembles, with the versions that their steps stand for |
//! | `artifacts/graphs/<hex>.onnx` | graphs taken out of components |
//! | `artifacts/compiled/<settings key>/<hex>.cwasm` | machine code, by engine settings and digest of the component; mode 0600, because whoever can write it runs code in the host |
//! | `artifacts/manifests/<model>/<version>.json` | the full record of a version, with checksum: what a rebuild falls back on where the journal is damaged |
//! | `staging/` | files being written; emptied at every start |
//!
//! Other folders belong to the owners of records, who get them from [`Registry::folder`].
//!
//! After a rebuild there is also what it moved aside: `registry.before-rebuild-<n>`, `journal.before-rebuild-<n>.jsonl`;
//! and until the next start `journal-was-rebuilt`, which tells whoever has files beside
//! records that those without may be of records that are lost ([`Registry::was_rebuilt`]).
//!
//! # The order of a change
//!
//! Changes are made one at a time, under one lock:
//!
//! 1. the rules and the expected generation are checked against sled;
//! 2. for a new version, whose artifacts are already in place: its manifest is written aside, fsynced, renamed;
//! 3. the line is appended to the journal and fsynced: from here on the change is made;
//! 4. one sled transaction writes the records, and that this line is applied; readers see the change;
//! 5. sled is flushed, and the caller gets its answer.
//!
//! A crash before 3 is complete leaves a torn line, which is cut off at the next start, and perhaps files that
//! no version refers to, which are removed. A crash after it leaves sled behind the journal: the next start
//! applies what is missing. So a change is there wholly or not at all, and an acknowledged one needs only the
//! journal's fsync to have been honest; it does not depend on sled's flush, which is no barrier against loss of
//! power on Linux. Where sled knows more than the journal, or the journal is damaged before its end, or manifests
//! show that it lost its end, the registry does not open: [`Registry::rebuild`] is for that. Aliases, revisions,
//! configurations and records are in no manifest: a rebuild has of them what the journal still has.
//!
//! # Reading
//!
//! Readers take no lock that a writer holds while it waits for the disk. A [`Model`] is consistent without one:
//! everything about a model that changes is in one record, and what that refers to is immutable.
//!
//! # Files that belong to nothing
//!
//! Every digest has a count of what needs it: each version one, each [`Reservation`] one. Storing an artifact
//! gives a reservation, so a file cannot vanish between its upload and the version that refers to it. Where the
//! count falls to nothing (a version deleted, an upload given up) the files of that digest are removed.

mod artifacts;
mod changes;
mod check;
mod data_dir;
pub mod durable;
mod error;
mod journal;
mod manifests;
mod model;
mod rebuild;
mod record;
mod records;
mod recovery;
mod references;
mod registry;
mod replay;
mod rules;
mod sealed;
mod store;

pub use artifacts::{Artifacts, ensemble_file};
pub use check::{CheckReport, digest_of};
pub use error::RegistryError;
pub use model::{Added, DeploymentChange, GraphArtifact, Model, NewVersion, Revision, TrafficShare, Version};
pub use rebuild::RebuildReport;
pub use record::{Record, RecordKind, RecordUpdate};
pub use references::Reservation;
pub use registry::Registry;
