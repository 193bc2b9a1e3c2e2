//! Answers that the signature, which promises `y` of FP32 with one dimension, does not allow.

use modelhost_guest::{Error, Response, Tensor};

/// The broken answer of that name.
pub fn broken(behaviour: &str, amount: usize) -> Result<Response, Error> {
    let y = || Tensor::column([1_f32]);
    Ok(match behaviour {
        "wrong-shape" => Response::new([("y", Tensor::new([1, 1], [1_f32])?)]),
        "wrong-name" => Response::new([("z", y())]),
        "wrong-datatype" => Response::new([("y", Tensor::column([1_f64]))]),
        "no-output" => Response::default(),
        "one-output-too-many" => Response::new([("y", y()), ("z", y())]),
        "same-output-twice" => Response::new([("y", y()), ("y", y())]),
        "not-a-number" => Response::new([("y", Tensor::column([1_f32, f32::NAN]))]),
        // Four bytes each.
        "huge-output" => Response::new([("y", Tensor::column(vec![1_f32; amount / 4]))]),
        other => return Err(Error::invalid_input(format!("no behaviour is called {other:?}"))),
    })
}
