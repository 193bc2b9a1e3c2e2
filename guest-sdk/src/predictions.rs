//! Looking up what a batch job computed before, in the tables that an operator granted to the model.

use std::fmt;
use std::time::Duration;

use crate::bindings::modelhost::plugin::predictions as contract;
use crate::{Error, Tensor};

/// What a row of a prediction table is found by. Numbers and strings become one by themselves.
///
/// ```
/// use modelhost_guest::Key;
///
/// assert_eq!(Key::from(17), Key::Integer(17));
/// assert_eq!(Key::from("ada"), Key::Text("ada".to_owned()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// A whole number.
    Integer(i64),
    /// A string.
    Text(String),
}

impl From<i64> for Key {
    fn from(key: i64) -> Key {
        Key::Integer(key)
    }
}

impl From<&str> for Key {
    fn from(key: &str) -> Key {
        Key::Text(key.to_owned())
    }
}

impl From<String> for Key {
    fn from(key: String) -> Key {
        Key::Text(key)
    }
}

/// A table of predictions, by name. Whether it exists, and this model may read it, shows when it is asked.
///
/// ```no_run
/// use modelhost_guest::{Error, PredictionTable, Request, Response, Tensor};
///
/// fn predict(request: Request) -> Result<Response, Error> {
///     let users = request.input("user")?.strings()?;
///     let mut rows = PredictionTable::named("top-items").look_up(users)?;
///     Ok(Response::new([("items", rows.take("items")?)]))
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PredictionTable {
    name: String,
}

impl PredictionTable {
    /// The table of this name.
    ///
    /// ```
    /// let table = modelhost_guest::PredictionTable::named("top-items");
    /// ```
    pub fn named(name: impl Into<String>) -> PredictionTable {
        PredictionTable { name: name.into() }
    }

    /// Looks up keys, which may repeat. A key without a row is no error: see [`PredictedRows::row`].
    ///
    /// ```no_run
    /// use modelhost_guest::PredictionTable;
    ///
    /// let rows = PredictionTable::named("prices").look_up([17, 4])?;
    /// modelhost_guest::debug!("{} are known", rows.len());
    /// # Ok::<(), modelhost_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// As the [`Refusal`]s say; outside the host [`Refusal::Unavailable`].
    pub fn look_up<K: Into<Key>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<PredictedRows, LookupError> {
        let refused = |refusal, reason| LookupError { table: self.name.clone(), refusal, reason };
        if cfg!(not(target_arch = "wasm32")) {
            return Err(refused(
                Refusal::Unavailable,
                "predictions are looked up in the host only".to_owned(),
            ));
        }
        let keys: Vec<contract::Key> = keys.into_iter().map(|key| key.into().into_contract()).collect();
        match contract::lookup(&self.name, &keys) {
            Ok(rows) => Ok(PredictedRows::from_contract(&self.name, rows)),
            Err(error) => {
                let (refusal, reason) = Refusal::from_contract(error);
                Err(refused(refusal, reason))
            }
        }
    }
}

impl Key {
    fn into_contract(self) -> contract::Key {
        match self {
            Key::Integer(key) => contract::Key::Integer(key),
            Key::Text(key) => contract::Key::Text(key),
        }
    }
}

/// The rows that a lookup found, all of one version of the table: a tensor for each column but the key.
///
/// ```no_run
/// use modelhost_guest::{Error, PredictedRows, PredictionTable};
///
/// fn scores_of(users: &[&str]) -> Result<Vec<Option<f32>>, Error> {
///     let mut rows: PredictedRows = PredictionTable::named("scores").look_up(users.iter().copied())?;
///     let scores = rows.take("score")?;
///     let scores = scores.as_slice::<f32>()?;
///     Ok((0..users.len()).map(|key| Some(scores[rows.row(key)?])).collect())
/// }
/// ```
#[derive(Debug)]
pub struct PredictedRows {
    table: String,
    version: u64,
    age: Duration,
    is_stale: bool,
    /// For each key its row.
    rows: Vec<Option<usize>>,
    columns: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    name: String,
    /// Until it is taken.
    values: Option<Tensor>,
    lengths: Option<Vec<u32>>,
    nulls: Option<Vec<bool>>,
}

impl PredictedRows {
    /// The number of the table's version.
    ///
    /// ```no_run
    /// # let rows: modelhost_guest::PredictedRows = unreachable!();
    /// modelhost_guest::debug!("from version {}", rows.version());
    /// ```
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How old the predictions are.
    ///
    /// ```no_run
    /// # let rows: modelhost_guest::PredictedRows = unreachable!();
    /// let is_from_today = rows.age() < std::time::Duration::from_secs(24 * 60 * 60);
    /// ```
    pub fn age(&self) -> Duration {
        self.age
    }

    /// Whether they are older than the operator wants them to be.
    ///
    /// ```no_run
    /// # let rows: modelhost_guest::PredictedRows = unreachable!();
    /// if rows.is_stale() {
    ///     modelhost_guest::warn!("version {} is {:?} old", rows.version(), rows.age());
    /// }
    /// ```
    pub fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// How many rows were found: the first dimension of each column.
    ///
    /// ```no_run
    /// # let rows: modelhost_guest::PredictedRows = unreachable!();
    /// modelhost_guest::debug!("{} rows", rows.len());
    /// ```
    pub fn len(&self) -> usize {
        self.rows.iter().flatten().count()
    }

    /// Whether none was found.
    ///
    /// ```no_run
    /// # let rows: modelhost_guest::PredictedRows = unreachable!();
    /// if rows.is_empty() {
    ///     modelhost_guest::info!("nobody is known");
    /// }
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Which row of the columns belongs to the key that was given at this place; none where there is none.
    ///
    /// ```no_run
    /// # let rows: modelhost_guest::PredictedRows = unreachable!();
    /// let first = rows.row(0).ok_or_else(|| modelhost_guest::Error::invalid_input("user is not known"))?;
    /// # Ok::<(), modelhost_guest::Error>(())
    /// ```
    pub fn row(&self, key: usize) -> Option<usize> {
        self.rows.get(key).copied().flatten()
    }

    /// The column of that name, to read or to pass on: `[rows]`, or `[rows, elements]` where it holds lists, the
    /// shorter ones padded at their end. A field of a struct is a column of its own, named `column.field`.
    ///
    /// ```no_run
    /// # let mut rows: modelhost_guest::PredictedRows = unreachable!();
    /// let items = rows.take("items")?;
    /// let names: Vec<&str> = items.strings()?;
    /// # Ok::<(), modelhost_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// Internal where the table has no column of that name, or it was taken before.
    pub fn take(&mut self, name: &str) -> Result<Tensor, Error> {
        let column = self.columns.iter_mut().find(|column| column.name == name);
        if let Some(values) = column.and_then(|column| column.values.take()) {
            return Ok(values);
        }
        let left = self.columns.iter().filter(|column| column.values.is_some());
        let names: Vec<&str> = left.map(|column| column.name.as_str()).collect();
        Err(Error::internal(format!("table {:?} left no column {name:?}: it left {names:?}", self.table)))
    }

    /// How many elements the list in a row of a column has; none where they are all as long as the tensor is wide.
    ///
    /// ```no_run
    /// # let rows: modelhost_guest::PredictedRows = unreachable!();
    /// # let width = 200;
    /// let of_first = rows.list_length("items", 0).unwrap_or(width);
    /// ```
    pub fn list_length(&self, column: &str, row: usize) -> Option<usize> {
        let lengths = self.column(column)?.lengths.as_ref()?;
        lengths.get(row).and_then(|length| usize::try_from(*length).ok())
    }

    /// Whether a row holds no value in a column.
    ///
    /// ```no_run
    /// # let rows: modelhost_guest::PredictedRows = unreachable!();
    /// if rows.is_null("price", 0) {
    ///     modelhost_guest::info!("no price");
    /// }
    /// ```
    pub fn is_null(&self, column: &str, row: usize) -> bool {
        let nulls = self.column(column).and_then(|column| column.nulls.as_ref());
        nulls.and_then(|nulls| nulls.get(row)).copied().unwrap_or(false)
    }

    fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    fn from_contract(table: &str, found: contract::Rows) -> PredictedRows {
        let mut next = 0;
        let mut row = |found: bool| {
            let row = found.then_some(next);
            next += usize::from(found);
            row
        };
        let column = |column: contract::Column| Column {
            values: Some(Tensor::from_handle(column.values).named(&column.name)),
            name: column.name,
            lengths: column.lengths,
            nulls: column.nulls,
        };
        PredictedRows {
            table: table.to_owned(),
            version: found.version,
            age: Duration::from_millis(found.age_milliseconds),
            is_stale: found.stale,
            rows: found.found.into_iter().map(&mut row).collect(),
            columns: found.columns.into_iter().map(column).collect(),
        }
    }
}

/// Why a lookup has no answer.
///
/// Through `?` it becomes an [`Error`]: unavailable where the table cannot be read, internal otherwise. A plugin that can
/// do without the table says so instead:
///
/// ```no_run
/// use modelhost_guest::{LookupError, PredictedRows, PredictionTable};
///
/// fn list_of(user: &str) -> Option<PredictedRows> {
///     let without = |error: LookupError| modelhost_guest::warn!("{error}: going on without it");
///     PredictionTable::named("top-items").look_up([user]).map_err(without).ok()
/// }
/// ```
// Not a `std::error::Error`: `?` would then make every one of them internal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupError {
    table: String,
    refusal: Refusal,
    reason: String,
}

/// What kind of failure a [`LookupError`] is.
///
/// ```no_run
/// use modelhost_guest::{PredictionTable, Refusal};
///
/// let refused = PredictionTable::named("salaries").look_up(["ada"]).err().map(|error| error.refusal());
/// assert_eq!(refused, Some(Refusal::NotGranted));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// No operator has granted the table to this model.
    NotGranted,
    /// The table does not exist, or nothing was published to it yet.
    NoSuchTable,
    /// A key of the other kind than the table's.
    InvalidKey,
    /// More keys, or more bytes of rows, than one lookup may have.
    TooLarge,
    /// The table cannot be read now.
    Unavailable,
}

impl LookupError {
    /// What kind of failure it is.
    ///
    /// ```no_run
    /// use modelhost_guest::{PredictionTable, Refusal};
    ///
    /// if let Err(error) = PredictionTable::named("top-items").look_up([17]) {
    ///     assert_ne!(error.refusal(), Refusal::InvalidKey);
    /// }
    /// ```
    pub fn refusal(&self) -> Refusal {
        self.refusal
    }
}

impl Refusal {
    fn from_contract(error: contract::Error) -> (Refusal, String) {
        match error {
            contract::Error::NotGranted(reason) => (Refusal::NotGranted, reason),
            contract::Error::NoSuchTable(reason) => (Refusal::NoSuchTable, reason),
            contract::Error::InvalidKey(reason) => (Refusal::InvalidKey, reason),
            contract::Error::TooLarge(reason) => (Refusal::TooLarge, reason),
            contract::Error::Unavailable(reason) => (Refusal::Unavailable, reason),
        }
    }
}

impl fmt::Display for LookupError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "table {:?}: {}", self.table, self.reason)
    }
}

impl From<LookupError> for Error {
    fn from(error: LookupError) -> Error {
        match error.refusal {
            Refusal::Unavailable => Error::unavailable(error.to_string()),
            _ => Error::internal(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_the_host_a_lookup_is_an_error_and_no_panic() {
        let error = PredictionTable::named("t").look_up(["k"]).unwrap_err();
        assert_eq!(error.refusal(), Refusal::Unavailable);
        assert_eq!(error.to_string(), "table \"t\": predictions are looked up in the host only");
        assert!(matches!(Error::from(error), Error::Unavailable(_)));
    }

    #[test]
    fn only_what_cannot_be_read_now_may_succeed_later() {
        let error = |refusal| LookupError { table: "t".into(), refusal, reason: "no".into() };
        for refusal in [Refusal::NotGranted, Refusal::NoSuchTable, Refusal::InvalidKey, Refusal::TooLarge] {
            assert_eq!(Error::from(error(refusal)), Error::internal("table \"t\": no"));
        }
    }

    #[test]
    fn each_key_finds_its_row_and_a_column_is_taken_once() {
        let column = |name: &str, lengths, nulls| Column {
            name: name.to_owned(),
            values: Some(Tensor::column([0.5_f32, 1.5])),
            lengths,
            nulls,
        };
        let mut rows = PredictedRows {
            table: "t".into(),
            version: 3,
            age: Duration::from_secs(1),
            is_stale: false,
            rows: vec![Some(0), None, Some(1)],
            columns: vec![column("a", Some(vec![2, 1]), None), column("b", None, Some(vec![false, true]))],
        };
        assert_eq!((0..4).map(|key| rows.row(key)).collect::<Vec<_>>(), [Some(0), None, Some(1), None]);
        assert_eq!((rows.len(), rows.is_empty()), (2, false));
        assert_eq!(rows.list_length("a", 1), Some(1));
        assert_eq!(rows.list_length("b", 1), None);
        assert!(rows.is_null("b", 1) && !rows.is_null("b", 0) && !rows.is_null("a", 1));
        assert!(rows.take("a").is_ok());
        let again = rows.take("a").unwrap_err();
        assert_eq!(again, Error::internal("table \"t\" left no column \"a\": it left [\"b\"]"));
    }
}
