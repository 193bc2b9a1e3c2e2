//! The nesting of a tensor's `data`: walks the JSON array, flat or nested, hands out its scalars in row-major
//! order, and holds their number and nesting against the shape. It does not know what the scalars mean.
//!
//! The text was checked by serde before (it is one whole JSON value), so tokens can be told apart by their
//! first byte and commas need no attention.

use modelhost_core::{InvalidTensor, MAX_RANK};

/// Why `data` does not fit its shape or its datatype.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataError {
    /// Not an array at all.
    #[error("data is {found}: expected an array")]
    NotAnArray { found: String },
    /// An element that the datatype does not have.
    #[error("element {index} of data is {found}: {expected}")]
    Element { index: u64, found: String, expected: String },
    /// An array where the outer array already holds elements.
    #[error(
        "data holds an array at element {index}: expected it flat, or nested exactly as shape {shape:?} says"
    )]
    UnexpectedArray { index: u64, shape: Vec<u64> },
    /// An element outside of the innermost arrays.
    #[error(
        "data holds element {index} outside of the innermost arrays: expected nesting as shape {shape:?} says"
    )]
    UnexpectedElement { index: u64, shape: Vec<u64> },
    /// A nested array that is too short or too long.
    #[error("an array in dimension {dimension} of data has {actual}: shape {shape:?} takes {expected}")]
    Extent { dimension: usize, actual: String, expected: u64, shape: Vec<u64> },
    /// Flat data with too few or too many elements.
    #[error("data has {actual} elements: shape {shape:?} takes {expected}")]
    Count { actual: String, expected: u64, shape: Vec<u64> },
    /// Elements that make no tensor, though each is right.
    #[error(transparent)]
    Tensor(#[from] InvalidTensor),
}

enum Token<'a> {
    Open,
    Close,
    Scalar(&'a str),
}

struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let start =
            self.rest.bytes().position(|byte| !matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | b','))?;
        let text = self.rest.get(start..)?;
        let length = match text.bytes().next()? {
            b'[' | b']' => 1,
            b'"' => string_length(text),
            _ => plain_length(text),
        };
        let (token, rest) = text.split_at_checked(length)?;
        self.rest = rest;
        Some(match token {
            "[" => Token::Open,
            "]" => Token::Close,
            scalar => Token::Scalar(scalar),
        })
    }
}

/// The length of the string that the text begins with, both quotes included.
fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a number or literal. An object counts up to its first delimiter: its start is all that the
/// message about it needs, and nothing after it is read.
fn plain_length(text: &str) -> usize {
    let is_delimiter = |byte| matches!(byte, b',' | b']' | b' ' | b'\n' | b'\r' | b'\t');
    text.bytes().position(is_delimiter).unwrap_or(text.len())
}

/// Calls `visit` with the index and the text of each element of `json`, which must be one valid JSON value.
/// `elements` is the product of `shape`, which has at most [`MAX_RANK`] entries.
pub(crate) fn for_each_element<'a>(
    json: &'a str,
    shape: &[u64],
    elements: u64,
    visit: impl FnMut(u64, &'a str) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let mut tokens = Tokens { rest: json };
    match tokens.next() {
        Some(Token::Open) => {}
        Some(Token::Scalar(found)) => return Err(DataError::NotAnArray { found: crate::shortened(found) }),
        Some(Token::Close) | None => return Err(DataError::NotAnArray { found: "empty".into() }),
    }
    let is_nested = matches!(Tokens { rest: tokens.rest }.next(), Some(Token::Open));
    if is_nested { walk_nested(tokens, shape, visit) } else { walk_flat(tokens, shape, elements, visit) }
}

fn walk_flat<'a>(
    tokens: Tokens<'a>,
    shape: &[u64],
    elements: u64,
    mut visit: impl FnMut(u64, &'a str) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let count = |actual| DataError::Count { actual, expected: elements, shape: shape.to_vec() };
    let mut index = 0;
    for token in tokens {
        match token {
            Token::Scalar(_) if index == elements => return Err(count(format!("more than {elements}"))),
            Token::Scalar(text) => visit(index, text)?,
            Token::Open => return Err(DataError::UnexpectedArray { index, shape: shape.to_vec() }),
            Token::Close => break,
        }
        index += 1;
    }
    if index == elements { Ok(()) } else { Err(count(index.to_string())) }
}

fn walk_nested<'a>(
    tokens: Tokens<'a>,
    shape: &[u64],
    mut visit: impl FnMut(u64, &'a str) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let mut nesting = Nesting::new(shape);
    let mut index = 0;
    for token in tokens {
        match token {
            Token::Scalar(text) => {
                if !nesting.is_innermost() {
                    return Err(DataError::UnexpectedElement { index, shape: shape.to_vec() });
                }
                nesting.count()?;
                visit(index, text)?;
                index += 1;
            }
            Token::Open if nesting.is_innermost() => {
                return Err(DataError::UnexpectedArray { index, shape: shape.to_vec() });
            }
            Token::Open => {
                nesting.count()?;
                nesting.open();
            }
            Token::Close => {
                if nesting.close()? {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// The arrays that are open, outermost first, with the number of items seen in each.
struct Nesting<'a> {
    shape: &'a [u64],
    counts: [u64; MAX_RANK],
    depth: usize,
}

impl<'a> Nesting<'a> {
    /// With the outermost array open.
    fn new(shape: &'a [u64]) -> Self {
        Nesting { shape, counts: [0; MAX_RANK], depth: 1 }
    }

    fn is_innermost(&self) -> bool {
        self.depth >= self.shape.len()
    }

    /// One more item in the current array.
    fn count(&mut self) -> Result<(), DataError> {
        let expected = self.expected();
        let Some(count) = self.counts.get_mut(self.depth - 1) else { return Ok(()) };
        if *count == expected {
            return Err(self.extent_error(format!("more than {expected} items")));
        }
        *count += 1;
        Ok(())
    }

    fn open(&mut self) {
        self.depth += 1;
        if let Some(count) = self.counts.get_mut(self.depth - 1) {
            *count = 0;
        }
    }

    /// Ends the current array; whether it was the outermost.
    fn close(&mut self) -> Result<bool, DataError> {
        let actual = self.counts.get(self.depth - 1).copied().unwrap_or_default();
        if actual != self.expected() {
            return Err(self.extent_error(format!("{actual} items")));
        }
        self.depth -= 1;
        Ok(self.depth == 0)
    }

    fn expected(&self) -> u64 {
        self.shape.get(self.depth - 1).copied().unwrap_or_default()
    }

    fn extent_error(&self, actual: String) -> DataError {
        DataError::Extent {
            dimension: self.depth - 1,
            actual,
            expected: self.expected(),
            shape: self.shape.to_vec(),
        }
    }
}
