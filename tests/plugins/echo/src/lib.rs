//! Answers every tensor as it came: one of each datatype that JSON can express, and a scalar.

use modelhost_guest::{ANY, Datatype, Error, Plugin, Request, Response, Signature};

modelhost_guest::export!(Echo);

struct Echo;

const DATATYPES: [Datatype; 12] = [
    Datatype::Bool,
    Datatype::Uint8,
    Datatype::Uint16,
    Datatype::Uint32,
    Datatype::Uint64,
    Datatype::Int8,
    Datatype::Int16,
    Datatype::Int32,
    Datatype::Int64,
    Datatype::Fp32,
    Datatype::Fp64,
    Datatype::Bytes,
];

impl Plugin for Echo {
    fn signature() -> Result<Signature, Error> {
        let tables = DATATYPES.into_iter().fold(Signature::new(), |signature, datatype| {
            let name = datatype.to_string();
            signature.input(name.clone(), datatype, [ANY, ANY]).output(name, datatype, [ANY, ANY])
        });
        Ok(tables.input("scalar", Datatype::Fp64, []).output("scalar", Datatype::Fp64, []))
    }

    fn predict(request: Request) -> Result<Response, Error> {
        Ok(Response::new(request.into_inputs()))
    }
}
