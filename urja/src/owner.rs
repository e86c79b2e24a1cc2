//! Who owns a data directory, and how a command reaches it.
//!
//! One process owns a data directory. A command that needs it speaks HTTP over the owner's admin socket; where no
//! process owns it, the command takes the lock and runs the same routes in its own process.

use std::path::Path;

use anyhow::{Context, Result, bail};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tower::ServiceExt as _;

use crate::admin;
use crate::config::Config;
use crate::node::Node;

/// Name of the admin socket in a data directory.
pub const SOCKET: &str = "admin.sock";

/// The way to the owner.
pub enum Owner {
    /// Another process: its admin socket.
    Remote(std::path::PathBuf),
    /// This process holds the lock.
    Local(Box<Node>),
}

/// What the owner said.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// The body.
    pub body: Vec<u8>,
    /// Whether rows of a statement were cut at a bound.
    #[cfg(feature = "query")]
    pub truncated: bool,
}

impl Owner {
    /// Finds the owner of the configured data directory, or becomes it.
    ///
    /// # Errors
    /// When the directory is owned but its socket does not answer, or cannot be opened.
    pub async fn find(config: &Config) -> Result<Owner> {
        if let Some(owner) = Owner::running(config).await {
            return Ok(owner);
        }
        if !config.data.dir.exists() {
            bail!(
                "there is no data directory {}; start `urja serve` or `urja demo` first, or name it with --data",
                config.data.dir.display()
            );
        }
        Owner::become_owner(config).await
    }

    /// The process that owns the configured data directory, if there is one.
    pub async fn running(config: &Config) -> Option<Owner> {
        let socket = config.data.dir.join(SOCKET);
        UnixStream::connect(&socket).await.ok().map(|_| Owner::Remote(socket))
    }

    /// As [`Owner::find`], but makes the directory where it is missing: registering is how a partition begins.
    ///
    /// # Errors
    /// When the directory is owned but its socket does not answer, or cannot be opened.
    pub async fn find_or_create(config: &Config) -> Result<Owner> {
        if config.data.dir.exists() { Owner::find(config).await } else { Owner::become_owner(config).await }
    }

    async fn become_owner(config: &Config) -> Result<Owner> {
        Ok(Owner::Local(Box::new(Node::open(config.clone()).await?)))
    }

    /// Sends a request.
    ///
    /// # Errors
    /// When the connection breaks; an answer of any status is no error.
    pub async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Answer> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "urja")
            .header("content-type", "application/json")
            .body(Body::from(body))
            .context("request")?;
        match self {
            Owner::Remote(socket) => send_remote(socket, request).await,
            Owner::Local(node) => {
                let response = admin::router((**node).clone()).oneshot(request).await?;
                collect(response).await
            }
        }
    }

    /// Lets go of the directory, with a checkpoint where this process owned it.
    ///
    /// # Errors
    /// When the last checkpoint fails.
    pub async fn close(self) -> Result<()> {
        match self {
            Owner::Remote(_) => Ok(()),
            Owner::Local(node) => node.close().await,
        }
    }
}

/// Sends one request to the admin socket of another process.
async fn send_remote(socket: &Path, request: Request<Body>) -> Result<Answer> {
    let stream = UnixStream::connect(socket).await.with_context(|| format!("{}", socket.display()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let response =
        sender.send_request(request).await.context("the owner of the data directory did not answer")?;
    let answer = collect(response.map(Body::new)).await;
    driver.abort();
    answer
}

async fn collect(response: axum::http::Response<Body>) -> Result<Answer> {
    let status = response.status();
    #[cfg(feature = "query")]
    let truncated = response.headers().get("urja-truncated").is_some_and(|value| value == "true");
    let body = response.into_body().collect().await.context("answer broken off")?.to_bytes().to_vec();
    Ok(Answer {
        status,
        body,
        #[cfg(feature = "query")]
        truncated,
    })
}

impl Answer {
    /// The JSON of a good answer.
    ///
    /// # Errors
    /// With the problem's title and detail where the owner refused.
    pub fn json(&self) -> Result<Value> {
        let value: Value = serde_json::from_slice(&self.body).unwrap_or(Value::Null);
        if self.status.is_success() {
            return Ok(value);
        }
        bail!("{}", self.refusal(&value))
    }

    /// What a problem document says, in lines for people.
    fn refusal(&self, value: &Value) -> String {
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let mut out = match (text("title"), text("detail")) {
            (title, detail) if title.is_empty() && detail.is_empty() => {
                format!("refused with status {}", self.status)
            }
            (title, detail) if detail.is_empty() => title,
            (title, detail) if title.is_empty() => detail,
            (title, detail) => format!("{title}: {detail}"),
        };
        for line in value["lines"].as_array().into_iter().flatten() {
            let column = line["column"].as_str().map(|column| format!(", {column}")).unwrap_or_default();
            out += &format!(
                "\n  line {}{column}: {}",
                line["line"],
                line["reason"].as_str().unwrap_or_default()
            );
        }
        out
    }
}
