//! From what a job is asked to do to what it does: names become versions that are held, columns become inputs, and
//! whatever does not fit together is told before the job exists.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use modelhost_core::{Signature, VersionNumber};
use modelhost_serving::{Error, ModelHost, Servable, VersionHold, VersionSelector};

use super::core_share::CoreShare;
use super::inputs::Inputs;
use super::outputs::Outputs;
use super::parts::check_format;
use super::query::Query;
use super::reading::Source;
use super::record::ResolvedModel;
use super::scoring::{ROW_NUMBER, Scorer};
use super::specification::{JobSpecification, invalid};
use crate::datasets::{DatasetReference, DatasetVersion, Datasets, Hold};
use crate::settings::BatchSettings;
use crate::tables::Tables;

/// Rows of a batch of which each has a call of its own.
const ROWS_APART: usize = 16;

/// What a job reads, asks and writes. Whoever has it holds the versions.
pub(crate) struct Planned {
    pub(crate) specification: JobSpecification,
    pub(crate) dataset: DatasetVersion,
    pub(crate) model: ResolvedModel,
    pub(crate) signature: Signature,
    pub(crate) source: Source,
    pub(crate) query: Query,
    pub(crate) scorer: Scorer,
}

/// What a job needs from its beginning to its end.
#[derive(Clone, Copy)]
pub(crate) struct Needed<'a> {
    pub(crate) dataset: &'a DatasetVersion,
    pub(crate) model: &'a ResolvedModel,
    /// The version whose rows go before those of the job, if any.
    pub(crate) earlier: Option<&'a DatasetVersion>,
}

/// Keeps what a job needs from being deleted.
pub(crate) struct Holds {
    _dataset: Hold,
    _model: VersionHold,
    _earlier: Option<Hold>,
}

/// What plans are made with.
#[derive(Clone)]
pub(crate) struct Planner {
    pub(crate) host: Arc<ModelHost>,
    pub(crate) datasets: Arc<Datasets>,
    pub(crate) tables: Arc<Tables>,
    pub(crate) settings: BatchSettings,
}

impl Planner {
    /// The dataset version and the model version that a specification means now.
    ///
    /// # Errors
    /// Names that nothing has.
    pub(crate) async fn resolve(
        &self,
        specification: &JobSpecification,
    ) -> Result<(DatasetVersion, ResolvedModel), Error> {
        specification.check()?;
        let reference: DatasetReference =
            specification.dataset.parse().map_err(|error| invalid(format!("dataset: {error}")))?;
        specification
            .output
            .dataset
            .parse::<modelhost_core::DatasetName>()
            .map_err(|error| invalid(format!("output: {error}")))?;
        let datasets = self.datasets.clone();
        let dataset = tokio::task::spawn_blocking(move || datasets.resolve(&reference)).await??;
        let (name, selector) = specification.model_reference()?;
        let servable = self.host.ready_servable(&name, &selector).await?;
        let model = ResolvedModel { name, version: servable.version(), digest: *servable.digest() };
        Ok((dataset, model))
    }

    /// Holds what a job needs.
    ///
    /// # Errors
    /// A version that was deleted.
    pub(crate) async fn hold(&self, needed: Needed<'_>, holder: &str) -> Result<Holds, Error> {
        let Needed { dataset, model, earlier } = needed;
        Ok(Holds {
            _dataset: self.datasets.hold(dataset, holder)?,
            _model: self.host.hold_version(&model.name, model.version).await?,
            _earlier: earlier.map(|earlier| self.datasets.hold(earlier, holder)).transpose()?,
        })
    }

    /// Plans a job over these versions.
    ///
    /// # Errors
    /// One sentence: what does not fit together.
    pub(crate) async fn plan(
        &self,
        specification: &JobSpecification,
        dataset: DatasetVersion,
        model: ResolvedModel,
    ) -> Result<Planned, Error> {
        let servable = self.servable(&model.name, model.version).await?;
        let signature = servable.signature().clone();
        let schema = dataset.schema.to_arrow();
        let batch_size = specification.batch_size.get() as usize;
        let query = Query::new(
            &self.datasets.session(),
            &schema,
            specification.filter.as_deref(),
            specification.columns.as_deref(),
        )?;
        if query.schema().field_with_name(ROW_NUMBER).is_ok() {
            return Err(invalid(format!(
                "columns has {ROW_NUMBER:?}, which numbers rows: give it another name"
            )));
        }
        let scorer = self.scorer(specification, servable, &signature, query.schema())?;
        check_format(specification.output.format, scorer.schema())?;
        if let Some(table) = &specification.output.table {
            self.tables.check(table, scorer.schema())?;
        }
        // Where each row has a call of its own, many of them in a batch would be committed late.
        let batch_size = if scorer.inputs().is_batched() { batch_size } else { batch_size.min(ROWS_APART) };
        let query = query.in_batches(batch_size, specification.key.clone());
        let key = specification.key.clone().filter(|key| schema.field_with_name(key).is_ok());
        let needed = query.needed(&scorer.columns());
        let files = self.datasets.files(&dataset)?;
        let source = Source::new(files, dataset.format, schema, &needed, key, batch_size)?;
        let specification = specification.clone();
        Ok(Planned { specification, dataset, model, signature, source, query, scorer })
    }

    async fn servable(
        &self,
        name: &modelhost_core::ModelName,
        version: VersionNumber,
    ) -> Result<Arc<Servable>, Error> {
        self.host.ready_servable(name, &VersionSelector::Number(version)).await
    }

    fn scorer(
        &self,
        specification: &JobSpecification,
        servable: Arc<Servable>,
        signature: &Signature,
        schema: &SchemaRef,
    ) -> Result<Scorer, Error> {
        let inputs = Inputs::new(signature, &specification.inputs, schema)?;
        let outputs = Outputs::new(signature, &specification.outputs, inputs.is_batched())?;
        let percent = specification.share_percent.map_or(100, u32::from);
        let cores = self.host.background_threads().count();
        let cores = CoreShare::new(cores, percent, specification.parallelism.map(u32::from));
        let timeout =
            specification.call_timeout_ms.map_or(Duration::MAX, |ms| Duration::from_millis(ms.get()));
        Scorer::new(
            servable,
            inputs,
            specification.parameters.clone().into_iter().collect(),
            outputs,
            schema,
            specification.key.clone(),
            specification.carry.clone(),
            specification.batch_size.get() as usize,
            timeout,
            cores,
        )
    }
}
