//! Looking predictions up: a table of many keys is published, then asked at random, one key and many at a time, at rest
//! and while newer versions are published.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::client::{Target, request};
use crate::load::{self, Load};
use crate::servers;
use crate::timing::Effort;

/// Items with scores under each key.
const LISTED: u64 = 20;
/// Keys of a lookup of many.
const MANY: usize = 100;
/// Different requests, of which each connection draws.
const REQUESTS: usize = 10_000;
/// Connections of the closed loops.
const CONNECTIONS: [usize; 3] = [1, 4, 16];

/// What a table came to.
pub struct TableTimes {
    /// How many keys it has.
    pub keys: u64,
    /// Bytes of its file.
    pub bytes: u64,
    /// From the request to the answer.
    pub publishing: Duration,
    /// What was asked, over so many connections.
    pub lookups: Vec<(&'static str, usize, Load)>,
}

/// Publishes a table of so many keys and asks it.
pub async fn measure(modelhost: &Path, keys: u64, effort: Effort) -> Result<TableTimes> {
    let folder = tempfile::tempdir()?;
    let host = servers::modelhost(modelhost, folder.path()).await?;
    let address = host.address.as_str();
    let put = |mark: u64| {
        request(
            address,
            "PUT",
            "/v1/datasets/lists/versions",
            "application/jsonl",
            rows(keys, mark).as_bytes(),
        )
    };
    send(address, put(1)).await.context("the dataset was not taken")?;
    let settings = json!({ "key": "user", "dataset": "lists" }).to_string();
    send(address, request(address, "PUT", "/v1/predictions/lists", "application/json", settings.as_bytes()))
        .await?;
    let publication =
        || request(address, "POST", "/v1/predictions/lists/versions", "application/json", b"{}");
    let began = Instant::now();
    let published: Value = serde_json::from_slice(&send(address, publication()).await?)?;
    let publishing = began.elapsed();
    let mut lookups = Vec::new();
    let (one, many) = (one_key(address, keys), many_keys(address, keys));
    for connections in CONNECTIONS {
        lookups.push(("one key", connections, load::run(&one, connections, effort).await?));
    }
    for connections in CONNECTIONS {
        lookups.push(("100 keys", connections, load::run(&many, connections, effort).await?));
    }
    send(address, put(2)).await?;
    let publishing_again = async { send(address, publication()).await };
    let (load, again) = tokio::join!(load::run(&one, 4, effort), publishing_again);
    again?;
    lookups.push(("one key, while a version is published", 4, load?));
    let bytes = published["bytes"].as_u64().context("a publication tells its bytes")?;
    Ok(TableTimes { keys, bytes, publishing, lookups })
}

async fn send(address: &str, request: Bytes) -> Result<Vec<u8>> {
    load::answer(&Target::one_of(address, [request])).await
}

/// JSON lines. The keys come in no order.
fn rows(keys: u64, mark: u64) -> String {
    let mut lines = String::new();
    for number in 0..keys {
        // A prime that divides no number of keys that anybody gives, and so each user comes once.
        let user = number * 7_919 % keys;
        let items: Vec<u64> = (0..LISTED).map(|place| (user + place * mark) % 1_000).collect();
        let scores: Vec<f64> = (0..LISTED).map(|place| 1.0 / (place + mark + 1) as f64).collect();
        let _ = writeln!(lines, "{}", json!({ "user": user, "items": items, "scores": scores }));
    }
    lines
}

fn one_key(address: &str, keys: u64) -> Target {
    let mut random = fastrand::Rng::with_seed(1);
    let get = |_| {
        request(
            address,
            "GET",
            &format!("/v1/predictions/lists/{}", random.u64(..keys)),
            "application/json",
            b"",
        )
    };
    Target::one_of(address, (0..REQUESTS).map(get))
}

fn many_keys(address: &str, keys: u64) -> Target {
    let mut random = fastrand::Rng::with_seed(2);
    let post = |_| {
        let wanted: Vec<u64> = (0..MANY).map(|_| random.u64(..keys)).collect();
        let body = json!({ "keys": wanted }).to_string();
        request(address, "POST", "/v1/predictions/lists/lookup", "application/json", body.as_bytes())
    };
    Target::one_of(address, (0..REQUESTS / 10).map(post))
}
