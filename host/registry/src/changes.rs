//! The changes of models. What forbids one is in `rules`, what one means for the records in `replay`; the
//! order of writing is told in the crate's documentation.

use jiff::Timestamp;
use modelhost_core::{AliasName, Ensemble, ModelConfiguration, ModelName, VersionNumber};
use serde::Deserialize;

use crate::artifacts::version_path;
use crate::error::RegistryError;
use crate::journal::{Change, Entry};
use crate::manifests;
use crate::model::{Added, DeploymentChange, NewVersion, Revision, TrafficShare, Version};
use crate::records::{self, Head};
use crate::recovery::{digests_of, is_visible};
use crate::registry::{Registry, Writer, no_model, no_version};
use crate::replay::{self, Failure};
use crate::rules::{check_generation, check_traffic, refuse_if_deleted, refuse_if_needed, refuse_if_step};

impl Registry {
    /// Adds a version to a model, and the model if it is new. The same bytes under the same model again are the
    /// version that is there already.
    ///
    /// The component and its graphs are stored first, and their reservations kept until this returns.
    ///
    /// # Errors
    /// [`RegistryError::Misuse`] where an artifact is not stored, [`RegistryError::Conflict`] for an ensemble one of whose
    /// steps does not exist any more, and failures of the disk.
    pub fn add_version(&self, model: &ModelName, new: NewVersion) -> Result<Added, RegistryError> {
        let mut writer = self.writer.lock();
        let head = self.head(model)?.unwrap_or_else(Head::new);
        if let Some((number, _)) = head.versions.iter().find(|(_, digest)| **digest == new.digest) {
            let version = self.version_record(model, *number)?.ok_or_else(|| no_version(model, *number))?;
            return Ok(Added { version, created: false, generation: head.generation });
        }
        let version = number_version(head.next_version, new);
        self.check_stored(&version)?;
        replay::check_steps(&&self.store, &version).map_err(gone)?;
        let digests = digests_of(&version);
        self.artifacts.references().hold(&digests);
        let added = manifests::write(&self.data, model, &version).and_then(|()| {
            self.commit(
                &mut writer,
                model,
                head,
                version.created,
                Change::VersionAdded(Box::new(version.clone())),
            )
        });
        match added {
            Ok(generation) => Ok(Added { version, created: true, generation }),
            // The version may be there after a restart: it needs its files.
            Err(error) if writer.journal.is_stopped() => Err(error),
            Err(error) => {
                manifests::remove(&self.data, model, version.number);
                self.artifacts.references().release(&digests);
                Err(error)
            }
        }
    }

    /// Deletes a version, and the files that nothing else needs. Its number is not used again. A model without versions is
    /// no longer seen, but its numbers go on where they were if it comes back.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`], [`RegistryError::PreconditionFailed`], [`RegistryError::Conflict`] while the newest
    /// revision, an alias or an ensemble names it, and failures of the disk.
    pub fn delete_version(
        &self,
        model: &ModelName,
        number: VersionNumber,
        expected: Option<u64>,
    ) -> Result<u64, RegistryError> {
        let mut writer = self.writer.lock();
        let head = self.existing(model)?;
        let version = self.version_record(model, number)?.ok_or_else(|| no_version(model, number))?;
        check_generation(&head, expected)?;
        refuse_if_needed(&head, number)?;
        refuse_if_step(model, number, &self.ensembles()?)?;
        let generation =
            self.commit(&mut writer, model, head, Timestamp::now(), Change::VersionDeleted(number))?;
        manifests::remove(&self.data, model, number);
        self.artifacts.references().release(&digests_of(&version));
        Ok(generation)
    }

    /// Makes a new revision. Returns it, and the model's generation.
    ///
    /// # Errors
    /// [`RegistryError::InvalidTraffic`] for anything but one version with 100 percent, [`RegistryError::NotFound`],
    /// [`RegistryError::PreconditionFailed`], and failures of the disk.
    pub fn deploy(
        &self,
        model: &ModelName,
        change: DeploymentChange,
        expected: Option<u64>,
    ) -> Result<(Revision, u64), RegistryError> {
        check_traffic(&change.traffic)?;
        let mut writer = self.writer.lock();
        let head = self.existing(model)?;
        if let Some(share) = change.traffic.iter().find(|share| !head.versions.contains_key(&share.version)) {
            return Err(no_version(model, share.version));
        }
        check_generation(&head, expected)?;
        self.revise(&mut writer, model, head, change, None)
    }

    /// Takes a model out of service, by a new revision without traffic: what was deployed stays in the log, for
    /// [`Registry::rollback`] and for [`Registry::last_traffic`]. Returns it, and the model's generation.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`], and failures of the disk.
    pub fn unload(
        &self,
        model: &ModelName,
        by: Option<String>,
        comment: Option<String>,
    ) -> Result<(Revision, u64), RegistryError> {
        let mut writer = self.writer.lock();
        let head = self.existing(model)?;
        let change = DeploymentChange { traffic: Vec::new(), by, comment };
        self.revise(&mut writer, model, head, change, None)
    }

    /// What answered last for a model that may be unloaded now; none where nothing did, or a version of it was deleted.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`], and failures of the disk.
    pub fn last_traffic(&self, model: &ModelName) -> Result<Option<Vec<TrafficShare>>, RegistryError> {
        let head = self.existing(model)?;
        for number in (1..=head.deployment.as_ref().map_or(0, |newest| newest.number)).rev() {
            let revision = self.revision(model, number)?;
            if let Some(revision) = revision.filter(|revision| !revision.is_unloading()) {
                let is_whole = refuse_if_deleted(&head, &revision).is_ok();
                return Ok(is_whole.then_some(revision.traffic));
            }
        }
        Ok(None)
    }

    /// Makes a new revision that restores an older one: the one numbered `to`, or else the newest older one whose
    /// traffic differs from the newest and lets a version answer. Returns it, and the model's generation.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`], [`RegistryError::PreconditionFailed`], [`RegistryError::Conflict`] where there is
    /// no such older revision or a version that it names was deleted, and failures of the disk.
    pub fn rollback(
        &self,
        model: &ModelName,
        to: Option<u64>,
        by: Option<String>,
        comment: Option<String>,
        expected: Option<u64>,
    ) -> Result<(Revision, u64), RegistryError> {
        let mut writer = self.writer.lock();
        let head = self.existing(model)?;
        check_generation(&head, expected)?;
        let target = self.target_of(model, &head, to)?;
        let change = DeploymentChange { traffic: target.traffic, by, comment };
        self.revise(&mut writer, model, head, change, Some(target.number))
    }

    /// The revision that a rollback would restore now, so that its versions can be made ready before it does.
    ///
    /// # Errors
    /// As [`Registry::rollback`], but for the generation.
    pub fn rollback_target(&self, model: &ModelName, to: Option<u64>) -> Result<Revision, RegistryError> {
        self.target_of(model, &self.existing(model)?, to)
    }

    fn target_of(&self, model: &ModelName, head: &Head, to: Option<u64>) -> Result<Revision, RegistryError> {
        let target = match to {
            Some(number) => self.revision(model, number)?.ok_or_else(|| RegistryError::NotFound {
                what: format!("revision {number} of model \"{model}\""),
            })?,
            None => self.previous_revision(model, head)?,
        };
        if target.is_unloading() {
            return Err(RegistryError::Conflict(format!(
                "revision {} unloaded the model: nothing answered under it",
                target.number
            )));
        }
        refuse_if_deleted(head, &target)?;
        Ok(target)
    }

    /// Points an alias at a version, whether or not the alias was there. Returns the model's generation.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`], [`RegistryError::PreconditionFailed`], and failures of the disk.
    pub fn set_alias(
        &self,
        model: &ModelName,
        alias: &AliasName,
        version: VersionNumber,
        expected: Option<u64>,
    ) -> Result<u64, RegistryError> {
        let mut writer = self.writer.lock();
        let head = self.existing(model)?;
        if !head.versions.contains_key(&version) {
            return Err(no_version(model, version));
        }
        check_generation(&head, expected)?;
        if head.aliases.get(alias) == Some(&version) {
            return Ok(head.generation);
        }
        let change = Change::AliasSet { alias: alias.clone(), version };
        self.commit(&mut writer, model, head, Timestamp::now(), change)
    }

    /// Removes an alias. Returns the model's generation.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`], [`RegistryError::PreconditionFailed`], and failures of the disk.
    pub fn delete_alias(
        &self,
        model: &ModelName,
        alias: &AliasName,
        expected: Option<u64>,
    ) -> Result<u64, RegistryError> {
        let mut writer = self.writer.lock();
        let head = self.existing(model)?;
        if !head.aliases.contains_key(alias) {
            return Err(RegistryError::NotFound { what: format!("alias \"{alias}\" of model \"{model}\"") });
        }
        check_generation(&head, expected)?;
        self.commit(&mut writer, model, head, Timestamp::now(), Change::AliasDeleted(alias.clone()))
    }

    /// Replaces the configuration of a model. Returns the model's generation.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`], [`RegistryError::PreconditionFailed`], and failures of the disk.
    pub fn configure(
        &self,
        model: &ModelName,
        configuration: ModelConfiguration,
        expected: Option<u64>,
    ) -> Result<u64, RegistryError> {
        let mut writer = self.writer.lock();
        let head = self.existing(model)?;
        check_generation(&head, expected)?;
        if head.configuration == configuration {
            return Ok(head.generation);
        }
        let change = Change::Configured(Box::new(configuration));
        self.commit(&mut writer, model, head, Timestamp::now(), change)
    }

    /// All versions that are ensembles.
    fn ensembles(&self) -> Result<Vec<(ModelName, VersionNumber, Ensemble)>, RegistryError> {
        let mut found = Vec::new();
        for record in self.store.scan::<StepsOfVersion>(records::VERSIONS) {
            let (key, StepsOfVersion { number, ensemble }) = record?;
            if let Some(ensemble) = ensemble {
                found.push((records::model_of_version(&key)?, number, ensemble));
            }
        }
        Ok(found)
    }

    fn revise(
        &self,
        writer: &mut Writer,
        model: &ModelName,
        head: Head,
        change: DeploymentChange,
        restores: Option<u64>,
    ) -> Result<(Revision, u64), RegistryError> {
        let number = head.deployment.as_ref().map_or(1, |newest| newest.number + 1);
        let DeploymentChange { traffic, by, comment } = change;
        let revision = Revision { number, time: Timestamp::now(), traffic, by, comment, restores };
        let generation =
            self.commit(writer, model, head, revision.time, Change::Deployed(revision.clone()))?;
        Ok((revision, generation))
    }

    /// Makes a change that the rules allow. After an error nothing has changed, unless the journal has stopped.
    fn commit(
        &self,
        writer: &mut Writer,
        model: &ModelName,
        head: Head,
        time: Timestamp,
        change: Change,
    ) -> Result<u64, RegistryError> {
        let generation = head.generation + 1;
        let sequence = writer.next_sequence;
        let model = Some(model.clone());
        self.write(writer, &Entry { format: change.format(), sequence, time, model, generation, change })?;
        Ok(generation)
    }

    /// Makes a change, in the order that the crate's documentation tells. After an error nothing has changed, unless
    /// the journal has stopped.
    pub(crate) fn write(&self, writer: &mut Writer, entry: &Entry) -> Result<(), RegistryError> {
        let writes = replay::apply(&&self.store, entry, writer.journal.length()).map_err(refused)?;
        writer.journal.append(entry)?;
        writer.next_sequence += 1;
        let stored = self.store.commit(&writes).and_then(|()| self.store.flush());
        // The journal has the change, the store perhaps not: a later change must not build on that.
        stored.inspect_err(|_| writer.journal.stop())
    }

    fn existing(&self, model: &ModelName) -> Result<Head, RegistryError> {
        self.head(model)?.filter(is_visible).ok_or_else(|| no_model(model))
    }

    fn revision(&self, model: &ModelName, number: u64) -> Result<Option<Revision>, RegistryError> {
        self.store.get(&records::revision_key(model, number))
    }

    fn previous_revision(&self, model: &ModelName, head: &Head) -> Result<Revision, RegistryError> {
        let Some(current) = &head.deployment else {
            return Err(RegistryError::Conflict(format!(
                "model \"{model}\" was never deployed: nothing to roll back"
            )));
        };
        for number in (1..current.number).rev() {
            let older = self.revision(model, number)?;
            let restores = |older: &Revision| older.traffic != current.traffic && !older.is_unloading();
            if let Some(older) = older.filter(restores) {
                return Ok(older);
            }
        }
        Err(RegistryError::Conflict(format!(
            "model \"{model}\" has no earlier revision that differs from the current one, number {}",
            current.number
        )))
    }

    fn check_stored(&self, version: &Version) -> Result<(), RegistryError> {
        if !version_path(&self.data, version).exists() {
            return Err(RegistryError::Misuse(format!("the file of {} was not stored", version.digest)));
        }
        match version.graphs.iter().find(|graph| !self.artifacts.graph_path(&graph.digest).exists()) {
            Some(graph) => Err(RegistryError::Misuse(format!("graph {} was not stored", graph.digest))),
            None => Ok(()),
        }
    }
}

/// The part of a version that says which others it needs.
#[derive(Deserialize)]
struct StepsOfVersion {
    number: VersionNumber,
    #[serde(default)]
    ensemble: Option<Ensemble>,
}

fn gone(failure: Failure) -> RegistryError {
    match failure {
        Failure::Inapplicable(reason) => RegistryError::Conflict(reason),
        Failure::Unreadable(error) => error,
    }
}

fn refused(failure: Failure) -> RegistryError {
    match failure {
        Failure::Inapplicable(reason) => RegistryError::Misuse(reason),
        Failure::Unreadable(error) => error,
    }
}

fn number_version(number: VersionNumber, new: NewVersion) -> Version {
    Version {
        number,
        digest: new.digest,
        size_bytes: new.size_bytes,
        created: Timestamp::now(),
        uploaded_by: new.uploaded_by,
        signature: new.signature,
        graphs: new.graphs,
        samples: new.samples,
        capabilities: new.capabilities,
        metadata: new.metadata,
        compiled_size_bytes: new.compiled_size_bytes,
        ensemble: new.ensemble,
    }
}
