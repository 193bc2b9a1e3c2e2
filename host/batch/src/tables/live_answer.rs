//! What a table's model answers where the table cannot. Knows nothing of when it is asked.

use modelhost_core::{ErrorCode, ModelName, Parameter, TableKey, VersionNumber};
use modelhost_serving::{ModelHost, NamedTensors, RequestOptions};
use serde_json::value::RawValue;

use super::live_table::LiveTables;
use super::rows::Rows;
use super::settings::LiveSettings;
use super::{features, json};
use crate::Error;

/// A client's own inputs for the model, where the table does not know a key.
#[derive(Clone, Debug, Default)]
pub struct LiveRequest {
    /// The tensors.
    pub inputs: NamedTensors,
    /// Beside those that the table's settings name, which give way.
    pub parameters: Vec<(String, Parameter)>,
    /// How long it may take, and how urgent it is.
    pub options: RequestOptions,
}

/// What the model said.
#[derive(Debug)]
pub(super) struct LiveAnswer {
    pub(super) model: ModelName,
    pub(super) version: VersionNumber,
    pub(super) values: Box<RawValue>,
}

/// Asks the model, with the inputs of the client, or else with those of the feature table. None: there are no inputs.
///
/// # Errors
/// Whatever asking the model says; [`ErrorCode::Unprocessable`] for features that are no inputs.
pub(super) async fn ask(
    host: &ModelHost,
    tables: &LiveTables,
    live: &LiveSettings,
    key: &TableKey,
    request: Option<LiveRequest>,
) -> Result<Option<LiveAnswer>, Error> {
    let servable = host.servable(&live.model, &live.selector())?;
    let request = match request {
        Some(request) => request,
        None => match features_of(tables, live, key)? {
            Some(row) => LiveRequest {
                inputs: features::inputs(servable.signature(), &row)?,
                ..LiveRequest::default()
            },
            None => return Ok(None),
        },
    };
    let parameters = with_defaults(request.parameters, live);
    let outputs = servable.infer(request.inputs, parameters, request.options).await?;
    let values = json::outputs(&outputs)?;
    Ok(Some(LiveAnswer { model: live.model.clone(), version: servable.version(), values }))
}

/// The row of the feature table, if there is one.
fn features_of(
    tables: &LiveTables,
    live: &LiveSettings,
    key: &TableKey,
) -> Result<Option<arrow::array::RecordBatch>, Error> {
    let Some(features) = &live.features else { return Ok(None) };
    let snapshot = match tables.snapshot(features) {
        Ok(snapshot) => snapshot,
        // A table to come.
        Err(error) if error.code == ErrorCode::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let found = Rows::find(&snapshot, std::slice::from_ref(key))?;
    if found.found().all(|is_found| !is_found) { Ok(None) } else { found.rows().map(Some) }
}

fn with_defaults(mut parameters: Vec<(String, Parameter)>, live: &LiveSettings) -> Vec<(String, Parameter)> {
    for (name, value) in &live.parameters {
        if parameters.iter().all(|(given, _)| given != name) {
            parameters.push((name.clone(), value.clone()));
        }
    }
    parameters
}
