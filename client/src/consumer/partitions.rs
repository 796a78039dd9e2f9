//! A stream for each partition, to be read by a task of its own.
//!
//! It owns the reading of one partition's chunks. It refuses to know the other partitions: a stream that nobody reads holds
//! up its own partition only. Invariant: a stream ends before another consumer can have its partition.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use ottla_protocol::records::Decompressor;

use super::reading::{self, Reading};
use super::{CloseOptions, Consumer, Control, Door, OwnedRecord, Record};
use crate::config::{ConsumerConfig, Done};
use crate::core::readers::{Reader, Share};
use crate::error::{Error, ErrorKind};

type Waiting = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// A stream for each partition that this consumer has, as it gets it: [`Consumer::into_partitions`]. It ends after
/// [`Control::close`].
///
/// Dropping it ends the consumer and all its streams at once; [`close`](Self::close) is the graceful end.
///
/// ```no_run
/// # async fn run(client: ottla::Client) -> Result<(), ottla::Error> {
/// use ottla::Done;
///
/// let consumer = client.consumer().group("billing").subscribe(["orders"]).finish_on(Done::OnAck).build()?;
/// let mut partitions = consumer.into_partitions()?;
/// while let Some(partition) = partitions.next().await {
///     let mut records = partition?;
///     tokio::spawn(async move {
///         while let Some(Ok(record)) = records.next().await {
///             println!("{:?}", record.value());
///             record.ack();
///         }
///         println!("{}-{} ended: {:?}", records.topic(), records.partition(), records.end());
///     });
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "a stream does nothing until it is polled"]
pub struct PartitionStreams {
    consumer: Consumer,
    waiting: Option<Waiting>,
}

impl std::fmt::Debug for PartitionStreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartitionStreams").finish_non_exhaustive()
    }
}

impl Consumer {
    /// Hands out a stream for each partition. Each has its part of `fetch.buffer.bytes`, so that one that is not read stops no
    /// other.
    ///
    /// The application keeps its partitions as long as it waits for records of any of them; that a single one stands still
    /// is told by [`Event::Stalled`](crate::Event::Stalled).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] unless the consumer is built with `finish_on(Done::OnAck)`.
    pub fn into_partitions(mut self) -> Result<PartitionStreams, Error> {
        if self.config.done != Done::OnAck {
            let what = "streams of partitions need a consumer that is built with finish_on(Done::OnAck)";
            return Err(Error::new(ErrorKind::Config, what));
        }
        self.finish();
        self.put_away();
        self.control.door.with(|machine, now| machine.split(now))?;
        Ok(PartitionStreams { consumer: self, waiting: None })
    }
}

impl PartitionStreams {
    /// The next partition that this consumer has got; `None` after [`Control::close`]. Dropping the future loses nothing.
    ///
    /// # Errors
    /// Those of [`Consumer::recv`] that are not about one partition. The stream goes on.
    pub async fn next(&mut self) -> Option<Result<PartitionStream, Error>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// A handle that works from other tasks.
    pub fn control(&self) -> Control {
        self.consumer.control()
    }

    /// Ends the consumer as [`Consumer::close`] does, and all streams with it. Records that are not acknowledged by now will be
    /// delivered again.
    ///
    /// # Errors
    /// As [`Consumer::close`].
    pub async fn close(self, options: impl Into<CloseOptions>) -> Result<(), Error> {
        self.consumer.control.close_with(options.into()).await
    }

    fn stream(&self, reader: Reader) -> PartitionStream {
        PartitionStream {
            door: self.consumer.control.door.clone(),
            config: self.consumer.config.clone(),
            reader,
            reading: None,
            next_offset: -1,
            decompressor: Decompressor::new(),
            waiting: None,
            end: None,
        }
    }
}

impl Stream for PartitionStreams {
    type Item = Result<PartitionStream, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if !std::task::ready!(poll_waiting(&mut self.waiting, cx)) {
                return Poll::Ready(None);
            }
            let door = &self.consumer.control.door;
            let taken = door.with(|machine, _| (machine.take_reader(), machine.is_closing()));
            match taken {
                Err(error) | Ok((Some(Err(error)), _)) => return Poll::Ready(Some(Err(error))),
                Ok((Some(Ok(reader)), _)) => return Poll::Ready(Some(Ok(self.stream(reader)))),
                Ok((None, true)) => return Poll::Ready(None),
                Ok((None, false)) => {
                    let door = door.clone();
                    self.waiting = Some(Box::pin(async move { door.until(|m| m.has_reader()).await }));
                }
            }
        }
    }
}

/// Why a [`PartitionStream`] has ended.
///
/// ```
/// # fn example(end: ottla::StreamEnd) {
/// if end == ottla::StreamEnd::Revoked {
///     println!("another member goes on");
/// }
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamEnd {
    /// The partition was taken away: others may have it. What is acknowledged from now on counts for nothing.
    Revoked,
    /// The consumer is closed.
    Closed,
}

/// The records of one partition, in order: [`PartitionStreams`] hands them out. It ends when the partition is taken away
/// and when the consumer is closed, and then [`end`](Self::end) says which. After an error it waits for a seek.
///
/// One that is dropped before its end is handed out again, from the first record that is not finished.
#[must_use = "a stream does nothing until it is polled"]
pub struct PartitionStream {
    door: Arc<Door>,
    config: Arc<ConsumerConfig>,
    reader: Reader,
    reading: Option<Reading>,
    /// The offset after the last record that was handed out of the chunk in hand.
    next_offset: i64,
    decompressor: Decompressor,
    waiting: Option<Waiting>,
    end: Option<StreamEnd>,
}

impl std::fmt::Debug for PartitionStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PartitionStream({})", self.reader.partition)
    }
}

impl PartitionStream {
    /// The topic.
    pub fn topic(&self) -> &str {
        &self.reader.partition.topic
    }

    /// The partition.
    pub fn partition(&self) -> i32 {
        self.reader.partition.partition
    }

    /// Why it has ended; `None` while it goes on.
    pub fn end(&self) -> Option<StreamEnd> {
        self.end
    }

    /// The next record; `None` at the end. Dropping the future loses nothing.
    ///
    /// # Errors
    /// Those of [`Consumer::recv`] that are about this partition.
    pub async fn next(&mut self) -> Option<Result<OwnedRecord, Error>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// The next record of the chunk in hand. A chunk that was called back has none; one that is read to its end is let go.
    fn next_in_hand(&mut self) -> Result<Option<OwnedRecord>, Error> {
        let Some(reading) = &mut self.reading else { return Ok(None) };
        if reading.chunk.lease.is_recalled() {
            self.let_go();
            return Ok(None);
        }
        if reading.chunk.lease.is_paused() {
            return Ok(None);
        }
        match reading.next_open(&mut self.decompressor) {
            Ok(true) => {}
            Ok(false) => {
                self.end_chunk();
                return Ok(None);
            }
            Err(error) => {
                self.fail();
                return Err(error);
            }
        }
        let Reading { chunk, open: Some(open), .. } = reading else { return Ok(None) };
        let timestamp_type = open.header().timestamp_type;
        match open.next() {
            Ok(None) => Ok(None),
            Ok(Some(inner)) => {
                let from = std::mem::replace(&mut self.next_offset, inner.offset.saturating_add(1));
                let (held, door) = (chunk.charge.held(), &self.door);
                let (place, lease, done) = (&chunk.partition, &chunk.lease, Done::OnAck);
                let record = Record { inner, place, lease, door, held, timestamp_type, from, done };
                Ok(Some(record.to_owned()))
            }
            Err(cause) => {
                let error = reading::corrupt(&chunk.partition, &cause);
                self.fail();
                Err(error)
            }
        }
    }

    /// The chunk in hand was handed out to its end.
    fn end_chunk(&mut self) {
        if let Some(Reading { chunk, .. }) = &self.reading
            && let Some(end) = chunk.end
        {
            let from = self.next_offset;
            // A consumer that is broken says so at the next chunk.
            let _ = self.door.with(|machine, now| machine.delivered_chunk(now, chunk, from, end));
        }
        self.let_go();
    }

    /// The rest of the chunk cannot be read: the partition waits for a seek.
    fn fail(&mut self) {
        if let Some(Reading { chunk, .. }) = self.reading.take() {
            let _ = self.door.with(|machine, now| machine.fail(now, chunk));
        }
    }

    fn let_go(&mut self) {
        // Whoever waits for its memory is told by passing the lock.
        if self.reading.take().is_some() {
            let _ = self.door.with(|_, _| ());
        }
    }

    fn end_with(&mut self, end: StreamEnd) -> Poll<Option<Result<OwnedRecord, Error>>> {
        self.let_go();
        self.end = Some(end);
        Poll::Ready(None)
    }
}

impl Stream for PartitionStream {
    type Item = Result<OwnedRecord, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.end.is_some() {
            return Poll::Ready(None);
        }
        loop {
            if !std::task::ready!(poll_waiting(&mut this.waiting, cx)) {
                return this.end_with(StreamEnd::Closed);
            }
            if let Some(next) = this.next_in_hand().transpose() {
                return Poll::Ready(Some(next));
            }
            let in_hand = this.reading.is_some();
            if !in_hand {
                match this.door.with(|machine, now| machine.take_for(now, &this.reader)) {
                    Err(error) | Ok(Share::Failed(error)) => return Poll::Ready(Some(Err(error))),
                    Ok(Share::Revoked) => return this.end_with(StreamEnd::Revoked),
                    Ok(Share::Closed) => return this.end_with(StreamEnd::Closed),
                    Ok(Share::Chunk(chunk)) => {
                        this.next_offset = chunk.from;
                        this.reading = Some(Reading::uncounted(chunk, this.config.clone()));
                        continue;
                    }
                    Ok(Share::Wait) => {}
                }
            }
            let (door, reader) = (this.door.clone(), this.reader.clone());
            this.waiting = Some(Box::pin(async move {
                door.until(move |machine| machine.has_share(&reader, in_hand)).await
            }));
        }
    }
}

impl Drop for PartitionStream {
    fn drop(&mut self) {
        self.let_go();
        if self.end.is_none() {
            let _ = self.door.with(|machine, now| machine.replace_reader(now, &self.reader));
        }
    }
}

/// Goes on when what was waited for is there. False when the consumer is gone; one that is broken says so when it is asked.
fn poll_waiting(waiting: &mut Option<Waiting>, cx: &mut Context<'_>) -> Poll<bool> {
    let Some(wait) = waiting else { return Poll::Ready(true) };
    let result = std::task::ready!(wait.as_mut().poll(cx));
    *waiting = None;
    Poll::Ready(!result.is_err_and(|error| error.kind() == ErrorKind::Closed))
}
