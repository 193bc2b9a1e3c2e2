//! A server that speaks the protocol of S3, on loopback, whose buckets are folders.

use std::net::SocketAddr;
use std::path::PathBuf;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::host::Setup;

const ACCESS_KEY: &str = "AKIATESTS";
const SECRET_KEY: &str = "a secret of the tests";

/// The server. It ends when this is dropped.
pub struct ObjectStore {
    folder: TempDir,
    address: SocketAddr,
    _runtime: Runtime,
}

impl ObjectStore {
    /// Starts one with an empty bucket of this name.
    pub fn with_bucket(name: &str) -> ObjectStore {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(name)).unwrap();
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let mut builder = S3ServiceBuilder::new(FileSystem::new(folder.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let connections = Builder::new(TokioExecutor::new());
                    // A connection that breaks is the client's affair.
                    let _ = connections.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        ObjectStore { folder, address, _runtime: runtime }
    }

    /// Where an object lies on the disk, to be written by a test.
    pub fn path(&self, object: &str) -> PathBuf {
        self.folder.path().join(object)
    }

    /// A host that may read everything here, and knows how.
    pub fn known_to(&self, setup: Setup) -> Setup {
        setup
            .variable("AWS_ENDPOINT", &format!("http://{}", self.address))
            .variable("AWS_ALLOW_HTTP", "true")
            .variable("AWS_REGION", "us-east-1")
            .variable("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .variable("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    }
}
