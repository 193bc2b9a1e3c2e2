//! The same requests over HTTP to every server in turn: a bare hyper server, the server in Python, and modelhost with
//! each engine, batching off and on. They take turns, so that all see the same moments of a noisy machine.

use std::path::Path;

use anyhow::Result;
use modelhost_core::EngineName;

use crate::client::Target;
use crate::load::{self, Load};
use crate::networks::Network;
use crate::open_loop;
use crate::servers::{self, Deployment, Python, Server};
use crate::timing::Effort;

/// Connections of the closed loops.
pub const CONNECTIONS: [usize; 4] = [1, 4, 16, 64];
/// The share of its capacity at which a server's latency is measured.
pub const LOAD: f64 = 0.7;

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// A server that does nothing.
    BareHyper,
    /// The plain server in Python.
    Python,
    /// A host.
    Modelhost(Deployment),
}

/// What one server came to.
pub struct Outcome {
    /// Who it was.
    pub contender: Contender,
    /// For each number of connections.
    pub closed: Vec<(usize, Load)>,
    /// At [`LOAD`] of the most that was answered; not for the bare server.
    pub open: Option<Load>,
}

impl Outcome {
    /// Requests per second over so many connections.
    pub fn rate(&self, connections: usize) -> Option<f64> {
        let (_, load) = self.closed.iter().find(|(known, _)| *known == connections)?;
        Some(load.requests_per_second)
    }

    /// The most that was answered, over any number of connections.
    pub fn capacity(&self) -> f64 {
        self.closed.iter().map(|(_, load)| load.requests_per_second).fold(0.0, f64::max)
    }
}

/// What servers are started with.
pub struct Field<'a> {
    /// The binary of modelhost.
    pub modelhost: &'a Path,
    /// The server in Python, where there is one.
    pub python: Option<&'a Python>,
    /// The engines of this machine.
    pub engines: &'a [EngineName],
}

impl Field<'_> {
    /// Measures all servers with one network.
    pub async fn measure(&self, network: &Network, effort: Effort) -> Result<Vec<Outcome>> {
        let folder = tempfile::tempdir()?;
        let onnx = folder.path().join("model.onnx");
        std::fs::write(&onnx, &network.onnx)?;
        let (_servers, targets) = self.start(network, &onnx, folder.path()).await?;
        let mut outcomes: Vec<Outcome> = targets
            .iter()
            .map(|(contender, _)| Outcome { contender: *contender, closed: Vec::new(), open: None })
            .collect();
        for connections in CONNECTIONS {
            for ((_, target), outcome) in targets.iter().zip(&mut outcomes) {
                outcome.closed.push((connections, load::run(target, connections, effort).await?));
            }
        }
        for ((contender, target), outcome) in targets.iter().zip(&mut outcomes) {
            if *contender != Contender::BareHyper {
                outcome.open = Some(open_loop::run(target, LOAD * outcome.capacity(), effort).await?);
            }
        }
        Ok(outcomes)
    }

    async fn start(
        &self,
        network: &Network,
        onnx: &Path,
        folder: &Path,
    ) -> Result<(Vec<Server>, Vec<(Contender, Target)>)> {
        let body = network.body()?;
        let target = |server: &Server, model: &str| {
            Target::new(&server.address, "POST", &format!("/v2/models/{model}/infer"), &body)
        };
        let host = servers::modelhost(self.modelhost, folder).await?;
        let mut targets = Vec::new();
        for deployment in deployments(self.engines) {
            host.deploy(self.modelhost, &deployment, onnx).await?;
            targets.push((Contender::Modelhost(deployment), target(&host, &deployment.name())));
        }
        let mut servers = vec![host];
        if let Some(python) = self.python {
            let server = python.serve(onnx).await?;
            targets.insert(0, (Contender::Python, target(&server, "bench")));
            servers.push(server);
        }
        if let Some((_, last)) = targets.last() {
            let bare = servers::bare_hyper(load::answer(last).await?.len())?;
            targets.insert(0, (Contender::BareHyper, target(&bare, "bench")));
            servers.push(bare);
        }
        Ok((servers, targets))
    }
}

fn deployments(engines: &[EngineName]) -> impl Iterator<Item = Deployment> {
    let both = |engine: &EngineName| [false, true].map(|batching| Deployment { engine: *engine, batching });
    engines.iter().flat_map(both)
}
