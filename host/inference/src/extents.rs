//! The free extents of a graph's inputs: which of them must agree, and their values in one run. Knows no engine.

use std::collections::HashMap;
use std::hash::Hash;

use modelhost_core::{Tensor, TensorDescription};

use crate::engine::RunError;

/// Where each free extent stands among the inputs.
pub(crate) struct FreeExtents {
    /// One entry for each place, ordered by input and axis. An extent may have several.
    places: Vec<Place>,
    count: usize,
}

struct Place {
    /// Which of the extents stands here.
    extent: usize,
    input: usize,
    axis: usize,
}

impl FreeExtents {
    /// `dimensions` are those of all inputs: a symbol where an extent is free. Gives each symbol once, too, in the order of
    /// its first place.
    pub(crate) fn new<S: Clone + Eq + Hash>(dimensions: &[Vec<Option<S>>]) -> (FreeExtents, Vec<S>) {
        let mut symbols = Vec::new();
        let mut known = HashMap::new();
        let mut places = Vec::new();
        for (input, dimensions) in dimensions.iter().enumerate() {
            for (axis, symbol) in dimensions.iter().enumerate() {
                let Some(symbol) = symbol else { continue };
                let extent = *known.entry(symbol).or_insert_with(|| {
                    symbols.push(symbol.clone());
                    symbols.len() - 1
                });
                places.push(Place { extent, input, axis });
            }
        }
        (FreeExtents { places, count: symbols.len() }, symbols)
    }

    /// The value of each free extent for these inputs, in the order of the symbols.
    ///
    /// # Errors
    /// [`RunError::InvalidInput`] where two extents must agree and do not.
    pub(crate) fn bind(
        &self,
        descriptions: &[TensorDescription],
        inputs: &[Tensor],
    ) -> Result<Vec<i64>, RunError> {
        let name = |place: &Place| descriptions.get(place.input).map_or("", |description| &description.name);
        let mut values: Vec<Option<(i64, &Place)>> = vec![None; self.count];
        for place in &self.places {
            let extent = inputs.get(place.input).and_then(|input| input.shape().get(place.axis));
            let extent = extent.and_then(|extent| i64::try_from(*extent).ok());
            let extent = extent.ok_or_else(|| RunError::InvalidInput {
                reason: format!("input {:?} has no usable dimension {}", name(place), place.axis),
            })?;
            let (expected, first) = values[place.extent].get_or_insert((extent, place));
            if *expected != extent {
                return Err(RunError::InvalidInput {
                    reason: format!(
                        "dimension {} of input {:?} is {extent}: expected {expected}, as dimension {} of input {:?}",
                        place.axis,
                        name(place),
                        first.axis,
                        name(first),
                    ),
                });
            }
        }
        // Every extent has at least one place.
        Ok(values.into_iter().flatten().map(|(value, _)| value).collect())
    }
}
