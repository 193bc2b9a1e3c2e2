//! Where hostile plugins are let loose: a host with limits that are quickly reached, a second model that must not
//! notice, and an eye on the host's memory.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use modelhost_tests::component::with_graph;
use modelhost_tests::host::{Host, Setup, wait_until};
use modelhost_tests::http::{Request, Response};
use modelhost_tests::inference::{behaviour, column};
use modelhost_tests::{artifacts, onnx, process};

/// How long an attacker may run, and how much later its answer may be here. Long enough that on a busy machine
/// it reaches every other limit first.
const WALL_TIME: Duration = Duration::from_millis(1_500);
const GRACE: Duration = Duration::from_secs(2);
/// How long the other model may take at worst, beside attackers that keep both of two cores busy.
pub const PATIENCE_OF_OTHERS: Duration = Duration::from_secs(1);
/// What the host may have kept after an attack: caches that were cold before.
const ALLOWED_GROWTH_KIB: u64 = 24 << 10;
const ATTACKERS: usize = 4;
const ROUNDS: usize = 3;

/// A host with a hostile model, and one that only wants to answer.
pub struct Arena {
    pub host: Host,
    before_kib: u64,
}

impl Arena {
    /// With limits of which an attacker reaches every one quickly.
    pub fn new() -> Arena {
        Arena::with(Setup::new())
    }

    pub fn with(setup: Setup) -> Arena {
        let setup = setup
            .set("runtime.limits.wall_time_ms", WALL_TIME.as_millis())
            .set("runtime.limits.memory_bytes", 64 << 20)
            .set("runtime.limits.table_elements", 2000)
            .set("runtime.limits.tensor_bytes", 16 << 20)
            .set("runtime.limits.handles", 200)
            .set("runtime.limits.output_bytes", 1 << 20)
            .set("runtime.limits.log_bytes", 4096)
            .set("runtime.keep_resident_bytes", 64 << 10)
            .set("runtime.max_idle_sandboxes", 4);
        let host = setup.start();
        host.deploy_new("hostile", &with_double(artifacts::test_plugin("hostile")));
        host.deploy_new("steady", &with_double(artifacts::test_plugin("labelled")));
        // Everything that is kept on purpose is there after the first round of requests.
        for _ in 0..20 {
            host.send(&behaviour("hostile", "answer", 0)).expect(200);
            host.send(&column("steady", &[1.0])).expect(200);
        }
        let before_kib = process::resident_kib(host.pid());
        Arena { host, before_kib }
    }

    /// What the host has in memory now is there on purpose.
    pub fn accept_memory(&mut self) {
        self.before_kib = process::resident_kib(self.host.pid());
    }

    /// Several attackers at once, several times. Every one of them gets this status, with a sentence that holds
    /// these words.
    #[track_caller]
    pub fn attack(&self, request: &Request, status: u16, words: &[&str]) {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let steady = scope.spawn(|| self.ask_steadily(&is_over));
            let attackers: Vec<_> =
                (0..ATTACKERS).map(|_| scope.spawn(|| self.attack_in_a_row(request))).collect();
            let answers: Vec<_> = attackers.into_iter().map(|attacker| attacker.join().unwrap()).collect();
            is_over.store(true, SeqCst);
            let (asked, slowest) = steady.join().unwrap();
            assert!(
                asked > 0 && slowest < PATIENCE_OF_OTHERS,
                "{asked} other answers, the slowest after {slowest:?}"
            );
            for (response, took) in answers.into_iter().flatten() {
                assert!(took < WALL_TIME + GRACE, "answered after {took:?}");
                assert_sentence(&response, status, words);
            }
        });
        self.assert_recovered();
    }

    fn attack_in_a_row(&self, request: &Request) -> Vec<(Response, Duration)> {
        let mut connection = self.host.connect();
        let mut attack = || {
            let began = Instant::now();
            (connection.send(request).unwrap(), began.elapsed())
        };
        (0..ROUNDS).map(|_| attack()).collect()
    }

    /// What the other model's clients see: how many answers, and the time that the slowest took.
    pub fn ask_steadily(&self, is_over: &AtomicBool) -> (u64, Duration) {
        let mut connection = self.host.connect();
        let mut seen = (0, Duration::ZERO);
        loop {
            let began = Instant::now();
            connection.send(&column("steady", &[1.0])).unwrap().expect(200);
            seen = (seen.0 + 1, seen.1.max(began.elapsed()));
            if is_over.load(SeqCst) {
                return seen;
            }
        }
    }

    /// The hostile model answers again, and nothing is kept of the attack.
    #[track_caller]
    pub fn assert_recovered(&self) {
        self.host.send(&behaviour("hostile", "answer", 0)).expect(200);
        let allowed = self.before_kib + ALLOWED_GROWTH_KIB;
        let pid = self.host.pid();
        wait_until(&format!("the host has at most {allowed} KiB in use again"), || {
            process::resident_kib(pid) <= allowed
        });
    }

    /// Just under a limit is fine, just over it is not, and the sentence names the limit.
    #[track_caller]
    pub fn assert_limit(&self, name: &str, under: u64, over: u64, words: &[&str]) {
        self.host.send(&behaviour("hostile", name, under)).expect(200);
        assert_sentence(&self.host.send(&behaviour("hostile", name, over)), 502, words);
        self.attack(&behaviour("hostile", name, over), 502, words);
    }
}

pub fn with_double(component: Vec<u8>) -> Vec<u8> {
    with_graph(component, "graph", &onnx::multiplication(2.0))
}

#[track_caller]
pub fn assert_sentence(response: &Response, status: u16, words: &[&str]) {
    let sentence = response.error(status);
    for word in words {
        assert!(sentence.contains(word), "{sentence:?} does not say {word:?}");
    }
}
