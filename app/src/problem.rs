//! Errors of the API: problem documents (RFC 9457) in the language of the person.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::AppError;
use crate::locale::{Language, Texts};

/// What is wrong with a request or with us. The words are in `locales/*/problem.ftl`: `problem-NAME` says what,
/// `problem-NAME-detail` what to do next.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    name: &'static str,
    /// Variables of the texts.
    arguments: Vec<(&'static str, String)>,
    /// Members of the document besides those of the standard.
    members: Map<String, Value>,
}

/// A problem by each name that has texts.
#[cfg(test)]
pub(crate) const NAMES: [&str; 13] = [
    "not-found",
    "method-not-allowed",
    "bad-request",
    "media-type",
    "too-large",
    "unknown-account",
    "bad-count",
    "bad-amount",
    "bad-payment-id",
    "recharge-differs",
    "busy",
    "timeout",
    "internal",
];

impl Problem {
    fn new(status: StatusCode, name: &'static str) -> Problem {
        Problem { status, name, arguments: Vec::new(), members: Map::new() }
    }

    pub(crate) fn unknown_account() -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "unknown-account")
    }

    pub(crate) fn bad_count(most: usize) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad-count").with("most", most.to_string())
    }

    pub(crate) fn bad_amount(least_rupees: i64, most: String) -> Problem {
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-amount");
        problem.with("least", least_rupees.to_string()).with("most", most)
    }

    pub(crate) fn bad_payment_id() -> Problem {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-payment-id")
    }

    pub(crate) fn recharge_differs() -> Problem {
        Problem::new(StatusCode::CONFLICT, "recharge-differs")
    }

    pub(crate) fn busy() -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy")
    }

    /// The problem a bare status stands for, as routers and limits answer it.
    pub(crate) fn of_status(status: StatusCode) -> Problem {
        let name = match status {
            StatusCode::NOT_FOUND => "not-found",
            StatusCode::METHOD_NOT_ALLOWED => "method-not-allowed",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "media-type",
            StatusCode::PAYLOAD_TOO_LARGE => "too-large",
            StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => "timeout",
            status if status.is_client_error() => "bad-request",
            _ => "internal",
        };
        Problem::new(status, name)
    }

    pub(crate) fn with(mut self, name: &'static str, value: String) -> Problem {
        self.arguments.push((name, value));
        self
    }

    pub(crate) fn member(mut self, name: &str, value: Value) -> Problem {
        self.members.insert(name.to_owned(), value);
        self
    }

    /// The document, in words of that language.
    pub(crate) fn document(self, texts: &Texts, language: Language) -> Response {
        let text = |id: &str| texts.format(language, id, &self.arguments);
        let mut body = json!({
            "type": format!("urn:urja:problem:{}", self.name),
            "title": text(&format!("problem-{}", self.name)),
            "status": self.status.as_u16(),
            "detail": text(&format!("problem-{}-detail", self.name)),
        });
        if let Some(body) = body.as_object_mut() {
            body.extend(self.members);
        }
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(language.code()));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}

/// Carries the problem to the layer that knows the language.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<AppError> for Problem {
    fn from(error: AppError) -> Problem {
        match error {
            AppError::Busy | AppError::Stopped => Problem::busy(),
            AppError::Failed(cause) => {
                tracing::error!(error = %cause, "a request of the app failed");
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal")
            }
        }
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Problem {
        Problem::of_status(rejection.status())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Problem {
        Problem::of_status(rejection.status())
    }
}
