//! The pages and what they are made of, all part of the program.

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use crate::locale::{COOKIE, Language, Texts};
use crate::problem::Problem;
use crate::server::App;

const CARD: &str = include_str!("../web/card.html");
const STATUS: &str = include_str!("../web/status.html");

/// The pages, with `{{id}}` where a text belongs.
#[cfg(test)]
pub(crate) const TEMPLATES: [&str; 2] = [CARD, STATUS];

/// The scripts, modules without a build step.
pub(crate) const SCRIPTS: [(&str, &str); 7] = [
    ("api.js", include_str!("../web/api.js")),
    ("card.js", include_str!("../web/card.js")),
    ("chart.js", include_str!("../web/chart.js")),
    ("format.js", include_str!("../web/format.js")),
    ("recharge.js", include_str!("../web/recharge.js")),
    ("status.js", include_str!("../web/status.js")),
    ("text.js", include_str!("../web/text.js")),
];
const STYLE: &str = include_str!("../web/app.css");
const ICON: &str = include_str!("../web/icon.svg");

/// A year, seconds: how long a chosen language is kept.
const COOKIE_AGE_S: u32 = 31_536_000;

#[derive(Deserialize)]
pub(crate) struct Choice {
    lang: Option<String>,
}

pub(crate) async fn card(
    State(app): State<App>,
    Query(choice): Query<Choice>,
    headers: HeaderMap,
) -> Response {
    page(&app, CARD, choice, &headers)
}

pub(crate) async fn status(
    State(app): State<App>,
    Query(choice): Query<Choice>,
    headers: HeaderMap,
) -> Response {
    page(&app, STATUS, choice, &headers)
}

/// A page in the chosen language; a choice made in the address is kept in a cookie.
fn page(app: &App, template: &str, choice: Choice, headers: &HeaderMap) -> Response {
    let chosen = choice.lang.as_deref().and_then(Language::from_code);
    let language = chosen.unwrap_or_else(|| Language::of(headers));
    let html = render(template, &app.texts, language, |name| match name {
        "lang" => language.code().to_owned(),
        "zone" => app.options.zone.zone_name().to_owned(),
        _ => app.options.demo.to_string(),
    });
    let mut response = (
        [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CONTENT_LANGUAGE, language.code()),
            (header::VARY, "Accept-Language, Cookie"),
            (header::CACHE_CONTROL, "no-cache"),
        ],
        html,
    )
        .into_response();
    if let Some(language) = chosen {
        let cookie = format!("{COOKIE}={}; Path=/; Max-Age={COOKIE_AGE_S}; SameSite=Lax", language.code());
        let value = HeaderValue::from_str(&cookie).expect("the code of a language is plain ASCII");
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}

/// Puts texts in the place of `{{id}}` and values in the place of `{{@name}}`.
fn render(template: &str, texts: &Texts, language: Language, value: impl Fn(&str) -> String) -> String {
    let mut html = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        html.push_str(before);
        let (id, after) = after.split_once("}}").unwrap_or((after, ""));
        let text = match id.strip_prefix('@') {
            Some(name) => value(name),
            None => texts.format(language, id, &[]),
        };
        escape(&text, &mut html);
        rest = after;
    }
    html.push_str(rest);
    html
}

fn escape(text: &str, html: &mut String) {
    for letter in text.chars() {
        match letter {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            other => html.push(other),
        }
    }
}

pub(crate) async fn asset(State(app): State<App>, Path(name): Path<String>) -> Result<Response, Problem> {
    let not_found = || Problem::of_status(StatusCode::NOT_FOUND);
    let (kind, body) = match name.as_str() {
        "app.css" => ("text/css; charset=utf-8", STYLE.to_owned()),
        "icon.svg" => ("image/svg+xml", ICON.to_owned()),
        "strings.en.json" => ("application/json", app.texts.json(Language::English).to_owned()),
        "strings.hi.json" => ("application/json", app.texts.json(Language::Hindi).to_owned()),
        script => {
            let (_, body) = SCRIPTS.iter().find(|(name, _)| *name == script).ok_or_else(not_found)?;
            ("text/javascript; charset=utf-8", (*body).to_owned())
        }
    };
    Ok(([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], body).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_cannot_break_out_of_the_page() {
        let mut html = String::new();
        escape("<a href=\"x\">&</a>", &mut html);
        assert_eq!(html, "&lt;a href=&quot;x&quot;&gt;&amp;&lt;/a&gt;");
    }

    #[test]
    fn the_script_budget_holds() {
        let bytes: usize = SCRIPTS.iter().map(|(_, body)| body.len()).sum();
        assert!(bytes < 60_000, "{bytes} bytes before compression");
    }
}
