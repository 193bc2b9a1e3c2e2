//! Plugins that misbehave on purpose fail their own request, with the right status and within their limits, and
//! nothing else: another model keeps answering, and the host's memory goes back to where it was.

pub mod arena;
mod conduct;
mod limits;
mod logs;
mod time;
