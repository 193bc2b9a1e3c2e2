//! `batch`: jobs that run a model over a dataset.

mod request;
mod shown;
mod watch;

use std::io::{self, Read as _, Write as _};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use modelhost_batch::jobs::{DryRun, ErrorPolicy, JobView, ResumeChanges, RetryChanges};
use ureq::http::Method;

use self::request::JobArguments;
use super::Session;
use crate::failure::Failure;

/// What to do with batch jobs.
#[derive(Debug, Args)]
pub struct Batch {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a job, and watch it to its end
    Run(Run),
    /// Show what a job would read, ask and write, and what it makes of the first rows
    DryRun(JobArguments),
    /// List the jobs
    List,
    /// Show a job
    Show(Which),
    /// Watch a job to its end
    Watch(Which),
    /// Stop a job; what it has done is kept
    Pause(Which),
    /// Let a job go on that was paused or has failed
    Resume(Resume),
    /// Stop a job for good, and throw away what it has done
    Cancel(Which),
    /// Start a job for the rows that failed in another one
    Retry(Retry),
    /// Print the failed rows of a job with their reasons, one JSON object a line
    Errors(Which),
    /// Forget a job that has ended; what it has published stays
    Delete(Which),
}

#[derive(Debug, Args)]
struct Run {
    #[command(flatten)]
    job: JobArguments,
    /// Return when the job is accepted, without waiting for its end
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, Args)]
struct Retry {
    /// The number of the job
    job: u64,
    /// Another model, or version of it: NAME, NAME@ALIAS or NAME@NUMBER
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Return when the new job is accepted, without waiting for its end
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, Args)]
struct Resume {
    /// The number of the job
    job: u64,
    /// Go on where rows fail, until more than this share of all rows has failed [default without the option: as before]
    #[arg(long, value_name = "SHARE")]
    skip_errors: Option<f64>,
}

#[derive(Debug, Args)]
struct Which {
    /// The number of the job
    job: u64,
}

/// Does what was typed.
///
/// # Errors
/// [`Failure`].
pub fn run(arguments: &Batch, session: &Session) -> Result<(), Failure> {
    match &arguments.command {
        Command::Run(Run { job, no_wait }) => start(job, *no_wait, session),
        Command::DryRun(job) => dry_run(job, session),
        Command::List => {
            let answer = session.client.get("/v1/jobs")?;
            session.show(&answer, |answer| Ok(shown::jobs(&answer.read::<shown::Listing>()?.jobs)))
        }
        Command::Show(Which { job }) => {
            let answer = session.client.get(&format!("/v1/jobs/{job}"))?;
            session.show(&answer, |answer| Ok(shown::job(&answer.read()?)))
        }
        Command::Watch(Which { job }) => watch::to_the_end(session, *job),
        Command::Pause(Which { job }) => change(session, *job, "pause"),
        Command::Resume(Resume { job, skip_errors }) => {
            let changes = ResumeChanges {
                on_error: skip_errors.map(|_| ErrorPolicy::Skip),
                max_failed_share: *skip_errors,
            };
            let answer =
                session.client.send(Method::POST, &format!("/v1/jobs/{job}/resume"), &changes, None)?;
            session.show(&answer, |answer| Ok(shown::job(&answer.read()?)))
        }
        Command::Cancel(Which { job }) => change(session, *job, "cancel"),
        Command::Retry(Retry { job, model, no_wait }) => {
            let changes = RetryChanges { model: model.clone(), ..RetryChanges::default() };
            let answer =
                session.client.send(Method::POST, &format!("/v1/jobs/{job}/retry"), &changes, None)?;
            follow(&answer, *no_wait, session)
        }
        Command::Errors(Which { job }) => errors(session, *job),
        Command::Delete(Which { job }) => {
            let answer = session.client.delete(&format!("/v1/jobs/{job}"), None)?;
            session.show(&answer, |_| Ok(format!("job {job} is forgotten")))
        }
    }
}

fn start(job: &JobArguments, no_wait: bool, session: &Session) -> Result<(), Failure> {
    let answer = session.client.send(Method::POST, "/v1/jobs", &job.specification()?, None)?;
    follow(&answer, no_wait, session)
}

fn follow(answer: &crate::client::Answer, no_wait: bool, session: &Session) -> Result<(), Failure> {
    if no_wait {
        return session.show(answer, |answer| Ok(shown::job(&answer.read()?)));
    }
    watch::to_the_end(session, answer.read::<JobView>()?.id.0)
}

fn dry_run(job: &JobArguments, session: &Session) -> Result<(), Failure> {
    let answer = session.client.send(Method::POST, "/v1/jobs?dry_run=true", &job.specification()?, None)?;
    session.show(&answer, |answer| Ok(shown::dry_run(&answer.read::<DryRun>()?)))
}

fn change(session: &Session, job: u64, what: &str) -> Result<(), Failure> {
    let answer = session.client.post_text(&format!("/v1/jobs/{job}/{what}"), "{}")?;
    session.show(&answer, |answer| Ok(shown::job(&answer.read()?)))
}

fn errors(session: &Session, job: u64) -> Result<(), Failure> {
    let mut rows = session.client.open(&format!("/v1/jobs/{job}/errors"))?;
    let mut stdout = io::stdout().lock();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = rows.read(&mut buffer).context("the host broke off its answer")?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        match stdout.write_all(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.context("cannot write to standard output")?,
        }
    }
}
