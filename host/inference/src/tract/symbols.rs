//! The free extents of a graph's inputs: which of them must agree, and their values in one run.

use modelhost_core::{Tensor, TensorDescription};
use tract_onnx::prelude::{Symbol, SymbolValues};

use crate::engine::RunError;

/// Where each symbol stands among the inputs.
pub(super) struct InputSymbols {
    /// One entry for each place, ordered by input and axis. A symbol may have several.
    places: Vec<Place>,
    /// Each symbol once, in the order of its first place.
    symbols: Vec<Symbol>,
}

struct Place {
    /// Index into `symbols`.
    symbol: usize,
    input: usize,
    axis: usize,
}

impl InputSymbols {
    /// `dimensions` are those of all inputs: the symbol where an extent is free.
    pub(super) fn new(dimensions: &[Vec<Option<Symbol>>]) -> InputSymbols {
        let mut symbols: Vec<Symbol> = Vec::new();
        let mut places = Vec::new();
        for (input, dimensions) in dimensions.iter().enumerate() {
            for (axis, free) in dimensions.iter().enumerate() {
                let Some(free) = free else { continue };
                let known = symbols.iter().position(|symbol| symbol == free);
                let symbol = known.unwrap_or_else(|| {
                    symbols.push(free.clone());
                    symbols.len() - 1
                });
                places.push(Place { symbol, input, axis });
            }
        }
        InputSymbols { places, symbols }
    }

    /// Each symbol once.
    pub(super) fn symbols(&self) -> &[Symbol] {
        &self.symbols
    }

    /// The value of each symbol for these inputs, in the order of [`symbols`](Self::symbols).
    ///
    /// # Errors
    /// [`RunError::InvalidInput`] where two extents must agree and do not.
    pub(super) fn bind(
        &self,
        descriptions: &[TensorDescription],
        inputs: &[Tensor],
    ) -> Result<Vec<i64>, RunError> {
        let name = |place: &Place| descriptions.get(place.input).map_or("", |description| &description.name);
        let mut values: Vec<Option<(i64, &Place)>> = vec![None; self.symbols.len()];
        for place in &self.places {
            let extent = inputs.get(place.input).and_then(|input| input.shape().get(place.axis));
            let extent = extent.and_then(|extent| i64::try_from(*extent).ok());
            let extent = extent.ok_or_else(|| RunError::InvalidInput {
                reason: format!("input {:?} has no usable dimension {}", name(place), place.axis),
            })?;
            match values[place.symbol] {
                Some((before, first)) if before != extent => {
                    return Err(RunError::InvalidInput {
                        reason: format!(
                            "dimension {} of input {:?} is {extent}: expected {before}, as dimension {} of input {:?}",
                            place.axis,
                            name(place),
                            first.axis,
                            name(first),
                        ),
                    });
                }
                Some(_) => {}
                None => values[place.symbol] = Some((extent, place)),
            }
        }
        // Every symbol has at least one place.
        Ok(values.into_iter().flatten().map(|(value, _)| value).collect())
    }

    /// The same values as tract wants them.
    pub(super) fn values(&self, extents: &[i64]) -> SymbolValues {
        let mut values = SymbolValues::default();
        for (symbol, extent) in self.symbols.iter().zip(extents) {
            values.set(symbol, *extent);
        }
        values
    }
}
