//! Which version answers for which name, in memory. Readers take one atomic load per request and never wait;
//! every change replaces what they see as a whole.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use modelhost_core::{AliasName, Digest, ErrorCode, ModelConfiguration, ModelName, VersionNumber};
use modelhost_registry::{Model, Revision, Version};
use modelhost_runtime::{Runtime, Share};
use parking_lot::Mutex;

use crate::admission::{Admission, Slots};
use crate::configuration::Defaults;
use crate::configure::Scheduled;
use crate::error::Error;
use crate::servable::Servable;

/// Which version of a model a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionSelector {
    /// What the deployment says.
    Deployed,
    /// This number.
    Number(VersionNumber),
    /// Whatever the alias points at.
    Alias(AliasName),
}

/// All models, by name.
pub(crate) struct LiveModels {
    models: ArcSwap<HashMap<ModelName, Arc<LiveModel>>>,
    /// Only for additions: the map is replaced as a whole.
    adding: Mutex<()>,
    defaults: Arc<Defaults>,
    slots: Arc<Slots>,
    /// As many as anybody wants: what runs in them are steps, which need slots of their own.
    ensemble_slots: Arc<Slots>,
    runtime: Arc<Runtime>,
}

/// One model.
pub(crate) struct LiveModel {
    pub(crate) name: ModelName,
    pub(crate) admission: Arc<Admission>,
    /// The door of those of its versions that are ensembles. It leads to no sandbox: each step passes the door of its own
    /// model for that.
    pub(crate) ensemble_admission: Arc<Admission>,
    /// How many need a version that may not be deleted meanwhile.
    pub(crate) holds: Arc<Mutex<BTreeMap<VersionNumber, usize>>>,
    /// What its versions have of the machine together.
    pub(crate) share: Share,
    defaults: Arc<Defaults>,
    state: ArcSwap<LiveState>,
    /// Its versions that were asked for, in memory or not.
    pub(crate) servables: Mutex<BTreeMap<VersionNumber, Arc<Servable>>>,
    /// How it is to be served, for whoever loads one of its versions.
    pub(crate) configuration: Arc<ArcSwap<ModelConfiguration>>,
    /// Changes of one model come one after the other, in memory as in the registry.
    pub(crate) changing: tokio::sync::Mutex<()>,
}

/// What is true of a model at one moment.
#[derive(Default)]
pub(crate) struct LiveState {
    pub(crate) record: Option<Arc<Model>>,
    aliases: BTreeMap<AliasName, VersionNumber>,
    /// What answers requests that name no version. None: no revision yet.
    deployed: Option<Arc<Servable>>,
}

impl LiveModels {
    pub(crate) fn new(defaults: Defaults, slots: Arc<Slots>, runtime: Arc<Runtime>) -> LiveModels {
        LiveModels {
            models: ArcSwap::default(),
            adding: Mutex::new(()),
            defaults: Arc::new(defaults),
            slots,
            ensemble_slots: Slots::new(usize::MAX),
            runtime,
        }
    }

    pub(crate) fn get(&self, name: &ModelName) -> Option<Arc<LiveModel>> {
        self.models.load().get(name).cloned()
    }

    /// All models.
    pub(crate) fn all(&self) -> Vec<Arc<LiveModel>> {
        self.models.load().values().cloned().collect()
    }

    /// A version whose component has these bytes, of whichever model.
    pub(crate) fn version_of_bytes(&self, digest: &Digest) -> Option<Version> {
        self.models.load().values().find_map(|model| {
            let record = model.state().record.clone()?;
            let is_of_bytes = |version: &&Version| version.digest == *digest && version.ensemble.is_none();
            record.versions.iter().find(is_of_bytes).cloned()
        })
    }

    /// The model of this name, made if it is new.
    pub(crate) fn get_or_add(&self, name: &ModelName) -> Arc<LiveModel> {
        if let Some(model) = self.get(name) {
            return model;
        }
        let _adding = self.adding.lock();
        if let Some(model) = self.get(name) {
            return model;
        }
        let nothing = ModelConfiguration::default();
        let door =
            |slots: &Arc<Slots>| Arc::new(Admission::new(slots.clone(), self.defaults.limits(&nothing)));
        let model = Arc::new(LiveModel {
            name: name.clone(),
            admission: door(&self.slots),
            ensemble_admission: door(&self.ensemble_slots),
            holds: Arc::default(),
            share: self.runtime.share(self.defaults.scheduling(&nothing)),
            defaults: self.defaults.clone(),
            state: ArcSwap::default(),
            servables: Mutex::default(),
            configuration: Arc::default(),
            changing: tokio::sync::Mutex::new(()),
        });
        let mut models = HashMap::clone(&self.models.load());
        models.insert(name.clone(), model.clone());
        self.models.store(Arc::new(models));
        model
    }
}

impl LiveModel {
    pub(crate) fn state(&self) -> Arc<LiveState> {
        self.state.load_full()
    }

    /// How its requests are scheduled now.
    pub(crate) fn scheduled(&self) -> Scheduled {
        let configuration = self.configuration.load();
        let batching = self.defaults.scheduling(&configuration).batching;
        Scheduled {
            max_batch_size: batching.max_batch_size,
            max_queue_delay_microseconds: u64::try_from(batching.max_queue_delay.as_micros())
                .unwrap_or(u64::MAX),
            max_concurrent_requests: self.defaults.limits(&configuration).running,
        }
    }

    /// Shows a new record, with the same version answering.
    pub(crate) fn set_record(&self, record: Option<Model>) {
        let deployed = self.state().deployed.clone();
        self.set(record, deployed);
    }

    /// Shows a new record and what answers under it. What the record configures holds from now on.
    pub(crate) fn set(&self, record: Option<Model>, deployed: Option<Arc<Servable>>) {
        let nothing = ModelConfiguration::default();
        let before = self.state();
        let configured =
            |record: Option<&Model>| record.map_or(nothing.clone(), |model| model.configuration.clone());
        let configuration = configured(record.as_ref());
        if configuration != configured(before.record.as_deref()) {
            for door in [&self.admission, &self.ensemble_admission] {
                door.set_limits(self.defaults.limits(&configuration));
            }
            self.share.set(self.defaults.scheduling(&configuration));
            self.share.grant(configuration.prediction_tables.clone());
            self.configuration.store(Arc::new(configuration));
        }
        let aliases = record.as_ref().map(|model| model.aliases.clone()).unwrap_or_default();
        self.state.store(Arc::new(LiveState { record: record.map(Arc::new), aliases, deployed }));
    }
}

impl LiveState {
    /// Whether an operator took the model out of service.
    pub(crate) fn is_unloaded(&self) -> bool {
        let deployment = self.record.as_ref().and_then(|record| record.deployment.as_ref());
        deployment.is_some_and(Revision::is_unloading)
    }

    /// Refuses where an operator took the model out of service, whichever version is asked for.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`].
    pub(crate) fn check_loaded(&self, name: &ModelName) -> Result<(), Error> {
        if !self.is_unloaded() {
            return Ok(());
        }
        let message = format!("model {name} is unloaded: load it, or deploy a version");
        Err(Error::new(ErrorCode::Unavailable, message))
    }

    /// The version that answers by default.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`] where nothing is deployed.
    pub(crate) fn deployed(&self, name: &ModelName) -> Result<Arc<Servable>, Error> {
        self.check_loaded(name)?;
        self.deployed.clone().ok_or_else(|| {
            let message =
                format!("model {name} has no deployed version: deploy one, or ask for a version by number");
            Error::new(ErrorCode::Unavailable, message)
        })
    }

    /// The deployed version, if it has this number.
    pub(crate) fn deployed_with(&self, number: VersionNumber) -> Option<Arc<Servable>> {
        self.deployed.clone().filter(|servable| servable.version == number)
    }

    /// The number of the version that is asked for, which need not exist.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`] where nothing is deployed, [`ErrorCode::NotFound`] for an alias that is not there.
    pub(crate) fn selected(
        &self,
        name: &ModelName,
        selector: &VersionSelector,
    ) -> Result<VersionNumber, Error> {
        match selector {
            VersionSelector::Deployed => Ok(self.deployed(name)?.version()),
            VersionSelector::Number(number) => Ok(*number),
            VersionSelector::Alias(alias) => self.alias(name, alias),
        }
    }

    /// The number that an alias points at.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`].
    pub(crate) fn alias(&self, name: &ModelName, alias: &AliasName) -> Result<VersionNumber, Error> {
        let unknown = || Error::new(ErrorCode::NotFound, format!("model {name} has no alias {alias}"));
        self.aliases.get(alias).copied().ok_or_else(unknown)
    }

    /// The record of a version.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`].
    pub(crate) fn version(&self, name: &ModelName, number: VersionNumber) -> Result<&Version, Error> {
        let record = self.record.as_deref().ok_or_else(|| unknown_model(name))?;
        record
            .version(number)
            .ok_or_else(|| Error::new(ErrorCode::NotFound, format!("model {name} has no version {number}")))
    }
}

pub(crate) fn unknown_model(name: &ModelName) -> Error {
    Error::new(ErrorCode::NotFound, format!("model {name} is not known"))
}
