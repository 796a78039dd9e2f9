//! Transactions of two phases (KIP-939): prepared here, decided elsewhere, ended by whoever is this producer then.
//!
//! It owns the way from an open transaction to one that nothing can fail any more, and the one that an earlier instance has left.
//! It refuses to know who decides. Invariant: a prepared transaction is aborted only if its user says so.

use ottla_protocol::messages::InitProducerIdResponse;

use super::{Phase, Transaction};
use crate::core::cluster::Cluster;
use crate::core::sequence::Identity;
use crate::error::{Error, ErrorKind};

impl Transaction {
    /// We have a name. What an earlier instance prepared, if it was to be kept, is ours to end.
    pub(super) fn inherit(&mut self, named: &InitProducerIdResponse, cluster: &Cluster) {
        if let Err(error) = self.learn_protocol(cluster) {
            return self.break_down(&error);
        }
        let (id, epoch) = (named.ongoing_txn_producer_id, named.ongoing_txn_producer_epoch);
        if std::mem::take(&mut self.keeps) && id >= 0 {
            self.begun += 1;
            (self.touched, self.opened) = (true, true);
            self.phase = Phase::Prepared(Identity { id, epoch });
        }
    }

    /// Nothing more comes into the open transaction, which is to be prepared.
    pub(crate) fn prepare(&mut self) -> Result<(), Error> {
        self.accepts()?;
        if !self.two_phase {
            let message =
                format!("transactional id {}: transaction.two.phase.commit.enable is not set", self.id);
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        self.phase = Phase::Preparing;
        Ok(())
    }

    /// Whether [`Transaction::take_prepared`] has an answer. `quiet`: no batch is unsettled.
    pub(crate) fn is_prepared(&self, quiet: bool) -> bool {
        let ready = quiet && self.out.is_none() && self.offsets.is_empty();
        !matches!(self.phase, Phase::Preparing) || self.failed.is_some() || ready
    }

    /// As whom the transaction is prepared. One that is not by now never will be.
    pub(crate) fn take_prepared(&mut self, quiet: bool) -> Result<Identity, Error> {
        let late = Error::new(ErrorKind::Timeout, "no answer came in time");
        match (&self.phase, self.identity) {
            (Phase::Fatal(error), _) => return Err(error.clone()),
            (Phase::Preparing, Some(identity)) if self.failed.is_none() && self.is_prepared(quiet) => {
                self.phase = Phase::Prepared(identity);
                return Ok(identity);
            }
            _ => self.fail(&late),
        }
        Err(self.aborted(self.failed.as_ref()))
    }

    /// The transaction that is prepared: its number, and as whom it was.
    pub(crate) fn prepared(&self) -> Result<Option<(u64, Identity)>, Error> {
        match &self.phase {
            Phase::Prepared(identity) => Ok(Some((self.begun, *identity))),
            Phase::Ready => Ok(None),
            Phase::Fatal(error) => Err(error.clone()),
            _ => Err(self.not_ready()),
        }
    }

    /// Ends the prepared transaction. The decision is never changed, however long the coordinator takes.
    pub(crate) fn end_prepared(&mut self, commit: bool) {
        if matches!(self.phase, Phase::Prepared(_)) {
            self.phase = Phase::Ending { commit, decided: self.touched, lost: false };
        }
    }
}
