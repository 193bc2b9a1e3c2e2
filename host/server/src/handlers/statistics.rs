//! `GET /v2/models[/{model}[/versions/{version}]]/stats`: Triton's extension "statistics".

use http::StatusCode;
use modelhost_serving::VersionStatistics;
use serde::Serialize;

use super::{model_name, version_selector};
use crate::error::ApiError;
use crate::reply::{Reply, json};
use crate::service::Call;

#[derive(Serialize)]
struct Statistics {
    model_stats: Vec<VersionStatistics>,
}

/// Answers with what was counted since the host started.
pub(super) async fn statistics(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    if !call.route.has_name() {
        return Ok(json(StatusCode::OK, &Statistics { model_stats: call.shared.host.all_statistics() }));
    }
    let model = model_name(call)?;
    let selector = version_selector(call)?;
    let model_stats = call.shared.host.statistics(&model, &selector)?;
    call.record.model = Some(model);
    Ok(json(StatusCode::OK, &Statistics { model_stats }))
}
