//! `status`: is the host there, is it ready, what is it.

use serde::Deserialize;
use serde_json::json;

use super::Session;
use crate::failure::Failure;
use crate::{output, table};

#[derive(Deserialize)]
struct Readiness {
    ready: bool,
}

#[derive(Deserialize)]
struct ServerMetadata {
    name: String,
    version: String,
    #[serde(default)]
    extensions: Vec<String>,
}

/// Shows the host. A host that is not ready is a failure, so that a script can wait for it.
///
/// # Errors
/// As for all requests, and where the host is not ready.
pub fn run(session: &Session) -> Result<(), Failure> {
    let metadata = session.client.get("/v2")?.read::<ServerMetadata>()?;
    let is_ready = match session.client.get("/v2/health/ready") {
        Ok(answer) => answer.read::<Readiness>()?.ready,
        Err(Failure::Refused { status: 503, .. }) => false,
        Err(failure) => return Err(failure),
    };
    let ServerMetadata { name, version, extensions } = metadata;
    let url = session.client.url().to_string();
    output::print(&if session.is_json {
        json!({ "url": url, "ready": is_ready, "name": name, "version": version, "extensions": extensions })
            .to_string()
    } else {
        let ready = if is_ready { "yes" } else { "not yet" }.to_owned();
        let server = format!("{name} {version}");
        table::properties([
            ("host", url),
            ("ready", ready),
            ("server", server),
            ("extensions", extensions.join(" ")),
        ])
    })?;
    if is_ready {
        Ok(())
    } else {
        Err(Failure::Refused { status: 503, message: "the host is not ready".to_owned() })
    }
}
