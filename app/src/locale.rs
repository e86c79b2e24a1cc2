//! Languages: which one a person reads, and the texts in it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::http::{HeaderMap, header};
use fluent_bundle::concurrent::FluentBundle;
use fluent_bundle::{FluentArgs, FluentResource};
use fluent_syntax::ast::{Entry, Expression, InlineExpression, Pattern, PatternElement, VariantKey};
use serde_json::{Value, json};

/// Cookie that keeps a chosen language.
pub(crate) const COOKIE: &str = "lang";

/// A language the pages speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Language {
    English,
    Hindi,
}

impl Language {
    pub(crate) const ALL: [Language; 2] = [Language::English, Language::Hindi];

    /// Its code in HTTP and HTML.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Language::English => "en",
            Language::Hindi => "hi",
        }
    }

    pub(crate) fn from_code(code: &str) -> Option<Language> {
        Language::ALL.into_iter().find(|language| language.code() == code)
    }

    /// The language chosen before (cookie), else the one the browser prefers, else English.
    pub(crate) fn of(headers: &HeaderMap) -> Language {
        from_cookie(headers).or_else(|| preferred(headers)).unwrap_or(Language::English)
    }

    /// The files of its catalogue.
    const fn files(self) -> [&'static str; 4] {
        match self {
            Language::English => [
                include_str!("../locales/en/common.ftl"),
                include_str!("../locales/en/card.ftl"),
                include_str!("../locales/en/status.ftl"),
                include_str!("../locales/en/problem.ftl"),
            ],
            Language::Hindi => [
                include_str!("../locales/hi/common.ftl"),
                include_str!("../locales/hi/card.ftl"),
                include_str!("../locales/hi/status.ftl"),
                include_str!("../locales/hi/problem.ftl"),
            ],
        }
    }
}

fn from_cookie(headers: &HeaderMap) -> Option<Language> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|line| line.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find_map(|(name, value)| if name == COOKIE { Language::from_code(value) } else { None })
}

/// The language of the highest weight in `Accept-Language` that the pages speak; of equals the first.
fn preferred(headers: &HeaderMap) -> Option<Language> {
    let ranges = headers.get(header::ACCEPT_LANGUAGE)?.to_str().ok()?;
    let mut best = None;
    for range in ranges.split(',') {
        let (tag, weight) = range.split_once(';').unwrap_or((range, "q=1"));
        let primary = tag.trim().split('-').next().unwrap_or_default().to_ascii_lowercase();
        let weight: f32 =
            weight.trim().strip_prefix("q=").and_then(|weight| weight.parse().ok()).unwrap_or(0.0);
        if let Some(language) = Language::from_code(&primary)
            && weight > best.map_or(0.0, |(_, highest)| highest)
        {
            best = Some((language, weight));
        }
    }
    best.map(|(language, _)| language)
}

/// The catalogues of all languages.
pub(crate) struct Texts {
    bundles: BTreeMap<Language, FluentBundle<FluentResource>>,
    /// The same as JSON, for the pages.
    json: BTreeMap<Language, String>,
}

impl Texts {
    /// Reads the catalogues, which are part of the program.
    pub(crate) fn load() -> Texts {
        let mut texts = Texts { bundles: BTreeMap::new(), json: BTreeMap::new() };
        for language in Language::ALL {
            let mut messages = BTreeMap::new();
            let code = language.code().parse().expect("the code of a language is a language tag");
            let mut bundle = FluentBundle::new_concurrent(vec![code]);
            // Marks of writing direction would end up in attributes and JSON; both languages are written left to right.
            bundle.set_use_isolating(false);
            for file in language.files() {
                let resource = FluentResource::try_new(file.to_owned())
                    .map_err(|(_, faults)| faults)
                    .expect("the catalogues are part of the program and read by its tests");
                messages.extend(resource.entries().filter_map(message));
                bundle.add_resource(resource).expect("no message is there twice: the tests load them all");
            }
            texts.json.insert(language, Value::from_iter(messages).to_string());
            texts.bundles.insert(language, bundle);
        }
        texts
    }

    /// All messages as JSON: texts, or lists of text, `{"var"}` and `{"select", "cases", "default"}`.
    pub(crate) fn json(&self, language: Language) -> &str {
        self.json.get(&language).map_or("{}", String::as_str)
    }

    /// A message as text; its id where there is none, which the tests rule out.
    pub(crate) fn format(
        &self,
        language: Language,
        id: &str,
        arguments: &[(&'static str, String)],
    ) -> String {
        let arguments: FluentArgs<'_> =
            arguments.iter().map(|(name, value)| (Cow::Borrowed(*name), value.as_str())).collect();
        let bundle = self.bundles.get(&language);
        let pattern = bundle.and_then(|bundle| Some((bundle, bundle.get_message(id)?.value()?)));
        pattern.map_or_else(
            || id.to_owned(),
            |(bundle, pattern)| {
                bundle.format_pattern(pattern, Some(&arguments), &mut Vec::new()).into_owned()
            },
        )
    }
}

/// Id and JSON form of a message; comments have none.
fn message(entry: &Entry<&str>) -> Option<(String, Value)> {
    let Entry::Message(message) = entry else { return None };
    Some((message.id.name.to_owned(), pattern(message.value.as_ref()?)))
}

fn pattern(pattern: &Pattern<&str>) -> Value {
    match pattern.elements.as_slice() {
        [PatternElement::TextElement { value }] => json!(value),
        elements => elements.iter().map(element).collect(),
    }
}

fn element(element: &PatternElement<&str>) -> Value {
    match element {
        PatternElement::TextElement { value } => json!(value),
        PatternElement::Placeable { expression: Expression::Inline(inline) } => inline_value(inline),
        PatternElement::Placeable { expression: Expression::Select { selector, variants } } => {
            let key = |key: &VariantKey<&str>| match key {
                VariantKey::Identifier { name } => (*name).to_owned(),
                VariantKey::NumberLiteral { value } => (*value).to_owned(),
            };
            let cases: serde_json::Map<String, Value> =
                variants.iter().map(|variant| (key(&variant.key), pattern(&variant.value))).collect();
            let default = variants.iter().find(|variant| variant.default).map(|variant| key(&variant.key));
            json!({ "select": variable(selector), "cases": cases, "default": default })
        }
    }
}

fn inline_value(inline: &InlineExpression<&str>) -> Value {
    match inline {
        InlineExpression::StringLiteral { value } | InlineExpression::NumberLiteral { value } => json!(value),
        other => json!({ "var": variable(other) }),
    }
}

/// Name of a variable. Terms, functions and references are not used in the catalogues: the pages do not know them.
fn variable<'a>(expression: &InlineExpression<&'a str>) -> &'a str {
    match expression {
        InlineExpression::VariableReference { id } => id.name,
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn messages(language: Language) -> BTreeMap<String, Value> {
        serde_json::from_str(Texts::load().json(language)).unwrap()
    }

    /// Names of the variables in a message's JSON form.
    fn variables(message: &Value) -> BTreeSet<String> {
        match message {
            Value::Array(parts) => parts.iter().flat_map(variables).collect(),
            Value::Object(part) => {
                let named = ["var", "select"]
                    .into_iter()
                    .filter_map(|key| part.get(key)?.as_str().map(str::to_owned));
                let cases =
                    part.get("cases").and_then(Value::as_object).into_iter().flat_map(|cases| cases.values());
                named.chain(cases.flat_map(variables)).collect()
            }
            _ => BTreeSet::new(),
        }
    }

    #[test]
    fn every_text_is_there_in_both_languages_with_the_same_variables() {
        let (english, hindi) = (messages(Language::English), messages(Language::Hindi));
        assert_eq!(english.keys().collect::<Vec<_>>(), hindi.keys().collect::<Vec<_>>());
        for (id, message) in &english {
            assert_eq!(variables(message), variables(&hindi[id]), "{id}");
            assert!(!variables(message).contains(""), "{id} uses what the pages do not know");
        }
    }

    /// Ids in calls of `t("…")`.
    fn asked_by_scripts() -> BTreeSet<&'static str> {
        let calls = crate::pages::SCRIPTS.iter().flat_map(|(_, script)| {
            let is_call = |at: &usize| !script[..*at].ends_with(|letter: char| letter.is_alphanumeric());
            script.match_indices("t(\"").map(|(at, _)| at).filter(is_call).map(|at| &script[at + 3..])
        });
        calls.filter_map(|rest| rest.split('"').next()).collect()
    }

    #[test]
    fn the_catalogue_holds_what_is_asked_for_and_nothing_else() {
        let mut asked: BTreeSet<String> = asked_by_scripts().into_iter().map(str::to_owned).collect();
        let templates = crate::pages::TEMPLATES.iter().flat_map(|template| template.split("{{").skip(1));
        asked.extend(
            templates
                .filter_map(|rest| rest.split("}}").next())
                .filter(|id| !id.starts_with('@'))
                .map(str::to_owned),
        );
        asked.extend(
            crate::problem::NAMES
                .iter()
                .flat_map(|name| [format!("problem-{name}"), format!("problem-{name}-detail")]),
        );
        let held: BTreeSet<String> = messages(Language::English).into_keys().collect();
        assert_eq!(asked.difference(&held).collect::<Vec<_>>(), [""; 0], "asked for, but not there");
        assert_eq!(held.difference(&asked).collect::<Vec<_>>(), [""; 0], "there, but not asked for");
    }

    #[test]
    fn the_language_is_the_chosen_one_else_the_preferred_one() {
        let of = |accept: &str, cookie: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_LANGUAGE, accept.parse().unwrap());
            headers.insert(header::COOKIE, cookie.parse().unwrap());
            Language::of(&headers).code()
        };
        for (accept, cookie, expected) in [
            ("hi-IN,hi;q=0.9,en;q=0.8", "", "hi"),
            ("en-IN,en;q=0.9,hi;q=0.8", "", "en"),
            ("de,fr;q=0.5", "", "en"),
            ("en;q=0.3, HI ; q=0.7", "", "hi"),
            ("hi;q=0, en;q=0.1", "", "en"),
            ("en", "a=b; lang=hi", "hi"),
            ("hi", "lang=xx", "hi"),
            ("", "lang=en", "en"),
        ] {
            assert_eq!(of(accept, cookie), expected, "{accept} {cookie}");
        }
    }

    #[test]
    fn numbers_choose_the_form_of_a_text() {
        let message = messages(Language::English).remove("lasts-days").unwrap();
        let select = message.as_array().unwrap().iter().find(|part| part.is_object()).unwrap();
        assert_eq!((&select["select"], &select["default"]), (&json!("days"), &json!("other")));
    }
}
