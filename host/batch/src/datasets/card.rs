//! What may be done with a dataset: its card. What a card must be, and what is inherited where datasets are made of
//! others.

use std::collections::BTreeSet;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use spdx::expression::{ExprNode, Operator};

use super::schema::DatasetSchema;

const MAX_LICENSE_BYTES: usize = 1_000;
const MAX_TEXT_BYTES: usize = 64 << 10;

/// What is known about the rights and duties that come with a dataset. Nothing in it is needed; what is missing is not
/// known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatasetCard {
    /// The terms, as an SPDX expression such as `CC-BY-4.0` or `CC0-1.0 AND LicenseRef-internal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Whether it may be used commercially.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commercial_use: Option<bool>,
    /// Where it comes from: an address, a citation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// On what basis it may be processed, such as consent, contract or public record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consent: Option<String>,
    /// Columns that say something about people, or that are secret otherwise.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub sensitive_columns: BTreeSet<String>,
    /// The last day on which it may be kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_until: Option<Date>,
    /// Everything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A card that cannot be that of its dataset, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidCard(String);

impl DatasetCard {
    /// Checks what does not depend on the columns.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), InvalidCard> {
        if let Some(license) = &self.license {
            check_license(license)?;
        }
        let texts =
            [("source", &self.source), ("consent", &self.consent), ("description", &self.description)];
        for (name, text) in texts {
            let length = text.as_ref().map_or(0, String::len);
            if length > MAX_TEXT_BYTES {
                let problem =
                    format!("{name} of the card has {length} bytes: expected at most {MAX_TEXT_BYTES}");
                return Err(InvalidCard(problem));
            }
        }
        Ok(())
    }

    /// Checks that the columns it names are there.
    ///
    /// # Errors
    /// The first one that is not.
    pub fn check_columns(&self, schema: &DatasetSchema) -> Result<(), InvalidCard> {
        match self.sensitive_columns.iter().find(|name| schema.column(name).is_none()) {
            None => Ok(()),
            Some(missing) => Err(InvalidCard(format!(
                "sensitive_columns of the card names {missing:?}, which is no column of the dataset"
            ))),
        }
    }

    /// The card of what is made from datasets with these cards and has these columns: the strictest terms of all of
    /// them. Commercial use only where all allow it, all licences at once, the earliest end of retention, and every
    /// sensitive column that is still there. Descriptions are of what they describe, and are not inherited.
    pub fn inherited(cards: &[&DatasetCard], schema: &DatasetSchema) -> DatasetCard {
        let sensitive = cards.iter().flat_map(|card| &card.sensitive_columns);
        DatasetCard {
            license: all_licenses(cards),
            commercial_use: commercial_use(cards),
            source: distinct(cards.iter().filter_map(|card| card.source.as_deref()), "; "),
            consent: distinct(cards.iter().filter_map(|card| card.consent.as_deref()), "; "),
            sensitive_columns: sensitive.filter(|name| schema.column(name).is_some()).cloned().collect(),
            retention_until: cards.iter().filter_map(|card| card.retention_until).min(),
            description: None,
        }
    }
}

fn check_license(license: &str) -> Result<(), InvalidCard> {
    let shown: String = license.chars().take(80).collect();
    let refuse = |reason: &dyn std::fmt::Display| {
        Err(InvalidCard(format!(
            "license of the card is {shown:?}: expected an SPDX expression such as CC-BY-4.0 ({reason})"
        )))
    };
    // The parser's time and memory grow with the text.
    if license.len() > MAX_LICENSE_BYTES {
        return refuse(&"it is too long");
    }
    match spdx::Expression::parse(license) {
        Ok(_) => Ok(()),
        Err(error) => refuse(&error.reason),
    }
}

/// All that all of them ask for. A term of unknown licence adds nothing that could be named.
fn all_licenses(cards: &[&DatasetCard]) -> Option<String> {
    let licenses = cards.iter().filter_map(|card| card.license.as_deref());
    distinct(licenses.flat_map(terms).collect::<Vec<_>>().iter().map(String::as_str), " AND ")
}

/// What an expression asks for at once: what is joined by AND comes apart, a choice stays together in parentheses.
fn terms(license: &str) -> Vec<String> {
    let Ok(expression) = spdx::Expression::parse(license) else { return vec![license.to_owned()] };
    // In the order of its nodes an operator follows what it joins.
    let mut joined: Vec<Vec<String>> = Vec::new();
    for node in expression.iter() {
        match node {
            ExprNode::Req(term) => joined.push(vec![term.req.to_string()]),
            ExprNode::Op(operator) => {
                let (Some(right), Some(left)) = (joined.pop(), joined.pop()) else { continue };
                joined.push(match operator {
                    Operator::And => [left, right].concat(),
                    Operator::Or => vec![format!("({} OR {})", alternative(&left), alternative(&right))],
                });
            }
        }
    }
    joined.concat()
}

fn alternative(terms: &[String]) -> String {
    match terms {
        // A choice within a choice needs no parentheses of its own.
        [term] => term.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')).unwrap_or(term).to_owned(),
        terms => format!("({})", terms.join(" AND ")),
    }
}

fn commercial_use(cards: &[&DatasetCard]) -> Option<bool> {
    if cards.iter().any(|card| card.commercial_use == Some(false)) {
        return Some(false);
    }
    let is_allowed_by_all = !cards.is_empty() && cards.iter().all(|card| card.commercial_use == Some(true));
    is_allowed_by_all.then_some(true)
}

/// Each text once, in the order in which they come; none where there is none.
fn distinct<'a>(texts: impl Iterator<Item = &'a str>, separator: &str) -> Option<String> {
    let mut kept: Vec<&str> = Vec::new();
    for text in texts {
        if !kept.contains(&text) {
            kept.push(text);
        }
    }
    (!kept.is_empty()).then(|| kept.join(separator))
}

#[cfg(test)]
#[path = "card_tests.rs"]
mod tests;
