//! Problem documents (RFC 9457) of the admin socket.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// An answer that says what is wrong and what to do.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    title: String,
    detail: String,
    extra: Value,
}

impl Problem {
    /// The request cannot be done as it stands.
    pub fn refused(title: impl Into<String>, detail: impl Into<String>) -> Problem {
        Problem {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            title: title.into(),
            detail: detail.into(),
            extra: json!({}),
        }
    }

    /// It contradicts what is there.
    pub fn conflict(title: impl Into<String>, detail: impl Into<String>) -> Problem {
        Problem { status: StatusCode::CONFLICT, ..Problem::refused(title, detail) }
    }

    /// There is no such thing.
    pub fn missing(title: impl Into<String>, detail: impl Into<String>) -> Problem {
        Problem { status: StatusCode::NOT_FOUND, ..Problem::refused(title, detail) }
    }

    /// Our own fault.
    pub fn internal(error: impl std::fmt::Display) -> Problem {
        tracing::error!(%error, "a request failed");
        Problem {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            ..Problem::refused("the request failed", error.to_string())
        }
    }

    /// Says which of several files it is about.
    pub fn in_file(self, file: &str) -> Problem {
        Problem { detail: format!("{file}: {}", self.detail), ..self }
    }

    /// Adds members of its own, for example the bad lines of a file.
    pub fn with(mut self, extra: Value) -> Problem {
        self.extra = extra;
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": "about:blank",
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let (Some(body), Value::Object(extra)) = (body.as_object_mut(), self.extra) {
            body.extend(extra);
        }
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        (self.status, kind, body.to_string()).into_response()
    }
}
