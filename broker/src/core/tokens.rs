//! Delegation tokens (KIP-48, KIP-373): who may log in for whom, and until when.
//!
//! It owns the tokens. It refuses to know requests. Invariant: a token that has expired is no token any more, whoever asks.

use ottla_protocol::wire::Str;
use std::collections::BTreeMap;
use std::fmt;

/// A token. Its key is its HMAC, which nobody can make who does not know the broker's secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) id: Str,
    pub(crate) hmac: Vec<u8>,
    pub(crate) owner: Str,
    pub(crate) requester: Str,
    pub(crate) renewers: Vec<Str>,
    pub(crate) issued_ms: i64,
    pub(crate) expires_ms: i64,
    /// It cannot be renewed beyond this.
    pub(crate) ends_ms: i64,
}

impl Token {
    /// Whether somebody has to do with it: its owner, who asked for it, who may renew it.
    pub(crate) fn concerns(&self, principal: &str) -> bool {
        let named = [&self.owner, &self.requester].into_iter().chain(&self.renewers);
        named.into_iter().any(|it| **it == *principal)
    }
}

/// See the head of the file.
#[derive(Default)]
pub(crate) struct Tokens {
    by_id: BTreeMap<Str, Token>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("tokens", &self.by_id.len()).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Those that count at this time.
    pub(crate) fn iter(&mut self, now_ms: i64) -> impl Iterator<Item = &Token> {
        self.forget_expired(now_ms);
        self.by_id.values()
    }

    pub(crate) fn get(&mut self, id: &str, now_ms: i64) -> Option<&Token> {
        self.forget_expired(now_ms);
        self.by_id.get(id)
    }

    pub(crate) fn find(&mut self, hmac: &[u8], now_ms: i64) -> Option<&mut Token> {
        self.forget_expired(now_ms);
        self.by_id.values_mut().find(|token| token.hmac == hmac)
    }

    pub(crate) fn insert(&mut self, token: Token) {
        self.by_id.insert(token.id.clone(), token);
    }

    pub(crate) fn remove(&mut self, id: &str) {
        self.by_id.remove(id);
    }

    fn forget_expired(&mut self, now_ms: i64) {
        self.by_id.retain(|_, token| token.expires_ms > now_ms);
    }
}
