//! The door of a model, with requests that only hold a place.

use std::num::NonZeroU32;

use futures_util::FutureExt as _;

use super::*;

const ANY: Asking = Asking { priority: 2, deadline: None, service_time: None };

fn limits(running: usize, waiting: usize) -> Limits {
    Limits { weight: NonZeroU32::MIN, running, waiting }
}

fn door(slots: &Arc<Slots>, running: usize, waiting: usize) -> Admission {
    Admission::new(slots.clone(), limits(running, waiting))
}

fn within(milliseconds: u64, service: u64) -> Asking {
    Asking {
        deadline: Some(Instant::now() + Duration::from_millis(milliseconds)),
        service_time: Some(Duration::from_millis(service)),
        ..ANY
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().unwrap()
}

#[tokio::test]
async fn runs_queues_and_refuses() {
    let slots = Slots::new(9);
    let door = door(&slots, 1, 1);
    let running = door.enter(ANY).await.unwrap_or_else(|error| panic!("{error}"));
    assert!(door.check().is_ok());
    let mut waiting = Box::pin(door.enter(ANY));
    assert!((&mut waiting).now_or_never().is_none());
    for refused in [door.check().err(), door.enter(ANY).await.err()] {
        let refused = refused.unwrap();
        assert_eq!(refused.code, ErrorCode::Overloaded);
        assert!(refused.retry_after.is_some());
    }
    drop(running);
    assert!(waiting.await.is_ok());
    assert!(door.check().is_ok());
}

#[tokio::test]
async fn who_gives_up_leaves_the_queue() {
    let slots = Slots::new(1);
    let door = door(&slots, 9, 1);
    let running = now(door.enter(ANY)).ok();
    let mut waiting = Box::pin(door.enter(ANY));
    assert!((&mut waiting).now_or_never().is_none());
    assert!(door.check().is_err());
    drop(waiting);
    assert!(door.check().is_ok());
    // One that was granted a place and never looked gives it to the next.
    let mut deaf = Box::pin(door.enter(ANY));
    assert!((&mut deaf).now_or_never().is_none());
    drop(running);
    drop(deaf);
    assert!(now(door.enter(ANY)).is_ok());
}

#[tokio::test]
async fn new_limits_hold_at_once() {
    let slots = Slots::new(9);
    let door = door(&slots, 1, 0);
    let _running = now(door.enter(ANY)).ok();
    assert!(door.check().is_err());
    door.set_limits(limits(1, 1));
    let mut waiting = Box::pin(door.enter(ANY));
    assert!((&mut waiting).now_or_never().is_none());
    door.set_limits(limits(2, 1));
    assert!(now(waiting).is_ok());
}

#[tokio::test]
async fn a_model_that_asks_for_little_does_not_wait_for_one_that_asks_for_much() {
    let slots = Slots::new(2);
    let (busy, quiet) = (door(&slots, 64, 256), door(&slots, 64, 256));
    let mut running: Vec<Place> = (0..2).filter_map(|_| now(busy.enter(ANY)).ok()).collect();
    let flood: Vec<_> = (0..100)
        .map(|_| {
            let mut waiting = Box::pin(busy.enter(ANY));
            assert!((&mut waiting).now_or_never().is_none());
            waiting
        })
        .collect();
    let mut one = Box::pin(quiet.enter(ANY));
    assert!((&mut one).now_or_never().is_none());
    tokio::time::sleep(Duration::from_millis(2)).await;
    running.pop();
    assert!(now(one).is_ok(), "the first slot that is free is for the one who had none");
    drop(flood);
    assert_eq!(slots.queue.lock().standing(busy.flow).waiting, 0);
}

#[tokio::test]
async fn what_cannot_be_in_time_is_not_started() {
    let slots = Slots::new(9);
    let door = door(&slots, 1, 9);
    assert!(
        now(door.enter(within(1, 50))).is_ok(),
        "alone it is tried: nothing else would show a faster model"
    );
    let running = now(door.enter(ANY)).ok();
    let refused = now(door.enter(within(20, 50))).err().unwrap();
    assert_eq!(refused.code, ErrorCode::DeadlineExceeded);
    assert!(refused.message.contains("50 ms are needed"), "{refused}");
    assert_eq!(slots.queue.lock().standing(door.flow).waiting, 0);
    // One that could be in time leaves the queue when it no longer can.
    let late = door.enter(within(20, 5)).await.err().unwrap();
    assert_eq!(late.code, ErrorCode::DeadlineExceeded);
    assert_eq!(slots.queue.lock().standing(door.flow).waiting, 0);
    drop(running);
    assert!(now(door.enter(ANY)).is_ok());
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let standing = Standing { running: 4, waiting: 40, average_cost: 1_000_000_000 };
    assert_eq!(waiting_time(standing, 40), Duration::from_secs(10));
    assert_eq!(waiting_time(Standing::default(), 40), Duration::ZERO);
    assert_eq!(
        waiting_time(Standing { average_cost: u64::MAX, ..standing }, usize::MAX).as_nanos(),
        u64::MAX.into()
    );
}
