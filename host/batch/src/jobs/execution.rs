//! A job at work: pieces of splits are read, scored and committed as parts, several at a time, until none is left.
//! Knows parts and progress; what a job is called and what is recorded about it is the business of others.
//!
//! A piece goes through three stages that do not wait for each other: a task reads ahead, a task for each batch scores
//! it, and a thread writes (`writing`). What is between them is bounded, and in the order of the rows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use modelhost_registry::durable;
use modelhost_serving::Error;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::parts::Parts;
use super::planning::Planned;
use super::progress::Progress;
use super::publishing::check_files;
use super::reading::{Piece, Plan};
use super::record::SplitCounts;
use super::scoring::{Scored, row_number};
use super::writing::{Unreadable, Writer, too_many_failed};
use crate::query_failure::damaged;

const PLAN: &str = "plan.json";

/// A part is committed after this long even where its piece has more rows, so that little is lost where rows are slow.
const COMMIT_AFTER: Duration = Duration::from_secs(10);
/// Once the job has worked for long, a part is committed after this share of that, so that a job of days does not end in
/// tens of thousands of files.
const COMMIT_AFTER_SHARE: u32 = 100;
/// How often it is looked whether it is time to.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A job at work.
pub(crate) struct Execution {
    pub(crate) planned: Planned,
    /// Where its plan and its parts are.
    pub(crate) folder: PathBuf,
    pub(crate) progress: Arc<Progress>,
    /// Told when it is to stop; what is done by then is committed.
    pub(crate) stop: CancellationToken,
    /// The rows that it has to answer for, in order, where not all.
    pub(crate) only: Option<Vec<u64>>,
    pub(crate) haste: Haste,
    /// Files that its output may have.
    pub(crate) most_files: usize,
}

/// How soon parts are committed.
pub(crate) struct Haste {
    began: Instant,
    /// The first part is committed at once: earlier attempts ended before they had committed one.
    is_urgent: AtomicBool,
}

/// How work ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Every row is committed.
    Complete,
    /// It was told to stop.
    Stopped,
}

/// What became of a batch, and the first row that it decides nothing about. None where it has no rows.
type ScoredBatch = Option<(Scored, u64)>;

impl Haste {
    /// That of a job that begins to work.
    pub(crate) fn new(is_urgent: bool) -> Haste {
        Haste { began: Instant::now(), is_urgent: AtomicBool::new(is_urgent) }
    }
}

impl Execution {
    /// Works until every row is committed.
    ///
    /// # Errors
    /// What no row is to blame for, or too many rows that failed.
    pub(crate) async fn run(self: Arc<Self>) -> Result<Ended, Error> {
        let plan = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Ok(Ended::Stopped),
            plan = self.plan() => plan?,
        };
        check_files(plan.splits.len(), self.most_files)?;
        let parts = parts_folder(&self.folder);
        let opened = tokio::task::spawn_blocking(move || {
            let parts = Parts::open(parts)?;
            let committed = parts.committed()?;
            Ok::<_, Error>((parts, committed))
        });
        let (parts, committed) = opened.await??;
        let done: BTreeMap<u64, u64> =
            committed.values().map(|part| (part.first_row, part.end_row)).collect();
        let left = plan.left(&done);
        let splits = plan.splits.len() as u64;
        let splits = SplitCounts { total: splits, done: splits - splits_of(&left) };
        self.progress.begin(plan.counted_rows(), splits, committed.values());
        self.check_failures()?;
        let ended = self.clone().work(left, parts).await?;
        // Only now is it known how many rows were asked about.
        self.check_failures()?;
        Ok(ended)
    }

    fn check_failures(&self) -> Result<(), Error> {
        let (failed, allowed) = (self.progress.failed(), self.failures_allowed());
        if failed > allowed { Err(too_many_failed(failed, allowed, None)) } else { Ok(()) }
    }

    /// How many rows may have failed by now.
    pub(super) fn failures_allowed(&self) -> u64 {
        let (asked, most_asked) = self.progress.asked();
        self.planned.specification.failures_allowed(asked, most_asked)
    }

    async fn work(self: Arc<Self>, left: Vec<Piece>, parts: Parts) -> Result<Ended, Error> {
        let mut working = JoinSet::new();
        let mut pieces = left.into_iter();
        let mut outcome = Ok(Ended::Complete);
        loop {
            while working.len() < self.pieces_at_once() && !self.stop.is_cancelled() {
                let Some(piece) = pieces.next() else { break };
                working.spawn(self.clone().piece(piece, parts.clone()));
            }
            match working.join_next().await {
                None => break,
                Some(Ok(Ok(Ended::Complete))) => {}
                Some(Ok(Ok(Ended::Stopped))) => outcome = outcome.and(Ok(Ended::Stopped)),
                Some(ended) => {
                    // The others commit what they have.
                    self.stop.cancel();
                    let failure = ended.map_err(Error::internal).and_then(|ended| ended);
                    outcome = outcome.and(failure);
                }
            }
        }
        let is_stopped = pieces.next().is_some();
        outcome.map(|ended| if is_stopped { Ended::Stopped } else { ended })
    }

    /// While one piece waits for the disk, another one goes on. More are for machines on which one cannot be read as fast
    /// as the calls are.
    fn pieces_at_once(&self) -> usize {
        self.planned.scorer.parallelism().div_ceil(2).max(2)
    }

    /// Batches of a piece that are being scored. One more than there are calls for is made ready meanwhile.
    fn batches_at_once(&self) -> usize {
        self.planned.scorer.parallelism().div_ceil(self.pieces_at_once()) + 1
    }

    /// How long a part is written before it is committed.
    pub(super) fn commit_after(&self) -> Duration {
        if self.haste.is_urgent.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        COMMIT_AFTER.max(self.haste.began.elapsed() / COMMIT_AFTER_SHARE)
    }

    /// A part is committed.
    pub(super) fn committed(&self) {
        self.haste.is_urgent.store(false, Ordering::Relaxed);
    }

    /// The splits, as they were planned when the job began.
    async fn plan(&self) -> Result<Plan, Error> {
        let path = self.folder.join(PLAN);
        match tokio::fs::read(&path).await {
            Ok(bytes) => return serde_json::from_slice(&bytes).map_err(Error::internal),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let plan = self.planned.source.plan(None).await?;
        let plan = match &self.only {
            Some(rows) => plan.only(rows),
            None => plan,
        };
        let bytes = serde_json::to_vec(&plan).map_err(Error::internal)?;
        tokio::task::spawn_blocking(move || write_whole(&path, &bytes)).await??;
        Ok(plan)
    }

    async fn piece(self: Arc<Self>, piece: Piece, parts: Parts) -> Result<Ended, Error> {
        let unreadable = Unreadable::default();
        let writer = Writer::begin(self.clone(), piece.clone(), parts, unreadable.clone());
        let scored = self.score(&piece, unreadable, &writer).await;
        // Whatever ended it, what it has come to is committed, and nothing is written any more afterwards.
        let written = writer.end(matches!(scored, Ok(Ended::Complete))).await;
        let ended = scored?;
        written.map(|()| ended)
    }

    /// Gives the rows of a piece to the writer, until there are no more.
    async fn score(
        self: &Arc<Self>,
        piece: &Piece,
        unreadable: Unreadable,
        writer: &Writer,
    ) -> Result<Ended, Error> {
        let batches = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Ok(Ended::Stopped),
            batches = self.read(piece, unreadable) => batches?,
        };
        let score = |batch| {
            let task = AbortOnDropHandle::new(tokio::spawn(self.clone().score_batch(batch)));
            async move { task.await? }
        };
        let mut scored = read_ahead(batches).map(score).buffered(self.batches_at_once());
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        loop {
            let next = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(Ended::Stopped),
                next = scored.next() => next,
                _ = look.tick() => {
                    writer.look();
                    continue;
                }
            };
            let Some(next) = next else { return Ok(Ended::Complete) };
            if let Some((scored, next_row)) = next?
                && !writer.add(scored, next_row).await
            {
                // The writer says why.
                return Ok(Ended::Stopped);
            }
        }
    }

    /// The wanted rows of a piece, with the columns that they are scored by.
    async fn read(
        &self,
        piece: &Piece,
        unreadable: Unreadable,
    ) -> Result<BoxStream<'static, Result<RecordBatch, Error>>, Error> {
        let Planned { source, query, scorer, .. } = &self.planned;
        let rows = source.read(piece).await?;
        query.run(rows, source.batch_schema(), &scorer.columns(), unreadable).await
    }

    async fn score_batch(self: Arc<Self>, batch: Result<RecordBatch, Error>) -> Result<ScoredBatch, Error> {
        let batch = batch?;
        if batch.num_rows() == 0 {
            return Ok(None);
        }
        let may_fail = self.failures_allowed().saturating_sub(self.progress.failed());
        let scored = self.planned.scorer.score(&batch, may_fail).await?;
        let (rows, answered) = (scored.decided, scored.rows.num_rows() + scored.failed.len());
        if answered != rows {
            return Err(Error::internal(format!("of {rows} rows of a batch there are {answered}")));
        }
        let next_row = match rows.checked_sub(1) {
            Some(last) => row_number(&batch, last) + 1,
            None => row_number(&batch, 0),
        };
        Ok(Some((scored, next_row)))
    }
}

/// Reads the next batch while this one is scored, in a task of its own.
fn read_ahead(
    mut batches: BoxStream<'static, Result<RecordBatch, Error>>,
) -> BoxStream<'static, Result<RecordBatch, Error>> {
    let (sender, receiver) = mpsc::channel(1);
    let reading = tokio::spawn(async move {
        while let Some(batch) = batches.next().await {
            if sender.send(batch).await.is_err() {
                break;
            }
        }
    });
    let state = (receiver, Some(AbortOnDropHandle::new(reading)));
    let next = |(mut receiver, mut reading): (mpsc::Receiver<_>, Option<AbortOnDropHandle<()>>)| async move {
        if let Some(batch) = receiver.recv().await {
            return Some((batch, (receiver, reading)));
        }
        // That there is no more must not be because the reader is broken.
        let error = reading.take()?.await.err()?;
        let error = if error.is_panic() { damaged("the dataset") } else { error.into() };
        Some((Err(error), (receiver, None)))
    };
    stream::unfold(state, next).boxed()
}

fn splits_of(pieces: &[Piece]) -> u64 {
    let mut firsts: Vec<u64> = pieces.iter().map(|piece| piece.split.first_row).collect();
    firsts.dedup();
    firsts.len() as u64
}

/// Where the parts of a job are.
pub(crate) fn parts_folder(folder: &Path) -> PathBuf {
    folder.join("parts")
}

/// Writes a file of a job as a whole or not at all.
///
/// # Errors
/// Failures of the disk.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("."));
    Ok(durable::write(folder, bytes, path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_that_breaks_is_no_end() {
        let empty = || RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty()));
        let whole = stream::iter([Ok(empty()), Ok(empty())]).boxed();
        assert_eq!(read_ahead(whole).count().await, 2);
        let broken = stream::iter([false, true])
            .map(move |breaks| if breaks { panic!("as asked for") } else { Ok(empty()) })
            .boxed();
        let read: Vec<_> = read_ahead(broken).collect().await;
        assert!(matches!(read[..], [Ok(_), Err(_)]));
    }
}
