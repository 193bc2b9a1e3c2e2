//! Loops over plain numbers that operators of this engine's own share. Nothing here knows of operators or networks.

pub(super) mod broadcast;
pub(super) mod distances;
pub(super) mod functions;
pub(super) mod lanes;
pub(super) mod products;
pub(super) mod widest;
