//! The lists that a nightly job made: the items that suit a customer, with a score for each. Knows nothing of clicks.

use modelhost_guest::{Error, PredictedRows, PredictionTable, warn};

use crate::parameters::ITEMS;

/// Where they are: columns `items` and `scores` under the name of the customer.
const TABLE: &str = "top-items";

/// Users of one lookup: the host answers no more at once.
const MAX_USERS: usize = 1_024;

/// What was recommended to one customer.
#[derive(Clone, Debug, PartialEq)]
pub struct List {
    /// Of each item its score; none for those that are not in the list.
    scores: Vec<Option<f32>>,
    /// Of the table.
    pub(crate) version: u64,
    /// Whether it is older than the operator of the table wants it to be.
    pub(crate) is_stale: bool,
}

impl List {
    /// A list of items by name, of a version of the table; names of no item are left out.
    pub fn new<'a>(items: impl IntoIterator<Item = (&'a str, f32)>, version: u64, is_stale: bool) -> List {
        let mut scores = vec![None; ITEMS.len()];
        for (name, score) in items {
            if let Ok(item) = ITEMS.binary_search(&name) {
                scores[item] = Some(score);
            }
        }
        List { scores, version, is_stale }
    }

    /// The score of an item, if the list has it.
    pub(crate) fn score(&self, item: usize) -> Option<f32> {
        self.scores[item]
    }
}

/// The list of each user; none where there is none, or the table cannot be read.
pub(crate) fn look_up(users: &[&str]) -> Vec<Option<List>> {
    users.chunks(MAX_USERS).flat_map(look_up_some).collect()
}

fn look_up_some(users: &[&str]) -> Vec<Option<List>> {
    let found = PredictionTable::named(TABLE).look_up(users.iter().copied());
    let lists = found.map_err(Error::from).and_then(|rows| lists(rows, users.len()));
    lists.unwrap_or_else(|error| {
        warn!("no lists: {error}");
        vec![None; users.len()]
    })
}

fn lists(mut rows: PredictedRows, users: usize) -> Result<Vec<Option<List>>, Error> {
    if rows.is_empty() {
        return Ok(vec![None; users]);
    }
    let (items, scores) = (rows.take("items")?, rows.take("scores")?);
    let (names, scores) = (items.strings()?, scores.as_slice::<f32>()?);
    let width = names.len() / rows.len();
    if scores.len() != names.len() {
        return Err(Error::internal("the table has not as many scores as items"));
    }
    let list = |user| {
        let row = rows.row(user)?;
        let place = row * width..row * width + rows.list_length("items", row).unwrap_or(width);
        let items = names[place.clone()].iter().copied().zip(scores[place].iter().copied());
        Some(List::new(items, rows.version(), rows.is_stale()))
    };
    Ok((0..users).map(list).collect())
}
