//! What operators do: look, deploy, roll back, name and delete. A change is made in the registry first, and
//! then in memory; it runs to its end even where the one who asked for it hangs up.

use std::sync::Arc;

use modelhost_core::{AliasName, ModelName, VersionNumber};
use modelhost_registry::{DeploymentChange, Model, Registry, RegistryError, Revision, TrafficShare, Version};

use crate::background::refuse_if_held;
use crate::error::Error;
use crate::host::{ModelHost, deployed_version};
use crate::live::{LiveModel, VersionSelector};

/// Who changes something, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authorship {
    /// Who, where that is known.
    pub by: Option<String>,
    /// Why.
    pub comment: Option<String>,
}

impl ModelHost {
    /// All models, by name.
    ///
    /// # Errors
    /// A registry that cannot be read.
    pub async fn models(&self) -> Result<Vec<Model>, Error> {
        self.with_registry(Registry::models).await
    }

    /// One model. Its generation is what HTTP calls the entity tag.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`].
    pub async fn model(&self, name: &ModelName) -> Result<Arc<Model>, Error> {
        self.record(name)
    }

    /// One version, and the generation of its model.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`]; [`ErrorCode::Unavailable`] where the deployed one is asked for and there is none.
    pub async fn version(
        &self,
        name: &ModelName,
        selector: &VersionSelector,
    ) -> Result<(Version, u64), Error> {
        let state = self.live_model(name)?.state();
        let number = state.selected(name, selector)?;
        let generation = state.record.as_ref().map_or(0, |record| record.generation);
        Ok((state.version(name, number)?.clone(), generation))
    }

    /// One version as it is now.
    ///
    /// # Errors
    /// The same.
    pub(crate) fn version_now(&self, name: &ModelName, selector: &VersionSelector) -> Result<Version, Error> {
        let state = self.live_model(name)?.state();
        Ok(state.version(name, state.selected(name, selector)?)?.clone())
    }

    /// All revisions of a model's deployment, oldest first.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`].
    pub async fn revisions(&self, name: &ModelName) -> Result<Vec<Revision>, Error> {
        self.record(name)?;
        let name = name.clone();
        self.with_registry(move |registry| registry.revisions(&name)).await
    }

    /// Makes a version answer. When this returns, every new request gets it; requests under way finish on the
    /// version that they began with.
    ///
    /// # Errors
    /// Unknown model or version, traffic that does not add up, a version that does not load, or another
    /// generation than `expected`.
    pub async fn deploy(
        self: &Arc<Self>,
        name: &ModelName,
        traffic: Vec<TrafficShare>,
        author: Authorship,
        expected: Option<u64>,
    ) -> Result<(Revision, u64), Error> {
        let live = self.live_model(name)?;
        let host = self.clone();
        finish(async move {
            let _changing = live.changing.lock().await;
            host.deploy_locked(&live, traffic, author, expected).await
        })
        .await
    }

    /// Restores an earlier revision, as a new one: the one before, or the one with that number.
    ///
    /// # Errors
    /// No such revision, a version that was deleted or does not load, or another generation than `expected`.
    pub async fn rollback(
        self: &Arc<Self>,
        name: &ModelName,
        to: Option<u64>,
        author: Authorship,
        expected: Option<u64>,
    ) -> Result<(Revision, u64), Error> {
        let live = self.live_model(name)?;
        let host = self.clone();
        finish(async move {
            let _changing = live.changing.lock().await;
            let name = live.name.clone();
            let target = host.with_registry(move |registry| registry.rollback_target(&name, to)).await?;
            host.load_all(&live, &target.traffic).await?;
            let name = live.name.clone();
            let roll_back =
                move |registry: &Registry| registry.rollback(&name, to, author.by, author.comment, expected);
            let restored = host.with_registry(roll_back).await?;
            host.show_deployment(&live).await?;
            Ok(restored)
        })
        .await
    }

    /// Points an alias at a version.
    ///
    /// # Errors
    /// Unknown model or version, or another generation than `expected`.
    pub async fn set_alias(
        self: &Arc<Self>,
        name: &ModelName,
        alias: AliasName,
        version: VersionNumber,
        expected: Option<u64>,
    ) -> Result<u64, Error> {
        self.change(name, move |registry, name| registry.set_alias(name, &alias, version, expected)).await
    }

    /// Removes an alias.
    ///
    /// # Errors
    /// Unknown model or alias, or another generation than `expected`.
    pub async fn delete_alias(
        self: &Arc<Self>,
        name: &ModelName,
        alias: &AliasName,
        expected: Option<u64>,
    ) -> Result<u64, Error> {
        let alias = alias.clone();
        self.change(name, move |registry, name| registry.delete_alias(name, &alias, expected)).await
    }

    /// Deletes a version that nothing names any more.
    ///
    /// # Errors
    /// Unknown model or version, [`ErrorCode::Conflict`] while it is deployed, has an alias or is held, or another
    /// generation than `expected`.
    pub async fn delete_version(
        self: &Arc<Self>,
        name: &ModelName,
        version: VersionNumber,
        expected: Option<u64>,
    ) -> Result<u64, Error> {
        let live = self.live_model(name)?;
        let host = self.clone();
        finish(async move {
            let _changing = live.changing.lock().await;
            refuse_if_held(&live.holds, version)?;
            let name = live.name.clone();
            let delete = move |registry: &Registry| registry.delete_version(&name, version, expected);
            let generation = host.with_registry(delete).await?;
            live.set_record(host.read_record(&live.name).await?);
            host.loader.forget(&live, version);
            Ok(generation)
        })
        .await
    }

    /// Makes a change that leaves alone what answers.
    async fn change(
        self: &Arc<Self>,
        name: &ModelName,
        change: impl FnOnce(&Registry, &ModelName) -> Result<u64, RegistryError> + Send + 'static,
    ) -> Result<u64, Error> {
        let live = self.live_model(name)?;
        let host = self.clone();
        finish(async move {
            let _changing = live.changing.lock().await;
            let name = live.name.clone();
            let generation = host.with_registry(move |registry| change(registry, &name)).await?;
            live.set_record(host.read_record(&live.name).await?);
            Ok(generation)
        })
        .await
    }

    /// Makes versions ready before anybody is told: one that does not load is never deployed.
    async fn load_all(&self, live: &LiveModel, traffic: &[TrafficShare]) -> Result<(), Error> {
        let state = live.state();
        for share in traffic {
            self.loader
                .servable(&self.live, live, state.version(&live.name, share.version)?)
                .make_ready()
                .await?;
        }
        Ok(())
    }

    /// Shows in memory what the registry says since a moment ago.
    pub(crate) async fn show_deployment(&self, live: &LiveModel) -> Result<(), Error> {
        let record = self.read_record(&live.name).await?;
        let revision = record.as_ref().and_then(|record| record.deployment.as_ref());
        let Some(number) = deployed_version(revision) else {
            live.set(record, None);
            return Ok(());
        };
        let version = record.as_ref().and_then(|record| record.version(number)).ok_or_else(|| {
            Error::internal(format!("deployed version {number} of {} has no record", live.name))
        })?;
        let servable = self.loader.servable(&self.live, live, version);
        live.set(record, Some(servable));
        Ok(())
    }

    pub(crate) async fn read_record(&self, name: &ModelName) -> Result<Option<Model>, Error> {
        let name = name.clone();
        self.with_registry(move |registry| registry.model(&name)).await
    }

    pub(crate) async fn with_registry<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Registry) -> Result<T, RegistryError> + Send + 'static,
    ) -> Result<T, Error> {
        let registry = self.loader.registry.clone();
        Ok(tokio::task::spawn_blocking(move || work(&registry)).await??)
    }

    /// Deploys, under the lock of the model that the caller holds.
    pub(crate) async fn deploy_locked(
        &self,
        live: &LiveModel,
        traffic: Vec<TrafficShare>,
        author: Authorship,
        expected: Option<u64>,
    ) -> Result<(Revision, u64), Error> {
        self.load_all(live, &traffic).await?;
        let name = live.name.clone();
        let change = DeploymentChange { traffic, by: author.by, comment: author.comment };
        let deployed = self.with_registry(move |registry| registry.deploy(&name, change, expected)).await?;
        self.show_deployment(live).await?;
        Ok(deployed)
    }

    /// Whether a version is the one that answers now.
    pub(crate) fn is_deployed(&self, name: &ModelName, version: VersionNumber) -> bool {
        self.live.get(name).is_some_and(|live| live.state().deployed_with(version).is_some())
    }
}

/// Runs a change to its end, whether or not somebody waits for the answer.
pub(crate) async fn finish<T: Send + 'static>(
    change: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(change).await?
}
