//! What is written is found, and nothing else; what is damaged is told.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use modelhost_core::TableKey;

use super::*;
use crate::Error;

fn rows(keys: ArrayRef, values: Vec<i64>) -> RecordBatch {
    let values: ArrayRef = Arc::new(Int64Array::from(values));
    RecordBatch::try_from_iter([("value", values), ("id", keys)]).unwrap()
}

fn written(batches: Vec<RecordBatch>, limits: Limits) -> Result<(Built, Bytes), Error> {
    let schema = batches[0].schema();
    let mut file = tempfile::tempfile().unwrap();
    let columns = Columns::new(&schema, "id")?;
    let built = build(&columns, batches.into_iter().map(Ok), &file, limits)?;
    let mut bytes = Vec::new();
    std::io::Seek::rewind(&mut file).unwrap();
    std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
    assert_eq!(built.bytes, bytes.len() as u64);
    Ok((built, bytes.into()))
}

fn value(table: &TableFile, key: TableKey) -> Option<i64> {
    let place = table.find(&key).unwrap()?;
    let rows = table.batch(place.batch).unwrap();
    Some(rows.column(1).as_primitive::<arrow::datatypes::Int64Type>().value(place.row))
}

#[test]
fn every_key_is_found_and_no_other() {
    let keys: Vec<i64> = (0..1_000).map(|number| number * 3 - 900).collect();
    let batches = keys.chunks(300).map(|keys| rows(Arc::new(Int64Array::from(keys.to_vec())), keys.to_vec()));
    let (built, bytes) = written(batches.collect(), Limits { rows: 7, bytes: 1 << 20 }).unwrap();
    assert_eq!((built.rows, built.columns), (1_000, vec![("value".to_owned(), "Int64".to_owned())]));
    let table = TableFile::of_bytes(bytes, built.checksum).unwrap();
    assert!(table.has_integer_keys());
    for key in -1_000..2_200 {
        let expected = keys.contains(&key).then_some(key);
        assert_eq!(value(&table, TableKey::Integer(key)), expected, "{key}");
    }
    assert_eq!(value(&table, TableKey::Text("0".into())), None);
    assert_eq!(value(&table, TableKey::Integer(i64::MIN)), None);
}

#[test]
fn texts_are_found_by_their_bytes() {
    let keys = ["", "Z", "a", "ab", "b", "zwölf", "é"];
    let batch = rows(Arc::new(StringArray::from(keys.to_vec())), (0..7).collect());
    let (built, bytes) = written(vec![batch], Limits { rows: 2, bytes: 1 << 20 }).unwrap();
    let table = TableFile::of_bytes(bytes, built.checksum).unwrap();
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(value(&table, TableKey::Text((*key).to_owned())), Some(number as i64), "{key}");
        assert_eq!(value(&table, TableKey::Text(format!("{key}\0"))), None, "{key}");
    }
    assert_eq!(value(&table, TableKey::Integer(7)), None);
}

#[test]
fn a_table_may_be_empty() {
    let batch = rows(Arc::new(Int64Array::from(Vec::<i64>::new())), vec![]);
    let (built, bytes) = written(vec![batch], Limits::default()).unwrap();
    let table = TableFile::of_bytes(bytes, built.checksum).unwrap();
    assert_eq!(value(&table, TableKey::Integer(0)), None);
    assert_eq!(built.rows, 0);
}

#[test]
fn a_key_is_there_once_whether_within_a_batch_or_between_two() {
    let batch = |keys: &[i64]| rows(Arc::new(Int64Array::from(keys.to_vec())), keys.to_vec());
    for batches in [vec![batch(&[1, 5, 5, 9])], vec![batch(&[1, 5]), batch(&[]), batch(&[5, 9])]] {
        let error = written(batches, Limits::default()).unwrap_err();
        assert_eq!(
            error.message,
            "key 5 is in more than one row of column \"id\": every key may be there once"
        );
    }
    let unsorted = written(vec![batch(&[2, 1])], Limits::default()).unwrap_err();
    assert_eq!(unsorted.code, modelhost_core::ErrorCode::Internal);
}

#[test]
fn damage_anywhere_is_an_error_and_never_another_answer() {
    let keys: Vec<i64> = (0..40).collect();
    let batch = rows(Arc::new(Int64Array::from(keys.clone())), keys.clone());
    let (built, bytes) = written(vec![batch], Limits { rows: 16, bytes: 1 << 20 }).unwrap();
    let look_up = |bytes: Vec<u8>| -> Result<Vec<Option<i64>>, String> {
        let table = TableFile::of_bytes(bytes.into(), built.checksum).map_err(|error| error.to_string())?;
        let find = |key: &i64| {
            let place = table.find(&TableKey::Integer(*key)).map_err(|error| error.to_string())?;
            let Some(place) = place else { return Ok(None) };
            let rows = table.batch(place.batch).map_err(|error| error.to_string())?;
            Ok(Some(rows.column(1).as_primitive::<arrow::datatypes::Int64Type>().value(place.row)))
        };
        keys.iter().map(find).collect()
    };
    let right: Vec<Option<i64>> = keys.iter().copied().map(Some).collect();
    assert_eq!(look_up(bytes.to_vec()).unwrap(), right);
    let mut told = 0;
    for place in 0..bytes.len() {
        let mut damaged = bytes.to_vec();
        damaged[place] ^= 0x41;
        match look_up(damaged) {
            Ok(found) => assert_eq!(found, right, "byte {place}"),
            Err(_) => told += 1,
        }
    }
    assert!(told > bytes.len() / 2, "{told} of {}", bytes.len());
    for length in 0..bytes.len() {
        assert!(look_up(bytes[..length].to_vec()).is_err(), "{length} bytes");
    }
}
