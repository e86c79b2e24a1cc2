//! `/health/livez`, `/health/readyz` and `/metrics`.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;

use crate::node::Node;

/// Routes of the health listener.
pub fn router(node: Node, metrics: PrometheusHandle) -> Router {
    Router::new()
        .route("/health/livez", get(|| async { "ok" }))
        .route("/health/readyz", get(readyz))
        .with_state(node)
        .route("/metrics", get(move || std::future::ready(metrics.render())))
}

/// Ready: the journal takes frames and the fold keeps up with it.
async fn readyz(State(node): State<Node>) -> impl IntoResponse {
    let readiness = node.pipeline.readiness();
    let status = if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(json!({ "ready": readiness.is_ready(), "reason": readiness.reason() })))
}
