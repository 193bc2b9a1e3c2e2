//! What the tests of the registry share: small versions with real files behind them.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use modelhost_core::{
    AliasName, Capabilities, ComponentMetadata, Datatype, Digest, GraphDescription, ModelConfiguration,
    ModelName, Signature, TensorDescription, VersionNumber,
};
use modelhost_registry::{
    Added, DeploymentChange, GraphArtifact, Model, NewVersion, Registry, RegistryError, Reservation,
    Revision, TrafficShare,
};

pub const SETTINGS: &str = "test-settings";

pub fn model(name: &str) -> ModelName {
    name.parse().unwrap()
}

pub fn alias(name: &str) -> AliasName {
    name.parse().unwrap()
}

pub fn version(number: u64) -> VersionNumber {
    VersionNumber(number)
}

/// Stores a component of these bytes with a graph, which two neighbouring `content`s share, and its machine code.
pub fn store(registry: &Registry, content: u64) -> (NewVersion, Vec<Reservation>) {
    let component = component_of(content);
    let graph = format!("graph {}", content / 2).into_bytes();
    let (digest, graph_digest) = (Digest::of(&component), Digest::of(&graph));
    let artifacts = registry.artifacts();
    let staged = |bytes: &[u8]| {
        let mut file = artifacts.staging_file().unwrap();
        file.write_all(bytes).unwrap();
        file
    };
    let reservations = vec![
        artifacts.store_component(staged(&component), &digest).unwrap(),
        artifacts.store_graph(&graph, &graph_digest).unwrap(),
        artifacts.store_compiled(SETTINGS, &digest, staged(b"machine code")).unwrap(),
    ];
    let input = TensorDescription { name: "x".into(), datatype: Datatype::Fp32, shape: vec![-1, 4] };
    let new = NewVersion {
        digest,
        size_bytes: component.len() as u64,
        uploaded_by: Some("a test".into()),
        signature: Signature { inputs: vec![input.clone()], outputs: vec![] },
        graphs: vec![GraphArtifact {
            description: GraphDescription { name: "main".into(), inputs: vec![input], outputs: vec![] },
            digest: graph_digest,
            size_bytes: graph.len() as u64,
            engine_choice: None,
        }],
        samples: Vec::new(),
        capabilities: Capabilities::default(),
        metadata: ComponentMetadata { name: Some("zwölf\n\"".into()), ..ComponentMetadata::default() },
        compiled_size_bytes: 12,
        ensemble: None,
    };
    (new, reservations)
}

/// A configuration that sets this weight.
pub fn weighing(weight: u32) -> ModelConfiguration {
    ModelConfiguration { weight: weight.try_into().ok(), ..ModelConfiguration::default() }
}

pub fn component_of(content: u64) -> Vec<u8> {
    format!("component {content}").into_bytes()
}

pub fn add(registry: &Registry, name: &str, content: u64) -> Added {
    let (new, reservations) = store(registry, content);
    let added = registry.add_version(&model(name), new).unwrap();
    drop(reservations);
    added
}

pub fn change(number: u64) -> DeploymentChange {
    DeploymentChange {
        traffic: vec![TrafficShare::all(version(number))],
        by: Some("operator".into()),
        comment: None,
    }
}

pub fn deploy(registry: &Registry, name: &str, number: u64) -> Result<(Revision, u64), RegistryError> {
    registry.deploy(&model(name), change(number), None)
}

/// Everything that a reader can see, hidden models' revisions excepted.
pub fn snapshot(registry: &Registry) -> BTreeMap<String, (Model, Vec<Revision>)> {
    let models = registry.models().unwrap();
    models
        .into_iter()
        .map(|model| {
            let revisions = registry.revisions(&model.name).unwrap();
            assert_eq!(revisions.last(), model.deployment.as_ref());
            (model.name.to_string(), (model, revisions))
        })
        .collect()
}

/// How many files there are in a folder and its subfolders.
pub fn count_files(folder: &Path) -> usize {
    folder
        .read_dir()
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { count_files(&path) } else { 1 }
        })
        .sum()
}
