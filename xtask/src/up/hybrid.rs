//! Owns the order of the example that joins batch and online: the customers, the nightly job over them, the table that it
//! fills, and the plugin's leave to read it.
//!
//! It must not know how any of this is done, only by which command.

use anyhow::Result;

use super::client::Client;
use crate::steps;
use crate::workspace::Workspace;

const TABLE: &str = "top-items";
const CUSTOMERS: &str = "examples/customers.jsonl";
const JOB: &str = "examples/top-items.json";

/// Does all of it, unless there is such a table already: then it is the operator's.
pub fn set_up(workspace: &Workspace, client: &Client) -> Result<()> {
    if client.has_predictions(TABLE)? {
        steps::note(&format!("the table {TABLE} is there already"));
        return Ok(());
    }
    let file = |path: &str| workspace.root.join(path).display().to_string();
    steps::loud("what to recommend to each customer: a batch job, published as a table", || {
        client.run(&["datasets", "put", "customers", &file(CUSTOMERS)])?;
        client.run(&["predictions", "set", TABLE, "--key", "user", "--dataset", TABLE])?;
        client.run(&["batch", "run", "--file", &file(JOB)])?;
        client.run(&["configure", "reranker", "--prediction-tables", TABLE])
    })
}

/// A line that looks a customer up, to be pasted into a shell.
pub fn curl(url: &str) -> String {
    format!("curl -s {url}/v1/predictions/{TABLE}/2015-018148")
}
