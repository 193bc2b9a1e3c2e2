//! Misbehaves in the way that the request's parameter `behaviour` asks for. Each behaviour is what a hostile or a
//! broken author could upload; some are written against the raw bindings, where the SDK is too careful.

mod handles;
mod lookups;
mod nonsense;
mod outputs;
mod sandbox;
mod writing;

use modelhost_guest::{ANY, Datatype, Error, Plugin, Request, Response, Signature, Tensor};

modelhost_guest::export!(Hostile);

struct Hostile;

impl Plugin for Hostile {
    fn signature() -> Result<Signature, Error> {
        Ok(Signature::new().input("x", Datatype::Fp32, [ANY]).output("y", Datatype::Fp32, [ANY]))
    }

    fn predict(request: Request) -> Result<Response, Error> {
        let behaviour = request.parameters().text("behaviour")?.unwrap_or("answer").to_owned();
        let amount = request.parameters().integer("amount")?.unwrap_or(0);
        let amount = usize::try_from(amount).map_err(|_| Error::invalid_input("amount is negative"))?;
        behave(&behaviour, amount, request)
    }
}

fn behave(behaviour: &str, amount: usize, request: Request) -> Result<Response, Error> {
    match behaviour {
        "answer" => {}
        "loop" => sandbox::spin(),
        "allocate" => sandbox::allocate(amount),
        "recurse" => return Err(Error::internal(sandbox::recurse(&[amount as u64]).to_string())),
        "trap" => sandbox::trap(),
        "exit" => std::process::exit(0),
        "panic" => panic!("as asked for"),
        "sleep" => std::thread::sleep(std::time::Duration::from_millis(amount as u64)),
        "log" => writing::log(amount),
        "print" => writing::print(amount),
        "print-without-end" => writing::print_without_end(amount),
        "log-control-characters" => modelhost_guest::info!("{}", "\u{1b}[31mred\u{1b}[0m\ralert"),
        "share-tensors" => handles::share_tensors(amount),
        "load-graphs" => handles::load_graphs(amount),
        "collect-errors" => handles::collect_errors(amount),
        "collect-clocks" => handles::collect_clocks(amount),
        "hold-tensors" => handles::hold_tensors(amount),
        "nonsense" => return nonsense::all().map(|()| answer(request)),
        "lookup-nonsense" => return lookups::nonsense().map(|()| answer(request)),
        "lookup-too-large" => return lookups::too_large().map(|()| answer(request)),
        "collect-rows" => lookups::collect(amount),
        "lookup-forever" => lookups::forever(),
        "lookup-long-keys" => lookups::long_keys(amount),
        "load-junk" => return Err(nonsense::load_junk(amount)),
        "nn-tensor-too-short" => nonsense::tensor_too_short(),
        "invalid" => return Err(Error::invalid_input("the plugin does not like it")),
        "unavailable" => return Err(Error::unavailable("the plugin is busy")),
        "internal" => return Err(Error::internal("the plugin gave up")),
        "long-message" => return Err(Error::internal("long\n".repeat(amount))),
        _ => return outputs::broken(behaviour, amount),
    }
    Ok(answer(request))
}

fn answer(request: Request) -> Response {
    let x = request.into_inputs().into_iter().map(|(_, tensor)| tensor).next();
    Response::new([("y", x.unwrap_or_else(|| Tensor::column([0_f32])))])
}
