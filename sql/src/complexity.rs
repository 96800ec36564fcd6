//! Whether a statement is small enough to be planned: checks of its text and of what was parsed.
//!
//! Planning and evaluation walk expressions and plans by recursion, one call within the other, and a stack that
//! overflows ends the process with everything on it. The parser bounds what nests in parentheses; a chain such as
//! `1 + 1 + 1 …` or `a OR b OR c …` nests without any. Names given in WITH multiply instead: ten of them, each used twice
//! by the next, are a thousand plans, and thirty a thousand million.
//!
//! Invariant: no check recurses deeper than its limits, and none takes longer than the text is long.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Query, TableFactor, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::error::SqlError;
use crate::limits::{MAX_CHAINED_WORDS, MAX_PLANNED_RELATIONS, MAX_RELATIONS, MAX_STATEMENT_BYTES};
use crate::statement::last_part;

/// Refuses texts that are too long or whose expressions might nest too deeply.
pub(crate) fn check_text(sql: &str) -> Result<(), SqlError> {
    if sql.len() > MAX_STATEMENT_BYTES {
        return Err(too_complex(
            "it is longer than 1 MiB; ask several smaller questions",
        ));
    }
    // What cannot be read is for the parser to say.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else {
        return Ok(());
    };
    // How much stands between two commas is a bound of how deep it nests; what encloses it adds to that.
    let (mut enclosing, mut here, mut sum) = (Vec::new(), 0_usize, 0_usize);
    for token in tokens {
        match token {
            Token::Whitespace(_) => continue,
            Token::LParen | Token::LBracket | Token::LBrace => {
                enclosing.push(here);
                here = 0;
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                sum -= here;
                here = enclosing.pop().unwrap_or(0);
            }
            Token::Comma | Token::SemiColon => {
                sum -= here;
                here = 0;
            }
            _ => {
                here += 1;
                sum += 1;
            }
        }
        if sum > MAX_CHAINED_WORDS {
            return Err(too_complex(
                "too much is chained without a comma; write IN (a, b, …) instead of OR, or split the query",
            ));
        }
    }
    Ok(())
}

/// Refuses statements that name more tables and queries than can be joined and nested, those of WITH counted as often as
/// they are used.
pub(crate) fn check_statement(statement: &Statement) -> Result<(), SqlError> {
    let mut counter = Counter::default();
    let found = match statement {
        Statement::Statement(sql) => sql.visit(&mut counter),
        Statement::Explain(explain) => return check_statement(&explain.statement),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => return Ok(()),
    };
    match found {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(problem) => Err(too_complex(problem)),
    }
}

/// Counts what becomes a part of the plan of its own; the parser bounds how deep it recurses.
#[derive(Default)]
struct Counter {
    named: usize,
    /// What each of the queries that are open here comes to when it is planned.
    open: Vec<u64>,
    /// The same of those named in WITH that have been seen.
    weights: HashMap<*const Query, u64>,
    /// All that a name may stand for, wherever it counts.
    names: HashMap<String, Vec<*const Query>>,
}

impl Counter {
    fn add(&mut self, weight: u64) -> ControlFlow<&'static str> {
        let Some(total) = self.open.last_mut() else {
            return ControlFlow::Continue(());
        };
        *total = total.saturating_add(weight);
        match *total > MAX_PLANNED_RELATIONS {
            true => ControlFlow::Break(
                "what it names in WITH multiplies; use fewer names, or each of them less often",
            ),
            false => ControlFlow::Continue(()),
        }
    }

    fn name(&mut self) -> ControlFlow<&'static str> {
        self.named += 1;
        match self.named > MAX_RELATIONS {
            true => {
                ControlFlow::Break("it names more than 200 tables and queries; ask several smaller questions")
            }
            false => ControlFlow::Continue(()),
        }
    }
}

impl Visitor for Counter {
    type Break = &'static str;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<&'static str> {
        for named in query.with.iter().flat_map(|with| &with.cte_tables) {
            let places = self
                .names
                .entry(named.alias.name.value.to_lowercase())
                .or_default();
            places.push(std::ptr::from_ref(&*named.query));
        }
        self.open.push(1);
        self.name()
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<&'static str> {
        let weight = self.open.pop().unwrap_or(1);
        let place = std::ptr::from_ref(query);
        if self.names.values().flatten().any(|named| *named == place) {
            // Counted where it is used.
            self.weights.insert(place, weight);
            return ControlFlow::Continue(());
        }
        self.add(weight)
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<&'static str> {
        self.name()?;
        let TableFactor::Table { name, .. } = table else {
            return self.add(1);
        };
        let places = self.names.get(&last_part(name).to_lowercase());
        let heaviest = places
            .into_iter()
            .flatten()
            .filter_map(|place| self.weights.get(place))
            .max();
        self.add(heaviest.map_or(1, |weight| weight.saturating_add(1)))
    }
}

fn too_complex(problem: &'static str) -> SqlError {
    SqlError::TooComplex { problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(words: usize) -> String {
        // "SELECT 1" and two words for each addition.
        format!("SELECT 1{}", " + 1".repeat((words - 2) / 2))
    }

    fn parsed(sql: &str) -> Result<(), SqlError> {
        crate::statement::parse(sql).map(drop)
    }

    /// `count` names of WITH, each made of the one before by `next`.
    fn names(count: usize, next: impl Fn(String) -> String) -> String {
        let names: Vec<String> = (1..=count)
            .map(|at| format!("c{at} AS ({})", next(format!("c{}", at - 1))))
            .collect();
        format!(
            "WITH c0 AS (SELECT 1 a), {} SELECT * FROM c{count}",
            names.join(", ")
        )
    }

    #[test]
    fn names_of_with_are_counted_as_often_as_they_are_used() {
        parsed(&names(90, |before| format!("SELECT * FROM {before}"))).unwrap();
        parsed(&names(300, |before| format!("SELECT * FROM {before}"))).unwrap_err();
        parsed(&names(6, |before| {
            format!("SELECT x.a FROM {before} x, {before} y")
        }))
        .unwrap();
        parsed(&names(30, |before| {
            format!("SELECT x.a FROM {before} x, {before} y")
        }))
        .unwrap_err();
        let within = |before: String| format!("SELECT a FROM {before} WHERE a IN (SELECT a FROM {before})");
        parsed(&names(30, within)).unwrap_err();
        let shadowed = names(12, |before| {
            format!(
                "WITH {before} AS (SELECT 1 a) SELECT 1 a) , d{before} AS (SELECT x.a FROM {before} x, {before} y"
            )
        });
        parsed(&shadowed).unwrap();
        parsed(&format!("SELECT 1 FROM t{}", ", t".repeat(300))).unwrap_err();
        parsed(&format!("SELECT 1 FROM t{}", ", t".repeat(100))).unwrap();
    }

    #[test]
    fn chains_are_counted_between_commas_and_with_what_encloses_them() {
        check_text(&chain(MAX_CHAINED_WORDS)).unwrap();
        check_text(&chain(MAX_CHAINED_WORDS + 2)).unwrap_err();
        let half = " + 1".repeat(MAX_CHAINED_WORDS / 4);
        check_text(&format!("SELECT 1{half}, 1{half}, 1{half}")).unwrap();
        check_text(&format!("SELECT 1{half} + (1{half})")).unwrap_err();
        check_text(&format!("SELECT (1{half}), (1{half}), (2{half})")).unwrap();
        check_text(&format!("SELECT 1 WHERE 1 IN (1{})", ", 1".repeat(50_000))).unwrap();
        check_text(&format!("VALUES (1, 2){}", ", (1, 2)".repeat(50_000))).unwrap();
        check_text(&" ".repeat(MAX_STATEMENT_BYTES + 1)).unwrap_err();
        check_text("SELECT )))) 'open").unwrap();
        check_text("SELECT ))))) + 1, ( )").unwrap();
    }
}
