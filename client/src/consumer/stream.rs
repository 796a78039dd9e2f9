//! Records of their own as a stream.
//!
//! It owns the consumer while it streams. It refuses to finish anything: asking for the next record says nothing of the one
//! before, which may be in work somewhere. Invariant: dropping the future of a call loses no record.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::{CloseOptions, Consumer, Control, OwnedRecord};
use crate::config::Done;
use crate::error::{Error, ErrorKind};
use crate::event::Event;

type Waiting<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The records of a consumer, each on its own: [`Consumer::into_stream`]. It ends after [`Control::close`]; after an error it
/// goes on as [`Consumer::recv`] does.
///
/// Dropping it ends the consumer at once; [`close`](Self::close) is the graceful end.
///
/// ```no_run
/// # async fn run(client: ottla::Client) -> Result<(), ottla::Error> {
/// use ottla::Done;
///
/// let consumer = client.consumer().group("billing").subscribe(["orders"]).finish_on(Done::OnAck).build()?;
/// let mut records = consumer.into_stream()?;
/// while let Some(record) = records.next().await {
///     let record = record?;
///     tokio::spawn(async move {
///         println!("{:?}", record.value());
///         record.ack();
///     });
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "a stream does nothing until it is polled"]
pub struct RecordStream {
    control: Control,
    state: State,
}

enum State {
    Ready(Box<Consumer>),
    Waiting(Waiting<(Box<Consumer>, Result<bool, Error>)>),
    Over,
}

impl std::fmt::Debug for RecordStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordStream").finish_non_exhaustive()
    }
}

impl Consumer {
    /// Turns the consumer into a stream of owned records, which may be worked on by many tasks at once, for example with
    /// `buffer_unordered`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with [`Done::OnNext`]: that a stream was asked for its next record does not mean that the one
    /// before is done. Build the consumer with `finish_on(Done::OnAck)`, or with [`Done::Delivered`] for at most once.
    pub fn into_stream(mut self) -> Result<RecordStream, Error> {
        if self.config.done == Done::OnNext {
            let what =
                "records of a stream are not finished by asking for the next: use finish_on(Done::OnAck)";
            return Err(Error::new(ErrorKind::Config, what));
        }
        self.finish();
        Ok(RecordStream { control: self.control(), state: State::Ready(Box::new(self)) })
    }

    /// The next record, if it is there and may be handed out.
    fn next_owned(&mut self) -> Result<Option<OwnedRecord>, Error> {
        if !self.has_record()? || self.next_offset >= self.covered {
            return Ok(None);
        }
        Ok(self.lend()?.map(|record| record.to_owned()))
    }

    /// Waits until there is a next record. False when the consumer is closed.
    async fn advance(&mut self) -> Result<bool, Error> {
        if self.has_record()? {
            self.cover().await?;
            return Ok(true);
        }
        self.next_chunk().await
    }
}

impl RecordStream {
    /// The next record; `None` after [`Control::close`]. Dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`Consumer::recv`].
    pub async fn next(&mut self) -> Option<Result<OwnedRecord, Error>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// A handle that works from other tasks.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Ends the consumer as [`Consumer::close`] does. Records that are not acknowledged by now will be delivered again.
    ///
    /// # Errors
    /// As [`Consumer::close`].
    pub async fn close(self, options: impl Into<CloseOptions>) -> Result<(), Error> {
        self.control.close_with(options.into()).await
    }
}

impl Stream for RecordStream {
    type Item = Result<OwnedRecord, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match std::mem::replace(&mut self.state, State::Over) {
                State::Over => return Poll::Ready(None),
                State::Ready(mut consumer) => {
                    consumer.attention.ask();
                    let next = consumer.next_owned().transpose();
                    if next.is_some() {
                        self.state = State::Ready(consumer);
                        return Poll::Ready(next);
                    }
                    self.state = State::Waiting(Box::pin(async move {
                        let more = consumer.advance().await;
                        (consumer, more)
                    }));
                }
                State::Waiting(mut waiting) => match waiting.as_mut().poll(cx) {
                    Poll::Pending => {
                        self.state = State::Waiting(waiting);
                        return Poll::Pending;
                    }
                    Poll::Ready((consumer, more)) => {
                        self.state = State::Ready(consumer);
                        match more {
                            Ok(true) => {}
                            Ok(false) => return Poll::Ready(None),
                            Err(error) => return Poll::Ready(Some(Err(error))),
                        }
                    }
                },
            }
        }
    }
}

/// What happens to a consumer, as a stream: [`Control::events`]. It ends with the consumer.
///
/// ```no_run
/// # async fn run(consumer: ottla::Consumer) {
/// let mut events = consumer.control().events();
/// tokio::spawn(async move {
///     while let Some(event) = events.next().await {
///         eprintln!("{event:?}");
///     }
/// });
/// # }
/// ```
#[must_use = "a stream does nothing until it is polled"]
pub struct EventStream {
    control: Control,
    waiting: Option<Waiting<Result<Event, Error>>>,
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream").finish_non_exhaustive()
    }
}

impl Control {
    /// The events of [`next_event`](Self::next_event) as a stream.
    pub fn events(&self) -> EventStream {
        EventStream { control: self.clone(), waiting: None }
    }
}

impl EventStream {
    /// The next event; `None` when nothing will happen any more. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for EventStream {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let control = self.control.clone();
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(async move { control.next_event().await }));
        let event = std::task::ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(event.ok())
    }
}
