//! Streams responses in the way that the request's parameter `behaviour` asks for: well, or as a hostile or a broken
//! author could. Declares to be a language model, so that every address that streams can be asked.

use std::time::Duration;

use modelhost_guest::{
    ANY, Datatype, Error, Plugin, Request, Response, Responses, Signature, StreamingPlugin, Tensor,
};

modelhost_guest::declare_task!("text-generation");
modelhost_guest::declare_task!("chat");
modelhost_guest::export_streaming!(Streaming);

struct Streaming;

impl Plugin for Streaming {
    fn signature() -> Result<Signature, Error> {
        Ok(Signature::new()
            .input("text_input", Datatype::Bytes, [ANY])
            .output("text_output", Datatype::Bytes, [ANY])
            .output("finish_reason", Datatype::Bytes, [ANY]))
    }

    fn predict(request: Request) -> Result<Response, Error> {
        let texts = request.input("text_input")?.strings()?;
        let reasons = texts.iter().map(|_| "stop");
        Ok(Response::new([
            ("finish_reason", Tensor::string_column(reasons)?),
            ("text_output", Tensor::string_column(texts)?),
        ]))
    }
}

impl StreamingPlugin for Streaming {
    fn predict_stream(request: Request, responses: &Responses<'_>) -> Result<(), Error> {
        let parameters = request.parameters();
        let behaviour = parameters.text("behaviour")?.unwrap_or("words");
        let amount = parameters.integer("amount")?.unwrap_or(1);
        let amount = usize::try_from(amount).map_err(|_| Error::invalid_input("amount is negative"))?;
        let text = request.input("text_input")?.strings()?.concat();
        match behaviour {
            "words" => text.split_inclusive(' ').try_for_each(|word| responses.send(piece(word)?)),
            "nothing" => Ok(()),
            "numbers" => (0..amount).try_for_each(|number| responses.send(piece(&format!("{number} "))?)),
            "endless" => loop {
                responses.send(piece(&text)?)?;
            },
            "huge" => loop {
                responses.send(piece(&"x".repeat(amount))?)?;
            },
            "pace" => text.split_inclusive(' ').try_for_each(|word| {
                std::thread::sleep(Duration::from_millis(amount as u64));
                responses.send(piece(word)?)
            }),
            "silent" => loop {
                std::hint::black_box(amount);
            },
            "error-halfway" => {
                responses.send(piece("half")?)?;
                Err(Error::unavailable("the plugin lost its thread"))
            }
            "invalid" => Err(Error::invalid_input("the plugin does not like it")),
            "trap-halfway" => {
                responses.send(piece("half")?)?;
                panic!("as asked for")
            }
            "wrong-output" => {
                responses.send(piece("half")?)?;
                // What breaks the signature ends the call: this is not the last word.
                responses.send(Response::new([("text_output", Tensor::column([1_i64]))]))?;
                responses.send(piece("after")?)
            }
            other => Err(Error::invalid_input(format!("no behaviour is called {other:?}"))),
        }
    }
}

/// In another order than that of the signature.
fn piece(text: &str) -> Result<Response, Error> {
    Ok(Response::new([
        ("finish_reason", Tensor::string_column([""])?),
        ("text_output", Tensor::string_column([text])?),
    ]))
}
