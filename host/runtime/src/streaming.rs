//! The way of a call's responses to its client: bounded in number and bytes, so that a plugin is never far ahead of a
//! client, and in the time that a client may keep it waiting. Knows nothing of what reads on the other end.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use modelhost_core::Signature;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use crate::call::CallError;
use crate::sandbox::{CallTimes, NamedTensors};
use crate::settings::CallLimits;
use crate::signature::in_signature_order;
use crate::state::LimitExceeded;

/// Responses on their way to the client: small ones beyond this number wait as large ones do.
const MAX_ON_THE_WAY: usize = 16;

/// The unit in which bytes on the way are counted.
const KILOBYTE: usize = 1 << 10;

/// The end at which a call puts its responses.
pub struct ResponseSender {
    channel: mpsc::Sender<OnTheWay>,
    room: Arc<Semaphore>,
    room_kilobytes: u32,
    signature: Arc<Signature>,
    sent: u32,
    max_responses: u32,
    patience: Duration,
    waited: Duration,
}

/// The end at which they are read. Where it is dropped, the call that sends them ends at its next response.
pub struct ResponseReceiver {
    channel: mpsc::Receiver<OnTheWay>,
}

struct OnTheWay {
    outputs: NamedTensors,
    _room: OwnedSemaphorePermit,
}

/// A call whose responses were all sent, and how its time was spent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Streamed {
    /// The parts of it that were not waiting for the client.
    pub times: CallTimes,
    /// Waiting for the client.
    pub waited: Duration,
    /// Executions that are counted for the call.
    pub executions: u32,
}

/// A way for the responses of one call.
pub(crate) fn response_channel(
    signature: Arc<Signature>,
    limits: &CallLimits,
) -> (ResponseSender, ResponseReceiver) {
    let (sender, receiver) = mpsc::channel(MAX_ON_THE_WAY);
    let kilobytes = limits.stream_buffer_bytes.div_ceil(KILOBYTE).clamp(1, u32::MAX as usize >> 4);
    let sender = ResponseSender {
        channel: sender,
        room: Arc::new(Semaphore::new(kilobytes)),
        room_kilobytes: u32::try_from(kilobytes).unwrap_or(u32::MAX),
        signature,
        sent: 0,
        max_responses: limits.stream_responses,
        patience: limits.stream_wait(),
        waited: Duration::ZERO,
    };
    (sender, ResponseReceiver { channel: receiver })
}

impl ResponseReceiver {
    /// The next response. None once there will be no more: whether all went well is for the call to say.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<NamedTensors>> {
        self.channel.poll_recv(context).map(|response| response.map(|response| response.outputs))
    }
}

impl ResponseSender {
    /// How long the client kept the call waiting so far.
    pub(crate) fn waited(&self) -> Duration {
        self.waited
    }

    /// Checks the next response, and says how it gets on its way.
    ///
    /// # Errors
    /// Outputs that break the signature; one response too many.
    pub(crate) fn next(&mut self, outputs: NamedTensors) -> Result<Delivery, CallError> {
        let outputs = in_signature_order(&self.signature, outputs)?;
        if self.sent == self.max_responses {
            return Err(CallError::LimitExceeded(LimitExceeded::Responses { limit: self.max_responses }));
        }
        self.sent += 1;
        Ok(Delivery {
            channel: self.channel.clone(),
            room: self.room.clone(),
            // One that is larger than all the room goes alone.
            kilobytes: kilobytes(&outputs).min(self.room_kilobytes),
            patience: self.patience,
            outputs,
        })
    }

    /// Notes how long a delivery took.
    pub(crate) fn delivered(&mut self, waited: Duration) {
        self.waited += waited;
    }

    /// Sends the only response of a call.
    ///
    /// # Errors
    /// Outputs that break the signature; a client that is gone, or took nothing for too long.
    pub async fn send(&mut self, outputs: NamedTensors) -> Result<(), CallError> {
        let waited = self.next(outputs)?.deliver().await?;
        self.delivered(waited);
        Ok(())
    }
}

/// A response that waits for room. Holds nothing of the call.
pub(crate) struct Delivery {
    channel: mpsc::Sender<OnTheWay>,
    room: Arc<Semaphore>,
    kilobytes: u32,
    patience: Duration,
    outputs: NamedTensors,
}

impl Delivery {
    /// Waits until there is room, and answers for how long.
    ///
    /// # Errors
    /// A client that is gone, or took nothing for too long.
    pub(crate) async fn deliver(self) -> Result<Duration, CallError> {
        let Delivery { channel, room, kilobytes, patience, outputs } = self;
        let began = Instant::now();
        let sending = async {
            // A client that is gone gives no room any more.
            let room = tokio::select! {
                biased;
                room = room.acquire_many_owned(kilobytes) => room.map_err(|_| CallError::ClientGone)?,
                () = channel.closed() => return Err(CallError::ClientGone),
            };
            channel.send(OnTheWay { outputs, _room: room }).await.map_err(|_| CallError::ClientGone)
        };
        match timeout(patience, sending).await {
            Ok(sent) => sent.map(|()| began.elapsed()),
            Err(_) => Err(CallError::ClientTooSlow { milliseconds: patience.as_millis() }),
        }
    }
}

fn kilobytes(outputs: &NamedTensors) -> u32 {
    let bytes: usize = outputs.iter().map(|(_, tensor)| tensor.data().len()).sum();
    u32::try_from(bytes / KILOBYTE + 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use modelhost_core::{Datatype, Tensor, TensorDescription};

    use super::*;

    fn channel(limits: &CallLimits) -> (ResponseSender, ResponseReceiver) {
        let y = TensorDescription { name: "y".into(), datatype: Datatype::Uint8, shape: vec![-1] };
        response_channel(Arc::new(Signature { inputs: vec![], outputs: vec![y] }), limits)
    }

    fn response(bytes: usize) -> NamedTensors {
        let tensor = Tensor::new(Datatype::Uint8, vec![bytes as u64], vec![0; bytes].into()).unwrap();
        vec![("y".to_owned(), tensor)]
    }

    fn limits() -> CallLimits {
        CallLimits { stream_wait_ms: 50, stream_buffer_bytes: 8 << 10, ..CallLimits::default() }
    }

    #[tokio::test]
    async fn a_sender_waits_for_room_and_not_for_ever() {
        let (mut sender, mut receiver) = channel(&limits());
        sender.send(response(5 << 10)).await.unwrap();
        let late = sender.send(response(5 << 10)).await;
        assert_eq!(late, Err(CallError::ClientTooSlow { milliseconds: 50 }));
        let receive = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            poll_fn(|context| receiver.poll_next(context)).await
        };
        let (sent, received) = tokio::join!(sender.send(response(1 << 20)), receive);
        sent.unwrap();
        assert_eq!(received.unwrap()[0].1.data().len(), 5 << 10);
        assert!(sender.waited() >= Duration::from_millis(5), "{:?}", sender.waited());
    }

    #[tokio::test]
    async fn small_responses_wait_by_number() {
        let (mut sender, _receiver) = channel(&CallLimits { stream_buffer_bytes: 1 << 20, ..limits() });
        for _ in 0..MAX_ON_THE_WAY {
            sender.send(response(0)).await.unwrap();
        }
        assert!(matches!(sender.send(response(0)).await, Err(CallError::ClientTooSlow { .. })));
    }

    #[tokio::test]
    async fn nobody_sends_to_a_client_that_is_gone() {
        let (mut sender, receiver) = channel(&limits());
        sender.send(response(8 << 10)).await.unwrap();
        drop(receiver);
        assert_eq!(sender.send(response(8 << 10)).await, Err(CallError::ClientGone));
    }

    #[tokio::test]
    async fn responses_fit_the_signature_and_their_limit() {
        let (mut sender, _receiver) = channel(&CallLimits { stream_responses: 1, ..limits() });
        let mut wrong = response(1);
        wrong[0].0 = "z".to_owned();
        assert!(matches!(sender.send(wrong).await, Err(CallError::ContractViolation { .. })));
        sender.send(response(1)).await.unwrap();
        let refused = sender.send(response(1)).await;
        assert_eq!(refused, Err(CallError::LimitExceeded(LimitExceeded::Responses { limit: 1 })));
    }
}
