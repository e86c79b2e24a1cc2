//! The API and the pages over a loopback socket, on made-up accounts.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../examples/pages/household.rs"]
mod household;

use std::sync::Arc;
use std::time::Duration;

use app::{AppError, Consumers, Options, RechargeOutcome, Status, StatusView};
use async_trait::async_trait;
use household::Households;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{HeaderMap, Method, Request};
use hyper_util::rt::TokioIo;
use model::{AccountNumber, Calendar, Instant, Paise};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

const ONE: &str = "/api/v1/accounts/PUVVNL0000000001";
const PAYMENT: &str = "0b5b1c1e-6d0c-4b7e-9d2a-6a1f0c3e4d5f";

struct Server {
    address: std::net::SocketAddr,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Status and kind of the problem; checks that it is a whole document.
    fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.body);
        let document = self.json();
        assert_eq!(document["status"], self.status);
        for member in ["title", "detail"] {
            assert!(document[member].as_str().is_some_and(|text| text.len() > 3), "{document}");
        }
        (self.status, document["type"].as_str().unwrap().trim_start_matches("urn:urja:problem:").to_owned())
    }
}

impl Server {
    async fn start() -> Server {
        Server::with(Options::new(Calendar::india(), true)).await
    }

    async fn with(options: Options) -> Server {
        // 23 November 2026, 10:42 in India.
        let households = Arc::new(Households::new(|| Instant::from_seconds(1_795_410_720)));
        Server::of(households.clone(), households, options).await
    }

    async fn of(consumers: Arc<dyn Consumers>, status: Arc<dyn Status>, options: Options) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = app::router(consumers, status, options);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Server { address }
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: String) -> Answer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response =
            sender.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], String::new()).await
    }

    async fn get_in(&self, path: &str, language: &str) -> Answer {
        self.send(Method::GET, path, &[("accept-language", language)], String::new()).await
    }

    async fn recharge(&self, account: &str, body: Value) -> Answer {
        let path = format!("/api/v1/accounts/{account}/recharges");
        self.send(Method::POST, &path, &[("content-type", "application/json")], body.to_string()).await
    }
}

#[tokio::test]
async fn a_card_shows_the_balance_its_parts_and_its_time() {
    let card = Server::start().await.get(ONE).await.json();
    assert_eq!(card["as_of"], "2026-11-23T05:12:00Z");
    assert_eq!(card["booked"], json!({ "paise": 51_230, "currency": "INR" }));
    let paise = |member: &str| card[member]["paise"].as_i64().unwrap();
    assert_eq!(paise("balance"), paise("booked") - paise("accrued"));
    assert_eq!((&card["today"]["date"], &card["today"]["closed"]), (&json!("2026-11-23"), &json!(false)));
    assert_eq!(
        (&card["yesterday"]["date"], &card["yesterday"]["closed"]),
        (&json!("2026-11-22"), &json!(true))
    );
    assert_eq!((&card["booked_until"], &card["lasts"]["over_days"]), (&json!("2026-11-22"), &json!(7)));
}

#[tokio::test]
async fn days_come_oldest_first_and_silent_ones_are_left_out() {
    let server = Server::start().await;
    let days = server.get(&format!("{ONE}/days?count=30")).await.json()["days"].as_array().unwrap().clone();
    let dates: Vec<&str> = days.iter().map(|day| day["date"].as_str().unwrap()).collect();
    assert_eq!((dates.len(), dates[0], dates[27]), (28, "2026-10-25", "2026-11-23"));
    assert!(dates.is_sorted());
    for bad in ["count=0", "count=91", "count=x", "count=-1"] {
        assert_eq!(server.get(&format!("{ONE}/days?{bad}")).await.problem().0, 400, "{bad}");
    }
}

#[tokio::test]
async fn accounts_are_listed_up_to_the_limit() {
    let server = Server::start().await;
    let accounts =
        server.get("/api/v1/accounts?limit=2").await.json()["accounts"].as_array().unwrap().clone();
    assert_eq!(accounts.len(), 2);
    assert_eq!(accounts[0]["account_number"], "PUVVNL0000000001");
    assert_eq!(server.get("/api/v1/accounts?limit=501").await.problem(), (400, "bad-count".to_owned()));
}

#[tokio::test]
async fn a_recharge_is_in_the_balance_at_once() {
    let server = Server::start().await;
    let before = server.get(ONE).await.json()["balance"]["paise"].as_i64().unwrap();
    let body = json!({ "payment_id": PAYMENT, "amount_paise": 50_000 });
    let receipt = server.recharge("PUVVNL0000000001", body).await;
    assert_eq!(receipt.status, 201, "{}", receipt.body);
    assert_eq!(receipt.json()["balance"]["paise"], before + 50_000);
    let card = server.get(ONE).await.json();
    assert_eq!(card["balance"]["paise"], before + 50_000);
    assert_eq!(card["last_recharge"]["amount"]["paise"], 50_000);
}

#[tokio::test]
async fn the_same_payment_again_exists_and_a_different_one_says_how() {
    let server = Server::start().await;
    let pay = |account: &'static str, id: String, paise: i64| {
        let server = &server;
        async move { server.recharge(account, json!({ "payment_id": id, "amount_paise": paise })).await }
    };
    let first = pay("PUVVNL0000000001", PAYMENT.to_owned(), 50_000).await;
    let again = pay("PUVVNL0000000001", PAYMENT.to_uppercase(), 50_000).await;
    assert_eq!((first.status, again.status), (201, 200));
    assert_eq!(first.json(), again.json());

    let other_amount = pay("PUVVNL0000000001", PAYMENT.to_owned(), 60_000).await;
    assert_eq!(other_amount.problem(), (409, "recharge-differs".to_owned()));
    assert_eq!(other_amount.json()["amount"]["paise"], 50_000);

    let other_account = pay("PUVVNL0000000002", PAYMENT.to_owned(), 50_000).await;
    assert_eq!(other_account.problem(), (409, "recharge-differs".to_owned()));
    assert_eq!(
        (&other_account.json()["same_account"], &other_account.json()["amount"]),
        (&json!(false), &Value::Null)
    );
}

#[tokio::test]
async fn what_is_no_recharge_is_refused_with_what_to_do() {
    let server = Server::start().await;
    for paise in [0, -10_000, 9_900, 10_050, 1_000_000_000, i64::MIN, i64::MAX] {
        let answer = server
            .recharge("PUVVNL0000000001", json!({ "payment_id": PAYMENT, "amount_paise": paise }))
            .await;
        assert_eq!(answer.problem(), (422, "bad-amount".to_owned()), "{paise}");
        assert_eq!(answer.json()["detail"], "Choose whole rupees, from ₹100 to ₹99,99,999.");
    }
    for id in ["", "1", "0b5b1c1e-6d0c-4b7e-9d2a-6a1f0c3e4d5g"] {
        let answer =
            server.recharge("PUVVNL0000000001", json!({ "payment_id": id, "amount_paise": 10_000 })).await;
        assert_eq!(answer.problem(), (422, "bad-payment-id".to_owned()), "{id}");
    }
    for (body, status) in [
        (json!({ "payment_id": PAYMENT }), 422),
        (json!({ "payment_id": PAYMENT, "amount_paise": 10_000, "currency": "USD" }), 422),
        (json!({ "payment_id": PAYMENT, "amount_paise": 100.5 }), 422),
    ] {
        assert_eq!(server.recharge("PUVVNL0000000001", body).await.problem().0, status);
    }
    for account in ["PUVVNL0000000099", "nonsense", "%F0%9F%98%80"] {
        let answer = server.recharge(account, json!({ "payment_id": PAYMENT, "amount_paise": 10_000 })).await;
        assert_eq!(answer.problem(), (404, "unknown-account".to_owned()), "{account}");
    }
}

#[tokio::test]
async fn every_error_is_a_problem_document() {
    let server = Server::start().await;
    let post = |kind: &'static str, body: String| {
        let server = &server;
        async move {
            server.send(Method::POST, &format!("{ONE}/recharges"), &[("content-type", kind)], body).await
        }
    };
    assert_eq!(server.get("/nowhere").await.problem(), (404, "not-found".to_owned()));
    assert_eq!(server.get("/assets/../Cargo.toml").await.problem(), (404, "not-found".to_owned()));
    assert_eq!(
        server.get(&format!("{ONE}/recharges")).await.problem(),
        (405, "method-not-allowed".to_owned())
    );
    assert_eq!(
        server.get("/api/v1/accounts/PUVVNL0000000099").await.problem(),
        (404, "unknown-account".to_owned())
    );
    assert_eq!(post("application/json", "{".to_owned()).await.problem(), (400, "bad-request".to_owned()));
    assert_eq!(post("text/plain", "{}".to_owned()).await.problem(), (415, "media-type".to_owned()));
    assert_eq!(post("application/json", " ".repeat(20_000)).await.problem(), (413, "too-large".to_owned()));
}

#[tokio::test]
async fn a_problem_is_told_in_the_language_of_the_person() {
    let server = Server::start().await;
    let hindi = server.get_in("/api/v1/accounts/PUVVNL0000000099", "hi-IN,hi;q=0.9,en;q=0.8").await;
    assert_eq!(
        (hindi.json()["title"].as_str(), hindi.header("content-language")),
        (Some("ऐसा कोई खाता नहीं है"), "hi")
    );
    let english = server.get_in("/api/v1/accounts/PUVVNL0000000099", "fr").await;
    assert_eq!(english.json()["title"], "No such account");
}

#[tokio::test]
async fn every_answer_forbids_foreign_and_inline_scripts() {
    let server = Server::start().await;
    for path in ["/", "/card", "/assets/card.js", "/assets/strings.hi.json", "/api/v1/status", "/nowhere"] {
        let answer = server.get(path).await;
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        if path.starts_with("/api") {
            assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        }
    }
    for path in ["/", "/card"] {
        let html = server.get(path).await.body;
        let inline = [" style=", "<style", " onclick", "javascript:", "<script>"];
        assert!(inline.iter().all(|sign| !html.contains(sign)), "{path}");
        assert!(!html.contains("{{"), "{path} has a text that was not put in");
    }
}

#[tokio::test]
async fn the_page_speaks_the_language_of_the_browser_until_another_is_chosen() {
    let server = Server::start().await;
    let hindi = server.get_in("/card", "hi-IN,hi;q=0.9,en;q=0.8").await;
    assert!(hindi.body.contains("<html lang=\"hi\"") && hindi.body.contains("अभी रिचार्ज करें"));
    assert_eq!(hindi.header("set-cookie"), "");
    let chosen = server.get_in("/card?lang=en", "hi").await;
    assert!(chosen.body.contains("<html lang=\"en\"") && chosen.body.contains("Recharge now"));
    assert_eq!(chosen.header("set-cookie"), "lang=en; Path=/; Max-Age=31536000; SameSite=Lax");
    let headers = [("accept-language", "hi"), ("cookie", "lang=en")];
    let kept = server.send(Method::GET, "/card", &headers, String::new()).await;
    assert!(kept.body.contains("<html lang=\"en\""));
}

#[tokio::test]
async fn every_asset_a_page_names_is_there() {
    let server = Server::start().await;
    for page in ["/", "/card"] {
        let html = server.get(page).await.body;
        for asset in html.split("\"/assets/").skip(1).filter_map(|rest| rest.split('"').next()) {
            let answer = server.get(&format!("/assets/{asset}")).await;
            assert_eq!(answer.status, 200, "{asset}");
            for import in answer.body.split(" from \"./").skip(1).filter_map(|rest| rest.split('"').next()) {
                assert_eq!(
                    server.get(&format!("/assets/{import}")).await.status,
                    200,
                    "{asset} imports {import}"
                );
            }
        }
    }
}

#[tokio::test]
async fn without_demo_there_is_the_status_and_nothing_of_consumers() {
    let server = Server::with(Options::new(Calendar::india(), false)).await;
    assert_eq!(server.get("/").await.status, 200);
    assert_eq!(server.get("/api/v1/status").await.status, 200);
    for path in ["/card", "/api/v1/accounts", ONE] {
        assert_eq!(server.get(path).await.problem(), (404, "not-found".to_owned()), "{path}");
    }
    let body = json!({ "payment_id": PAYMENT, "amount_paise": 10_000 });
    assert_eq!(server.recharge("PUVVNL0000000001", body).await.problem().0, 404);
}

#[tokio::test]
async fn the_status_says_whether_every_frame_is_accounted_for() {
    let status = Server::start().await.get("/api/v1/status").await.json();
    let names: Vec<&str> =
        status["sources"].as_array().unwrap().iter().filter_map(|s| s["source"].as_str()).collect();
    assert_eq!(names, ["tcp", "udp", "mqtt", "waiting"]);
    assert!(status["sources"].as_array().unwrap().iter().all(|source| source["conserved"] == true));
    assert_eq!(status["ledger"]["trial_balance"], json!({ "paise": 0, "currency": "INR" }));
}

/// A ledger that never answers, or fails.
struct Broken {
    answers: bool,
}

#[async_trait]
impl Status for Broken {
    async fn status(&self) -> Result<StatusView, AppError> {
        if !self.answers {
            std::future::pending::<()>().await;
        }
        Err(AppError::Failed("secret path /var/lib".into()))
    }
}

#[async_trait]
impl Consumers for Broken {
    async fn accounts(&self, _: usize) -> Result<Vec<app::AccountEntry>, AppError> {
        Err(AppError::Stopped)
    }
    async fn card(&self, _: &AccountNumber) -> Result<Option<app::Card>, AppError> {
        Err(AppError::Busy)
    }
    async fn days(&self, _: &AccountNumber, _: usize) -> Result<Option<Vec<app::DayUsage>>, AppError> {
        Err(AppError::Busy)
    }
    async fn recharge(&self, _: &AccountNumber, _: Paise, _: &str) -> Result<RechargeOutcome, AppError> {
        Err(AppError::Busy)
    }
}

#[tokio::test]
async fn our_own_faults_tell_no_internals() {
    let broken = Arc::new(Broken { answers: true });
    let server = Server::of(broken.clone(), broken, Options::new(Calendar::india(), true)).await;
    let failed = server.get("/api/v1/status").await;
    assert_eq!(failed.problem(), (500, "internal".to_owned()));
    assert!(!failed.body.contains("secret"));
    let busy = server.get(ONE).await;
    assert_eq!((busy.problem(), busy.header("retry-after")), ((503, "busy".to_owned()), "2"));
    assert_eq!(server.get("/api/v1/accounts").await.problem(), (503, "busy".to_owned()));
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_given_up_and_too_many_requests_are_refused() {
    let stuck = Arc::new(Broken { answers: false });
    let mut options = Options::new(Calendar::india(), true);
    options.request_timeout = Duration::from_millis(300);
    options.max_requests = 1;
    let server = Server::of(stuck.clone(), stuck, options).await;
    let (one, other) = tokio::join!(server.get("/api/v1/status"), server.get("/api/v1/status"));
    let mut seen = [one.problem(), other.problem()];
    seen.sort();
    assert_eq!(seen, [(503, "busy".to_owned()), (504, "timeout".to_owned())]);
}
