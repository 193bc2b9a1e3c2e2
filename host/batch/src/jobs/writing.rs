//! What comes of a piece, written in the order of its rows on a thread of its own, so that calls and the disk do not wait
//! for each other. Decides when a part is committed, and stops the job where too many rows have failed. Knows neither
//! where rows come from nor how they are scored.

use std::sync::Arc;
use std::time::Instant;

use modelhost_core::ErrorCode;
use modelhost_serving::Error;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::execution::Execution;
use super::fault::FailedRow;
use super::parts::{Answered, Parts, UnfinishedPart};
use super::planning::Planned;
use super::progress::Pending;
use super::reading::Piece;
use super::scoring::Scored;
use super::specification::ErrorPolicy;

/// Batches that wait to be written.
const WAITING: usize = 2;

/// Rows that could not be read, of what was read until now.
pub(super) type Unreadable = Arc<Mutex<Vec<FailedRow>>>;

/// Takes what comes of a piece.
pub(super) struct Writer {
    steps: mpsc::Sender<Step>,
    thread: JoinHandle<Result<(), Error>>,
}

enum Step {
    /// Rows, after which everything before this one is through.
    Rows(Scored, u64),
    /// Time passes.
    Look,
    /// Everything is through.
    End,
}

impl Writer {
    /// Begins with the first row of a piece.
    pub(super) fn begin(
        execution: Arc<Execution>,
        piece: Piece,
        parts: Parts,
        unreadable: Unreadable,
    ) -> Writer {
        let (sender, receiver) = mpsc::channel(WAITING);
        let first_row = piece.first_row;
        let writing = Writing {
            execution,
            piece,
            parts,
            unreadable,
            open: None,
            first_row,
            next_row: first_row,
            newest_failure: None,
        };
        Writer { steps: sender, thread: tokio::task::spawn_blocking(move || writing.run(receiver)) }
    }

    /// Takes rows, after which everything before `next_row` is through. False where nothing is written any more.
    pub(super) async fn add(&self, rows: Scored, next_row: u64) -> bool {
        self.steps.send(Step::Rows(rows, next_row)).await.is_ok()
    }

    /// Lets it see whether it is time to commit, where it has nothing else to do.
    pub(super) fn look(&self) {
        // Whoever has steps before him looks after each of them.
        let _ = self.steps.try_send(Step::Look);
    }

    /// Commits what was taken: all of the piece, where everything of it is through.
    ///
    /// # Errors
    /// What kept it from being written, or too many rows that failed.
    pub(super) async fn end(self, is_through: bool) -> Result<(), Error> {
        let Writer { steps, thread } = self;
        if is_through {
            // Where it is not taken, the answer of the thread says why.
            let _ = steps.send(Step::End).await;
        }
        drop(steps);
        thread.await?
    }
}

struct Writing {
    execution: Arc<Execution>,
    piece: Piece,
    parts: Parts,
    unreadable: Unreadable,
    /// The part that is being written.
    open: Option<Open>,
    /// The first row that is not committed.
    first_row: u64,
    /// The first row that is not through.
    next_row: u64,
    /// The first failed row of those that were added last.
    newest_failure: Option<FailedRow>,
}

/// A part that is being written.
struct Open {
    part: UnfinishedPart,
    pending: Pending,
    began: Instant,
}

impl Writing {
    fn run(mut self, mut steps: mpsc::Receiver<Step>) -> Result<(), Error> {
        while let Some(step) = steps.blocking_recv() {
            match step {
                Step::Rows(rows, next_row) => self.add(rows, next_row)?,
                Step::Look => {}
                Step::End => return self.finish(),
            }
            if self.is_due() && self.next_row < self.piece.end_row {
                self.commit_so_far()?;
            }
        }
        self.commit_so_far()
    }

    fn is_due(&self) -> bool {
        let commit_after = self.execution.commit_after();
        self.open.as_ref().is_some_and(|open| open.began.elapsed() >= commit_after)
    }

    fn add(&mut self, scored: Scored, next_row: u64) -> Result<(), Error> {
        let Scored { rows, mut failed, one_too_many, .. } = scored;
        failed.extend(self.unreadable_before(next_row));
        self.refuse_failures(&failed)?;
        self.open()?.part.write(&rows)?;
        self.through(failed, next_row)?;
        one_too_many.map_or(Ok(()), |row| self.end_by(&row))
    }

    /// Where no row may fail, none is written that has: a job that is resumed tries it again.
    fn refuse_failures(&mut self, failed: &[FailedRow]) -> Result<(), Error> {
        let first = failed.iter().min_by_key(|failed| failed.row);
        match (first, self.execution.planned.specification.on_error) {
            (Some(failed), ErrorPolicy::Fail) => {
                self.commit_so_far()?;
                Err(unprocessable(example(failed)))
            }
            _ => Ok(()),
        }
    }

    /// Ends the job by a row after which others were not tried. What was decided before is committed.
    fn end_by(&mut self, row: &FailedRow) -> Result<(), Error> {
        self.commit_so_far()?;
        Err(match self.execution.planned.specification.on_error {
            ErrorPolicy::Fail => unprocessable(example(row)),
            ErrorPolicy::Skip => {
                let allowed = self.execution.failures_allowed();
                unprocessable(format!("more than {allowed} rows failed, and {allowed} may: {}", example(row)))
            }
        })
    }

    /// These rows failed, and all others before `next_row` are in the part, or not wanted.
    fn through(&mut self, mut failed: Vec<FailedRow>, next_row: u64) -> Result<(), Error> {
        failed.sort_by_key(|failed| failed.row);
        let done = self.counted(self.next_row, next_row);
        let open = self.open()?;
        open.part.fail(&failed)?;
        open.pending.add(done, failed.len() as u64);
        self.next_row = next_row;
        self.newest_failure = failed.into_iter().next().or(self.newest_failure.take());
        self.check_failures()
    }

    /// Ends the job where too many rows failed. What is written is committed before, so that the reasons can be read.
    fn check_failures(&mut self) -> Result<(), Error> {
        let (failed, allowed) = (self.execution.progress.failed(), self.execution.failures_allowed());
        if failed <= allowed {
            return Ok(());
        }
        self.commit_so_far()?;
        Err(too_many_failed(failed, allowed, self.newest_failure.as_ref()))
    }

    fn counted(&self, from: u64, to: u64) -> u64 {
        self.piece.split.counted(from..to)
    }

    fn unreadable_before(&self, row: u64) -> Vec<FailedRow> {
        let mut unreadable = self.unreadable.lock();
        let (before, after) =
            std::mem::take(&mut *unreadable).into_iter().partition(|failed| failed.row < row);
        *unreadable = after;
        before
    }

    /// The part that is being written, or a new one: only where there is something to be written.
    fn open(&mut self) -> Result<&mut Open, Error> {
        match &mut self.open {
            Some(open) => Ok(open),
            none => {
                let Planned { specification, scorer, .. } = &self.execution.planned;
                let part = self.parts.begin(self.first_row, specification.output.format, scorer.schema())?;
                let pending = self.execution.progress.pending();
                Ok(none.insert(Open { part, pending, began: Instant::now() }))
            }
        }
    }

    /// Commits everything that is through.
    fn commit_so_far(&mut self) -> Result<(), Error> {
        let end_row = self.next_row;
        if end_row == self.first_row {
            return Ok(());
        }
        self.open()?;
        let Some(Open { part, pending, .. }) = self.open.take() else { return Ok(()) };
        let committed = part.commit(&Answered {
            end_row,
            counted: self.counted(self.first_row, end_row),
            may_be_filtered: self.execution.planned.specification.filter.is_some(),
        })?;
        pending.commit(&committed);
        self.execution.committed();
        self.first_row = end_row;
        Ok(())
    }

    /// Nothing of the piece is left: what could not be read after the last row that could is added.
    fn finish(mut self) -> Result<(), Error> {
        let failed = self.unreadable_before(u64::MAX);
        self.refuse_failures(&failed)?;
        if self.next_row < self.piece.end_row {
            self.through(failed, self.piece.end_row)?;
        }
        self.commit_so_far()?;
        if self.piece.end_row == self.piece.split.first_row + self.piece.split.rows {
            self.execution.progress.split_done();
        }
        Ok(())
    }
}

/// The end of a job of which more rows failed than may.
pub(super) fn too_many_failed(failed: u64, allowed: u64, newest: Option<&FailedRow>) -> Error {
    let reason = newest.map_or_else(|| "its errors say why".to_owned(), example);
    unprocessable(format!("{failed} rows failed, and {allowed} may: {reason}"))
}

fn example(failed: &FailedRow) -> String {
    format!("row {} failed: {}", failed.row, failed.reason)
}

fn unprocessable(message: String) -> Error {
    Error::new(ErrorCode::Unprocessable, message)
}
