//! The extension "model repository": what there is and whether it answers, and taking a model out of service and back. An
//! unloaded model is a revision without traffic, so it stays unloaded over a restart, its log says who did it, and
//! loading, deploying and rolling back all end it.

use std::sync::Arc;

use modelhost_core::{ErrorCode, ModelName};
use modelhost_registry::{Registry, TrafficShare};
use serde::Serialize;

use crate::error::Error;
use crate::host::ModelHost;
use crate::live::LiveModel;
use crate::operate::{Authorship, finish};

/// Whether a version answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum VersionState {
    /// It does, by its number; what is not in memory is brought there by its next request.
    Ready,
    /// It is brought into memory now, and answers then.
    Loading,
    /// It does not.
    Unavailable,
}

/// One version in the index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IndexEntry {
    /// The model.
    pub name: ModelName,
    /// The version's number.
    pub version: String,
    /// Whether it answers.
    pub state: VersionState,
    /// Why not; empty where it does.
    pub reason: String,
}

impl ModelHost {
    /// Every version of every model, by name and number.
    pub fn repository_index(&self) -> Vec<IndexEntry> {
        let mut index: Vec<_> = self.live.all().iter().flat_map(|live| entries(live)).collect();
        // Numbers are in their order already.
        index.sort_by(|one, other| one.name.cmp(&other.name));
        index
    }

    /// Takes a model out of service: whichever version is asked for, the model is unavailable. Requests under way finish;
    /// what it holds in memory is let go.
    ///
    /// # Errors
    /// Unknown model, and failures of the registry.
    pub async fn unload(self: &Arc<Self>, name: &ModelName, author: Authorship) -> Result<(), Error> {
        let live = self.live_model(name)?;
        let host = self.clone();
        finish(async move {
            let _changing = live.changing.lock().await;
            if live.state().is_unloaded() {
                return Ok(());
            }
            let name = live.name.clone();
            let unload = move |registry: &Registry| registry.unload(&name, author.by, author.comment);
            host.with_registry(unload).await?;
            host.show_deployment(&live).await?;
            let servables: Vec<_> = live.servables.lock().values().cloned().collect();
            // Dropping plugins blocks.
            tokio::task::spawn_blocking(move || servables.iter().for_each(|servable| servable.evict()))
                .await?;
            Ok(())
        })
        .await
    }

    /// Brings a model into memory: what is deployed, what was deployed when it was unloaded, or, where nothing was or it is
    /// not there any more, its newest version. When this returns, it answers.
    ///
    /// # Errors
    /// Unknown model, or a version that does not load: then nothing changes.
    pub async fn load(self: &Arc<Self>, name: &ModelName, author: Authorship) -> Result<(), Error> {
        let live = self.live_model(name)?;
        let host = self.clone();
        finish(async move {
            let _changing = live.changing.lock().await;
            let state = live.state();
            if let Ok(servable) = state.deployed(&live.name) {
                return servable.make_ready().await;
            }
            let name = live.name.clone();
            let earlier = host.with_registry(move |registry| registry.last_traffic(&name)).await?;
            let traffic = match earlier {
                Some(traffic) => traffic,
                None => vec![newest(&live)?],
            };
            host.deploy_locked(&live, traffic, author, None).await.map(|_| ())
        })
        .await
    }

    /// Refuses where an operator took the model out of service.
    ///
    /// # Errors
    /// Unknown model; [`ErrorCode::Unavailable`].
    pub fn check_loaded(&self, name: &ModelName) -> Result<(), Error> {
        self.live_model(name)?.state().check_loaded(name)
    }
}

fn newest(live: &LiveModel) -> Result<TrafficShare, Error> {
    let record = live.state().record.clone();
    let newest = record.iter().flat_map(|record| &record.versions).map(|version| version.number).max();
    newest
        .map(TrafficShare::all)
        .ok_or_else(|| Error::new(ErrorCode::NotFound, format!("model {} has no version", live.name)))
}

fn entries(live: &LiveModel) -> Vec<IndexEntry> {
    let state = live.state();
    let servables = live.servables.lock().clone();
    let versions = state.record.iter().flat_map(|record| &record.versions);
    let entry = |number| {
        let servable = servables.get(&number);
        let failure = servable.and_then(|servable| servable.last_failure());
        let (state, reason) = match failure {
            _ if state.is_unloaded() => (VersionState::Unavailable, "unloaded".to_owned()),
            Some(error) => (VersionState::Unavailable, error.message),
            None if servable.is_some_and(|servable| servable.is_loading()) => {
                (VersionState::Loading, String::new())
            }
            None => (VersionState::Ready, String::new()),
        };
        IndexEntry { name: live.name.clone(), version: number.to_string(), state, reason }
    };
    versions.map(|version| entry(version.number)).collect()
}
