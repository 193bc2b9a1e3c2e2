//! The extension "classification": an output of scores becomes the best classes of each row, as texts. A pure function of
//! tensors; which outputs it is asked for, and whether a model's tensors come in batches, is for others to say.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fmt::Display;
use std::io::Write as _;

use half::{bf16, f16};
use modelhost_core::{Datatype, InvalidTensor, Tensor};

/// More classes in one answer are refused: each takes some ten times the memory of its score.
const MAX_CLASSES: u64 = 1 << 20;

/// Why an output cannot be given as classes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClassificationError {
    /// Texts have no order of rank.
    #[error("datatype BYTES has no scores to classify by")]
    NoScores,
    /// More than anybody reads.
    #[error("{rows} rows of {classes} classes were asked for: at most {MAX_CLASSES} classes in one output")]
    TooMany {
        /// Rows of the output.
        rows: u64,
        /// Classes of each.
        classes: u64,
    },
    /// Texts that do not fit into a tensor.
    #[error(transparent)]
    Tensor(#[from] InvalidTensor),
}

/// The best `count` classes of each row, best first, as BYTES of `score:index`; of classes with the same score the one
/// with the lower index first, and what is not a number last. Where a row has fewer classes, all of them.
///
/// With `is_batched` the first dimension counts rows, and the shape becomes `[rows, classes]`; without, the whole tensor
/// is one row, and the shape becomes `[classes]`. All other dimensions are one list of classes.
///
/// # Errors
/// [`ClassificationError`].
pub fn classify(scores: &Tensor, count: u32, is_batched: bool) -> Result<Tensor, ClassificationError> {
    let elements = scores.elements() as u64;
    let rows = if is_batched { scores.shape().first().copied().unwrap_or(1) } else { 1 };
    let classes = elements.checked_div(rows).unwrap_or(0);
    let best = classes.min(count.into());
    if rows.checked_mul(best).is_none_or(|all| all > MAX_CLASSES) {
        return Err(ClassificationError::TooMany { rows, classes: best });
    }
    let texts = texts(scores.datatype(), scores.data(), classes as usize, best as usize)?;
    let shape = if is_batched { vec![rows, best] } else { vec![best] };
    Ok(Tensor::new(Datatype::Bytes, shape, texts.into())?)
}

fn texts(
    datatype: Datatype,
    data: &[u8],
    classes: usize,
    best: usize,
) -> Result<Vec<u8>, ClassificationError> {
    let of = match datatype {
        Datatype::Bool | Datatype::Uint8 => texts_of::<u8, 1>,
        Datatype::Uint16 => texts_of::<u16, 2>,
        Datatype::Uint32 => texts_of::<u32, 4>,
        Datatype::Uint64 => texts_of::<u64, 8>,
        Datatype::Int8 => texts_of::<i8, 1>,
        Datatype::Int16 => texts_of::<i16, 2>,
        Datatype::Int32 => texts_of::<i32, 4>,
        Datatype::Int64 => texts_of::<i64, 8>,
        Datatype::Fp16 => texts_of::<f16, 2>,
        Datatype::Bf16 => texts_of::<bf16, 2>,
        Datatype::Fp32 => texts_of::<f32, 4>,
        Datatype::Fp64 => texts_of::<f64, 8>,
        Datatype::Bytes => return Err(ClassificationError::NoScores),
    };
    Ok(of(data, classes, best))
}

/// The elements of a BYTES tensor, in its layout.
fn texts_of<T: Score<SIZE>, const SIZE: usize>(data: &[u8], classes: usize, best: usize) -> Vec<u8> {
    let mut texts = Vec::new();
    if best == 0 {
        return texts;
    }
    let (elements, _) = data.as_chunks::<SIZE>();
    for row in elements.chunks(classes) {
        for class in best_of::<T, SIZE>(row, best) {
            push_text(&mut texts, class);
        }
    }
    texts
}

fn push_text<T: Score<SIZE>, const SIZE: usize>(texts: &mut Vec<u8>, class: Class<T, SIZE>) {
    let start = texts.len();
    texts.extend([0; 4]);
    // Writing into memory does not fail.
    let _ = write!(texts, "{}:{}", class.score.shown(), class.index);
    let length = u32::try_from(texts.len() - start - 4).unwrap_or(u32::MAX);
    texts[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Best first. Holds no more than it gives back.
fn best_of<T: Score<SIZE>, const SIZE: usize>(row: &[[u8; SIZE]], best: usize) -> Vec<Class<T, SIZE>> {
    let mut heap: BinaryHeap<Reverse<Class<T, SIZE>>> = BinaryHeap::with_capacity(best);
    for (index, bytes) in row.iter().enumerate() {
        let class = Reverse(Class { score: T::read(*bytes), index });
        if heap.len() < best {
            heap.push(class);
        } else if let Some(mut worst) = heap.peek_mut()
            && class < *worst
        {
            *worst = class;
        }
    }
    heap.into_sorted_vec().into_iter().map(|Reverse(class)| class).collect()
}

/// The greater of two classes is the better one.
#[derive(Clone, Copy)]
struct Class<T, const SIZE: usize> {
    score: T,
    index: usize,
}

impl<T: Score<SIZE>, const SIZE: usize> Ord for Class<T, SIZE> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.rank(other.score).then(other.index.cmp(&self.index))
    }
}

impl<T: Score<SIZE>, const SIZE: usize> PartialOrd for Class<T, SIZE> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Score<SIZE>, const SIZE: usize> PartialEq for Class<T, SIZE> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T: Score<SIZE>, const SIZE: usize> Eq for Class<T, SIZE> {}

/// An element that classes are ranked by.
trait Score<const SIZE: usize>: Copy {
    fn read(bytes: [u8; SIZE]) -> Self;
    /// The greater one is the better; what is not a number is the worst.
    fn rank(self, other: Self) -> Ordering;
    /// As short as it can be read back.
    fn shown(self) -> impl Display;
}

macro_rules! whole {
    ($($element:ty, $size:literal;)*) => {$(
        impl Score<$size> for $element {
            fn read(bytes: [u8; $size]) -> $element {
                <$element>::from_le_bytes(bytes)
            }

            fn rank(self, other: $element) -> Ordering {
                self.cmp(&other)
            }

            fn shown(self) -> impl Display {
                self
            }
        }
    )*};
}

whole! { u8, 1; u16, 2; u32, 4; u64, 8; i8, 1; i16, 2; i32, 4; i64, 8; }

macro_rules! floating {
    ($($element:ty, $size:literal, $shown_as:ty;)*) => {$(
        impl Score<$size> for $element {
            fn read(bytes: [u8; $size]) -> $element {
                <$element>::from_le_bytes(bytes)
            }

            fn rank(self, other: $element) -> Ordering {
                let both = self.partial_cmp(&other);
                both.unwrap_or_else(|| other.is_nan().cmp(&self.is_nan()))
            }

            fn shown(self) -> impl Display {
                Shortest(<$shown_as>::from(self))
            }
        }
    )*};
}

floating! { f16, 2, f32; bf16, 2, f32; f32, 4, f32; f64, 8, f64; }

/// A floating-point number with an exponent where it would otherwise have hundreds of digits.
struct Shortest<T>(T);

impl<T: std::fmt::Debug> Display for Shortest<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fp32(shape: &[u64], values: &[f32]) -> Tensor {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor::new(Datatype::Fp32, shape.to_vec(), data.into()).unwrap()
    }

    fn shown(tensor: &Tensor) -> Vec<String> {
        tensor.bytes_elements().map(|text| String::from_utf8(text.to_vec()).unwrap()).collect()
    }

    fn classes(tensor: &Tensor, count: u32, is_batched: bool) -> (Vec<u64>, Vec<String>) {
        let classified = classify(tensor, count, is_batched).unwrap();
        (classified.shape().to_vec(), shown(&classified))
    }

    #[test]
    fn each_row_has_its_best_classes() {
        let scores = fp32(&[2, 3], &[0.1, 0.7, 0.2, 5.0, -1.0, 5.0]);
        let expected = ["0.7:1", "0.2:2", "5.0:0", "5.0:2"].map(str::to_owned).to_vec();
        assert_eq!(classes(&scores, 2, true), (vec![2, 2], expected));
        assert_eq!(classes(&scores, 1, false), (vec![1], vec!["5.0:3".to_owned()]));
    }

    #[test]
    fn more_than_there_are_is_all_of_them_and_nan_is_last() {
        let scores = fp32(&[3], &[f32::NAN, f32::NEG_INFINITY, f32::INFINITY]);
        let expected = ["inf:2", "-inf:1", "NaN:0"].map(str::to_owned).to_vec();
        assert_eq!(classes(&scores, u32::MAX, false), (vec![3], expected));
        assert_eq!(classes(&scores, 2, true).0, [3, 1]);
    }

    #[test]
    fn nothing_has_no_classes() {
        for (shape, expected) in [(vec![0, 3], vec![0, 0]), (vec![2, 0], vec![2, 0]), (vec![0], vec![0, 0])] {
            assert_eq!(classes(&fp32(&shape, &[]), 2, true), (expected, vec![]), "{shape:?}");
        }
        assert_eq!(classes(&fp32(&[], &[1.5]), 2, true), (vec![1, 1], vec!["1.5:0".to_owned()]));
    }

    #[test]
    fn every_datatype_but_bytes_has_scores() {
        let one_and_two: [(Datatype, Vec<u8>, &str); 13] = [
            (Datatype::Bool, vec![0, 1], "1:1"),
            (Datatype::Uint8, vec![254, 255], "255:1"),
            (Datatype::Uint16, [1_u16, 65_535].map(u16::to_le_bytes).concat(), "65535:1"),
            (Datatype::Uint32, [1_u32, u32::MAX].map(u32::to_le_bytes).concat(), "4294967295:1"),
            (Datatype::Uint64, [1_u64, u64::MAX].map(u64::to_le_bytes).concat(), "18446744073709551615:1"),
            (Datatype::Int8, vec![0x80, 0xff], "-1:1"),
            (Datatype::Int16, [-5_i16, -4].map(i16::to_le_bytes).concat(), "-4:1"),
            (Datatype::Int32, [-5_i32, 4].map(i32::to_le_bytes).concat(), "4:1"),
            (
                Datatype::Int64,
                [i64::MAX - 1, i64::MAX].map(i64::to_le_bytes).concat(),
                "9223372036854775807:1",
            ),
            (Datatype::Fp16, [0x3c00_u16, 0x4000].map(u16::to_le_bytes).concat(), "2.0:1"),
            (Datatype::Bf16, [0x3f80_u16, 0x4000].map(u16::to_le_bytes).concat(), "2.0:1"),
            (Datatype::Fp32, [1e-9_f32, 1.5].map(f32::to_le_bytes).concat(), "1.5:1"),
            (Datatype::Fp64, [-1.0_f64, 1e300].map(f64::to_le_bytes).concat(), "1e300:1"),
        ];
        for (datatype, data, expected) in one_and_two {
            let tensor = Tensor::new(datatype, vec![2], data.into()).unwrap();
            assert_eq!(classes(&tensor, 1, false).1, [expected], "{datatype}");
        }
        let texts = Tensor::from_bytes_elements(vec![1], &["a"]).unwrap();
        assert_eq!(classify(&texts, 1, false).unwrap_err(), ClassificationError::NoScores);
    }

    #[test]
    fn too_much_is_refused() {
        let many = Tensor::new(Datatype::Int8, vec![2, MAX_CLASSES], vec![0; 2 << 20].into()).unwrap();
        let sentence = classify(&many, u32::MAX, true).unwrap_err().to_string();
        assert!(sentence.contains("at most 1048576 classes"), "{sentence}");
        assert_eq!(classify(&many, 3, true).unwrap().shape(), [2, 3]);
    }

    proptest! {
        #[test]
        fn it_is_what_sorting_gives(values in prop::collection::vec(any::<f32>(), 1..40), count in 0_u32..50) {
            let (_, texts) = classes(&fp32(&[values.len() as u64], &values), count, false);
            let mut sorted: Vec<usize> = (0..values.len()).collect();
            let key = |index: &usize| (values[*index].is_nan(), *index);
            sorted.sort_by(|one, other| {
                values[*other].partial_cmp(&values[*one]).unwrap_or(Ordering::Equal).then(Ordering::Equal)
            });
            if values.iter().all(|value| !value.is_nan()) {
                let expected: Vec<String> = sorted
                    .iter()
                    .take(count as usize)
                    .map(|index| format!("{:?}:{index}", values[*index]))
                    .collect();
                prop_assert_eq!(texts, expected);
            } else {
                let index = |text: &String| text.rsplit(':').next().and_then(|index| index.parse().ok()).unwrap();
                let are_nan: Vec<bool> = texts.iter().map(|text| key(&index(text)).0).collect();
                prop_assert!(are_nan.is_sorted(), "{texts:?}");
            }
        }

        #[test]
        fn any_bytes_have_classes(data in prop::collection::vec(any::<u8>(), 0..64), count in any::<u32>()) {
            for datatype in Datatype::ALL {
                let Some(size) = datatype.size() else { continue };
                let elements = data.len() / size;
                let data = data[..elements * size].to_vec();
                let Ok(tensor) = Tensor::new(datatype, vec![elements as u64], data.into()) else { continue };
                let classified = classify(&tensor, count, false).unwrap();
                prop_assert_eq!(classified.shape(), [(elements as u64).min(count.into())]);
            }
        }
    }
}
