//! `/v1/jobs`: batch jobs, what operators do with them, and how far they are.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use http::{HeaderValue, StatusCode};
use modelhost_batch::jobs::{JobId, JobSpecification, JobView, Jobs};
use serde::Serialize;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::read_change;
use crate::error::ApiError;
use crate::events;
use crate::headers::author;
use crate::reply::{Reply, json, no_content, stream};
use crate::service::Call;

const JSON_LINES: HeaderValue = HeaderValue::from_static("application/jsonl");

/// How often a job is looked at for those who watch it.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// After so long without news something is sent all the same, so that nobody on the way takes the connection for dead.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Of a file that is sent, at a time.
const CHUNK_BYTES: usize = 64 << 10;

#[derive(Serialize)]
struct Listing {
    jobs: Vec<JobView>,
}

/// `POST /v1/jobs[?dry_run=true]`.
pub(super) async fn create(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let is_dry = is_dry_run(call)?;
    let by = author(&call.parts.headers)?;
    let what = "a job such as {\"dataset\": \"census\", \"model\": \"income\", \"output\": {\"dataset\": \"scores\"}}";
    let specification: JobSpecification = read_change(call, what).await?;
    let jobs = call.shared.batch.jobs();
    if is_dry {
        return Ok(json(StatusCode::OK, &jobs.dry_run(specification).await?));
    }
    Ok(json(StatusCode::CREATED, &jobs.create(specification, by).await?))
}

fn is_dry_run(call: &Call<'_>) -> Result<bool, ApiError> {
    match call.parts.uri.query().unwrap_or_default() {
        "" | "dry_run=false" => Ok(false),
        "dry_run=true" => Ok(true),
        _ => Err(ApiError::invalid("the query of a job is dry_run=true or nothing")),
    }
}

/// `GET /v1/jobs`.
pub(super) async fn list(call: &Call<'_>) -> Result<Reply, ApiError> {
    let jobs = call.shared.batch.jobs().list().await?;
    Ok(json(StatusCode::OK, &Listing { jobs }))
}

/// `GET /v1/jobs/{job}`.
pub(super) async fn job(call: &Call<'_>) -> Result<Reply, ApiError> {
    Ok(json(StatusCode::OK, &call.shared.batch.jobs().get(job_id(call)?).await?))
}

/// `DELETE /v1/jobs/{job}`.
pub(super) async fn delete(call: &Call<'_>) -> Result<Reply, ApiError> {
    let (jobs, id) = (call.shared.batch.jobs().clone(), job_id(call)?);
    call.shared.run_to_end(async move { jobs.delete(id).await }).await?;
    Ok(no_content())
}

/// `POST /v1/jobs/{job}/pause`.
pub(super) async fn pause(call: &Call<'_>) -> Result<Reply, ApiError> {
    let (jobs, id) = (call.shared.batch.jobs().clone(), job_id(call)?);
    let view = call.shared.run_to_end(async move { jobs.pause(id).await }).await?;
    Ok(json(StatusCode::OK, &view))
}

/// `POST /v1/jobs/{job}/resume`.
pub(super) async fn resume(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let (jobs, id) = (call.shared.batch.jobs().clone(), job_id(call)?);
    let changes = read_change(call, "changes such as {\"max_failed_share\": 0.2}, all optional").await?;
    let view = call.shared.run_to_end(async move { jobs.resume(id, changes).await }).await?;
    Ok(json(StatusCode::OK, &view))
}

/// `POST /v1/jobs/{job}/cancel`.
pub(super) async fn cancel(call: &Call<'_>) -> Result<Reply, ApiError> {
    let (jobs, id) = (call.shared.batch.jobs().clone(), job_id(call)?);
    let view = call.shared.run_to_end(async move { jobs.cancel(id).await }).await?;
    Ok(json(StatusCode::OK, &view))
}

/// `POST /v1/jobs/{job}/retry`: a new job for the rows that failed.
pub(super) async fn retry(call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let by = author(&call.parts.headers)?;
    let id = job_id(call)?;
    let changes = read_change(call, "changes such as {\"model\": \"income@4\"}, all optional").await?;
    let view = call.shared.batch.jobs().retry(id, changes, by).await?;
    Ok(json(StatusCode::CREATED, &view))
}

/// `GET /v1/jobs/{job}/errors`: the failed rows, one JSON object a line.
pub(super) async fn errors(call: &Call<'_>) -> Result<Reply, ApiError> {
    let files = call.shared.batch.jobs().failed_rows(job_id(call)?).await?;
    Ok(stream(JSON_LINES, contents(files)))
}

/// `GET /v1/jobs/{job}/events`: the job whenever something about it has changed, until it is final or paused.
pub(super) async fn events(call: &Call<'_>) -> Result<Reply, ApiError> {
    let id = job_id(call)?;
    let jobs = call.shared.batch.jobs().clone();
    let first = jobs.get(id).await?;
    let watch = Watch {
        jobs,
        id,
        next: Some(first),
        last: None,
        sent: Instant::now(),
        stopping: call.shared.stopping.clone(),
    };
    Ok(events::fallible_reply(stream::unfold(watch, Watch::event)))
}

fn job_id(call: &Call<'_>) -> Result<JobId, ApiError> {
    call.route.job().ok_or_else(|| ApiError::not_found("jobs are named by numbers from 1 up"))
}

/// Files one after the other.
fn contents(files: Vec<std::fs::File>) -> BoxStream<'static, io::Result<Bytes>> {
    let next = |(mut open, mut left): (Option<File>, std::vec::IntoIter<std::fs::File>)| async move {
        loop {
            let file = match &mut open {
                Some(file) => file,
                None => match left.next() {
                    Some(file) => open.insert(File::from_std(file)),
                    None => return Ok(None),
                },
            };
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            if file.take(CHUNK_BYTES as u64).read_to_end(&mut chunk).await? > 0 {
                return Ok(Some((Bytes::from(chunk), (open, left))));
            }
            open = None;
        }
    };
    stream::try_unfold((None, files.into_iter()), next).boxed()
}

/// One who watches a job.
struct Watch {
    jobs: Arc<Jobs>,
    id: JobId,
    /// What is to be sent.
    next: Option<JobView>,
    /// What was sent last.
    last: Option<JobView>,
    sent: Instant,
    stopping: CancellationToken,
}

impl Watch {
    /// The next piece of the stream.
    async fn event(mut self) -> Option<(io::Result<Bytes>, Watch)> {
        if self.next.is_none() && self.last.as_ref().is_some_and(has_stopped) {
            return None;
        }
        while self.next.is_none() {
            tokio::select! {
                () = self.stopping.cancelled() => return None,
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
            // A job that was deleted has no more news.
            let view = self.jobs.get(self.id).await.ok()?;
            if self.last.as_ref() != Some(&view) {
                self.next = Some(view);
            } else if self.sent.elapsed() > HEARTBEAT {
                self.sent = Instant::now();
                return Some((Ok(Bytes::from_static(b": nothing new\n\n")), self));
            }
        }
        self.last = self.next.take();
        self.sent = Instant::now();
        // JSON has no line feeds of its own.
        let json = serde_json::to_string(&self.last).map_err(io::Error::from);
        let event = json.map(|json| Bytes::from(format!("event: job\ndata: {json}\n\n")));
        Some((event, self))
    }
}

fn has_stopped(view: &JobView) -> bool {
    view.state.is_final() || view.state == modelhost_batch::jobs::JobState::Paused
}
