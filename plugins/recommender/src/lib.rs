//! Offers what to add to a basket of pizzas: baskets of names in, the best other items with their scores out.

mod basket;
mod parameters;
mod ranking;

use modelhost_guest::{
    ANY, Datatype, Error, Graph, Plugin, Request, Response, Signature, Tensor, embed_graph, embed_sample,
    export,
};

use crate::basket::{Basket, baskets, ids, offers};
use crate::parameters::ITEMS;
use crate::ranking::best;

embed_graph!("recommender", "model.onnx");
embed_sample!("example", "example.json");

/// The plugin.
pub struct Recommender;

export!(Recommender);

impl Plugin for Recommender {
    fn signature() -> Result<Signature, Error> {
        Ok(Signature::new()
            .input("items", Datatype::Bytes, [ANY, ANY])
            .output("items", Datatype::Bytes, [ANY, ANY])
            .output("scores", Datatype::Fp32, [ANY, ANY]))
    }

    fn predict(request: Request) -> Result<Response, Error> {
        answer(&request, |ids| Graph::load("recommender")?.compute([("ids", ids)])?.take("scores"))
    }
}

/// Answers a request with a network that makes FP32 `[baskets, items]` (the score of every item) of the numbers of
/// the items in each basket, INT64 `[baskets, numbers]`.
///
/// # Errors
/// Invalid input where the parameter `k` is not between 1 and the number of items that every basket leaves, or a name
/// is not UTF-8; those of the network.
pub fn answer(
    request: &Request,
    network: impl FnOnce(Tensor) -> Result<Tensor, Error>,
) -> Result<Response, Error> {
    let baskets = baskets(request.input("items")?)?;
    let k = offers(request, &baskets)?;
    if baskets.is_empty() {
        return respond(&[], &[], k);
    }
    respond(network(ids(&baskets)?)?.as_slice()?, &baskets, k)
}

fn respond(scores: &[f32], baskets: &[Basket], k: usize) -> Result<Response, Error> {
    let mut offered = Vec::with_capacity(baskets.len() * k);
    for (scores, basket) in scores.chunks_exact(ITEMS.len()).zip(baskets) {
        offered.extend(best(scores, basket, k).into_iter().map(|item| (ITEMS[item], scores[item])));
    }
    let shape = [baskets.len(), k];
    let items = Tensor::from_strings(shape, offered.iter().map(|(name, _)| name))?;
    let scores: Vec<f32> = offered.into_iter().map(|(_, score)| score).collect();
    Ok(Response::new([("items", items), ("scores", Tensor::new(shape, scores)?)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores fall from item to item, but the last is the best.
    fn falling(rows: usize) -> Result<Tensor, Error> {
        let score = |item: usize| if item + 1 == ITEMS.len() { 1.0 } else { -(item as f32) };
        Tensor::from_rows(ITEMS.len(), (0..rows).map(|_| (0..ITEMS.len()).map(score).collect::<Vec<_>>()))
    }

    fn names(response: &Response) -> Vec<String> {
        response.output("items").unwrap().strings().unwrap().into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn the_best_come_first_and_none_of_the_basket() {
        let items = Tensor::from_strings([2, 2], [ITEMS[0], ITEMS[2], "", ""]).unwrap();
        let request =
            Request::new([("items", items)]).with_parameter("k", modelhost_guest::Parameter::Integer(3));
        let response = answer(&request, |ids| {
            assert_eq!(ids.as_slice::<i64>(), Ok(&[1, 3, 0, 0][..]));
            falling(2)
        })
        .unwrap();
        let last = ITEMS[ITEMS.len() - 1];
        assert_eq!(names(&response), [last, ITEMS[1], ITEMS[3], last, ITEMS[0], ITEMS[1]]);
        let scores = response.output("scores").unwrap();
        assert_eq!(scores.shape(), [2, 3]);
        assert_eq!(scores.as_slice::<f32>(), Ok(&[1.0, -1.0, -3.0, 1.0, 0.0, -1.0][..]));
    }

    #[test]
    fn equal_scores_go_by_the_order_of_the_items() {
        let items = Tensor::from_strings([1, 1], [ITEMS[1]]).unwrap();
        let equal = |_| Tensor::new([1, ITEMS.len()], vec![0.5_f32; ITEMS.len()]);
        let response = answer(&Request::new([("items", items)]), equal).unwrap();
        assert_eq!(names(&response), [ITEMS[0], ITEMS[2], ITEMS[3], ITEMS[4], ITEMS[5]]);
    }

    #[test]
    fn no_baskets_are_answered_without_the_network() {
        let items = Tensor::from_strings::<&str>([0, 3], []).unwrap();
        let response = answer(&Request::new([("items", items)]), |_| panic!("the network ran")).unwrap();
        assert_eq!(response.output("items").unwrap().shape(), [0, 5]);
        assert_eq!(response.output("scores").unwrap().shape(), [0, 5]);
    }
}
