//! The responses to one request, as they come. Knows nothing of who reads them, and of the call only that it ends.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::{FutureExt as _, Stream};
use modelhost_runtime::{NamedTensors, ResponseReceiver};
use tokio_util::task::AbortOnDropHandle;

use crate::error::Error;

/// The responses to one request, each in the order of the signature's outputs. A failure is the last item, after the
/// responses that were sent before it. Dropping this ends the call.
///
/// The call goes on by itself, as far ahead as the limits of the host allow, and then waits to be read.
pub struct Responses {
    receiver: ResponseReceiver,
    call: AbortOnDropHandle<Result<(), Error>>,
    has_ended: bool,
}

impl Responses {
    pub(crate) fn new(receiver: ResponseReceiver, call: AbortOnDropHandle<Result<(), Error>>) -> Responses {
        Responses { receiver, call, has_ended: false }
    }
}

impl Stream for Responses {
    type Item = Result<NamedTensors, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        // The other end is dropped with the call, and so before its outcome is known.
        if let Some(response) = ready!(self.receiver.poll_next(context)) {
            return Poll::Ready(Some(Ok(response)));
        }
        let outcome = ready!(self.call.poll_unpin(context));
        self.has_ended = true;
        match outcome {
            Ok(Ok(())) => Poll::Ready(None),
            Ok(Err(error)) => Poll::Ready(Some(Err(error))),
            Err(error) => Poll::Ready(Some(Err(error.into()))),
        }
    }
}
