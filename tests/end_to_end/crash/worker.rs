//! Those who upload, deploy, roll back and delete until the host is gone, and write down what it acknowledged.

use std::io;
use std::sync::Mutex;

use modelhost_tests::component::{expensive, with_graph};
use modelhost_tests::guest::Guest;
use modelhost_tests::host::deployment;
use modelhost_tests::http::{Connection, Request, Response};
use modelhost_tests::onnx;
use sha2::{Digest as _, Sha256};

use super::ledger::{Ledger, Promises};

/// Versions of a model beyond which old ones are deleted, so that the hundredth round takes no longer than the first.
const MAX_VERSIONS: usize = 6;

/// One who works on one model until the connection breaks.
pub struct Worker<'a> {
    pub model: &'static str,
    pub ledger: &'a Mutex<Ledger>,
    pub random: fastrand::Rng,
    pub connection: Connection,
}

impl Worker<'_> {
    /// Works until the host is gone.
    pub fn work(mut self) {
        while self.step().is_ok() {}
    }

    fn step(&mut self) -> io::Result<()> {
        match self.random.u8(0..10) {
            0..4 => self.upload(),
            4..7 => self.deploy(),
            7 => self.roll_back(),
            _ => self.delete(),
        }
    }

    fn promise(&self, note: impl FnOnce(&mut Promises)) {
        let mut ledger = self.ledger.lock().unwrap();
        note(ledger.models.entry(self.model).or_default());
        ledger.acknowledged += 1;
    }

    fn versions(&self) -> Vec<u64> {
        let ledger = self.ledger.lock().unwrap();
        let promises = ledger.models.get(self.model);
        promises.map(|promises| promises.versions.keys().copied().collect()).unwrap_or_default()
    }

    fn upload(&mut self) -> io::Result<()> {
        let label = format!("answer-{:016x}", self.random.u64(..));
        let mut component = Guest::answering(&label).component();
        if self.random.u8(0..6) == 0 {
            // Long enough in the compiler to be killed there.
            component = expensive(component, 20, 500);
        }
        if self.random.bool() {
            component = with_graph(component, &label, &onnx::multiplication(self.random.f32()));
        }
        let digest = sha256(&component);
        self.ledger.lock().unwrap().sent.insert(digest.clone(), label);
        let deploys = self.random.bool();
        let target = format!("/v1/models/{}/versions?deploy={deploys}", self.model);
        let uploaded = self.connection.send(&Request::post(target, component))?.expect(201);
        let number = uploaded["number"].as_u64().unwrap();
        assert_eq!(uploaded["digest"], digest);
        self.promise(|promises| {
            promises.versions.insert(number, digest);
            if deploys {
                promises.revision = Some((uploaded["deployed"]["number"].as_u64().unwrap(), number));
            }
        });
        Ok(())
    }

    fn deploy(&mut self) -> io::Result<()> {
        let versions = self.versions();
        let Some(version) = self.random.choice(versions) else { return Ok(()) };
        let response = self.connection.send(&deployment(self.model, version))?;
        self.note_revision(&response, 404);
        Ok(())
    }

    /// The revision before may name a version that was deleted.
    fn roll_back(&mut self) -> io::Result<()> {
        let response =
            self.connection.send(&Request::post(format!("/v1/models/{}/rollback", self.model), ""))?;
        match response.status {
            // Before anything was uploaded.
            404 => {}
            _ => self.note_revision(&response, 409),
        }
        Ok(())
    }

    fn note_revision(&self, response: &Response, refusal: u16) {
        if response.status == refusal {
            return;
        }
        let revision = response.expect(200);
        let version = revision["traffic"][0]["version"].as_u64().unwrap();
        self.promise(|promises| promises.revision = Some((revision["number"].as_u64().unwrap(), version)));
    }

    /// Deletes the oldest version if there are many.
    fn delete(&mut self) -> io::Result<()> {
        let versions = self.versions();
        if versions.len() <= MAX_VERSIONS {
            return Ok(());
        }
        let version = versions[0];
        self.ledger.lock().unwrap().models.entry(self.model).or_default().perhaps_deleted.insert(version);
        let target = format!("/v1/models/{}/versions/{version}", self.model);
        let response = self.connection.send(&Request::delete(target))?;
        match response.status {
            409 => {
                self.promise(|promises| {
                    promises.perhaps_deleted.remove(&version);
                });
                // The oldest version answers: another one shall.
                let newest = versions[versions.len() - 1];
                let response = self.connection.send(&deployment(self.model, newest))?;
                self.note_revision(&response, 404);
            }
            _ => {
                response.expect(204);
                self.promise(|promises| {
                    promises.versions.remove(&version);
                    promises.perhaps_deleted.remove(&version);
                    promises.deleted.insert(version);
                });
            }
        }
        Ok(())
    }
}

fn sha256(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
