//! The server on a real socket, with a host that has no models yet: what HTTP itself must get right.

mod client;
mod limits;
mod protocol;
mod shutdown;
