//! A call of an aggregate, read from `agg: mean(price) filter (where ok)`: parsed for its parts, their places
//! and their shape. Which aggregates there are and what they take, the engine knows.

use std::fmt::{self, Write};
use std::ops::Range;

use serde::{Deserialize, Serialize};
use sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArguments, ObjectNamePart, UnaryOperator, Value,
};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::expression::{offset_of, parse_tree, tokens_of};
use crate::{Expression, ExpressionError, Literal};

/// A call of an aggregate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Call {
    /// The aggregate, in lower case and as written: `avg` stays `avg`. Of `count(distinct x)` it is
    /// `count_distinct`.
    pub function: String,
    /// What it is of, over the columns of one row. None: `*`, the row itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argument: Option<Expression>,
    /// What follows the argument.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Literal>,
    /// Rows that count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Expression>,
}

/// Where the parts of a call stand in its text, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallPlaces {
    /// The name of the aggregate.
    pub function: Range<usize>,
    /// The argument; none where it is `*`.
    pub argument: Option<Range<usize>>,
    /// What follows it, one range each.
    pub parameters: Vec<Range<usize>>,
    /// The condition within `filter (where ...)`.
    pub filter: Option<Range<usize>>,
}

impl CallPlaces {
    /// The places in a text that [`Call::parse`] reads; none of any other.
    pub fn of(text: &str) -> Option<CallPlaces> {
        let tokens = tokens_of(text).ok()?;
        let start = |at: usize| tokens.get(at).map_or(text.len(), |it| offset_of(text, it.span.start));
        let part = |from: usize, to: usize| {
            let (from, to) = (start(from), start(to));
            from..from + text.get(from..to).map_or(0, |part| part.trim_end().len())
        };
        let close = closing(&tokens, 1)?;
        let mut bounds = vec![1];
        let mut at = 2;
        while at < close {
            match &tokens[at].token {
                Token::Comma => bounds.push(at),
                Token::LParen | Token::LBracket | Token::LBrace => at = closing(&tokens, at)?,
                _ => {}
            }
            at += 1;
        }
        bounds.push(close);
        let mut parts = bounds.windows(2).map(|ends| (ends[0] + 1, ends[1]));
        let (mut first, end) = parts.next()?;
        if end - first > 1 && (is_word(&tokens, first, "distinct") || is_word(&tokens, first, "all")) {
            first += 1;
        }
        let star = end - first == 1 && tokens[first].token == Token::Mul;
        let filter = match tokens.len() - close {
            1 => None,
            _ if is_word(&tokens, close + 1, "filter") && is_word(&tokens, close + 3, "where") => {
                let end = closing(&tokens, close + 2).filter(|end| end + 1 == tokens.len())?;
                Some(part(close + 4, end))
            }
            _ => return None,
        };
        Some(CallPlaces {
            function: part(0, 1),
            argument: (!star).then(|| part(first, end)),
            parameters: parts.map(|(from, to)| part(from, to)).collect(),
            filter,
        })
    }
}

/// The place of the bracket that closes the one at `open`.
fn closing(tokens: &[TokenWithSpan], open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, it) in tokens.iter().enumerate().skip(open) {
        match it.token {
            Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
            Token::RParen | Token::RBracket | Token::RBrace => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

fn is_word(tokens: &[TokenWithSpan], at: usize, word: &str) -> bool {
    matches!(tokens.get(at).map(|it| &it.token),
        Some(Token::Word(it)) if it.quote_style.is_none() && it.value.eq_ignore_ascii_case(word))
}

impl Call {
    /// Reads one call of an aggregate: a name, one expression over a row or `*`, constants behind it, and
    /// `filter (where ...)`. `count(distinct x)` is `count_distinct(x)`.
    ///
    /// # Errors
    /// [`ExpressionError`] with the place in the text.
    pub fn parse(text: &str) -> Result<Call, ExpressionError> {
        let whole = 0..text.len();
        let function = match parse_tree(text)? {
            Expr::Function(function) => function,
            _ => return Err(no_call(text)),
        };
        let distinct = shape(text, &function)?;
        let [ObjectNamePart::Identifier(name)] = function.name.0.as_slice() else {
            return Err(no_call(text));
        };
        let name = name.value.to_lowercase();
        let Some(places) = CallPlaces::of(text) else { return Err(no_call(text)) };
        if places.argument.as_ref().is_some_and(Range::is_empty) {
            let hint = "name a column or an expression; rows are counted by `count(*)`";
            return Err(wrong(whole, format!("`{name}()` is of nothing"), hint));
        }
        let argument =
            places.argument.map(|at| part(text, at, "the argument of an aggregate")).transpose()?;
        if distinct && (name != "count" || argument.is_none()) {
            return Err(wrong(
                keyword(text, "distinct"),
                format!("`{name}` takes no `distinct`"),
                "`distinct` stands in `count(distinct x)`",
            ));
        }
        let parameters = places.parameters.into_iter().map(|at| constant(text, at, &name));
        Ok(Call {
            parameters: parameters.collect::<Result<_, _>>()?,
            filter: places.filter.map(|at| part(text, at, "`filter (where ...)`")).transpose()?,
            function: if distinct { "count_distinct".to_owned() } else { name },
            argument,
        })
    }

    /// The call in one spelling, as [`Expression::canonical`].
    pub fn canonical(&self) -> String {
        let mut text = format!("{}(", Expression::column(&self.function));
        match &self.argument {
            Some(argument) => text.push_str(&argument.canonical()),
            None => text.push('*'),
        }
        for parameter in &self.parameters {
            let _ = write!(text, ", {parameter}");
        }
        text.push(')');
        if let Some(filter) = &self.filter {
            let _ = write!(text, " FILTER (WHERE {})", filter.canonical());
        }
        text
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}

fn wrong(at: Range<usize>, message: impl Into<String>, hint: &str) -> ExpressionError {
    ExpressionError {
        code: "bad_aggregate",
        message: message.into(),
        offset: at.start,
        length: at.len(),
        hint: Some(hint.to_owned()),
    }
}

fn no_call(text: &str) -> ExpressionError {
    wrong(
        0..text.trim_end().len(),
        "this is not one call of an aggregate",
        "write e.g. `count(*)` or `mean(price) filter (where ok)`; what is computed of a row stands within the \
         brackets, and what is computed of several aggregates where they are used",
    )
}

/// Where a word of SQL stands in a text; all of it where it is not found.
fn keyword(text: &str, word: &str) -> Range<usize> {
    let tokens = tokens_of(text).unwrap_or_default();
    match (0..tokens.len()).find(|at| is_word(&tokens, *at, word)) {
        Some(at) => {
            let start = offset_of(text, tokens[at].span.start);
            start..start + word.len()
        }
        None => 0..text.len(),
    }
}

/// Refuses what SQL lets stand around the argument and an aggregate over a window has no use for. Whether it is
/// of distinct values.
fn shape(text: &str, function: &Function) -> Result<bool, ExpressionError> {
    if function.over.is_some() {
        let hint = "its windows stand beside it: `{agg: sum(price), windows: [7d]}`";
        return Err(wrong(keyword(text, "over"), "an aggregate takes no `over`", hint));
    }
    if !function.within_group.is_empty() {
        let hint = "`first`, `last`, `first_n` and `last_n` follow the order of the source's rows; remove it";
        return Err(wrong(keyword(text, "within"), "an aggregate takes no `within group`", hint));
    }
    if function.null_treatment.is_some() {
        let word = if text.to_lowercase().contains("respect") { "respect" } else { "ignore" };
        return Err(wrong(keyword(text, word), "nulls are always skipped", "remove it"));
    }
    if function.uses_odbc_syntax || function.parameters != FunctionArguments::None {
        return Err(no_call(text));
    }
    let FunctionArguments::List(list) = &function.args else { return Err(no_call(text)) };
    if !list.clauses.is_empty() {
        let word = ["order", "limit", "respect", "ignore", "separator", "having", "on", "returning"]
            .into_iter()
            .find(|word| keyword(text, word).len() == word.len())
            .unwrap_or_default();
        let hint = "`first`, `last`, `first_n` and `last_n` follow the order of the source's rows, nulls are \
                    skipped; only constants stand behind the argument";
        let said = if word == "order" { "order by" } else { word };
        return Err(wrong(keyword(text, word), format!("an aggregate takes no `{said}`"), hint));
    }
    if list.args.iter().any(|it| !matches!(it, FunctionArg::Unnamed(_))) {
        return Err(wrong(0..text.len(), "an aggregate takes no named arguments", "leave the names out"));
    }
    Ok(list.duplicate_treatment == Some(DuplicateTreatment::Distinct))
}

/// A part of a call that is an expression over one row.
fn part(text: &str, at: Range<usize>, what: &str) -> Result<Expression, ExpressionError> {
    Expression::parse(&text[at.clone()]).map_err(|mut error| {
        error.offset += at.start;
        if error.code == "expression_aggregate" {
            error.message = format!("an aggregate is over many rows, and {what} is over one");
            error.hint = Some("an aggregate is one call, none within another".to_owned());
        }
        error
    })
}

/// A constant behind the argument.
fn constant(text: &str, at: Range<usize>, function: &str) -> Result<Literal, ExpressionError> {
    let number = |negative: bool, digits: &str| {
        Literal::number(&if negative { format!("-{digits}") } else { digits.to_owned() })
    };
    let found = match parse_tree(&text[at.clone()]) {
        Ok(Expr::Value(value)) => match value.value {
            Value::Boolean(it) => Some(Literal::Bool(it)),
            Value::SingleQuotedString(it) => Some(Literal::Text(it)),
            Value::Number(digits, _) => number(false, &digits),
            _ => None,
        },
        Ok(Expr::UnaryOp { op: op @ (UnaryOperator::Minus | UnaryOperator::Plus), expr }) => match *expr {
            Expr::Value(value) => match value.value {
                Value::Number(digits, _) => number(op == UnaryOperator::Minus, &digits),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    };
    found.ok_or_else(|| {
        wrong(
            at,
            format!("`{function}` is of one expression, and constants stand behind it"),
            "write a number, a text in single quotes, `true` or `false`; one expression can be of several columns",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_one_spelling() {
        for (text, canonical) in [
            ("count(*)", "count(*)"),
            ("COUNT( * )", "count(*)"),
            ("Mean( price )", "mean(price)"),
            ("count(distinct \"user\")", "count_distinct(\"user\")"),
            ("count(all x)", "count(x)"),
            ("last_n(price,10)", "last_n(price, 10)"),
            ("decayed_sum(a+b, '7d')", "decayed_sum(a + b, '7d')"),
            ("f(x, -1, 0.50, true, 'it''s')", "f(x, -1, 0.5, true, 'it''s')"),
            (
                "count(*) filter (where category='phones' and (a or b))",
                "count(*) FILTER (WHERE category = 'phones' AND (a OR b))",
            ),
            ("sum(coalesce(a, (b), 0), 3) -- why", "sum(coalesce(a, (b), 0), 3)"),
            ("sum(a[1])", "sum(a[1])"),
            ("sum(\n  a\n)\nfilter\n(where ok)", "sum(a) FILTER (WHERE ok)"),
        ] {
            let call = Call::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(call.canonical(), canonical, "{text}");
            assert_eq!(Call::parse(canonical).unwrap().canonical(), canonical);
        }
    }

    #[test]
    fn the_parts_of_a_call_have_places() {
        let text = "mean( price + 1 , 5, 'é, )' ) filter ( where  ok is true )";
        let places = CallPlaces::of(text).unwrap();
        assert_eq!(&text[places.function], "mean");
        assert_eq!(&text[places.argument.unwrap()], "price + 1");
        assert_eq!(places.parameters.into_iter().map(|at| &text[at]).collect::<Vec<_>>(), ["5", "'é, )'"]);
        assert_eq!(&text[places.filter.unwrap()], "ok is true");
        assert_eq!(CallPlaces::of("count(*)").unwrap().argument, None);
    }

    #[test]
    fn what_is_no_call_is_refused_at_its_place() {
        for (text, code, offset) in [
            ("price", "bad_aggregate", 0),
            ("sum(a) / sum(b)", "bad_aggregate", 0),
            ("(sum(a))", "bad_aggregate", 0),
            ("count()", "bad_aggregate", 0),
            ("s.sum(a)", "bad_aggregate", 0),
            ("sum(a) over (order by b)", "bad_aggregate", 7),
            ("array_agg(a order by b)", "bad_aggregate", 12),
            ("percentile(0.5) within group (order by b)", "bad_aggregate", 16),
            ("first(a) ignore nulls", "bad_aggregate", 9),
            ("sum(distinct a)", "bad_aggregate", 4),
            ("count(distinct *)", "bad_aggregate", 6),
            ("covar(a, b)", "bad_aggregate", 9),
            ("last_n(a, 99999999999999999999)", "bad_aggregate", 10),
            ("sum(a + sum(b))", "expression_aggregate", 8),
            ("sum(now())", "expression_not_of_the_row", 4),
            ("sum((select 1))", "expression_subquery", 5),
            ("count(*) filter (where sum(a) > 1)", "expression_aggregate", 23),
            ("count(*) filter (where )", "expression_syntax", 23),
            ("sum(a", "expression_syntax", 5),
            ("sum(a) b", "expression_syntax", 7),
            ("", "expression_empty", 0),
        ] {
            let error = Call::parse(text).expect_err(text);
            assert_eq!((error.code, error.offset), (code, offset), "{text}: {error}");
            assert!(error.offset + error.length <= text.len(), "{text}");
        }
    }
}
