//! Walks inputs of different shapes together, as ONNX repeats those that have one element along an axis.

use tract_onnx::prelude::TVec;

/// An inner run shorter than this is not worth a loop of its own.
const SHORT: usize = 64;

/// Several inputs, each with its elements in order, that are walked in the order of the output.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::tract) struct Broadcast<const N: usize> {
    shape: TVec<usize>,
    /// From the outermost to the innermost, at least one. Axes along which every input goes on as before are joined.
    axes: TVec<Axis<N>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Axis<const N: usize> {
    extent: usize,
    /// How many elements of each input lie from one step to the next.
    strides: [usize; N],
}

impl<const N: usize> Broadcast<N> {
    /// None where the shapes do not fit each other, or have different numbers of dimensions.
    pub(in crate::tract) fn new(shapes: [&[usize]; N]) -> Option<Broadcast<N>> {
        let rank = shapes.first()?.len();
        if shapes.iter().any(|shape| shape.len() != rank) {
            return None;
        }
        let mut axes: TVec<Axis<N>> = TVec::new();
        let mut shape: TVec<usize> = TVec::from_elem(1, rank);
        let mut sizes = [1; N];
        for position in (0..rank).rev() {
            let extents = shapes.map(|shape| shape[position]);
            let extent = extents.iter().copied().find(|extent| *extent != 1).unwrap_or(1);
            if extents.iter().any(|other| *other != extent && *other != 1) {
                return None;
            }
            shape[position] = extent;
            let strides = std::array::from_fn(|input| if extents[input] == 1 { 0 } else { sizes[input] });
            sizes = std::array::from_fn(|input| sizes[input] * extents[input]);
            if extent == 1 {
                continue;
            }
            match axes.last_mut() {
                Some(inner) if inner.continues(strides) => inner.extent *= extent,
                _ => axes.push(Axis { extent, strides }),
            }
        }
        if axes.is_empty() {
            axes.push(Axis { extent: 1, strides: [1; N] });
        }
        axes.reverse();
        Some(Broadcast { shape, axes })
    }

    /// The extents of the output.
    pub(in crate::tract) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Hands over where each input's elements begin, for every run along the innermost axis in the order of the output.
    #[inline(always)]
    fn for_each_run(&self, mut run: impl FnMut([usize; N])) {
        let outer = &self.axes[..self.axes.len() - 1];
        let Some((second, outer)) = outer.split_last() else { return run([0; N]) };
        let mut places: TVec<usize> = TVec::from_elem(0, outer.len());
        if self.shape.contains(&0) {
            return;
        }
        loop {
            let mut at: [usize; N] = std::array::from_fn(|input| {
                places.iter().zip(outer).map(|(place, axis)| place * axis.strides[input]).sum()
            });
            for _ in 0..second.extent {
                run(at);
                at = std::array::from_fn(|input| at[input] + second.strides[input]);
            }
            let Some(turning) = (0..outer.len()).rev().find(|axis| places[*axis] + 1 < outer[*axis].extent)
            else {
                return;
            };
            places[turning] += 1;
            places[turning + 1..].fill(0);
        }
    }

    fn inner(&self) -> Axis<N> {
        self.axes[self.axes.len() - 1]
    }
}

impl<const N: usize> Axis<N> {
    /// Whether an axis outside of this one, with these strides, goes on where this one ends, in every input.
    fn continues(&self, strides: [usize; N]) -> bool {
        let goes_on = |(own, outer): (usize, usize)| outer == own * self.extent;
        self.strides.into_iter().zip(strides).all(goes_on)
    }
}

impl Broadcast<2> {
    /// Makes each element of the output of one of each input. `output` has as many as the shape says.
    #[inline(always)]
    pub(in crate::tract) fn zip<A: Copy, B: Copy, C>(
        &self,
        a: &[A],
        b: &[B],
        output: &mut [C],
        of: impl Fn(A, B) -> C,
    ) {
        if output.is_empty() {
            return;
        }
        let Axis { extent, strides } = self.inner();
        if let Some(one) = self.one_row(extent) {
            // Rows against the same short row: that one is repeated, so that several rows are one run.
            match one {
                Row::Second => {
                    let row = b[..extent].repeat(SHORT.div_ceil(extent));
                    for (output, a) in output.chunks_mut(row.len()).zip(a.chunks(row.len())) {
                        output.iter_mut().zip(a).zip(&row).for_each(|((output, a), b)| *output = of(*a, *b));
                    }
                }
                Row::First => {
                    let row = a[..extent].repeat(SHORT.div_ceil(extent));
                    for (output, b) in output.chunks_mut(row.len()).zip(b.chunks(row.len())) {
                        output.iter_mut().zip(&row).zip(b).for_each(|((output, a), b)| *output = of(*a, *b));
                    }
                }
            }
            return;
        }
        let mut outputs = output.chunks_exact_mut(extent.max(1));
        self.for_each_run(|[a_start, b_start]| {
            let Some(output) = outputs.next() else { return };
            match strides {
                [0, _] => {
                    let a = a[a_start];
                    output.iter_mut().zip(&b[b_start..]).for_each(|(output, b)| *output = of(a, *b));
                }
                [_, 0] => {
                    let b = b[b_start];
                    output.iter_mut().zip(&a[a_start..]).for_each(|(output, a)| *output = of(*a, b));
                }
                _ => {
                    let inputs = a[a_start..].iter().zip(&b[b_start..]);
                    output.iter_mut().zip(inputs).for_each(|(output, (a, b))| *output = of(*a, *b));
                }
            }
        });
    }

    /// Which input is one short row that meets every row of the other.
    fn one_row(&self, extent: usize) -> Option<Row> {
        let [rows, _] = *self.axes else { return None };
        if extent >= SHORT {
            return None;
        }
        match (rows.strides, self.inner().strides) {
            ([stride, 0], [1, 1]) if stride == extent => Some(Row::Second),
            ([0, stride], [1, 1]) if stride == extent => Some(Row::First),
            _ => None,
        }
    }
}

enum Row {
    First,
    Second,
}

impl Broadcast<3> {
    /// Hands over which elements of the inputs belong to each element of the output, in order.
    #[inline(always)]
    pub(in crate::tract) fn for_each(&self, mut each: impl FnMut([usize; 3])) {
        let Axis { extent, strides } = self.inner();
        self.for_each_run(|starts| {
            for step in 0..extent {
                each(std::array::from_fn(|input| starts[input] + step * strides[input]));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tract_onnx::prelude::tract_ndarray::ArrayD;

    use super::*;

    /// Shapes of which each can be repeated to the same one.
    fn shapes() -> impl Strategy<Value = (Vec<usize>, Vec<usize>)> {
        let axis = prop_oneof![
            (0_usize..5).prop_map(|extent| (extent, extent)),
            (0_usize..5).prop_map(|extent| (extent, 1)),
            (0_usize..70).prop_map(|extent| (1, extent)),
        ];
        prop::collection::vec(axis, 0..5).prop_map(|axes| axes.into_iter().unzip())
    }

    proptest! {
        #[test]
        fn elements_meet_as_ndarray_lets_them((a, b) in shapes()) {
            let broadcast = Broadcast::new([&a, &b]).unwrap();
            let numbers = |shape: &[usize]| -> Vec<i64> { (0..shape.iter().product::<usize>() as i64).collect() };
            let mut output = vec![-1; broadcast.shape().iter().product()];
            broadcast.zip(&numbers(&a), &numbers(&b), &mut output, |a, b| 1000 * a + b);
            let full = |shape: &[usize]| {
                ArrayD::from_shape_vec(shape, numbers(shape)).unwrap().broadcast(broadcast.shape()).unwrap().to_owned()
            };
            let expected: Vec<i64> = full(&a).iter().zip(&full(&b)).map(|(a, b)| 1000 * a + b).collect();
            prop_assert_eq!(output, expected);
        }
    }

    #[test]
    fn what_does_not_fit_is_no_broadcast() {
        assert_eq!(Broadcast::new([&[2, 3], &[2, 4]]), None);
        assert_eq!(Broadcast::new([&[2, 3], &[3]]), None);
    }
}
