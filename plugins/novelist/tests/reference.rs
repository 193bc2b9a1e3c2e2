//! Compares the plugin's answers with those that the training script wrote, from the raw request to the final
//! answer, with the network run by the host's engine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use modelhost_guest::{Parameter, Request, Responses, Tensor};

#[path = "../../reference.rs"]
mod reference;

#[test]
fn answers_are_those_of_the_training_script() {
    let network = reference::Network::load();
    reference::check(|request| novelist::answer(request, |tokens| network.run([tokens])));
}

fn request(text: &str) -> Request {
    Request::new([("text_input", Tensor::string_column([text]).unwrap())])
        .with_parameter("max_tokens", Parameter::Integer(40))
}

#[test]
fn a_stream_is_the_same_text_in_pieces() {
    let network = reference::Network::load();
    let network = |tokens| network.run([tokens]);
    for request in [
        request("Emma was"),
        request("Emma was").with_parameter("stop", Parameter::Text(" the".into())),
        request("Emma was")
            .with_parameter("temperature", Parameter::Number(1.0))
            .with_parameter("seed", Parameter::Integer(3)),
    ] {
        let whole = novelist::answer(&request, network).unwrap();
        let pieces = Responses::collect(|responses| novelist::stream(&request, responses, network)).unwrap();
        let text: String = pieces
            .iter()
            .map(|piece| piece.output("text_output").unwrap().strings().unwrap().concat())
            .collect();
        assert_eq!(whole.output("text_output").unwrap().strings().unwrap(), [text.as_str()]);
        let tokens: i64 = pieces
            .iter()
            .map(|piece| piece.output("completion_tokens").unwrap().as_slice::<i64>().unwrap()[0])
            .sum();
        assert_eq!(whole.output("completion_tokens").unwrap().as_slice::<i64>().unwrap(), [tokens]);
        let (last, others) = pieces.split_last().unwrap();
        let reason = |piece: &modelhost_guest::Response| {
            piece.output("finish_reason").unwrap().strings().unwrap().concat()
        };
        assert_eq!(whole.output("finish_reason").unwrap().strings().unwrap().concat(), reason(last));
        assert!(others.iter().all(|piece| reason(piece).is_empty()));
    }
}

#[test]
fn a_reply_ends_with_its_quotation_mark() {
    let network = reference::Network::load();
    let messages = r#"[{"role": "user", "content": "Shall you go to the ball?"}]"#;
    let request = request(messages).with_parameter("task", Parameter::Text("chat".into()));
    let answer = novelist::answer(&request, |tokens| network.run([tokens])).unwrap();
    let reply = answer.output("text_output").unwrap().strings().unwrap().concat();
    assert!(!reply.is_empty() && !reply.contains('"') && !reply.contains('\n'), "{reply:?}");
}
