//! The host is killed at random moments while it works. What it acknowledged is there after each restart, what it
//! did not is there whole or not at all, and it serves.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use modelhost_tests::component::with_graph;
use modelhost_tests::folder::names;
use modelhost_tests::guest::Guest;
use modelhost_tests::host::{Host, Setup, deployment};
use modelhost_tests::http::{Connection, Request, Response};
use modelhost_tests::{inference, onnx};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const KILLS: u64 = 100;
const MODELS: [&str; 3] = ["ash", "birch", "cedar"];
/// Versions of a model beyond which old ones are deleted, so that the hundredth round takes no longer than the first.
const MAX_VERSIONS: usize = 6;

/// What the host has said, and what it was asked.
#[derive(Default)]
struct Ledger {
    /// The output's name in each component that was ever sent, by digest.
    sent: BTreeMap<String, String>,
    models: BTreeMap<&'static str, Promises>,
    acknowledged: u64,
}

/// What was acknowledged about one model.
#[derive(Default)]
struct Promises {
    /// Digests by number.
    versions: BTreeMap<u64, String>,
    /// Versions whose deletion was begun: they may be there or not.
    perhaps_deleted: BTreeSet<u64>,
    /// Versions whose deletion was acknowledged.
    deleted: BTreeSet<u64>,
    /// The newest acknowledged revision and its version.
    revision: Option<(u64, u64)>,
}

fn sha256(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// One who works on one model until the connection breaks.
struct Worker<'a> {
    model: &'static str,
    ledger: &'a Mutex<Ledger>,
    random: fastrand::Rng,
    connection: Connection,
}

impl Worker<'_> {
    fn work(mut self) {
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
        let response = self.connection.send(&Request::post(format!("/v1/models/{}/rollback", self.model), ""))?;
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

/// Compares a host that was just started with the ledger, and makes what was left open definite.
fn verify(host: &Host, ledger: &mut Ledger) {
    assert_eq!(names(&host.data_dir().join("staging")), Vec::<String>::new(), "half-done files are left");
    let listed = host.get("/v1/models").expect(200);
    let models = listed["models"].as_array().unwrap();
    let mut digests = BTreeSet::new();
    let mut graphs = BTreeSet::new();
    for name in MODELS {
        let promises = ledger.models.entry(name).or_default();
        let Some(model) = models.iter().find(|model| model["name"] == name) else {
            assert!(promises.versions.is_empty(), "model {name} was acknowledged and is gone");
            continue;
        };
        verify_versions(host, name, model, promises, &ledger.sent);
        verify_deployment(host, name, model, promises);
        for version in model["versions"].as_array().unwrap() {
            digests.insert(hex(version));
            graphs.extend(version["graphs"].as_array().unwrap().iter().map(hex));
        }
    }
    let stems = |folder: &str| -> BTreeSet<String> {
        let names = names(&host.data_dir().join("artifacts").join(folder));
        names.iter().map(|name| name.split('.').next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(stems("components"), digests, "components without a version, or the other way round");
    assert_eq!(stems("compiled"), digests, "compiled code without a version, or the other way round");
    assert_eq!(stems("graphs"), graphs, "graphs without a version, or the other way round");
}

fn hex(record: &Value) -> String {
    record["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned()
}

fn verify_versions(host: &Host, name: &str, model: &Value, promises: &mut Promises, sent: &BTreeMap<String, String>) {
    let mut there = BTreeMap::new();
    let mut connection = host.connect();
    for version in model["versions"].as_array().unwrap() {
        let number = version["number"].as_u64().unwrap();
        let digest = version["digest"].as_str().unwrap().to_owned();
        let label = sent.get(&digest).unwrap_or_else(|| panic!("{name}/{number}: nobody sent {digest}"));
        let target = format!("/v2/models/{name}/versions/{number}/infer");
        let asked = inference::to(&target, &inference::column_body(&[number as f32]));
        let answer = connection.send(&asked).unwrap().expect(200);
        assert_eq!(inference::version(&answer), number);
        assert_eq!(*inference::output(&answer, label), serde_json::json!([number as f64]));
        there.insert(number, digest);
    }
    for (number, digest) in &promises.versions {
        match there.get(number) {
            Some(found) => assert_eq!(found, digest, "{name}/{number}"),
            None => assert!(promises.perhaps_deleted.contains(number), "{name}/{number} was acknowledged and is gone"),
        }
    }
    for number in &promises.deleted {
        assert!(!there.contains_key(number), "{name}/{number} was deleted and is back");
    }
    promises.perhaps_deleted.clear();
    promises.versions = there;
}

/// One change may have been on its way to its acknowledgement when the host was killed.
fn verify_deployment(host: &Host, name: &str, model: &Value, promises: &mut Promises) {
    let number = model["deployment"]["number"].as_u64();
    let version = model["deployment"]["traffic"][0]["version"].as_u64();
    match (promises.revision, number, version) {
        (Some((acknowledged, promised)), Some(number), Some(version)) => {
            let is_next = number == acknowledged + 1;
            assert!(is_next || (number, version) == (acknowledged, promised), "{name}: {acknowledged} became {number}");
        }
        (None, Some(number), _) => assert_eq!(number, 1, "{name}"),
        (acknowledged, None, _) => assert_eq!(acknowledged, None, "{name}: the deployment is gone"),
        (_, Some(_), None) => panic!("{name}: a revision without a version"),
    }
    let revisions = host.get(&format!("/v1/models/{name}/revisions")).expect(200);
    let log = revisions["revisions"].as_array().unwrap();
    assert_eq!(log.len() as u64, number.unwrap_or(0), "{name}: the log of revisions has gaps");
    promises.revision = number.zip(version);
    if let Some(version) = version {
        let answer = host.send(&inference::column(name, &[1.0])).expect(200);
        assert_eq!(inference::version(&answer), version, "{name}");
    }
}

/// Lets everybody work for a moment, and kills the host.
fn work_and_kill(host: Host, ledger: &Mutex<Ledger>, random: &mut fastrand::Rng) -> Setup {
    thread::scope(|scope| {
        for model in MODELS {
            let (random, connection) = (random.fork(), host.connect());
            scope.spawn(move || Worker { model, ledger, random, connection }.work());
        }
        thread::sleep(Duration::from_micros(random.u64(0..250_000)));
        host.kill()
    })
}

#[test]
fn a_hundred_kills_lose_nothing_and_leave_nothing_half_done() {
    let seed = std::env::var("MODELHOST_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("MODELHOST_TEST_SEED={seed} runs this again");
    let mut random = fastrand::Rng::with_seed(seed);
    let ledger = Mutex::new(Ledger::default());
    let mut setup = Setup::new().set("log.level", "warn");
    for kill in 1..=KILLS {
        let host = setup.start();
        verify(&host, &mut ledger.lock().unwrap());
        setup = work_and_kill(host, &ledger, &mut random);
        let checked = setup.check(&[]);
        let said = String::from_utf8_lossy(&checked.stdout);
        assert!(checked.status.success(), "after kill {kill}: {said}");
    }
    let mut ledger = ledger.into_inner().unwrap();
    verify(&setup.start(), &mut ledger);
    println!("{} acknowledged changes in {KILLS} rounds", ledger.acknowledged);
    assert!(ledger.acknowledged > 10 * KILLS, "{} acknowledged changes prove little", ledger.acknowledged);
}
