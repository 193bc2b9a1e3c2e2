//! Operators that look values up in a table: LabelEncoder, CategoryMapper and OneHotEncoder.

use std::cmp::Ordering;
use std::fmt::Debug;
use std::sync::Arc;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{NodeProto, TensorProto};
use tract_onnx::prelude::{Datum, DatumType, TDim, TValue, TVec, TractResult, Tensor};
use tract_onnx::tract_core::internal::{bail, ensure, format_err, tvec};

use super::operator::{Built, Described, KeptAxes, Operator, built};
use super::values::{self, expect_type};
use super::attributes;

/// A key of a table. NaN is a key like others.
trait Key: Datum + Clone + Debug {
    fn order(&self, other: &Self) -> Ordering;
}

impl Key for i64 {
    fn order(&self, other: &i64) -> Ordering {
        self.cmp(other)
    }
}

impl Key for String {
    fn order(&self, other: &String) -> Ordering {
        self.cmp(other)
    }
}

macro_rules! float_key {
    ($float:ty) => {
        impl Key for $float {
            fn order(&self, other: &$float) -> Ordering {
                // All NaN are one key, and so are both zeros.
                let by_value = self.partial_cmp(other);
                by_value.unwrap_or_else(|| self.is_nan().cmp(&other.is_nan()))
            }
        }
    };
}

float_key!(f32);
float_key!(f64);

/// Places by key, found by halving: hostile keys cost as much as others.
#[derive(Clone, Debug)]
struct Places<K>(Vec<(K, usize)>);

impl<K: Key> Places<K> {
    /// Of equal keys the first one counts.
    fn of_first(keys: Vec<K>) -> Places<K> {
        let mut places: Vec<(K, usize)> = keys.into_iter().enumerate().map(|(place, key)| (key, place)).collect();
        places.sort_by(|a, b| a.0.order(&b.0));
        places.dedup_by(|later, first| later.0.order(&first.0).is_eq());
        Places(places)
    }

    /// Of equal keys the last one counts.
    fn of_last(keys: Vec<K>) -> Places<K> {
        let last = keys.len().saturating_sub(1);
        let mut places = Places::of_first(keys.into_iter().rev().collect());
        places.0.iter_mut().for_each(|(_, place)| *place = last - *place);
        places
    }

    fn find(&self, key: &K) -> Option<usize> {
        let found = self.0.binary_search_by(|(other, _)| other.order(key)).ok()?;
        Some(self.0[found].1)
    }
}

/// One value for each key, and one for all others. Elements keep their place.
#[derive(Clone, Debug)]
struct Table<K, V> {
    name: &'static str,
    places: Places<K>,
    values: Vec<V>,
    default: V,
}

impl<K: Key, V: Datum + Clone> Operator for Table<K, V> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn outputs(&self, inputs: &[Described]) -> TractResult<TVec<Described>> {
        let [input] = inputs else { bail!("{} takes one input", self.name) };
        expect_type(self.name, input, &[K::datum_type()])?;
        Ok(tvec!(Described { datum_type: V::datum_type(), ..input.clone() }))
    }

    fn kept_axes(&self, _inputs: &[Described]) -> KeptAxes {
        KeptAxes::All
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let value = |key: &K| self.places.find(key).map_or(&self.default, |place| &self.values[place]).clone();
        let output = values::elements::<K>(&inputs[0])?.iter().map(value).collect();
        Ok(tvec!(values::tensor(inputs[0].shape(), output)?))
    }
}

/// A list in one of the attributes that LabelEncoder has for its keys and for its values.
#[derive(Clone, Debug)]
enum List {
    Texts(Vec<String>),
    Integers(Vec<i64>),
    Floats(Vec<f32>),
    Doubles(Vec<f64>),
}

impl List {
    fn len(&self) -> usize {
        match self {
            List::Texts(list) => list.len(),
            List::Integers(list) => list.len(),
            List::Floats(list) => list.len(),
            List::Doubles(list) => list.len(),
        }
    }

    fn of(tensor: &Tensor) -> TractResult<List> {
        Ok(match tensor.datum_type() {
            DatumType::String => List::Texts(values::elements::<String>(tensor)?.to_vec()),
            DatumType::I64 => List::Integers(values::elements::<i64>(tensor)?.to_vec()),
            DatumType::F32 => List::Floats(values::elements::<f32>(tensor)?.to_vec()),
            DatumType::F64 => List::Doubles(values::elements::<f64>(tensor)?.to_vec()),
            // ONNX Runtime has values of this type for texts only, and they count as numbers there.
            other => bail!("expected texts, INT64, FP32 or FP64, got {other:?}"),
        })
    }

    fn read(context: &ParsingContext<'_>, node: &NodeProto, role: &str) -> TractResult<Option<List>> {
        let name = format!("{role}_tensor");
        if let Some(proto) = node.get_attr_opt::<&TensorProto>(&name)? {
            let list = context.load_tensor(proto).and_then(|tensor| List::of(&tensor));
            return list.map(Some).or_else(|error| node.bail_attr(&name, &error.to_string()));
        }
        let texts = attributes::texts(node, &format!("{role}_strings"))?;
        let integers = attributes::integers(node, &format!("{role}_int64s"))?;
        let floats = attributes::floats(node, &format!("{role}_floats"))?;
        let given = [!texts.is_empty(), !integers.is_empty(), !floats.is_empty()];
        node.expect(given.iter().filter(|given| **given).count() <= 1, || format!("only one list of '{role}'"))?;
        Ok(match given {
            [true, _, _] => Some(List::Texts(texts)),
            [_, true, _] => Some(List::Integers(integers.to_vec())),
            [_, _, true] => Some(List::Floats(floats.to_vec())),
            _ => None,
        })
    }
}

pub(super) fn label_encoder(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let classes = attributes::texts(node, "classes_strings")?;
    if !classes.is_empty() {
        return by_class(node, "LabelEncoder", classes, None);
    }
    let keys = List::read(context, node, "keys")?;
    let values = List::read(context, node, "values")?;
    let (Some(keys), Some(values)) = (keys, values) else { return node.bail("expected a list of keys and one of values") };
    node.expect(keys.len() == values.len(), || format!("as many values as keys, got {} and {}", values.len(), keys.len()))?;
    match keys {
        List::Texts(keys) => with_keys(context, node, keys, values),
        List::Integers(keys) => with_keys(context, node, keys, values),
        List::Floats(keys) => with_keys(context, node, keys, values),
        List::Doubles(keys) => with_keys(context, node, keys, values),
    }
}

fn with_keys<K: Key>(context: &ParsingContext<'_>, node: &NodeProto, keys: Vec<K>, values: List) -> Built {
    let places = Places::of_first(keys);
    let name = "LabelEncoder";
    match values {
        List::Texts(values) => {
            let text = attributes::text(node, "default_string", "_Unused")?;
            let default = default_tensor(context, node)?.unwrap_or(text);
            built(node, Table { name, places, values, default })
        }
        List::Integers(values) => {
            let integer = attributes::integer(node, "default_int64", -1)?;
            let default = default_tensor(context, node)?.unwrap_or(integer);
            built(node, Table { name, places, values, default })
        }
        List::Floats(values) => {
            let float = node.get_attr_opt::<f32>("default_float")?.unwrap_or(-0.0);
            let default = default_tensor(context, node)?.unwrap_or(float);
            built(node, Table { name, places, values, default })
        }
        List::Doubles(values) => {
            let float = node.get_attr_opt::<f32>("default_float")?.unwrap_or(-0.0);
            let default = default_tensor(context, node)?.unwrap_or(f64::from(float));
            built(node, Table { name, places, values, default })
        }
    }
}

fn default_tensor<V: Datum + Clone>(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Option<V>> {
    let Some(values) = attributes::tensor::<V>(context, node, "default_tensor")? else { return Ok(None) };
    match <[V; 1]>::try_from(values) {
        Ok([value]) => Ok(Some(value)),
        Err(_) => node.bail_attr("default_tensor", "expected one value"),
    }
}

pub(super) fn category_mapper(_context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let texts = attributes::texts(node, "cats_strings")?;
    let numbers = attributes::integers(node, "cats_int64s")?.to_vec();
    node.expect(texts.len() == numbers.len(), "as many 'cats_int64s' as 'cats_strings'")?;
    by_class(node, "CategoryMapper", texts, Some(numbers))
}

/// Texts to numbers or numbers to texts, whichever the input is. Without numbers each text has that of its place.
fn by_class(node: &NodeProto, name: &'static str, texts: Vec<String>, numbers: Option<Vec<i64>>) -> Built {
    let numbers = numbers.unwrap_or_else(|| (0..texts.len() as i64).collect());
    let to_numbers = Table {
        name,
        places: Places::of_last(texts.clone()),
        values: numbers.clone(),
        default: attributes::integer(node, "default_int64", -1)?,
    };
    let to_texts = Table {
        name,
        places: Places::of_last(numbers),
        values: texts,
        default: attributes::text(node, "default_string", "_Unused")?,
    };
    built(node, EitherWay { to_numbers: Arc::new(to_numbers), to_texts: Arc::new(to_texts) })
}

#[derive(Clone, Debug)]
struct EitherWay {
    to_numbers: Arc<Table<String, i64>>,
    to_texts: Arc<Table<i64, String>>,
}

impl EitherWay {
    fn of(&self, input: DatumType) -> &dyn Operator {
        if input == DatumType::String { &*self.to_numbers } else { &*self.to_texts }
    }
}

impl Operator for EitherWay {
    fn name(&self) -> &'static str {
        self.to_texts.name
    }

    fn outputs(&self, inputs: &[Described]) -> TractResult<TVec<Described>> {
        let input = inputs.first().ok_or_else(|| format_err!("{} takes one input", self.to_texts.name))?;
        self.of(input.datum_type).outputs(inputs)
    }

    fn kept_axes(&self, _inputs: &[Described]) -> KeptAxes {
        KeptAxes::All
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        self.of(inputs[0].datum_type()).run(inputs)
    }
}

pub(super) fn one_hot_encoder(_context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let texts = attributes::texts(node, "cats_strings")?;
    let numbers = attributes::integers(node, "cats_int64s")?.to_vec();
    node.expect_attr("cats_int64s", texts.is_empty() != numbers.is_empty(), "categories either here or in 'cats_strings'")?;
    let categories = texts.len().max(numbers.len());
    let may_be_unknown = attributes::integer(node, "zeros", 1)? != 0;
    let (texts, numbers) = (Places::of_last(texts), Places::of_last(numbers));
    built(node, OneHotEncoder(Arc::new(OneHotParts { texts, numbers, categories, may_be_unknown })))
}

#[derive(Debug)]
struct OneHotParts {
    texts: Places<String>,
    numbers: Places<i64>,
    categories: usize,
    /// Whether a value that is no category gives zeros; otherwise it is an error.
    may_be_unknown: bool,
}

#[derive(Clone, Debug)]
struct OneHotEncoder(Arc<OneHotParts>);

impl Operator for OneHotEncoder {
    fn name(&self) -> &'static str {
        "OneHotEncoder"
    }

    fn outputs(&self, inputs: &[Described]) -> TractResult<TVec<Described>> {
        let [input] = inputs else { bail!("OneHotEncoder takes one input") };
        let is_text = !self.0.texts.0.is_empty();
        let accepted: &[DatumType] = if is_text { &[DatumType::String] } else { &values::NUMBERS };
        expect_type("OneHotEncoder", input, accepted)?;
        ensure!(input.shape.len() <= 2, "OneHotEncoder takes an input of at most two dimensions");
        let shape = input.shape.iter().cloned().chain([TDim::from(self.0.categories)]);
        Ok(tvec!(Described::new(DatumType::F32, shape)))
    }

    fn kept_axes(&self, inputs: &[Described]) -> KeptAxes {
        KeptAxes::Leading(inputs[0].shape.len())
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = &inputs[0];
        let categories = &self.0;
        let mut output = vec![0.0_f32; input.len() * categories.categories];
        let mut set = |index: usize, place: Option<usize>| match place {
            Some(place) => {
                output[index * categories.categories + place] = 1.0;
                Ok(())
            }
            None if categories.may_be_unknown => Ok(()),
            None => bail!("OneHotEncoder: element {index} of the input is no known category"),
        };
        // Numbers of all types are looked up as whole ones; beyond their range they are the largest or smallest.
        let mut set_number = |index: usize, number: i64| set(index, categories.numbers.find(&number));
        match input.datum_type() {
            DatumType::String => {
                let texts = values::elements::<String>(input)?.iter().enumerate();
                for (index, text) in texts {
                    set(index, categories.texts.find(text))?;
                }
            }
            DatumType::I64 => {
                let numbers = values::elements::<i64>(input)?.iter().enumerate();
                numbers.map(|(index, number)| set_number(index, *number)).collect::<TractResult<()>>()?;
            }
            DatumType::F64 => {
                let numbers = values::elements::<f64>(input)?.iter().enumerate();
                numbers.map(|(index, number)| set_number(index, *number as i64)).collect::<TractResult<()>>()?;
            }
            _ => {
                let numbers = values::floats(input)?;
                let numbers = numbers.iter().enumerate();
                numbers.map(|(index, number)| set_number(index, *number as i64)).collect::<TractResult<()>>()?;
            }
        }
        let shape: Vec<usize> = input.shape().iter().copied().chain([categories.categories]).collect();
        Ok(tvec!(values::tensor(&shape, output)?))
    }
}
