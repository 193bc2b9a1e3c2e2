//! What is loaded fits a budget: versions leave memory and come back, and nobody notices but in the time that it takes.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use modelhost_tests::component::with_graph;
use modelhost_tests::host::{Host, Setup, wait_until};
use modelhost_tests::http::Request;
use modelhost_tests::inference::{behaviour, column, column_body, output, to};
use modelhost_tests::{artifacts, onnx, process};
use serde_json::json;

const MODELS: u64 = 6;

fn component(factor: u64) -> Vec<u8> {
    with_graph(artifacts::test_plugin("labelled"), "net", &onnx::multiplication(factor as f32))
}

/// A host that keeps no more than one version in memory, with models that multiply by their number.
fn crowded() -> Host {
    let host = Setup::new().set("serving.loaded_bytes", 1).start();
    for model in 1..=MODELS {
        host.deploy_new(&format!("m{model}"), &component(model));
    }
    host
}

/// The value of a series of a model's version.
fn value(host: &Host, name: &str, model: &str, version: u64, more: &str) -> u64 {
    let text = host.get("/metrics").text();
    let has = |line: &str, part: &str| line.contains(part);
    let line = text.lines().find(|line| {
        line.starts_with(&format!("{name}{{"))
            && has(line, &format!("model=\"{model}\""))
            && has(line, &format!("version=\"{version}\""))
            && has(line, more)
    });
    let line = line.unwrap_or_else(|| panic!("no {name} of {model}/{version} {more} in\n{text}"));
    line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64
}

fn loaded(host: &Host) -> u64 {
    (1..=MODELS).map(|model| value(host, "modelhost_model_loaded", &format!("m{model}"), 1, "")).sum()
}

#[test]
fn what_was_evicted_comes_back() {
    let host = crowded();
    wait_until("all but one are evicted", || loaded(&host) <= 1);
    for round in 0..3 {
        for model in 1..=MODELS {
            let name = format!("m{model}");
            host.get(&format!("/v2/models/{name}/ready")).expect(200);
            let before = value(&host, "modelhost_model_loads", &name, 1, "");
            let answer = host.send(&column(&name, &[2.0])).expect(200);
            assert_eq!(*output(&answer, "y"), json!([2.0 * model as f64]));
            let after = value(&host, "modelhost_model_loads", &name, 1, "");
            assert!(round == 0 || after == before + 1, "{name} was loaded {before} and then {after} times");
            assert_eq!(value(&host, "modelhost_model_loaded", &name, 1, ""), 1);
        }
        wait_until("all but one are evicted", || loaded(&host) == 1);
    }
    assert!(!host.log().contains("compiling"), "{}", host.log());
}

#[test]
fn under_load_every_answer_is_right() {
    let host = crowded();
    let ask = |seed: u64| {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut connection = host.connect();
        for _ in 0..150 {
            let (model, x) = (random.u64(1..=MODELS), f64::from(random.i16(..)));
            let answer = connection.send(&column(&format!("m{model}"), &[x as f32])).unwrap().expect(200);
            assert_eq!(*output(&answer, "y"), json!([x * model as f64]), "m{model}");
        }
    };
    thread::scope(|scope| (0..4).for_each(|seed| drop(scope.spawn(move || ask(seed)))));
    let loads: u64 =
        (1..=MODELS).map(|model| value(&host, "modelhost_model_loads", &format!("m{model}"), 1, "")).sum();
    println!("600 requests to {MODELS} models with room for one: {loads} loads");
    assert!(loads > 2 * MODELS, "{loads} loads are no eviction");
    wait_until("all but one are evicted", || loaded(&host) <= 1);
}

#[test]
fn a_version_in_use_is_not_evicted() {
    let host = crowded();
    host.deploy_new("hostile", &artifacts::test_plugin("hostile"));
    let slow = thread::spawn({
        let mut connection = host.connect();
        move || connection.send(&behaviour("hostile", "sleep", 1_500))
    });
    let is_pending = || value(&host, "nv_inference_pending_request_count", "hostile", 1, "") == 1;
    wait_until("the slow request runs", is_pending);
    thread::sleep(Duration::from_millis(100));
    for model in 1..=MODELS {
        host.send(&column(&format!("m{model}"), &[1.0])).expect(200);
    }
    assert!(is_pending(), "the slow request was over before others could take its place");
    assert_eq!(value(&host, "modelhost_model_loaded", "hostile", 1, ""), 1);
    assert!(value(&host, "modelhost_model_memory_bytes", "hostile", 1, "state=\"in_use\"") > 1 << 16);
    slow.join().unwrap().unwrap().expect(200);
}

#[test]
fn one_that_is_deleted_while_it_is_evicted_is_gone() {
    let host = crowded();
    host.deploy_new("m1", &component(100));
    let by_number = to("/v2/models/m1/versions/1/infer", &column_body(&[1.0]));
    assert_eq!(*output(&host.send(&by_number).expect(200), "y"), json!([1.0]));
    host.send(&column("m2", &[1.0])).expect(200);
    wait_until("it is evicted", || value(&host, "modelhost_model_loaded", "m1", 1, "") == 0);
    host.send(&Request::delete("/v1/models/m1/versions/1")).expect(204);
    host.send(&by_number).error(404);
    let metrics = host.get("/metrics").text();
    assert!(!metrics.contains("model=\"m1\",version=\"1\""), "{metrics}");
    assert_eq!(*output(&host.send(&column("m1", &[1.0])).expect(200), "y"), json!([100.0]));
}

#[test]
fn what_nobody_asks_for_leaves_in_time() {
    let host = Setup::new().set("serving.evict_idle_seconds", 1).start();
    host.deploy_new("m1", &component(3));
    host.send(&column("m1", &[1.0])).expect(200);
    let memory =
        |state: &str| value(&host, "modelhost_model_memory_bytes", "m1", 1, &format!("state=\"{state}\""));
    let peak = memory("peak_in_use");
    let at_rest = (memory("code"), memory("graphs"), memory("shared_graphs"));
    assert!(at_rest.0 > 10_000 && at_rest.1 > 0 && at_rest.2 == 0, "{at_rest:?}");
    assert!(peak > 1 << 16 && memory("in_use") == 0, "{peak}");
    wait_until("it leaves", || value(&host, "modelhost_model_loaded", "m1", 1, "") == 0);
    assert_eq!((memory("code"), memory("graphs"), memory("peak_in_use")), (0, 0, peak));
    host.send(&column("m1", &[1.0])).expect(200);
    assert!(value(&host, "modelhost_model_loads", "m1", 1, "") >= 2);
}

#[test]
fn a_network_of_two_versions_is_shared() {
    let host = Host::start();
    host.deploy_new("one", &component(7));
    host.deploy_new("other", &modelhost_tests::component::with_section(component(7), "distinct", b"1"));
    let memory =
        |state: &str| value(&host, "modelhost_model_memory_bytes", "one", 1, &format!("state=\"{state}\""));
    assert!(memory("graphs") == 0 && memory("shared_graphs") > 0);
}

/// The same bytes under another name are not examined and compiled again.
#[test]
fn bytes_that_are_known_are_not_compiled_again() {
    let host = Host::start();
    let component = component(5);
    host.deploy_new("one", &component);
    let began = Instant::now();
    for index in 0..20 {
        host.deploy_new(&format!("other-{index}"), &component);
    }
    println!("20 uploads of known bytes took {:?}", began.elapsed());
    let compiled = host.data_dir().join("artifacts/compiled");
    assert_eq!(modelhost_tests::folder::names(&compiled).len(), 1);
    assert_eq!(*output(&host.send(&column("other-7", &[2.0])).expect(200), "y"), json!([10.0]));
    let version = |model: &str| host.get(&format!("/v1/models/{model}/versions/1")).expect(200);
    assert_eq!(version("one")["graphs"], version("other-7")["graphs"]);
    // The files stay for as long as any of them needs them.
    let mut operator = host.connect();
    host.deploy_new("one", &modelhost_tests::component::with_section(component, "distinct", b"1"));
    operator.send(&Request::delete("/v1/models/one/versions/1")).unwrap().expect(204);
    let host = host.kill().start();
    assert_eq!(*output(&host.send(&column("other-3", &[2.0])).expect(200), "y"), json!([10.0]));
}

/// Hot updates between versions that have no room beside each other.
#[test]
fn updates_and_evictions_at_once_drop_nothing() {
    let host = crowded();
    host.upload("m1", &component(100)).expect(201);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (host, is_over) = (&host, &is_over);
        let clients: Vec<_> = (0..3)
            .map(|seed: u64| {
                scope.spawn(move || {
                    let mut connection = host.connect();
                    let mut random = fastrand::Rng::with_seed(seed);
                    let mut asked = 0;
                    while !is_over.load(SeqCst) {
                        let model = random.u64(1..=2);
                        let answer =
                            connection.send(&column(&format!("m{model}"), &[1.0])).unwrap().expect(200);
                        let y = output(&answer, "y")[0].as_f64().unwrap();
                        let expected: &[f64] = if model == 1 { &[1.0, 100.0] } else { &[2.0] };
                        assert!(expected.contains(&y), "m{model} answered {y}");
                        asked += 1;
                    }
                    asked
                })
            })
            .collect();
        for change in 0..60 {
            let version = 2 - change % 2;
            host.deploy("m1", version);
            let answer = host.send(&column("m1", &[1.0])).expect(200);
            assert_eq!(output(&answer, "y")[0], if version == 2 { 100.0 } else { 1.0 });
        }
        is_over.store(true, SeqCst);
        let asked: Vec<u64> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        println!("requests beside 60 deployments: {asked:?}");
        assert!(asked.iter().all(|asked| *asked > 20), "{asked:?} are no load");
    });
}

const DEPLOYED: u64 = 1_000;

/// Takes minutes. Run it with `cargo test --release -p modelhost-tests -- --ignored --nocapture thousand`.
#[test]
#[ignore = "takes minutes: figures for docs/performance.md"]
fn a_thousand_deployed_versions_fit_one_host() {
    let name = |number: u64| format!("model-{number}");
    let distinct = |number: u64| {
        modelhost_tests::component::with_section(component(number), "distinct", &number.to_le_bytes())
    };
    let host = Host::start();
    let began = Instant::now();
    for number in 1..=DEPLOYED {
        host.deploy_new(&name(number), &distinct(number));
    }
    println!("{DEPLOYED} uploads and deployments: {:?}", began.elapsed());
    report("all deployed", &host);
    let setup = host.kill();
    for (what, budget) in [("room for all", 2_u64 << 30), ("room for one", 1)] {
        let host = setup.clone().set("serving.loaded_bytes", budget).start();
        println!("{what}: ready after {:?}", host.start_time);
        report("after the start", &host);
        let mut connection = host.connect();
        let mut random = fastrand::Rng::with_seed(1);
        let ask = |_| {
            let number = random.u64(1..=DEPLOYED);
            let request = column(&name(number), &[2.0]);
            let began = Instant::now();
            let answer = connection.send(&request).unwrap().expect(200);
            let time = began.elapsed();
            assert_eq!(*output(&answer, "y"), json!([2.0 * number as f64]));
            time
        };
        quantiles("requests at random", (0..5_000).map(ask).collect());
        report("after them", &host);
        host.kill();
    }
}

fn report(when: &str, host: &Host) {
    let pid = host.pid();
    let count = |path: String| std::fs::read_dir(path).map_or(0, Iterator::count);
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).map_or(0, |text| text.lines().count());
    let text = host.get("/metrics").text();
    let loaded =
        text.lines().filter(|line| line.starts_with("modelhost_model_loaded{") && line.ends_with(" 1"));
    println!(
        "{when}: {} MiB resident, {} descriptors, {maps} mappings, {} loaded",
        process::resident_kib(pid) >> 10,
        count(format!("/proc/{pid}/fd")),
        loaded.count()
    );
}

fn quantiles(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |quantile: f64| times[((times.len() - 1) as f64 * quantile) as usize];
    println!("{what} ({}): p50 {:?}, p99 {:?}, longest {:?}", times.len(), at(0.5), at(0.99), at(1.0));
}
