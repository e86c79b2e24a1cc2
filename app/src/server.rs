//! Routes, bounds and headers.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use model::Calendar;
use tokio::sync::Semaphore;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use crate::locale::{Language, Texts};
use crate::problem::Problem;
use crate::{Consumers, Status, api, pages};

/// Scripts, styles and data of this origin only; nothing inline, nothing framed.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// How the app is served.
#[derive(Clone, Debug)]
pub struct Options {
    /// The utility's calendar: its zone names days and times.
    pub zone: Calendar,
    /// Mounts the consumer API and page without sign-in. Only for a listener on loopback.
    pub demo: bool,
    /// Requests answered at the same time; one more is refused with 503.
    pub max_requests: usize,
    /// How long an answer may take.
    pub request_timeout: Duration,
    /// Longest body of a request, bytes.
    pub max_body: usize,
}

impl Options {
    /// The usual bounds: 256 requests at once, 10 s each, 16 KiB of body.
    #[must_use]
    pub fn new(zone: Calendar, demo: bool) -> Options {
        Options {
            zone,
            demo,
            max_requests: 256,
            request_timeout: Duration::from_secs(10),
            max_body: 16 * 1024,
        }
    }
}

/// What every request can reach.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) consumers: Arc<dyn Consumers>,
    pub(crate) status: Arc<dyn Status>,
    pub(crate) texts: Arc<Texts>,
    pub(crate) options: Arc<Options>,
    permits: Arc<Semaphore>,
}

/// The pages `/` and `/card` and the API under `/api/v1`.
pub fn router(consumers: Arc<dyn Consumers>, status: Arc<dyn Status>, options: Options) -> Router {
    let permits = Arc::new(Semaphore::new(options.max_requests));
    let app = App { consumers, status, texts: Arc::new(Texts::load()), options: Arc::new(options), permits };
    let open = Router::new()
        .route("/", get(pages::status))
        .route("/assets/{name}", get(pages::asset))
        .route("/api/v1/status", get(api::status));
    let demo = Router::new()
        .route("/card", get(pages::card))
        .route("/api/v1/accounts", get(api::accounts))
        .route("/api/v1/accounts/{number}", get(api::account))
        .route("/api/v1/accounts/{number}/days", get(api::days))
        .route("/api/v1/accounts/{number}/recharges", post(api::recharge));
    let routes = if app.options.demo { open.merge(demo) } else { open };
    routes
        .fallback(async || StatusCode::NOT_FOUND)
        .layer(RequestBodyLimitLayer::new(app.options.max_body))
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, app.options.request_timeout))
        .layer(middleware::from_fn_with_state(app.clone(), finish))
        .with_state(app)
}

/// Bounds the requests in flight, puts problems into words, and sets the headers every answer has.
async fn finish(State(app): State<App>, request: Request, next: Next) -> Response {
    let language = Language::of(request.headers());
    let mut response = match app.permits.try_acquire() {
        Ok(_permit) => next.run(request).await,
        Err(_) => Problem::busy().document(&app.texts, language),
    };
    if let Some(problem) = problem_of(&mut response) {
        response = problem.document(&app.texts, language);
    }
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Balances must not lie in a cache; what may says so itself.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The problem an answer carries, or stands for where a router or a limit made it.
fn problem_of(response: &mut Response) -> Option<Problem> {
    let status = response.status();
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        return Some(problem);
    }
    let worded =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/problem+json");
    (!worded && (status.is_client_error() || status.is_server_error())).then(|| Problem::of_status(status))
}
