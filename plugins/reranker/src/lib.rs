//! Re-ranks what was recommended to a customer last night by what they click now: the half of the answer that takes long
//! comes from a prediction table, the half that needs this very moment from the network. Without a list, whatever the
//! reason, the network answers alone.

#[path = "../../recommender/src/basket.rs"]
mod basket;
mod lists;
mod parameters;
mod ranking;

use modelhost_guest::{
    ANY, Datatype, Error, Graph, Plugin, Request, Response, Signature, Tensor, embed_graph, embed_sample,
    export,
};

use crate::basket::{baskets, ids, offers};
pub use crate::lists::List;
use crate::parameters::ITEMS;
use crate::ranking::{Offer, rerank};

embed_graph!("recommender", "../recommender/model.onnx");
embed_sample!("example", "example.json");

/// The plugin.
pub struct Reranker;

export!(Reranker);

impl Plugin for Reranker {
    fn signature() -> Result<Signature, Error> {
        Ok(Signature::new()
            .input("user", Datatype::Bytes, [ANY])
            .input("items", Datatype::Bytes, [ANY, ANY])
            .output("items", Datatype::Bytes, [ANY, ANY])
            .output("scores", Datatype::Fp32, [ANY, ANY])
            .output("list_scores", Datatype::Fp32, [ANY, ANY])
            .output("click_scores", Datatype::Fp32, [ANY, ANY])
            .output("source", Datatype::Bytes, [ANY])
            .output("list_version", Datatype::Int64, [ANY]))
    }

    fn predict(request: Request) -> Result<Response, Error> {
        answer(&request, lists::look_up, |ids| {
            Graph::load("recommender")?.compute([("ids", ids)])?.take("scores")
        })
    }
}

/// Answers a request: `lists` looks up what was recommended to each of some users, none where there is nothing, and
/// `network` makes FP32 `[baskets, items]` of the numbers of the items in each basket, INT64 `[baskets, numbers]`.
///
/// # Errors
/// Invalid input where there are not as many users as baskets, the parameter `k` is not between 1 and the number of items
/// that every basket leaves, or a name is not UTF-8; those of the network.
pub fn answer(
    request: &Request,
    lists: impl FnOnce(&[&str]) -> Vec<Option<List>>,
    network: impl FnOnce(Tensor) -> Result<Tensor, Error>,
) -> Result<Response, Error> {
    request.batch_size()?;
    let users = request.input("user")?.strings()?;
    let clicked = baskets(request.input("items")?)?;
    let k = offers(request, &clicked)?;
    if users.is_empty() {
        return respond(&[], &[], k);
    }
    let lists = lists(&users);
    let scores = network(ids(&clicked)?)?;
    let rows = lists.iter().zip(scores.rows::<f32>()?).zip(&clicked);
    let offers: Vec<Vec<Offer>> =
        rows.map(|((list, scores), clicked)| rerank(list.as_ref(), scores, clicked, k)).collect();
    respond(&offers, &lists, k)
}

fn respond(offers: &[Vec<Offer>], lists: &[Option<List>], k: usize) -> Result<Response, Error> {
    let shape = [offers.len(), k];
    let all = || offers.iter().flatten();
    let scores = |score: fn(&Offer) -> f32| Tensor::new(shape, all().map(score).collect::<Vec<f32>>());
    let version = |list: &Option<List>| list.as_ref().map_or(0, |list| list.version);
    let versions = lists.iter().map(|list| i64::try_from(version(list)));
    Ok(Response::new([
        ("items", Tensor::from_strings(shape, all().map(|offer| ITEMS[offer.item]))?),
        ("scores", scores(|offer| offer.score)?),
        ("list_scores", scores(|offer| offer.list_score)?),
        ("click_scores", scores(|offer| offer.click_score)?),
        ("source", Tensor::string_column(lists.iter().map(source))?),
        ("list_version", Tensor::column(versions.collect::<Result<Vec<i64>, _>>()?)),
    ]))
}

fn source(list: &Option<List>) -> &'static str {
    match list {
        None => "live",
        Some(list) if list.is_stale => "stale",
        Some(_) => "table",
    }
}

#[cfg(test)]
mod tests {
    use modelhost_guest::Parameter;

    use super::*;

    fn request(users: &[&str], clicked: &[&str]) -> Request {
        let user = Tensor::string_column(users).unwrap();
        let items = Tensor::from_strings([clicked.len(), 1], clicked).unwrap();
        Request::new([("user", user), ("items", items)]).with_parameter("k", Parameter::Integer(2))
    }

    fn equal(rows: usize) -> Result<Tensor, Error> {
        Tensor::new([rows, ITEMS.len()], vec![0.25_f32; rows * ITEMS.len()])
    }

    fn texts(response: &Response, output: &str) -> Vec<String> {
        response.output(output).unwrap().strings().unwrap().into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn whoever_has_a_list_gets_it_re_ranked_and_the_others_an_answer_all_the_same() {
        let lists = |is_stale: bool| {
            move |users: &[&str]| {
                assert_eq!(users, ["ada", "new"]);
                let list = [(ITEMS[9], 0.2), (ITEMS[4], 0.6), (ITEMS[0], 0.1)];
                vec![Some(List::new(list, 7, is_stale)), None]
            }
        };
        let ask = |is_stale| {
            answer(&request(&["ada", "new"], &[ITEMS[4], ITEMS[0]]), lists(is_stale), |_| equal(2)).unwrap()
        };
        let response = ask(false);
        assert_eq!(texts(&response, "items"), [ITEMS[9], ITEMS[0], ITEMS[1], ITEMS[2]]);
        assert_eq!(texts(&response, "source"), ["table", "live"]);
        assert_eq!(texts(&ask(true), "source"), ["stale", "live"]);
        assert_eq!(response.output("list_version").unwrap().as_slice::<i64>(), Ok(&[7, 0][..]));
        let list_scores = response.output("list_scores").unwrap();
        assert_eq!(
            (list_scores.shape(), list_scores.as_slice()),
            (&[2, 2][..], Ok(&[0.2_f32, 0.1, 0.0, 0.0][..]))
        );
        let click_scores = response.output("click_scores").unwrap();
        assert_eq!(click_scores.as_slice::<f32>(), Ok(&[0.25; 4][..]));
    }

    #[test]
    fn users_and_baskets_belong_together() {
        let refused = answer(&request(&["ada"], &[ITEMS[4], ITEMS[0]]), |_| vec![], |_| equal(2));
        assert!(matches!(refused, Err(Error::InvalidInput(_))));
        let none = answer(&request(&[], &[]), |_| panic!("looked up"), |_| panic!("computed")).unwrap();
        assert_eq!(none.output("scores").unwrap().shape(), [0, 2]);
    }
}
