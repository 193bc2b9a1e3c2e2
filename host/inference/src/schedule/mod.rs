//! Who runs when: calls wait in a queue of their graph, threads take from the queues what is due, put together what fits.
//!
//! ```text
//! Scheduler::compute ─▶ Lane (short | long) ─▶ GraphQueue ─▶ Batch ─▶ run ─▶ the answer of each call
//! ```
//!
//! **Lanes.** Short runs and long runs have threads of their own, each as many as there are cores, and the threads of
//! long runs have a lower priority in the operating system. So a long run has all processors as long as nobody else
//! wants them, and gives one back within a slice of the kernel's scheduler when a short run wants it. No engine has to
//! cooperate. What a graph takes is learned from its runs; a graph that was never run starts as a long one.
//!
//! **Quick runs** are not worth the way to another thread. Where several calls of a model are under way, they are gathered
//! and run together on the threads where the callers take turns, as one more turn of the model.
//!
//! **Shares.** Within a lane, graphs take turns by the time that they used, divided by their weight (start-time fair
//! queueing), so that a busy graph cannot starve another. Within a graph, the higher priority goes first, then the
//! earlier arrival.

mod batch;
mod call;
mod gather;
mod lane;
mod queue;
mod scheduler;

pub(crate) use call::Done;
pub(crate) use scheduler::{Scheduler, is_stackable};
