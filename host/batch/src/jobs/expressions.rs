//! The SQL expressions of a job, from their texts: only those over the columns of a dataset, and only what takes no more
//! of a machine than can be told before. No statements, no queries, no tables and no files. Knows no rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, ExprSchemable as _, Operator};
use datafusion::optimizer::simplify_expressions::{ExprSimplifier, SimplifyContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use modelhost_serving::Error;

use super::specification::invalid;

/// Functions that make texts no larger than those that they are given, times what [`Growth`] counts, and take no more
/// than a look at each. They read nothing else, and do not answer differently each time. Left out, each because a short
/// expression makes much of little: `repeat`, `lpad`, `rpad`, `replace`, `regexp_replace`, `regexp_match`, `translate`,
/// `arrow_cast`; and `levenshtein`, whose time is that of one text times the other.
pub(super) const FUNCTIONS: &[&str] = &[
    "abs",
    "ascii",
    "bit_length",
    "btrim",
    "ceil",
    "char_length",
    "character_length",
    "chr",
    "coalesce",
    "concat",
    "concat_ws",
    "contains",
    "date_bin",
    "date_part",
    "date_trunc",
    "datepart",
    "datetrunc",
    "ends_with",
    "exp",
    "floor",
    "from_unixtime",
    "get_field",
    "greatest",
    "ifnull",
    "initcap",
    "instr",
    "isnan",
    "iszero",
    "least",
    "left",
    "length",
    "ln",
    "log",
    "log10",
    "log2",
    "lower",
    "ltrim",
    "make_date",
    "mod",
    "nanvl",
    "nullif",
    "nvl",
    "nvl2",
    "octet_length",
    "position",
    "pow",
    "power",
    "regexp_count",
    "regexp_like",
    "reverse",
    "right",
    "round",
    "rtrim",
    "signum",
    "split_part",
    "sqrt",
    "starts_with",
    "strpos",
    "substr",
    "substring",
    "to_char",
    "to_date",
    "to_timestamp",
    "to_timestamp_micros",
    "to_timestamp_millis",
    "to_timestamp_nanos",
    "to_timestamp_seconds",
    "to_unixtime",
    "trim",
    "trunc",
    "upper",
];

/// The second argument of these is looked for in the first, in a time that is bounded only where it is known before.
const SEARCHES: &[&str] = &["regexp_count", "regexp_like", "strpos"];

/// Operators and keywords within one another, counted generously. Whatever walks the tree of an expression takes some
/// room on the stack for each, and there is no other bound: `a + a + a …` is a tree as deep as it is long.
const MAX_DEPTH: usize = 256;

/// What is worked out for a row at most, where every part is as often as DataFusion may write it.
const MAX_STEPS: u64 = 20_000;

/// A condition.
///
/// # Errors
/// What is no expression over these columns, or no condition.
pub(super) fn condition(context: &SessionContext, text: &str, fields: &DFSchema) -> Result<Expr, Error> {
    let filter = expression(context, "where", text, fields)?;
    let data_type = filter.get_type(fields).map_err(|error| mistake("where", &error))?;
    if data_type != DataType::Boolean {
        return Err(invalid(format!("where is {data_type}: expected a condition")));
    }
    Ok(filter)
}

/// Columns, each of which has a name of its own.
///
/// # Errors
/// What is no expression over these columns, and two of one name.
pub(super) fn columns(
    context: &SessionContext,
    texts: &[String],
    fields: &DFSchema,
) -> Result<Vec<Expr>, Error> {
    let mut names = BTreeSet::new();
    let mut column = |text: &String| {
        let column = expression(context, "columns", text, fields)?;
        let name = name_of(&column);
        if names.contains(&name) {
            return Err(invalid(format!("columns has {name:?} twice: give one another name with AS")));
        }
        names.insert(name);
        Ok(column)
    };
    texts.iter().map(&mut column).collect()
}

fn expression(context: &SessionContext, what: &str, text: &str, fields: &DFSchema) -> Result<Expr, Error> {
    // Before there is a tree that could be too deep.
    if depth(text).is_none_or(|depth| depth > MAX_DEPTH) {
        return Err(invalid(format!(
            "{what} has more than {MAX_DEPTH} operators and keywords within one another: expected fewer, such as IN with a list in place of many OR"
        )));
    }
    let expression = context.parse_sql_expr(text, fields).map_err(|error| mistake(what, &error))?;
    let mut refused = None;
    expression
        .apply(|part| {
            refused = refusal(part);
            Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
        .map_err(|error| mistake(what, &error))?;
    if let Some(refused) = refused {
        return Err(invalid(format!("{what} holds {refused}: expected an expression over the columns")));
    }
    if steps(&expression) > MAX_STEPS {
        return Err(invalid(format!(
            "{what} takes more than {MAX_STEPS} steps for a row: expected fewer conditions and functions within one another"
        )));
    }
    // Whatever the types do not allow is found here and not at the first row.
    compile(context, &expression, fields).map_err(|error| mistake(what, &error))?;
    Ok(expression)
}

/// An expression as it is worked out over columns.
///
/// # Errors
/// Types that do not go together.
pub(super) fn compile(
    context: &SessionContext,
    expression: &Expr,
    fields: &DFSchema,
) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    let state = context.state();
    let simplifying = SimplifyContext::builder()
        .with_schema(Arc::new(fields.clone()))
        .with_config_options(state.config_options().clone())
        .build();
    let simplifier = ExprSimplifier::new(simplifying);
    let expression = simplifier.coerce(expression.clone(), fields)?;
    // Some functions are only names for others.
    state.create_physical_expr(simplifier.simplify(expression)?, fields)
}

fn refusal(part: &Expr) -> Option<&'static str> {
    let is_literal = |expression: Option<&Expr>| matches!(expression, None | Some(Expr::Literal(..)));
    match part {
        Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) => {
            Some("a query within an expression")
        }
        Expr::Placeholder(_) => Some("a placeholder"),
        Expr::AggregateFunction(_) | Expr::WindowFunction(_) => Some("a function over several rows"),
        Expr::ScalarVariable(..) => Some("a variable"),
        Expr::Cast(cast) if has_declared_size(cast.field.data_type()) => Some("a cast to lists"),
        Expr::TryCast(cast) if has_declared_size(cast.field.data_type()) => Some("a cast to lists"),
        Expr::ScalarFunction(call)
            if SEARCHES.contains(&call.func.name()) && !is_literal(call.args.get(1)) =>
        {
            Some("a search for a text or pattern that is not written out")
        }
        Expr::BinaryExpr(binary) if is_match(binary.op) && !is_literal(Some(&binary.right)) => {
            Some("a search for a text or pattern that is not written out")
        }
        Expr::SimilarTo(like) if !is_literal(Some(&like.pattern)) => {
            Some("a search for a text or pattern that is not written out")
        }
        _ => None,
    }
}

/// `INT[1000000000]` is a type.
fn has_declared_size(data_type: &DataType) -> bool {
    data_type.is_nested() || matches!(data_type, DataType::FixedSizeBinary(_))
}

fn is_match(operator: Operator) -> bool {
    matches!(
        operator,
        Operator::RegexMatch | Operator::RegexIMatch | Operator::RegexNotMatch | Operator::RegexNotIMatch
    )
}

/// What is worked out for a row. DataFusion writes some expressions with others in which a part comes several times,
/// `coalesce(a, b)` as `CASE WHEN a IS NOT NULL THEN a ELSE b END`: within one another, that doubles with every level.
fn steps(expression: &Expr) -> u64 {
    const TWICE: &[&str] = &["coalesce", "ifnull", "nvl", "nvl2"];
    let times = match expression {
        Expr::Between(_) => 2,
        Expr::Case(_) => 3,
        Expr::InList(_) => 4,
        Expr::BinaryExpr(binary) if is_match(binary.op) => 5,
        Expr::BinaryExpr(binary) if binary.op.supports_propagation() => 2,
        Expr::ScalarFunction(call) if TWICE.contains(&call.func.name()) => 2,
        _ => 1,
    };
    let mut steps = 1_u64;
    // Never fails: nothing in it does.
    let _ = expression.apply_children(|child| {
        // The values of a list come once.
        let times = if matches!(child, Expr::Literal(..)) { 1 } else { times };
        steps = steps.saturating_add(self::steps(child).saturating_mul(times));
        Ok(TreeNodeRecursion::Continue)
    });
    steps
}

/// One pair of brackets, or the whole.
#[derive(Default)]
struct Level {
    /// Since the last comma.
    here: usize,
    /// The deepest pair within, since the last comma.
    within: usize,
    /// Before the last comma.
    before: usize,
}

impl Level {
    fn depth(&self) -> usize {
        self.before.max(self.here + self.within)
    }

    fn comma(&mut self) {
        *self = Level { before: self.depth(), ..Level::default() };
    }
}

/// How deep the tree of an expression can be at most: every operator and keyword between two commas may be above the
/// next. None where the text is no row of words.
fn depth(text: &str) -> Option<usize> {
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, text).tokenize() else {
        // The parser says what is wrong with it, from the same tokens.
        return Some(0);
    };
    let mut open: Vec<Level> = Vec::new();
    let mut level = Level::default();
    for token in tokens {
        match token {
            Token::Comma => level.comma(),
            Token::LParen | Token::LBracket | Token::LBrace => {
                level.here += 1;
                open.push(std::mem::take(&mut level));
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                let closed = std::mem::take(&mut level).depth();
                level = open.pop().unwrap_or_else(|| Level { here: 1, ..Level::default() });
                level.within = level.within.max(closed);
            }
            token if is_operand(&token) => {}
            _ => level.here += 1,
        }
        if open.len() > MAX_DEPTH {
            return None;
        }
    }
    open.push(level);
    // What is not closed is within what is around it.
    Some(open.iter().map(Level::depth).sum())
}

fn is_operand(token: &Token) -> bool {
    match token {
        Token::Word(word) => word.keyword == Keyword::NoKeyword,
        Token::EOF
        | Token::Whitespace(_)
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_) => true,
        _ => false,
    }
}

/// How much larger the texts of an expression can be than those of the row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Growth {
    /// How often all columns of the row.
    pub(super) times: u64,
    /// What the expression itself adds to each row, in bytes.
    pub(super) bytes: u64,
}

impl Growth {
    /// That of an expression. A column that is taken as it is costs nothing.
    pub(super) fn of(expression: &Expr) -> Growth {
        match expression {
            Expr::Column(_) => Growth::default(),
            Expr::Alias(alias) => Growth::of(&alias.expr),
            other => Growth::within(other),
        }
    }

    fn within(expression: &Expr) -> Growth {
        match expression {
            Expr::Column(_) => Growth { times: 1, bytes: 0 },
            // Twice: a text may be made of characters that have more bytes in upper case.
            Expr::Literal(value, _) => Growth { times: 0, bytes: 2 * value.size() as u64 },
            Expr::ScalarFunction(call) => {
                let arguments = call.args.iter().map(Growth::within);
                match call.func.name() {
                    // The first of them comes between all others.
                    "concat_ws" => {
                        let separators = call.args.len().max(1) as u64;
                        let first = call.args.first().map_or(Growth::default(), Growth::within);
                        arguments.skip(1).fold(first.many(separators), Growth::and)
                    }
                    // Two characters of a format make up to some thirty.
                    "to_char" => arguments.fold(Growth::default(), Growth::and).many(16),
                    _ => arguments.fold(Growth::default(), Growth::and),
                }
            }
            other => {
                let mut all = Growth::default();
                // Never fails: nothing in it does.
                let _ = other.apply_children(|child| {
                    all = all.and(Growth::within(child));
                    Ok(TreeNodeRecursion::Continue)
                });
                all
            }
        }
    }

    /// That of two expressions.
    pub(super) fn and(self, other: Growth) -> Growth {
        Growth {
            times: self.times.saturating_add(other.times),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    fn many(self, times: u64) -> Growth {
        Growth { times: self.times.saturating_mul(times), bytes: self.bytes.saturating_mul(times) }
    }

    /// The bytes that so many rows of so many bytes can become.
    pub(super) fn bytes(self, rows: u64, bytes: u64) -> u64 {
        bytes.saturating_mul(self.times).saturating_add(rows.saturating_mul(self.bytes))
    }
}

/// The name of a column without the name of a table before it.
pub(super) fn name_of(column: &Expr) -> String {
    match column {
        Expr::Column(column) => column.name.clone(),
        Expr::Alias(alias) => alias.name.clone(),
        other => other.schema_name().to_string(),
    }
}

/// What DataFusion says about an expression, in one line.
pub(super) fn mistake(what: &str, error: &DataFusionError) -> Error {
    invalid(format!("{what} cannot be used: {}", first_line(error)))
}

/// What DataFusion says, in one line.
pub(super) fn first_line(error: &DataFusionError) -> String {
    let message = error.strip_backtrace();
    message.lines().next().unwrap_or_default().chars().take(400).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_never_more_than_that_of_the_tree() {
        for (text, expected) in [
            ("age", 0),
            ("age > 3", 1),
            ("a + b * c", 2),
            ("f(a, b + c) > 3", 3),
            ("a IN (1, 2, 3, 4, 5, 6)", 2),
            ("a = 1 OR (b = 2 AND (c = 3))", 7),
            ("lower(", 2),
            ("'an open text", 0),
        ] {
            assert_eq!(depth(text), Some(expected), "{text}");
        }
        assert_eq!(depth(&"(".repeat(1_000)), None);
        assert_eq!(depth(&format!("a{}", " + a".repeat(8_000))), Some(8_000));
        assert!(depth(&format!("a{}", ") + a".repeat(8_000))).is_some());
        assert_eq!(depth(&format!("x IN (1{})", ", 1".repeat(8_000))), Some(2));
    }
}
