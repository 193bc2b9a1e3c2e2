//! Compares the plugin's answers with those that the training script wrote, from the raw request to the final
//! answer, with the network run by the host's engine.

#[path = "../../reference.rs"]
mod reference;

#[test]
fn answers_are_those_of_the_training_script() {
    let network = reference::Network::load();
    reference::check(|request| hotel::answer(request, |features| network.run([features])));
}
