//! `kill -9` at random moments: what was acknowledged is there, what was not is there wholly or not at all.
#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it should be")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::num::NonZeroU32;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use modelhost_core::{Digest, ModelName};
use modelhost_registry::{Registry, TrafficShare};
use serde::{Deserialize, Serialize};
use support::*;
use tempfile::TempDir;

const DATA_DIR: &str = "MODELHOST_REGISTRY_CRASH_DATA_DIR";
const SEED: &str = "MODELHOST_REGISTRY_CRASH_SEED";
const ROUNDS: u64 = 60;

/// xorshift64*: repeatable, and good enough to choose by.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Step {
    Add { content: u64 },
    Delete { number: u64 },
    Deploy { number: u64 },
    Rollback { to: u64 },
    SetAlias { number: u64 },
    DeleteAlias,
    Configure { weight: u32 },
}

/// An own, simpler idea of a model, to compare with.
#[derive(Clone, Debug, Default, PartialEq)]
struct Expected {
    generation: u64,
    next: u64,
    versions: BTreeMap<u64, Digest>,
    alias: Option<u64>,
    revisions: Vec<u64>,
    /// 0: nothing is configured.
    weight: u32,
}

impl Expected {
    fn make(&mut self, step: Step) {
        self.generation += 1;
        match step {
            Step::Add { content } => {
                self.next += 1;
                self.versions.insert(self.next, Digest::of(&component_of(content)));
            }
            Step::Delete { number } => drop(self.versions.remove(&number)),
            Step::Deploy { number } => self.revisions.push(number),
            Step::Rollback { to } => self.revisions.push(self.revisions[to as usize - 1]),
            Step::SetAlias { number } => self.alias = Some(number),
            Step::DeleteAlias => self.alias = None,
            Step::Configure { weight } => self.weight = weight,
        }
    }

    fn read(registry: &Registry, name: &ModelName) -> Expected {
        let Some(model) = registry.model(name).unwrap() else { return Expected::default() };
        let revisions = registry.revisions(name).unwrap();
        assert_eq!(model.deployment.as_ref(), revisions.last());
        Expected {
            generation: model.generation,
            next: model.next_version.0 - 1,
            versions: model.versions.iter().map(|version| (version.number.0, version.digest)).collect(),
            alias: model.aliases.values().next().map(|number| number.0),
            revisions: revisions.iter().map(|revision| only(&revision.traffic)).collect(),
            weight: model.configuration.weight.map_or(0, NonZeroU32::get),
        }
    }

    /// A change that the rules allow. `fresh` is content that was never added.
    fn choose(&self, random: &mut Random, fresh: u64) -> Step {
        let numbers: Vec<u64> = self.versions.keys().copied().collect();
        if numbers.len() < 2 {
            return Step::Add { content: fresh };
        }
        let number = numbers[random.below(numbers.len() as u64) as usize];
        let is_free = self.revisions.last() != Some(&number) && self.alias != Some(number);
        let to = random.below(self.revisions.len().max(1) as u64) + 1;
        let can_restore =
            self.revisions.get(to as usize - 1).is_some_and(|version| self.versions.contains_key(version));
        match random.below(7) {
            0 if is_free => Step::Delete { number },
            1 if can_restore => Step::Rollback { to },
            2 => Step::SetAlias { number },
            3 if self.alias.is_some() => Step::DeleteAlias,
            4 => Step::Add { content: fresh },
            5 => Step::Configure { weight: (self.weight + 1 + random.below(3) as u32) % 5 },
            // The same alias again changes nothing, a deployment always does.
            _ => Step::Deploy { number },
        }
    }
}

fn only(traffic: &[TrafficShare]) -> u64 {
    assert_eq!(traffic.len(), 1);
    traffic[0].version.0
}

fn perform(registry: &Registry, name: &ModelName, step: Step) {
    match step {
        Step::Add { content } => assert!(add(registry, name.as_str(), content).created),
        Step::Delete { number } => assert!(registry.delete_version(name, version(number), None).unwrap() > 0),
        Step::Deploy { number } => drop(deploy(registry, name.as_str(), number).unwrap()),
        Step::Rollback { to } => drop(registry.rollback(name, Some(to), None, None, None).unwrap()),
        Step::SetAlias { number } => {
            assert!(registry.set_alias(name, &alias("a"), version(number), None).unwrap() > 0)
        }
        Step::DeleteAlias => assert!(registry.delete_alias(name, &alias("a"), None).unwrap() > 0),
        Step::Configure { weight } => {
            assert!(registry.configure(name, weighing(weight), None).unwrap() > 0)
        }
    }
}

/// Runs in a process of its own, until it is killed. Does nothing in an ordinary test run.
#[test]
fn child() {
    let (Ok(data), Ok(seed)) = (std::env::var(DATA_DIR), std::env::var(SEED)) else { return };
    let seed: u64 = seed.parse().unwrap();
    let mut random = Random(seed + 1);
    let mut out = std::io::stdout();
    let mut say = |word: &str, name: &ModelName, step: Step| {
        writeln!(out, "{word} {name} {}", serde_json::to_string(&step).unwrap()).unwrap();
        out.flush().unwrap();
    };
    let registry = Registry::open(Path::new(&data)).unwrap();
    for fresh in seed * 1_000_000.. {
        let name = model(["income", "spam"][random.below(2) as usize]);
        let expected = Expected::read(&registry, &name);
        let step = expected.choose(&mut random, fresh);
        if step == (Step::SetAlias { number: expected.alias.unwrap_or(0) }) {
            continue;
        }
        say("try", &name, step);
        perform(&registry, &name, step);
        say("done", &name, step);
    }
}

/// A change that a child spoke of.
type Told = (ModelName, Step);

/// Starts a child, kills it after a while, and returns what it said: the changes acknowledged and the one begun.
fn run_child(data: &Path, seed: u64, life: Duration) -> (Vec<Told>, Option<Told>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .envs([(DATA_DIR, data.to_str().unwrap()), (SEED, &seed.to_string())])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let killer = std::thread::spawn(move || {
        std::thread::sleep(life);
        child.kill().unwrap();
        child.wait().unwrap();
    });
    let (mut done, mut begun) = (Vec::new(), None);
    for line in lines.map_while(Result::ok) {
        // The test runner's own words come before, and without a line feed.
        let words = line.find("try ").or_else(|| line.find("done ")).map_or("", |start| &line[start..]);
        let mut parts = words.splitn(3, ' ');
        let (Some(word), Some(name), Some(step)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let Ok(step) = serde_json::from_str(step) else { continue };
        match word {
            "try" => begun = Some((model(name), step)),
            _ => done.extend(begun.take()),
        }
    }
    killer.join().unwrap();
    (done, begun)
}

#[test]
fn acknowledged_changes_survive_being_killed() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut expected: BTreeMap<ModelName, Expected> =
        [model("income"), model("spam")].map(|name| (name, Expected::default())).into();
    let (mut acknowledged, mut finished, mut discarded, mut put_right) = (0, 0, 0, 0);
    for round in 0..ROUNDS {
        let life = Duration::from_millis(5 + random.below(220));
        let (done, begun) = run_child(&data, round, life);
        acknowledged += done.len();
        for (name, step) in done {
            expected.get_mut(&name).unwrap().make(step);
        }
        if data.is_dir() {
            let report = Registry::check(&data).unwrap();
            assert!(report.is_sound(), "round {round}: {report:?}");
            put_right += usize::from(!report.notes.is_empty());
        }
        let registry = Registry::open(&data).unwrap();
        if let Some((name, step)) = begun {
            let mut with_it = expected[&name].clone();
            with_it.make(step);
            if Expected::read(&registry, &name) == with_it {
                finished += 1;
                expected.insert(name, with_it);
            } else {
                discarded += 1;
            }
        }
        for (name, expected) in &expected {
            assert_eq!(Expected::read(&registry, name), *expected, "round {round}, {name}");
        }
        drop(registry);
        assert_nothing_is_left_over(&data, &expected, round);
    }
    println!(
        "{ROUNDS} kills, {acknowledged} changes acknowledged; of those cut short {finished} were there and \
         {discarded} were not; {put_right} starts had something to put right"
    );
    assert!(
        acknowledged > 100 && finished + discarded > 10,
        "the children were killed too early to show anything"
    );
}

fn assert_nothing_is_left_over(data: &Path, expected: &BTreeMap<ModelName, Expected>, round: u64) {
    let report = Registry::check(data).unwrap();
    assert!(report.is_sound() && report.notes.is_empty(), "round {round}: {report:?}");
    let versions: usize = expected.values().map(|model| model.versions.len()).sum();
    assert_eq!(report.versions, versions as u64);
    // Contents are never added twice, so each version has a component of its own.
    assert_eq!(count_files(&data.join("artifacts/components")), versions, "round {round}");
    assert_eq!(count_files(&data.join("artifacts/compiled")), versions, "round {round}");
    assert_eq!(count_files(&data.join("staging")), 0, "round {round}");
}
