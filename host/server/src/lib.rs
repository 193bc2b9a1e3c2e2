//! The HTTP API of modelhost: sockets, limits, routes, the Open Inference Protocol under `/v2`,
//! and modelhost's own API under `/v1`. What a request means is for `serving` to say; only this crate knows
//! HTTP.
//!
//! # Addresses
//!
//! | method and path | what it does |
//! | --- | --- |
//! | `GET /` | names the entry points |
//! | `GET /metrics` | metrics in the text format of Prometheus |
//! | `GET /v2` | server metadata |
//! | `GET /v2/health/live`, `GET /v2/health/ready` | `{"live":true}`, `{"ready":true}`; 503 while not ready |
//! | `GET /v2/models/{m}[/versions/{v}]` | model metadata |
//! | `GET /v2/models/{m}[/versions/{v}]/ready` | 200, 503 where it cannot answer, 404 where it does not exist |
//! | `GET /v2/models[/{m}[/versions/{v}]]/stats` | counts and times of what was loaded since the start, as in Triton |
//! | `GET /v2/models/{m}[/versions/{v}]/config` | how it is served, as Triton's model configuration |
//! | `POST /v2/repository/index`, `…/models/{m}/load`, `…/models/{m}/unload` | what answers; out of service and back |
//! | `GET`, `POST /v2/trace/setting`, `/v2/models/{m}/trace/setting`, `/v2/logging` | what is traced and logged |
//! | `POST /v2/models/{m}[/versions/{v}]/infer` | inference; `{v}` is a number or an alias |
//! | `POST /v2/models/{m}[/versions/{v}]/generate`, `…/generate_stream` | inputs and outputs as plain fields; as server-sent events |
//! | `POST /v1/completions`, `/v1/chat/completions`, `/v1/embeddings` | as OpenAI's API, of models that declare the task |
//! | `POST /v1/models/{m}/versions[?deploy=true&comment=…]` | upload: the body is the component; 201, or 200 where the same bytes exist |
//! | `GET /v1/models`, `/v1/models/{m}`, `…/versions`, `…/versions/{v}`, `…/revisions`, `…/deployment` | what there is |
//! | `PUT /v1/models/{m}/deployment` | `{"traffic":[{"version":3,"percent":100}],"comment":"why"}` |
//! | `POST /v1/models/{m}/rollback` | `{"revision":2,"comment":"why"}`, both optional; without a number the revision before |
//! | `PUT`, `DELETE /v1/models/{m}/aliases/{alias}` | `{"version":3}` |
//! | `GET`, `PUT /v1/models/{m}/configuration` | engine, weight, limits and batching, all optional; PUT replaces the whole |
//! | `DELETE /v1/models/{m}/versions/{v}` | by number; 409 while it is deployed or has an alias |
//! | `GET /v1/datasets`, `/v1/datasets/{d}`, `…/versions`, `…/versions/{v}` | datasets; `{v}` is a number or `latest` |
//! | `PUT /v1/datasets/{d}/versions` | a form of files, with `card`, `types` and `format`; one file; or `{"urls":["s3://…"],"card":{}}` |
//! | `GET /v1/datasets/{d}/versions/{v}/preview[?rows=10]`, `…/profile` | the first rows; what the values are like |
//! | `DELETE /v1/datasets/{d}/versions/{v}` | by number; 409 while somebody needs it |
//! | `GET`, `PUT`, `DELETE /v1/schedules/{s}`, `GET /v1/schedules`, `…/{s}/runs` | jobs that start at their times, and their last runs |
//! | `POST /v1/schedules/{s}/pause`, `…/resume`, `…/run` | what an operator does with one; `run` begins a run now, 409 while one is under way |
//!
//! Every GET may be a HEAD. An error is always `{"error":"one sentence"}`, but under the addresses of OpenAI's API an object as there.
//!
//! # Headers
//!
//! - `X-Request-Id`: taken over into the log and the response where it is up to 128 printable characters, else made.
//! - `ETag` on everything about one model is its generation; a change with `If-Match: "7"` is refused with 412
//!   where the generation is another by now. Without `If-Match` a change is unconditional.
//! - `Inference-Header-Content-Length` says how many bytes of a body are JSON, where binary tensors follow; 0 makes all of
//!   the body the elements of the model's one input.
//! - `Content-Encoding` of an inference request, and `Accept-Encoding` of every request, may be gzip, deflate or zstd.
//! - `From` says who makes a change, for the records. It proves nothing.

mod activity;
mod body;
mod compression;
mod connection;
mod error;
mod events;
mod grpc;
mod handlers;
mod headers;
mod log_control;
mod reply;
mod request_record;
mod routes;
mod server;
mod service;
mod settings;
mod telemetry;

pub use log_control::{LogControl, LogState, LogTime};
pub use server::{BoundServer, Server, ServerError, Stopped};
pub use settings::{InvalidSetting, ServerSettings};
