//! A job at work: pieces of splits are read, scored and committed as parts, several at a time, until none is left.
//! Knows parts and progress; what a job is called and what is recorded about it is the business of others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use futures_util::StreamExt as _;
use modelhost_core::ErrorCode;
use modelhost_registry::durable;
use modelhost_serving::Error;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::fault::FailedRow;
use super::parts::{Part, Parts, UnfinishedPart};
use super::planning::Planned;
use super::progress::{Pending, Progress};
use super::reading::{Piece, Plan};
use super::record::SplitCounts;
use super::scoring::{Scored, row_number};
use super::specification::ErrorPolicy;

const PLAN: &str = "plan.json";

/// A part is committed after this long even where its piece has more rows, so that little is lost where rows are slow.
const COMMIT_AFTER: Duration = Duration::from_secs(10);

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
}

/// How work ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Every row is committed.
    Complete,
    /// It was told to stop.
    Stopped,
}

impl Execution {
    /// Works until every row is committed.
    ///
    /// # Errors
    /// What no row is to blame for, or too many rows that failed.
    pub(crate) async fn run(self: Arc<Self>) -> Result<Ended, Error> {
        let plan = self.plan().await?;
        let parts = Parts::open(parts_folder(&self.folder))?;
        let committed = parts.committed()?;
        let done: BTreeMap<u64, u64> =
            committed.values().map(|part| (part.first_row, part.end_row)).collect();
        let left = plan.left(&done);
        let splits = plan.splits.len() as u64;
        let splits = SplitCounts { total: splits, done: splits - splits_of(&left) };
        self.progress.begin(plan.counted_rows(), splits, committed.values());
        self.check_failures(None)?;
        let ended = self.clone().work(left, parts).await?;
        // Only now is it known how many rows were asked about.
        self.check_failures(None)?;
        Ok(ended)
    }

    /// How many rows may have failed by now.
    fn failures_allowed(&self) -> u64 {
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
                let (execution, parts) = (self.clone(), parts.clone());
                working.spawn(async move { execution.piece(piece, parts).await });
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

    /// While one piece waits for the disk, another one can go on. More would only be committed later.
    fn pieces_at_once(&self) -> usize {
        self.planned.scorer.parallelism().clamp(1, 2)
    }

    /// The splits, as they were planned when the job began.
    async fn plan(&self) -> Result<Plan, Error> {
        let path = self.folder.join(PLAN);
        match std::fs::read(&path) {
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
        write_whole(&path, &bytes)?;
        Ok(plan)
    }

    async fn piece(&self, piece: Piece, parts: Parts) -> Result<Ended, Error> {
        let Planned { source, query, scorer, .. } = &self.planned;
        let unreadable = Arc::new(Mutex::new(Vec::new()));
        let rows = source.read(&piece).await?;
        let wanted = scorer.columns();
        let batches = query.run(rows, source.batch_schema(), &wanted, unreadable.clone()).await?;
        let score = |batch: Result<RecordBatch, Error>| async move {
            let batch = batch?;
            let may_fail = self.failures_allowed().saturating_sub(self.progress.failed());
            let scored = scorer.score(&batch, may_fail).await?;
            let last = scored.decided.checked_sub(1).map(|last| row_number(&batch, last));
            Ok::<_, Error>((last, scored))
        };
        let mut scored = batches.map(score).buffered(scorer.parallelism());
        let mut writing = Writing::begin(self, &piece, parts, unreadable)?;
        loop {
            let next = tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    writing.commit_so_far()?;
                    return Ok(Ended::Stopped);
                }
                next = scored.next() => next,
            };
            let Some(next) = next else { break };
            let (last, mut rows) = next?;
            let one_too_many = rows.one_too_many.take();
            if let Some(last) = last {
                writing.add(rows, last + 1)?;
            }
            self.check_failures(Some(&mut writing))?;
            if let Some(row) = one_too_many {
                // The rows after it were not tried.
                return Err(self.too_many_failed(&mut writing, &row)?);
            }
        }
        writing.add_rest()?;
        self.check_failures(Some(&mut writing))?;
        writing.finish()?;
        if piece.end_row == piece.split.first_row + piece.split.rows {
            self.progress.split_done();
        }
        Ok(Ended::Complete)
    }

    /// Ends the job where too many rows failed. Where some may fail, what is written is committed before, so that the
    /// reasons can be read.
    fn check_failures(&self, writing: Option<&mut Writing<'_>>) -> Result<(), Error> {
        let (failed, allowed) = (self.progress.failed(), self.failures_allowed());
        if failed <= allowed {
            return Ok(());
        }
        let example = writing.as_ref().and_then(|writing| writing.newest_failure.clone());
        if let (Some(writing), ErrorPolicy::Skip) = (writing, self.planned.specification.on_error) {
            writing.commit_so_far()?;
        }
        let example = match example {
            Some(row) => format!("row {} failed: {}", row.row, row.reason),
            None => "its errors say why".to_owned(),
        };
        let message = match self.planned.specification.on_error {
            ErrorPolicy::Fail => example,
            ErrorPolicy::Skip => format!("{failed} rows failed, and {allowed} may: {example}"),
        };
        Err(Error::new(ErrorCode::Unprocessable, message))
    }

    /// The end of a job by this row, after what was scored before is committed.
    fn too_many_failed(&self, writing: &mut Writing<'_>, row: &FailedRow) -> Result<Error, Error> {
        let example = format!("row {} failed: {}", row.row, row.reason);
        let message = match self.planned.specification.on_error {
            ErrorPolicy::Fail => example,
            ErrorPolicy::Skip => {
                writing.commit_so_far()?;
                let allowed = self.failures_allowed();
                format!("more than {allowed} rows failed, and {allowed} may: {example}")
            }
        };
        Ok(Error::new(ErrorCode::Unprocessable, message))
    }
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
    let mut staged = tempfile::NamedTempFile::new_in(folder)?;
    std::io::Write::write_all(&mut staged, bytes)?;
    Ok(durable::place(staged.into_temp_path(), path)?)
}

/// The part of a piece that is being written, and what comes after it.
struct Writing<'a> {
    execution: &'a Execution,
    piece: &'a Piece,
    parts: Parts,
    /// Rows that could not be read, of this part and those after it.
    unreadable: Arc<Mutex<Vec<FailedRow>>>,
    part: UnfinishedPart,
    pending: Pending<'a>,
    began: Instant,
    /// The number after the last row that is in the part.
    next_row: u64,
    /// The first failed row of those that were added last.
    newest_failure: Option<FailedRow>,
}

impl<'a> Writing<'a> {
    fn begin(
        execution: &'a Execution,
        piece: &'a Piece,
        parts: Parts,
        unreadable: Arc<Mutex<Vec<FailedRow>>>,
    ) -> Result<Writing<'a>, Error> {
        let part = begin_part(execution, &parts, piece.first_row)?;
        Ok(Writing {
            execution,
            piece,
            parts,
            unreadable,
            part,
            pending: execution.progress.pending(),
            began: Instant::now(),
            next_row: piece.first_row,
            newest_failure: None,
        })
    }

    /// Adds rows, after which everything before `next_row` is in the part.
    fn add(&mut self, scored: Scored, next_row: u64) -> Result<(), Error> {
        let Scored { rows, mut failed, .. } = scored;
        failed.extend(self.unreadable_before(next_row));
        self.part.write(&rows)?;
        self.fail(failed)?;
        let done = self.counted_before(next_row) - self.counted_before(self.next_row);
        self.pending.add(done, 0);
        self.next_row = next_row;
        if self.began.elapsed() > COMMIT_AFTER && next_row < self.piece.end_row {
            self.commit_so_far()?;
        }
        Ok(())
    }

    fn counted_before(&self, row: u64) -> u64 {
        self.piece.counted_before(row)
    }

    fn fail(&mut self, mut failed: Vec<FailedRow>) -> Result<(), Error> {
        failed.sort_by_key(|row| row.row);
        self.part.fail(&failed)?;
        self.pending.add(0, failed.len() as u64);
        self.newest_failure = failed.into_iter().next().or(self.newest_failure.take());
        Ok(())
    }

    fn unreadable_before(&self, row: u64) -> Vec<FailedRow> {
        let mut unreadable = self.unreadable.lock();
        let (before, after) =
            std::mem::take(&mut *unreadable).into_iter().partition(|failed| failed.row < row);
        *unreadable = after;
        before
    }

    /// Commits what is there, and begins the next part.
    fn commit_so_far(&mut self) -> Result<(), Error> {
        let first_row = self.part.first_row();
        if self.next_row == first_row {
            return Ok(());
        }
        let next = begin_part(self.execution, &self.parts, self.next_row)?;
        let part = std::mem::replace(&mut self.part, next);
        let counted = self.counted_before(self.next_row) - self.counted_before(first_row);
        let committed = part.commit(self.next_row, counted)?;
        self.count(&committed);
        Ok(())
    }

    /// Adds what could not be read after the last row that could.
    fn add_rest(&mut self) -> Result<(), Error> {
        let failed = self.unreadable_before(u64::MAX);
        self.next_row = self.piece.end_row;
        self.fail(failed)
    }

    /// Commits the last part: nothing of the piece is left then.
    fn finish(self) -> Result<(), Error> {
        let end_row = self.piece.end_row;
        if self.part.first_row() == end_row {
            return Ok(());
        }
        let counted = self.counted_before(end_row) - self.counted_before(self.part.first_row());
        let Writing { part, pending, .. } = self;
        pending.commit(&part.commit(end_row, counted)?);
        Ok(())
    }

    fn count(&mut self, committed: &Part) {
        let pending = std::mem::replace(&mut self.pending, self.execution.progress.pending());
        pending.commit(committed);
        self.began = Instant::now();
    }
}

fn begin_part(execution: &Execution, parts: &Parts, first_row: u64) -> Result<UnfinishedPart, Error> {
    let Planned { specification, scorer, .. } = &execution.planned;
    parts.begin(first_row, specification.output.format, scorer.schema())
}
