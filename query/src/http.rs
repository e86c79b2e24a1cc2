//! `GET /v1/sql?q=…&format=json|jsonl|csv|table`.
//!
//! | header of the answer | says |
//! |---|---|
//! | `urja-position` | the position everything in the answer is as of |
//! | `urja-rows` | number of rows |
//! | `urja-truncated` | `true` when rows were cut at a bound |
//! | `urja-elapsed-ms` | time to the last row |
//!
//! Errors are problem documents (RFC 9457); `Retry-After` stands where the same statement may succeed a moment later.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};

use crate::format::{self, Format};
use crate::{Answer, Engine, PinError, QueryError};

/// The routes of this crate over an engine.
pub fn router(engine: Arc<Engine>) -> Router {
    Router::new().route("/v1/sql", get(sql)).with_state(engine)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    q: String,
    format: Option<String>,
}

async fn sql(
    State(engine): State<Arc<Engine>>,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let Query(asked) = match asked {
        Ok(asked) => asked,
        Err(rejection) => return bad_request(&rejection.body_text()).into_response(),
    };
    let format = match asked.format.as_deref().map_or_else(|| Ok(accepted(&headers)), str::parse) {
        Ok(format) => format,
        Err(unknown) => return bad_request(&unknown.to_string()).into_response(),
    };
    match engine.query(&asked.q).await {
        Ok(answer) => answered(&answer, format),
        Err(error) => Problem::of(&error).into_response(),
    }
}

/// The first form among those the client accepts that there is; JSON where it does not say.
fn accepted(headers: &HeaderMap) -> Format {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let types = accept.split(',').map(|part| part.split(';').next().unwrap_or("").trim());
    types
        .filter_map(|media_type| match media_type {
            "application/json" => Some(Format::Json),
            "application/jsonl" | "application/x-ndjson" => Some(Format::JsonLines),
            "text/csv" => Some(Format::Csv),
            "text/plain" => Some(Format::Table),
            _ => None,
        })
        .next()
        .unwrap_or_default()
}

fn answered(answer: &Answer, format: Format) -> Response {
    let header = |name: &'static str, value: HeaderValue| (HeaderName::from_static(name), value);
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(format.media_type())),
        header("urja-position", answer.position.0.into()),
        header("urja-rows", answer.rows().into()),
        header("urja-truncated", HeaderValue::from_static(if answer.truncated { "true" } else { "false" })),
        header("urja-elapsed-ms", u64::try_from(answer.elapsed.as_millis()).unwrap_or(u64::MAX).into()),
    ];
    let body = Body::from_stream(futures::stream::iter(format::chunks(answer, format)));
    (headers, body).into_response()
}

/// A problem document.
#[derive(Serialize)]
struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip)]
    transient: bool,
}

impl Problem {
    fn of(error: &QueryError) -> Problem {
        let (status, title) = match error {
            QueryError::Syntax(_) => (StatusCode::BAD_REQUEST, "The text is not SQL"),
            QueryError::Refused(_) => (StatusCode::FORBIDDEN, "Statements of this kind are not answered"),
            QueryError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "The statement is too large"),
            QueryError::Invalid(_) => (StatusCode::BAD_REQUEST, "The statement does not fit the tables"),
            QueryError::Failed(_) => (StatusCode::UNPROCESSABLE_ENTITY, "The statement failed on a value"),
            QueryError::OutOfMemory(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "The statement needs too much memory")
            }
            QueryError::Timeout(_) => (StatusCode::GATEWAY_TIMEOUT, "The statement took too long"),
            QueryError::Busy { .. } => (StatusCode::SERVICE_UNAVAILABLE, "Too many statements at once"),
            QueryError::Pin(PinError::Behind { .. }) => {
                (StatusCode::SERVICE_UNAVAILABLE, "The tables have not caught up with what was received")
            }
            QueryError::Pin(PinError::Unavailable(_)) => (StatusCode::SERVICE_UNAVAILABLE, "Not ready"),
            QueryError::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "A fault of ours"),
        };
        let detail = match error {
            QueryError::Internal(_) => "the fault is in the log".to_owned(),
            told => told.to_string(),
        };
        let kind = format!("urn:urja:problem:sql:{}", error.kind());
        Problem { kind, title, status: status.as_u16(), detail, transient: error.is_transient() }
    }
}

fn bad_request(detail: &str) -> Problem {
    Problem {
        kind: "urn:urja:problem:sql:request".to_owned(),
        title: "The request is not understood",
        status: StatusCode::BAD_REQUEST.as_u16(),
        detail: detail.to_owned(),
        transient: false,
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_string(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.transient {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
