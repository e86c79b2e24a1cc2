//! What is let in: one statement that asks, of a size that can be planned.
//!
//! The memory limit and the time limit hold while a statement runs. Before that it is text, then a tree, then a plan,
//! and a short text can make a large plan. So the text is measured before it is parsed, and the tree before it is
//! planned:
//!
//! | bound | limit |
//! |---|---|
//! | bytes, tokens | [`MAX_BYTES`], [`MAX_TOKENS`] |
//! | operators and key words (each may be one level of a tree) | [`MAX_OPERATORS`] |
//! | brackets within brackets | [`MAX_NESTING`] |
//! | queries within queries, WITH within WITH | [`MAX_QUERIES`], [`MAX_WITHS`] |
//! | tables once all WITH names and views are replaced by what they stand for | [`MAX_RELATIONS`] |
//! | size of one expression once all columns are replaced by what they stand for | [`MAX_GROWTH`] |

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use datafusion::common::TableReference;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    self, Expr, ObjectName, Query, Select, SelectItem, Statement as SqlStatement, Visit, Visitor,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::QueryError;

/// Most bytes of a statement.
pub(crate) const MAX_BYTES: usize = 128 * 1024;
/// Most tokens, white space and comments left out.
pub(crate) const MAX_TOKENS: usize = 20_000;
/// Most operators and key words.
pub(crate) const MAX_OPERATORS: usize = 1_000;
/// Most brackets within brackets.
pub(crate) const MAX_NESTING: usize = 32;
/// Most queries within queries.
pub(crate) const MAX_QUERIES: usize = 16;
/// Most WITH within WITH.
pub(crate) const MAX_WITHS: usize = 4;
/// Most tables once names are replaced.
pub(crate) const MAX_RELATIONS: u64 = 256;
/// Largest expression, in columns, once names are replaced.
pub(crate) const MAX_GROWTH: u64 = 100_000;
/// Most elements of a CUBE; each doubles the work.
const MAX_CUBE: usize = 6;
/// Recursion of the parser.
const PARSER_RECURSION: usize = 64;

const ANSWERED: &str =
    "only SELECT, WITH, VALUES, EXPLAIN, DESCRIBE, SHOW TABLES, SHOW COLUMNS and SHOW FUNCTIONS are answered";

/// A statement that may be planned, and what it refers to.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) statement: Statement,
    pub(crate) mentions: Mentions,
}

/// The tables a statement refers to.
#[derive(Debug, Default)]
pub(crate) struct Mentions {
    /// Tables by schema and name; the schema is `public` where none is written.
    pub(crate) tables: BTreeSet<(String, String)>,
    /// Tables it stands for once names are replaced, views counted by `weight_of`.
    pub(crate) relations: u64,
}

/// Lets a statement in. `weight_of` says how many tables a table of that name stands for.
pub(crate) fn admit(sql: &str, weight_of: &dyn Fn(&str) -> u64) -> Result<Admitted, QueryError> {
    measure(sql)?;
    let mut statements = DFParserBuilder::new(sql)
        .with_recursion_limit(PARSER_RECURSION)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| QueryError::Syntax(error.strip_backtrace()))?;
    let statement = match (statements.pop_front(), statements.len()) {
        (Some(statement), 0) => statement,
        (Some(_), more) => return refused(format!("{} statements at once", more + 1)),
        (None, _) => return Err(QueryError::Syntax("there is no statement in the text".to_owned())),
    };
    let mentions = check(&statement, sql, weight_of)?;
    Ok(Admitted { statement, mentions })
}

fn refused<T>(what: impl AsRef<str>) -> Result<T, QueryError> {
    Err(QueryError::Refused(format!("{}; {ANSWERED}", what.as_ref())))
}

fn bounded(what: &str, found: usize, limit: usize) -> Result<(), QueryError> {
    match found > limit {
        true => Err(QueryError::TooLarge(format!("{found} {what}, at most {limit}"))),
        false => Ok(()),
    }
}

fn measure(sql: &str) -> Result<(), QueryError> {
    bounded("bytes", sql.len(), MAX_BYTES)?;
    let tokens = Tokenizer::new(&GenericDialect {}, sql)
        .tokenize()
        .map_err(|error| QueryError::Syntax(error.to_string()))?;
    let (mut count, mut operators, mut open, mut deepest) = (0_usize, 0_usize, 0_usize, 0_usize);
    for token in &tokens {
        match token {
            Token::Whitespace(_) => continue,
            Token::LParen | Token::LBracket | Token::LBrace => {
                open += 1;
                deepest = deepest.max(open);
            }
            Token::RParen | Token::RBracket | Token::RBrace => open = open.saturating_sub(1),
            Token::Word(word) => operators += usize::from(word.keyword != Keyword::NoKeyword),
            Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::Comma
            | Token::Period
            | Token::SemiColon => {}
            _ => operators += 1,
        }
        count += 1;
    }
    bounded("tokens", count, MAX_TOKENS)?;
    bounded("brackets within brackets", deepest, MAX_NESTING)?;
    bounded("operators and key words", operators, MAX_OPERATORS)
}

fn check(statement: &Statement, sql: &str, weight_of: &dyn Fn(&str) -> u64) -> Result<Mentions, QueryError> {
    match statement {
        Statement::Statement(statement) => check_sql(statement, sql, weight_of),
        Statement::Explain(explain) if explain.options.analyze => {
            refused("EXPLAIN ANALYZE, as it would run the statement")
        }
        Statement::Explain(explain) => match &*explain.statement {
            Statement::Statement(inner) if matches!(**inner, SqlStatement::Query(_)) => {
                check_sql(inner, sql, weight_of)
            }
            _ => refused("EXPLAIN of anything but a query"),
        },
        Statement::CopyTo(_) | Statement::CreateExternalTable(_) | Statement::Reset(_) => {
            refused(first_words(sql))
        }
    }
}

fn check_sql(
    statement: &SqlStatement,
    sql: &str,
    weight_of: &dyn Fn(&str) -> u64,
) -> Result<Mentions, QueryError> {
    let answered = matches!(
        statement,
        SqlStatement::Query(_)
            | SqlStatement::ShowTables { .. }
            | SqlStatement::ShowColumns { .. }
            | SqlStatement::ShowFunctions { .. }
            | SqlStatement::ExplainTable { .. }
    );
    if !answered {
        return refused(first_words(sql));
    }
    let mut walk = Walk::new(weight_of);
    if let ControlFlow::Break(error) = statement.visit(&mut walk) {
        return Err(error);
    }
    let mut mentions = walk.mentions;
    if !matches!(statement, SqlStatement::Query(_)) {
        mentions.tables.insert(("information_schema".to_owned(), "tables".to_owned()));
    }
    Ok(mentions)
}

/// The statement by name: its first two words.
fn first_words(sql: &str) -> String {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize().unwrap_or_default();
    let words = tokens.iter().filter_map(|token| match token {
        Token::Word(word) => Some(word.value.to_uppercase()),
        _ => None,
    });
    words.take(2).collect::<Vec<_>>().join(" ")
}

/// What a name stands for.
#[derive(Clone, Copy, Default)]
struct Weight {
    relations: u64,
    growth: u64,
}

/// A query on the way down.
#[derive(Default)]
struct Frame {
    /// The queries of its WITH, by address, and their names.
    names: Vec<(usize, String)>,
    /// What the names seen so far stand for.
    scope: HashMap<String, Weight>,
    /// Tables so far.
    relations: u64,
    /// Columns of its largest expression.
    columns: u64,
    /// Largest expression among its tables.
    below: u64,
}

/// Walks over a statement once and keeps the bounds of the tree.
struct Walk<'a> {
    weight_of: &'a dyn Fn(&str) -> u64,
    frames: Vec<Frame>,
    mentions: Mentions,
}

impl<'a> Walk<'a> {
    fn new(weight_of: &'a dyn Fn(&str) -> u64) -> Walk<'a> {
        Walk { weight_of, frames: Vec::new(), mentions: Mentions::default() }
    }

    fn add(&mut self, weight: Weight) {
        match self.frames.last_mut() {
            Some(frame) => {
                frame.relations = frame.relations.saturating_add(weight.relations);
                frame.below = frame.below.max(weight.growth);
            }
            None => self.mentions.relations = self.mentions.relations.saturating_add(weight.relations),
        }
    }

    fn enter(&mut self, query: &Query) -> Result<(), QueryError> {
        let unusual = [
            ("FOR UPDATE", !query.locks.is_empty()),
            ("FOR", query.for_clause.is_some()),
            ("SETTINGS", query.settings.is_some()),
            ("FORMAT", query.format_clause.is_some()),
            ("the pipe operator |>", !query.pipe_operators.is_empty()),
            ("WITH RECURSIVE", query.with.as_ref().is_some_and(|with| with.recursive)),
        ];
        if let Some((name, _)) = unusual.iter().find(|(_, there)| *there) {
            return refused(name);
        }
        bounded("queries within queries", self.frames.len() + 1, MAX_QUERIES)?;
        let withs = self.frames.iter().filter(|frame| !frame.names.is_empty()).count();
        bounded("WITH within WITH", withs + usize::from(query.with.is_some()), MAX_WITHS)?;
        let named = query.with.iter().flat_map(|with| &with.cte_tables);
        let names = named.map(|cte| (address(&cte.query), cte.alias.name.value.to_lowercase())).collect();
        self.frames.push(Frame { names, ..Frame::default() });
        Ok(())
    }

    fn leave(&mut self, query: &Query) -> Result<(), QueryError> {
        let Some(frame) = self.frames.pop() else {
            return Ok(());
        };
        let weight = Weight {
            relations: frame.relations.max(1),
            growth: frame.columns.max(1).saturating_mul(frame.below.max(1)),
        };
        if weight.relations > MAX_RELATIONS {
            return Err(QueryError::TooLarge(format!("it stands for more than {MAX_RELATIONS} tables")));
        }
        if weight.growth > MAX_GROWTH {
            return Err(QueryError::TooLarge("its expressions grow from query to query".to_owned()));
        }
        let above = self.frames.last_mut();
        let named = above.and_then(|above| {
            let (_, name) = above.names.iter().find(|(at, _)| *at == address(query))?;
            Some((name.clone(), above))
        });
        match named {
            Some((name, above)) => {
                above.scope.insert(name, weight);
            }
            None => self.add(weight),
        }
        Ok(())
    }

    fn table(&mut self, name: &ObjectName) -> Result<(), QueryError> {
        let written: Vec<String> = name.0.iter().map(part).collect();
        let scoped = match &written[..] {
            [single] => self.frames.iter().rev().find_map(|frame| frame.scope.get(&single.to_lowercase())),
            _ => None,
        };
        if let Some(weight) = scoped {
            let weight = *weight;
            self.add(weight);
            return Ok(());
        }
        let reference = match &written[..] {
            [table] => TableReference::bare(table.as_str()),
            [schema, table] => TableReference::partial(schema.as_str(), table.as_str()),
            [catalog, schema, table] => {
                TableReference::full(catalog.as_str(), schema.as_str(), table.as_str())
            }
            _ => return Err(QueryError::Invalid(format!("no table {name}"))),
        };
        let schema = reference.schema().unwrap_or("public").to_owned();
        let table = reference.table().to_owned();
        if schema == "information_schema" && table == "df_settings" {
            return refused("information_schema.df_settings");
        }
        self.add(Weight { relations: (self.weight_of)(&table), growth: 1 });
        self.mentions.tables.insert((schema, table));
        Ok(())
    }

    fn select(&mut self, select: &Select) -> Result<(), QueryError> {
        if select.into.is_some() {
            return refused("SELECT INTO");
        }
        let shown = select.projection.iter().map(|item| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => columns(expr),
            _ => 1,
        });
        let conditions =
            [&select.selection, &select.having, &select.qualify].into_iter().flatten().map(columns);
        let largest = shown.chain(conditions).max().unwrap_or(0);
        if let Some(frame) = self.frames.last_mut() {
            frame.columns = frame.columns.max(largest);
        }
        Ok(())
    }
}

fn address(query: &Query) -> usize {
    std::ptr::from_ref(query).addr()
}

fn part(part: &ast::ObjectNamePart) -> String {
    match part.as_ident() {
        Some(ident) if ident.quote_style.is_some() => ident.value.clone(),
        Some(ident) => ident.value.to_lowercase(),
        None => part.to_string(),
    }
}

/// Columns in an expression.
fn columns(expr: &Expr) -> u64 {
    let mut count = 0_u64;
    let _ = ast::visit_expressions(expr, |inner: &Expr| {
        count += u64::from(matches!(inner, Expr::Identifier(_) | Expr::CompoundIdentifier(_)));
        ControlFlow::<()>::Continue(())
    });
    count
}

fn flow(result: Result<(), QueryError>) -> ControlFlow<QueryError> {
    result.map_or_else(ControlFlow::Break, ControlFlow::Continue)
}

impl Visitor for Walk<'_> {
    type Break = QueryError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<QueryError> {
        flow(self.enter(query))
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<QueryError> {
        flow(self.leave(query))
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<QueryError> {
        flow(self.select(select))
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<QueryError> {
        flow(self.table(relation))
    }

    fn pre_visit_statement(&mut self, statement: &SqlStatement) -> ControlFlow<QueryError> {
        // The walk begins at a statement that is answered; within it there are only queries, unless one of them
        // writes.
        let writes = matches!(
            statement,
            SqlStatement::Insert(_)
                | SqlStatement::Update { .. }
                | SqlStatement::Delete(_)
                | SqlStatement::Merge { .. }
        );
        flow(if writes { refused("a query that writes") } else { Ok(()) })
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<QueryError> {
        let elements = match expr {
            Expr::Cube(elements) => elements.len(),
            Expr::Rollup(elements) | Expr::GroupingSets(elements) => elements.len() / 4,
            _ => 0,
        };
        flow(bounded("elements of CUBE", elements, MAX_CUBE))
    }
}
