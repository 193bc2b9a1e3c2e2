//! The free extents of a graph's inputs as the symbols that tract has for them.

use modelhost_core::{Tensor, TensorDescription};
use tract_onnx::prelude::{Symbol, SymbolValues};

use crate::engine::RunError;
use crate::extents::FreeExtents;

/// The symbols, and where they stand.
pub(super) struct InputSymbols {
    extents: FreeExtents,
    /// Each once, in the order of its first place.
    symbols: Vec<Symbol>,
}

impl InputSymbols {
    /// `dimensions` are those of all inputs: the symbol where an extent is free.
    pub(super) fn new(dimensions: &[Vec<Option<Symbol>>]) -> InputSymbols {
        let (extents, symbols) = FreeExtents::new(dimensions);
        InputSymbols { extents, symbols }
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
        self.extents.bind(descriptions, inputs)
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
