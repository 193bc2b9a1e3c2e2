//! Doubles a number for each row, unless the text of a row says what else is to happen: then the whole call fails in that
//! way, as a plugin does that looks at its rows together.

use modelhost_guest::{ANY, Datatype, Error, Plugin, Request, Response, Signature, Tensor};

modelhost_guest::export!(Selective);

struct Selective;

impl Plugin for Selective {
    fn signature() -> Result<Signature, Error> {
        Ok(Signature::new().input("x", Datatype::Fp32, [ANY]).input("text", Datatype::Bytes, [ANY]).output(
            "y",
            Datatype::Fp32,
            [ANY],
        ))
    }

    fn predict(request: Request) -> Result<Response, Error> {
        for text in request.input("text")?.strings()? {
            behave(text)?;
        }
        let x: &[f32] = request.input("x")?.as_slice()?;
        Ok(Response::new([("y", Tensor::column(x.iter().map(|x| 2.0 * x)))]))
    }
}

fn behave(text: &str) -> Result<(), Error> {
    match text {
        "invalid" => Err(Error::invalid_input("the plugin does not like it")),
        "internal" => Err(Error::internal("the plugin gave up")),
        "unavailable" => Err(Error::unavailable("the plugin is busy")),
        "trap" => panic!("as asked for"),
        "allocate" => {
            // Looked at, so that no compiler leaves it out.
            let memory = std::hint::black_box(vec![1_u8; 1 << 30]);
            Err(Error::internal(format!("{} bytes were to be had", memory.len())))
        }
        "loop" => loop {
            std::hint::spin_loop();
        },
        "sleep" => {
            std::thread::sleep(std::time::Duration::from_millis(200));
            Ok(())
        }
        _ => Ok(()),
    }
}
