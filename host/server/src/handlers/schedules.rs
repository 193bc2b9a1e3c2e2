//! `/v1/schedules`: jobs that start at their times.

use http::StatusCode;
use modelhost_batch::schedules::{Run, ScheduleSpecification, ScheduleView};
use modelhost_core::ScheduleName;
use serde::Serialize;

use super::read_change;
use crate::error::ApiError;
use crate::headers::author;
use crate::reply::{Reply, json, no_content};
use crate::service::Call;

#[derive(Serialize)]
struct Listing {
    schedules: Vec<ScheduleView>,
}

#[derive(Serialize)]
struct Runs {
    runs: Vec<Run>,
}

/// `GET /v1/schedules`.
pub(super) async fn list(call: &Call<'_>) -> Result<Reply, ApiError> {
    let schedules = call.shared.batch.schedules().list().await?;
    Ok(json(StatusCode::OK, &Listing { schedules }))
}

/// `GET /v1/schedules/{schedule}`.
pub(super) async fn schedule(call: &Call<'_>) -> Result<Reply, ApiError> {
    let schedule = call.shared.batch.schedules().get(schedule_name(call)?).await?;
    Ok(json(StatusCode::OK, &schedule))
}

/// `GET /v1/schedules/{schedule}/runs`: the last ones, the newest first.
pub(super) async fn runs(call: &Call<'_>) -> Result<Reply, ApiError> {
    let runs = call.shared.batch.schedules().history(schedule_name(call)?).await?;
    Ok(json(StatusCode::OK, &Runs { runs }))
}

/// `PUT /v1/schedules/{schedule}`: makes it, or replaces what it does.
pub(super) async fn put(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let name = call.route.schedule().map_err(|error| ApiError::invalid(error.to_string()))?;
    let by = author(&call.parts.headers)?;
    let what = "a schedule such as {\"cron\": \"0 3 * * *\", \"time_zone\": \"Europe/Lisbon\", \"job\": {…}}";
    let specification: ScheduleSpecification = read_change(call, what).await?;
    let schedules = call.shared.batch.schedules().clone();
    let change = async move { schedules.put(name, specification, by).await };
    let (schedule, is_new) = call.shared.run_to_end(change).await?;
    Ok(json(if is_new { StatusCode::CREATED } else { StatusCode::OK }, &schedule))
}

/// `DELETE /v1/schedules/{schedule}`.
pub(super) async fn delete(call: &Call<'_>) -> Result<Reply, ApiError> {
    let (schedules, name) = (call.shared.batch.schedules().clone(), schedule_name(call)?);
    call.shared.run_to_end(async move { schedules.delete(name).await }).await?;
    Ok(no_content())
}

/// `POST /v1/schedules/{schedule}/pause`.
pub(super) async fn pause(call: &Call<'_>) -> Result<Reply, ApiError> {
    let (schedules, name) = (call.shared.batch.schedules().clone(), schedule_name(call)?);
    let schedule = call.shared.run_to_end(async move { schedules.pause(name).await }).await?;
    Ok(json(StatusCode::OK, &schedule))
}

/// `POST /v1/schedules/{schedule}/resume`.
pub(super) async fn resume(call: &Call<'_>) -> Result<Reply, ApiError> {
    let (schedules, name) = (call.shared.batch.schedules().clone(), schedule_name(call)?);
    let schedule = call.shared.run_to_end(async move { schedules.resume(name).await }).await?;
    Ok(json(StatusCode::OK, &schedule))
}

/// `POST /v1/schedules/{schedule}/run`: a run now. 409 while one is under way.
pub(super) async fn run(call: &Call<'_>) -> Result<Reply, ApiError> {
    let (schedules, name) = (call.shared.batch.schedules().clone(), schedule_name(call)?);
    let run = call.shared.run_to_end(async move { schedules.run_now(name).await }).await?;
    Ok(json(StatusCode::CREATED, &run))
}

fn schedule_name(call: &Call<'_>) -> Result<ScheduleName, ApiError> {
    call.route.schedule().map_err(|error| ApiError::unknown_name(&error))
}
