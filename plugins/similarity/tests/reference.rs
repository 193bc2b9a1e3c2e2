//! Compares the plugin's answers with those that the training script wrote, and looks whether similar texts are near each
//! other, with the network run by the host's engine.

use modelhost_guest::{Request, Tensor};

#[path = "../../reference.rs"]
mod reference;

#[test]
fn answers_are_those_of_the_training_script() {
    let network = reference::Network::load();
    reference::check(|request| similarity::answer(request, |ids, weights| network.run([ids, weights])));
}

#[test]
fn similar_texts_are_nearer_than_others() {
    let network = reference::Network::load();
    let texts = [
        "My dog loves these treats",
        "Great puppy chews, he asks for more",
        "A strong coffee with a dark roast",
        "I brew this espresso each morning",
        "My cat eats this food every day",
        "Wet food that both of our kittens like",
    ];
    let request = Request::new([("text_input", Tensor::string_column(texts).unwrap())]);
    let answer = similarity::answer(&request, |ids, weights| network.run([ids, weights])).unwrap();
    let rows: Vec<&[f32]> = answer.output("embedding").unwrap().rows::<f32>().unwrap().collect();
    let near =
        |one: usize, other: usize| -> f32 { rows[one].iter().zip(rows[other]).map(|(a, b)| a * b).sum() };
    for pair in [0, 2, 4] {
        for other in (0..texts.len()).filter(|other| other / 2 != pair / 2) {
            assert!(near(pair, pair + 1) > near(pair, other), "{:?}", (texts[pair], texts[other]));
        }
    }
}
