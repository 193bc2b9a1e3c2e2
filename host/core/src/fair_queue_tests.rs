//! Weights are honoured over many turns, nobody starves, and what is taken back leaves nothing behind.

use proptest::prelude::*;

use super::*;

fn weight(weight: u32) -> NonZeroU32 {
    NonZeroU32::new(weight).unwrap()
}

/// Lets flows that always want more run for so many turns on so many slots; answers what each received in all.
fn served(slots: usize, flows: &[(u32, u64)], turns: usize) -> Vec<u64> {
    let mut queue = FairQueue::new(slots);
    let ids: Vec<FlowId> =
        flows.iter().map(|(share, _)| queue.add_flow(weight(*share), usize::MAX)).collect();
    let mut received = vec![0; flows.len()];
    let mut running = std::collections::VecDeque::new();
    for (index, id) in ids.iter().enumerate() {
        for _ in 0..=slots {
            queue.push(*id, 0, index);
        }
    }
    for _ in 0..turns {
        while let Some((turn, index)) = queue.grant() {
            queue.push(ids[index], 0, index);
            running.push_back((turn, index));
        }
        let (turn, index) = running.pop_front().unwrap();
        received[index] += flows[index].1;
        queue.finish(turn, flows[index].1);
    }
    received
}

#[test]
fn service_follows_weights_and_not_the_number_of_turns() {
    let received = served(1, &[(1, 1_000), (2, 10), (1, 50)], 20_000);
    let share = |index: usize| received[index] as f64 / received.iter().sum::<u64>() as f64;
    assert!((share(0) - 0.25).abs() < 0.01 && (share(1) - 0.5).abs() < 0.01, "{received:?}");
}

#[test]
fn priority_goes_before_arrival_within_a_flow_only() {
    let mut queue = FairQueue::new(1);
    let (one, other) = (queue.add_flow(weight(1), 9), queue.add_flow(weight(1), 9));
    let first = queue.start(one).unwrap();
    for (flow, priority, name) in [(one, 2, "a"), (one, 1, "b"), (one, 2, "c"), (other, 9, "d")] {
        queue.push(flow, priority, name);
    }
    assert_eq!((queue.ahead(one, 1), queue.ahead(one, 2), queue.ahead(one, 0)), (1, 3, 0));
    assert!(queue.grant().is_none());
    queue.finish(first, 100);
    let order: Vec<&str> = std::iter::from_fn(|| {
        let (turn, name) = queue.grant()?;
        queue.finish(turn, 100);
        Some(name)
    })
    .collect();
    assert_eq!(order, ["d", "b", "a", "c"]);
}

#[test]
fn who_was_idle_gets_nothing_for_the_past() {
    let mut queue = FairQueue::new(1);
    let (busy, idle) = (queue.add_flow(weight(1), 9), queue.add_flow(weight(1), 9));
    for _ in 0..100 {
        let turn = queue.start(busy).unwrap();
        queue.finish(turn, 10);
    }
    for _ in 0..20 {
        queue.push(busy, 0, "busy");
        queue.push(idle, 0, "idle");
    }
    let turns = (0..20).map(|_| {
        let (turn, name) = queue.grant().unwrap();
        queue.finish(turn, 10);
        name
    });
    let idle_turns = turns.filter(|name| *name == "idle").count();
    assert!((9..=12).contains(&idle_turns), "{idle_turns} of 20");
}

#[test]
fn a_flow_keeps_to_its_limit_and_others_go_on() {
    let mut queue = FairQueue::new(3);
    let (narrow, wide) = (queue.add_flow(weight(1), 1), queue.add_flow(weight(1), 9));
    let only = queue.start(narrow).unwrap();
    assert!(queue.start(narrow).is_none());
    queue.push(narrow, 0, "narrow");
    assert!(queue.grant().is_none(), "the limit is reached");
    assert!(queue.start(wide).is_some(), "a slot that the narrow flow may not use");
    queue.set_flow(narrow, weight(1), 2);
    assert_eq!(queue.grant().map(|(_, name)| name), Some("narrow"));
    queue.finish(only, 1);
    assert_eq!(queue.standing(narrow), Standing { running: 1, waiting: 0, average_cost: 1 });
}

#[test]
fn a_flow_that_is_removed_makes_room() {
    let mut queue = FairQueue::<()>::new(1);
    let flow = queue.add_flow(weight(1), 1);
    let turn = queue.start(flow).unwrap();
    queue.remove_flow(flow);
    assert_eq!(queue.standing(flow).running, 1, "not while it runs");
    queue.forgo(turn);
    assert_eq!(queue.add_flow(weight(2), 1), flow);
    assert_eq!(queue.standing(flow), Standing::default());
}

#[derive(Clone, Debug)]
enum Step {
    Push { flow: usize, priority: u32 },
    Next,
    Finish { index: usize, cost: u64 },
    Cancel { index: usize },
    Weigh { flow: usize, weight: u32, limit: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..4_usize, 0..3_u32).prop_map(|(flow, priority)| Step::Push { flow, priority }),
        4 => Just(Step::Next),
        3 => (any::<usize>(), 0..u64::MAX).prop_map(|(index, cost)| Step::Finish { index, cost }),
        1 => any::<usize>().prop_map(|index| Step::Cancel { index }),
        1 => (0..4_usize, 1..9_u32, 0..4_usize)
            .prop_map(|(flow, weight, limit)| Step::Weigh { flow, weight, limit }),
    ];
    proptest::collection::vec(step, 0..300)
}

proptest! {
    /// Whatever happens: limits are kept, nobody is lost or served twice, and a slot is never left free for which
    /// somebody waits.
    #[test]
    fn nothing_is_lost(slots in 1..5_usize, steps in steps()) {
        let mut queue = FairQueue::new(slots);
        let mut limits = [2_usize; 4];
        let ids = limits.map(|limit| queue.add_flow(weight(1), limit));
        let (mut waiting, mut running) = (Vec::new(), Vec::new());
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Push { flow, priority } => {
                    waiting.push((number, queue.push(ids[flow], priority, (flow, number))));
                }
                Step::Next => if let Some((turn, (flow, number))) = queue.grant() {
                    let place = waiting.iter().position(|(known, _)| *known == number);
                    prop_assert!(place.is_some(), "{number} was served twice");
                    let (_, ticket) = waiting.remove(place.unwrap());
                    prop_assert!(queue.cancel(&ticket).is_none());
                    running.push((flow, turn));
                },
                Step::Finish { index, cost } => if !running.is_empty() {
                    let (_, turn) = running.swap_remove(index % running.len());
                    queue.finish(turn, cost);
                },
                Step::Cancel { index } => if !waiting.is_empty() {
                    let (number, ticket) = waiting.swap_remove(index % waiting.len());
                    prop_assert_eq!(queue.cancel(&ticket).map(|(_, known)| known), Some(number));
                },
                Step::Weigh { flow, weight: share, limit } => {
                    queue.set_flow(ids[flow], weight(share), limit);
                    limits[flow] = limit.max(1);
                }
            }
            prop_assert!(running.len() <= slots);
            let total: usize = ids.iter().map(|id| queue.standing(*id).waiting).sum();
            prop_assert_eq!(total, waiting.len());
        }
        while let Some((turn, (flow, _))) = queue.grant() {
            running.push((flow, turn));
        }
        for (flow, limit) in limits.iter().enumerate() {
            let standing = queue.standing(ids[flow]);
            let could_run = running.len() < slots && standing.running < *limit;
            prop_assert!(!could_run || standing.waiting == 0, "flow {flow} waits for a free slot");
        }
    }

    /// Any weights and costs: what each flow receives, divided by its weight, is the same to within a few turns.
    #[test]
    fn weights_are_honoured(
        slots in 1..4_usize,
        flows in proptest::collection::vec((1..20_u32, 1..500_u64), 2..6),
    ) {
        let received = served(slots, &flows, 4_000);
        let normalised: Vec<f64> =
            received.iter().zip(&flows).map(|(cost, (share, _))| *cost as f64 / f64::from(*share)).collect();
        // One turn of each flow on each slot, and one that is charged and not ended.
        let slack = flows.iter().map(|(share, cost)| *cost as f64 / f64::from(*share)).fold(0.0, f64::max)
            * (2 * slots + 2) as f64;
        let least = normalised.iter().copied().fold(f64::MAX, f64::min);
        let most = normalised.iter().copied().fold(0.0, f64::max);
        prop_assert!(most - least <= slack, "{normalised:?} differ by more than {slack}");
    }
}

#[test]
fn what_nobody_wanted_is_not_held_against_a_flow() {
    let mut queue = FairQueue::new(2);
    let (long, other) = (queue.add_flow(weight(1), 9), queue.add_flow(weight(1), 9));
    // Nobody knew how long its first turns would be, and nobody waited for them.
    let turns: Vec<Turn> = (0..2).map(|_| queue.start(long).unwrap()).collect();
    turns.into_iter().for_each(|turn| queue.finish(turn, 30_000));
    for _ in 0..100 {
        queue.push(long, 0, "long");
        queue.push(other, 0, "other");
    }
    let order: Vec<&str> = std::iter::from_fn(|| {
        let (turn, name) = queue.grant()?;
        queue.finish(turn, 10);
        Some(name)
    })
    .collect();
    let of_the_first: usize = order[..40].iter().filter(|name| **name == "long").count();
    assert!((15..=25).contains(&of_the_first), "{of_the_first} of 40");
}
