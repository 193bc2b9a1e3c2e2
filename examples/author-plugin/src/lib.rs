//! Which species of iris a flower is, from its measurements in centimetres.

use modelhost_guest::{ANY, Datatype, Error, Graph, Plugin, Request, Response, Signature, Tensor};

modelhost_guest::embed_graph!("iris", "iris.onnx");
modelhost_guest::embed_sample!("two-flowers", "example.json");
modelhost_guest::export!(Iris);

const SPECIES: [&str; 3] = ["setosa", "versicolor", "virginica"];

struct Iris;

impl Plugin for Iris {
    fn signature() -> Result<Signature, Error> {
        Ok(Signature::new()
            .input("measurements", Datatype::Fp32, [ANY, 4])
            .output("label", Datatype::Bytes, [ANY])
            .output("probability", Datatype::Fp32, [ANY, 3]))
    }

    fn predict(mut request: Request) -> Result<Response, Error> {
        let measurements = request.take("measurements")?;
        if measurements.as_slice::<f32>()?.iter().any(|length| *length <= 0.0) {
            return Err(Error::invalid_input("input \"measurements\" holds a length of zero or less"));
        }
        let mut outputs = Graph::load("iris")?.compute([("measurements", measurements)])?;
        let probability = outputs.take("probabilities")?;
        let label = Tensor::string_column(probability.rows::<f32>()?.map(likeliest))?;
        Ok(Response::new([("label", label), ("probability", probability)]))
    }
}

fn likeliest(probabilities: &[f32]) -> &'static str {
    let best = probabilities.iter().zip(SPECIES).max_by(|a, b| a.0.total_cmp(b.0));
    best.map_or("", |(_, species)| species)
}
