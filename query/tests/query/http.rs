//! The same over HTTP.

use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use tower::ServiceExt;

use crate::world::World;

struct Got {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    body: String,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

fn get(world: &World, path: &str, accept: Option<&str>) -> Got {
    world.runtime.block_on(async {
        let mut request = Request::get(path);
        if let Some(accept) = accept {
            request = request.header("accept", accept);
        }
        let request = request.body(Body::empty()).unwrap();
        let response: Response<Body> = query::router(world.engine.clone()).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Got { status: parts.status, headers: parts.headers, body: String::from_utf8(body.to_vec()).unwrap() }
    })
}

fn encoded(sql: &str) -> String {
    url::form_urlencoded::byte_serialize(sql.as_bytes()).collect()
}

const ROWS: &str = "SELECT * FROM (VALUES (1, 'a,\"b\"', kwh(12340), TIMESTAMPTZ '2026-06-01T06:00:00+05:30', DATE '2026-06-01', \
                    true, 0.5, X'00ff'), (2, NULL, NULL, NULL, NULL, NULL, CAST('NaN' AS DOUBLE), NULL)) \
                    AS t (id, text, energy, at, day, yes, share, bytes)";

#[test]
fn answers_come_in_four_forms() {
    let world = World::new();
    let rows = encoded(ROWS);
    let body = |format: &str| get(&world, &format!("/v1/sql?q={rows}&format={format}"), None).body;
    let first = r#"{"id":1,"text":"a,\"b\"","energy":12.340,"at":"2026-06-01T00:30:00Z","day":"2026-06-01","yes":true,"share":0.5,"bytes":"00ff"}"#;
    let second =
        r#"{"id":2,"text":null,"energy":null,"at":null,"day":null,"yes":null,"share":null,"bytes":null}"#;
    assert_eq!(body("json"), format!("[\n{first},\n{second}\n]\n"));
    assert_eq!(body("jsonl"), format!("{first}\n{second}\n"));
    assert_eq!(
        body("csv"),
        "id,text,energy,at,day,yes,share,bytes\r\n\
         1,\"a,\"\"b\"\"\",12.340,2026-06-01T00:30:00Z,2026-06-01,true,0.5,00ff\r\n2,,,,,,NaN,\r\n"
    );
    assert_eq!(
        body("table"),
        "id  text   energy  at                    day         yes   share  bytes\n\
         --  -----  ------  --------------------  ----------  ----  -----  -----\n \
         1  a,\"b\"  12.340  2026-06-01T00:30:00Z  2026-06-01  true    0.5  00ff\n \
         2                                                           NaN\n"
    );
    let parsed: serde_json::Value = serde_json::from_str(&body("json")).unwrap();
    assert_eq!(parsed.as_array().unwrap().len(), 2);
}

#[test]
fn an_answer_without_rows_is_well_formed_in_every_form() {
    let world = World::new();
    let body = |format: &str| {
        get(&world, &format!("/v1/sql?q=SELECT+1+AS+a+WHERE+false&format={format}"), None).body
    };
    assert_eq!(body("json"), "[\n]\n");
    assert_eq!(body("jsonl"), "");
    assert_eq!(body("csv"), "a\r\n");
    assert_eq!(body("table"), "a\n-\n");
}

#[test]
fn position_and_cut_rows_are_told_in_headers() {
    let mut world = World::with(query::Options { max_rows: 2, ..query::Options::default() });
    world.record(|_| Vec::new());
    let got = get(&world, "/v1/sql?q=SELECT+*+FROM+generate_series(1,3)", None);
    assert_eq!(got.status, StatusCode::OK);
    assert_eq!((got.header("urja-position"), got.header("urja-rows")), ("1", "2"));
    assert_eq!((got.header("urja-truncated"), got.header("content-type")), ("true", "application/json"));
    let got = get(&world, "/v1/sql?q=SELECT+1", Some("text/csv;q=0.9, */*"));
    assert_eq!((got.header("urja-truncated"), got.body.as_str()), ("false", "Int64(1)\r\n1\r\n"));
    assert!(got.header("content-type").starts_with("text/csv"));
}

#[test]
fn columns_of_the_same_name_stay_apart_in_json() {
    let world = World::new();
    world.meter(1, None, 1800);
    let sql = encoded("SELECT a.meter_id, b.meter_id FROM meter a JOIN meter b ON a.meter_id = b.meter_id");
    let got = get(&world, &format!("/v1/sql?q={sql}&format=jsonl"), None);
    assert_eq!(got.body, "{\"meter_id\":1,\"meter_id_2\":1}\n");
}

#[test]
fn errors_are_problem_documents() {
    let world = World::new();
    for (query, status, kind) in [
        ("q=SELEC+1", 400, "syntax"),
        ("q=DROP+TABLE+meter", 403, "refused"),
        ("q=SELECT+*+FROM+nowhere", 400, "invalid"),
        ("q=SELECT+1/0", 422, "failed"),
        ("q=SELECT+*+FROM+generate_series(1,9876543210)", 413, "too_large"),
        ("q=SELECT+1&format=xml", 400, "request"),
        ("q=SELECT+1&limit=3", 400, "request"),
        ("", 400, "request"),
    ] {
        let got = get(&world, &format!("/v1/sql?{query}"), None);
        assert_eq!(
            (got.status.as_u16(), got.header("content-type")),
            (status, "application/problem+json"),
            "{query}"
        );
        let problem: serde_json::Value = serde_json::from_str(&got.body).unwrap();
        assert_eq!(problem["type"], format!("urn:urja:problem:sql:{kind}"), "{query}: {problem}");
        assert_eq!(problem["status"], status);
        assert!(problem["title"].is_string() && problem["detail"].is_string());
    }
    world.pins.state.lock().unwrap().behind = true;
    let got = get(&world, "/v1/sql?q=SELECT+1", None);
    assert_eq!((got.status.as_u16(), got.header("retry-after")), (503, "1"));
    assert!(got.body.contains("urn:urja:problem:sql:behind"), "{}", got.body);
}
