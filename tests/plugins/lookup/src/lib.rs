//! Looks keys up in the table that the request names, and tells in words what came back: a line for the rows and one for
//! each column, or the refusal.

use modelhost_guest::{
    ANY, Datatype, Error, Key, Plugin, PredictedRows, PredictionTable, Request, Response, Signature, Tensor,
};

modelhost_guest::export!(Lookup);

struct Lookup;

impl Plugin for Lookup {
    fn signature() -> Result<Signature, Error> {
        Ok(Signature::new()
            .input("key", Datatype::Bytes, [ANY])
            .output("told", Datatype::Bytes, [ANY])
            .output("age_ms", Datatype::Int64, [ANY]))
    }

    fn predict(request: Request) -> Result<Response, Error> {
        let parameters = request.parameters();
        let table = PredictionTable::named(parameters.text("table")?.unwrap_or("t"));
        let is_integer = parameters.boolean("integers")?.unwrap_or(false);
        let columns = parameters.text("columns")?.unwrap_or_default();
        let keys = request.input("key")?.strings()?;
        let keys: Vec<Key> = keys.into_iter().map(|key| key_of(key, is_integer)).collect::<Result<_, _>>()?;
        let (age, told) = match table.look_up(keys.iter().cloned()) {
            Ok(rows) => (i64::try_from(rows.age().as_millis())?, tell(rows, keys.len(), columns)?),
            Err(error) => (-1, vec![format!("{:?}: {error}", error.refusal())]),
        };
        Ok(Response::new([("told", Tensor::string_column(told)?), ("age_ms", Tensor::column([age]))]))
    }
}

fn key_of(text: &str, is_integer: bool) -> Result<Key, Error> {
    Ok(if is_integer { Key::Integer(text.parse()?) } else { Key::Text(text.to_owned()) })
}

fn tell(mut rows: PredictedRows, keys: usize, columns: &str) -> Result<Vec<String>, Error> {
    let places: Vec<Option<usize>> = (0..keys).map(|key| rows.row(key)).collect();
    let mut told = vec![format!("version {} rows {places:?} stale {}", rows.version(), rows.is_stale())];
    for name in columns.split(',').filter(|name| !name.is_empty()) {
        let values = rows.take(name)?;
        let lengths: Vec<Option<usize>> = (0..rows.len()).map(|row| rows.list_length(name, row)).collect();
        let nulls: Vec<bool> = (0..rows.len()).map(|row| rows.is_null(name, row)).collect();
        let elements = elements(&values)?;
        let (datatype, shape) = (values.datatype(), values.shape());
        told.push(format!("{name} {datatype:?} {shape:?} {elements} lengths {lengths:?} nulls {nulls:?}"));
    }
    Ok(told)
}

fn elements(values: &Tensor) -> Result<String, Error> {
    Ok(match values.datatype() {
        Datatype::Bytes => format!("{:?}", values.strings()?),
        Datatype::Int64 => format!("{:?}", values.as_slice::<i64>()?),
        Datatype::Fp64 => format!("{:?}", values.as_slice::<f64>()?),
        Datatype::Bool => format!("{:?}", values.as_slice::<bool>()?),
        other => return Err(Error::internal(format!("no test has a column of {other:?}"))),
    })
}
