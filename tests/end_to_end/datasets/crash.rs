//! The host is killed at random moments while datasets are put and deleted: what it acknowledged is there, whole; what it
//! did not is there whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use modelhost_tests::folder;
use modelhost_tests::form::Form;
use modelhost_tests::host::{Host, Setup};
use modelhost_tests::http::{Connection, Request};

use super::stored;

const KILLS: u64 = 40;
const DATASETS: [&str; 2] = ["ash", "birch"];

/// What was acknowledged about a dataset: rows by number, and what is left open.
#[derive(Default)]
struct Promises {
    versions: BTreeMap<u64, u64>,
    /// For good: their numbers never come back.
    deleted: BTreeSet<u64>,
    perhaps_deleted: BTreeSet<u64>,
    acknowledged: u64,
}

/// Puts and deletes until the host is gone.
fn work(mut connection: Connection, name: &str, promises: &Mutex<Promises>, random: &mut fastrand::Rng) {
    loop {
        let victim = promises.lock().unwrap().versions.keys().next().copied();
        let request = match victim {
            Some(number) if random.u8(..) < 80 => {
                promises.lock().unwrap().perhaps_deleted.insert(number);
                Request::delete(format!("/v1/datasets/{name}/versions/{number}"))
            }
            _ => upload(name, random),
        };
        let Ok(response) = connection.send(&request) else { return };
        let mut promises = promises.lock().unwrap();
        promises.acknowledged += 1;
        match (response.status, victim) {
            (204, Some(number)) => {
                promises.perhaps_deleted.remove(&number);
                promises.versions.remove(&number);
                promises.deleted.insert(number);
            }
            (200 | 201, _) => {
                let version = response.json();
                let (number, rows) = (version["number"].as_u64().unwrap(), version["rows"].as_u64().unwrap());
                assert!(!promises.deleted.contains(&number), "number {number} of {name} is given out again");
                promises.versions.insert(number, rows);
            }
            (status, _) => panic!("{status}: {}", response.text()),
        }
    }
}

/// Two files, of which one is often the same.
fn upload(name: &str, random: &mut fastrand::Rng) -> Request {
    let file = |rows: u64, seed: u64| {
        let lines: String = (0..rows).map(|row| format!("{row},{seed}\n")).collect();
        format!("a,b\n{lines}")
    };
    let (common, own) = (file(2_000, random.u64(..3)), file(random.u64(1..2_000), random.u64(..1 << 60)));
    let form = Form::new().file("common.csv", common.as_bytes()).file("own.csv", own.as_bytes());
    form.put(&format!("/v1/datasets/{name}/versions"))
}

/// Everything that was acknowledged is there and can be read; nothing else lies around.
fn verify(host: &Host, ledger: &[Mutex<Promises>]) {
    assert_eq!(
        folder::names(&host.data_dir().join("staging")),
        Vec::<String>::new(),
        "half-done files are left"
    );
    let mut files = BTreeSet::new();
    for (name, promises) in DATASETS.iter().zip(ledger) {
        let mut promises = promises.lock().unwrap();
        let answer = host.get(&format!("/v1/datasets/{name}/versions"));
        let listed = if answer.status == 404 {
            Vec::new()
        } else {
            answer.expect(200)["versions"].as_array().unwrap().clone()
        };
        let found: BTreeMap<u64, u64> = listed
            .iter()
            .map(|version| (version["number"].as_u64().unwrap(), version["rows"].as_u64().unwrap()))
            .collect();
        for (number, rows) in &promises.versions {
            let is_open = promises.perhaps_deleted.contains(number);
            assert!(found.get(number) == Some(rows) || is_open, "version {number} of {name}: {found:?}");
        }
        let resurrected: Vec<&u64> =
            promises.deleted.iter().filter(|number| found.contains_key(number)).collect();
        assert!(resurrected.is_empty(), "{name} has deleted versions {resurrected:?}");
        let gone: Vec<u64> =
            promises.perhaps_deleted.iter().filter(|number| !found.contains_key(number)).copied().collect();
        promises.deleted.extend(gone);
        for version in &listed {
            for file in version["files"].as_array().unwrap() {
                files.insert(
                    file["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned() + ".csv",
                );
            }
        }
        if let Some((number, rows)) = found.last_key_value() {
            let profile = host.get(&format!("/v1/datasets/{name}/versions/{number}/profile")).expect(200);
            assert_eq!(profile["rows"], *rows);
        }
        promises.versions = found;
        promises.perhaps_deleted.clear();
    }
    assert_eq!(
        stored(host).into_iter().collect::<BTreeSet<_>>(),
        files,
        "files without a version, or the other way round"
    );
}

#[test]
fn kills_lose_nothing_and_leave_nothing_half_done() {
    let seed = std::env::var("MODELHOST_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("MODELHOST_TEST_SEED={seed} runs this again");
    let mut random = fastrand::Rng::with_seed(seed);
    let ledger: Vec<Mutex<Promises>> = DATASETS.iter().map(|_| Mutex::default()).collect();
    let mut setup = Setup::new().set("log.level", "warn");
    for kill in 1..=KILLS {
        let host = setup.start();
        verify(&host, &ledger);
        setup = thread::scope(|scope| {
            for (name, promises) in DATASETS.iter().zip(&ledger) {
                let (mut random, connection) = (random.fork(), host.connect());
                scope.spawn(move || work(connection, name, promises, &mut random));
            }
            thread::sleep(Duration::from_micros(random.u64(0..1_000_000)));
            host.kill()
        });
        let checked = setup.check(&[]);
        assert!(checked.status.success(), "after kill {kill}: {}", String::from_utf8_lossy(&checked.stdout));
    }
    verify(&setup.start(), &ledger);
    let acknowledged: u64 = ledger.iter().map(|promises| promises.lock().unwrap().acknowledged).sum();
    println!("{acknowledged} acknowledged changes in {KILLS} rounds");
    assert!(acknowledged > KILLS, "{acknowledged} acknowledged changes prove little");
}
