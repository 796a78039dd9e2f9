//! One task a machine: it opens the links that the machine wants and tells it that time has passed.
//!
//! It owns the timer of the machine's deadline. It refuses to know what the links carry. Invariant: each dial that it
//! starts ends in `Opened` or `Lost`, even when its task panics.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use tracing::Instrument;

use super::connection::{Connection, Whom};
use super::link::Io;
use super::shared::{Shared, now};
use crate::config::ClientConfig;
use crate::core::{Dial, Input, Link, Machine};
use crate::error::{Error, ErrorKind};
use crate::world::pause;

/// Starts the supervisor of a machine. It ends, with every link, after [`Shared::stop`].
pub(crate) fn start<M: Machine>(shared: &Arc<Shared<M>>, config: &Arc<ClientConfig>) -> Result<(), Error> {
    tokio::runtime::Handle::try_current().map_err(|_| {
        let message = "it must be built within a Tokio runtime, which carries its connections";
        Error::new(ErrorKind::InvalidArgument, message)
    })?;
    let span = tracing::info_span!("client", client_id = %config.client_id);
    let (ends, config) = (Supervised(shared.clone()), config.clone());
    let task = async move { supervise(ends.0.clone(), config).await }.instrument(span);
    shared.world.spawn("supervisor", Box::pin(task));
    Ok(())
}

/// Lets nobody wait for a machine whose supervisor has ended before it was told to.
struct Supervised<M: Machine>(Arc<Shared<M>>);

impl<M: Machine> Drop for Supervised<M> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

async fn supervise<M: Machine>(shared: Arc<Shared<M>>, config: Arc<ClientConfig>) {
    while !shared.is_stopped() {
        let ticked = now();
        let dials = shared.with(|machine, now| {
            if machine.deadline().is_some_and(|at| at <= now) {
                machine.handle(now, Input::Tick);
            }
            std::iter::from_fn(|| machine.poll_dial(now)).collect::<Vec<Dial>>()
        });
        let Ok(dials) = dials else { return };
        for dial in dials {
            // A child of the client's: whatever is logged of a connection names both.
            let Dial { link, host, port, .. } = &dial;
            let broker = (link.node >= 0).then_some(link.node);
            let peer = format_args!("{host}:{port}");
            let span = tracing::info_span!("connection", broker, lane = ?link.lane, %peer);
            let task = run_link(shared.clone(), config.clone(), dial).instrument(span);
            shared.world.spawn("link", Box::pin(task));
        }
        pause(&*shared.world).await;
        sleep(&shared, ticked).await;
    }
}

/// Until there is something to dial, or the deadline has come.
async fn sleep<M: Machine>(shared: &Shared<M>, ticked: Instant) {
    let mut timer = pin!(tokio::time::sleep_until(ticked.into()));
    std::future::poll_fn(|cx| {
        loop {
            match shared.supervisor_sleeps(cx, ticked) {
                Ok(()) => return Poll::Ready(()),
                Err(None) => return Poll::Pending,
                Err(Some(alarm)) => timer.as_mut().reset(alarm.into()),
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await
}

/// Tells the machine that a link is gone, whichever way its task ends.
struct Ended<M: Machine> {
    shared: Arc<Shared<M>>,
    link: Link,
    cause: Option<Error>,
}

impl<M: Machine> Drop for Ended<M> {
    fn drop(&mut self) {
        let (link, died) =
            (self.link, || Error::new(ErrorKind::Connect, "the task of a connection ended early"));
        let cause = self.cause.take().unwrap_or_else(died);
        self.shared.gone(link);
        // Fails only when the machine is broken, and then nobody is left to tell.
        let _ = self.shared.with(|machine, now| machine.handle(now, Input::Lost { link, cause }));
    }
}

async fn run_link<M: Machine>(shared: Arc<Shared<M>>, config: Arc<ClientConfig>, dial: Dial) {
    let mut ended = Ended { shared: shared.clone(), link: dial.link, cause: None };
    let cause = match open(&shared, &config, &dial).await {
        Err(cause) => cause,
        Ok(connection) => {
            tracing::debug!("connected");
            let (link, versions) = (dial.link, connection.versions.clone());
            match shared.with(|machine, now| machine.handle(now, Input::Opened { link, versions })) {
                Ok(()) => Io::new(shared, config, link, connection).run().await,
                Err(cause) => cause,
            }
        }
    };
    tracing::debug!(%cause, "disconnected");
    ended.cause = Some(cause);
}

/// Opens the connection, unless everything is stopped meanwhile.
async fn open<M: Machine>(
    shared: &Shared<M>,
    config: &Arc<ClientConfig>,
    dial: &Dial,
) -> Result<Connection, Error> {
    let whom = Whom {
        host: &dial.host,
        port: dial.port,
        cluster_id: dial.cluster_id.clone(),
        node_id: dial.link.node.max(-1),
    };
    let opening = Connection::open(&*shared.world, config.clone(), whom, dial.timeout);
    let stopped = shared.until(|_| false);
    tokio::select! {
        biased;
        opened = opening => opened,
        _ = stopped => Err(Error::new(ErrorKind::Closed, "closed while connecting")),
    }
}
