//! The host is killed at random moments while it works. What it acknowledged is there after each restart, what it
//! did not is there whole or not at all, and it serves.

mod ledger;
mod verify;
mod worker;

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use modelhost_tests::component::expensive;
use modelhost_tests::guest::Guest;
use modelhost_tests::host::{Host, Setup, wait_until};
use modelhost_tests::http::Request;
use modelhost_tests::process;

use self::ledger::Ledger;
use self::verify::verify;
use self::worker::Worker;

const KILLS: u64 = 100;
const MODELS: [&str; 3] = ["ash", "birch", "cedar"];

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
    assert!(ledger.acknowledged > 2 * KILLS, "{} acknowledged changes prove little", ledger.acknowledged);
}

/// What a host compiles is of no use without it.
#[test]
fn a_compiler_ends_with_its_host() {
    let host = Host::start();
    let data_dir = host.data_dir().to_str().unwrap().to_owned();
    let is_compiling = || process::mentioning(&data_dir).iter().any(|command| command.contains("examine"));
    thread::scope(|scope| {
        let mut connection = host.connect();
        let component = expensive(Guest::answering("y").component(), 1000, 1000);
        let upload = scope.spawn(move || connection.send(&Request::post("/v1/models/m/versions", component)));
        wait_until("it is being compiled", is_compiling);
        let killed = Instant::now();
        host.kill();
        wait_until("the compiler ends", || !is_compiling());
        assert!(killed.elapsed() < Duration::from_secs(2), "it went on for {:?}", killed.elapsed());
        assert!(upload.join().unwrap().is_err());
    });
}
