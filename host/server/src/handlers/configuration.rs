//! `/v1/models/{model}/configuration`: how an operator wants a model to be served.

use http::StatusCode;
use modelhost_core::ModelConfiguration;

use super::{model_name, read_change};
use crate::error::ApiError;
use crate::headers::expected_generation;
use crate::reply::{Reply, json, with_generation};
use crate::service::Call;

/// `GET /v1/models/{model}/configuration`: what was configured; what was not follows the host.
pub(super) async fn configuration(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let model = model_name(call)?;
    let (configuration, generation) = call.shared.host.configuration(&model).await?;
    call.record.model = Some(model);
    Ok(with_generation(json(StatusCode::OK, &configuration), generation))
}

/// `PUT /v1/models/{model}/configuration`: replaces the whole.
pub(super) async fn configure(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let model = model_name(call)?;
    let expected = expected_generation(&call.parts.headers)?;
    let what = "a configuration such as {\"weight\": 2, \"dynamic_batching\": {\"max_batch_size\": 16}}";
    let configuration: ModelConfiguration = read_change(call, what).await?;
    let (host, name, wanted) = (call.shared.host.clone(), model.clone(), configuration.clone());
    let change = async move { host.configure(&name, wanted, expected).await };
    let generation = call.shared.run_to_end(change).await?;
    call.record.model = Some(model);
    Ok(with_generation(json(StatusCode::OK, &configuration), generation))
}
