//! Keeps the token of a client for as long as it can be used, and gets the next one before that.
//!
//! It owns the token in use, and one task while there is one with an end. It refuses to know where tokens come from.
//! Invariants: one is asked for at a time, however many connections log in; nobody waits for a new one while the one at hand is
//! good; a token that a broker has refused is not used again.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio::time::{Instant, sleep_until};

use super::token::{Token, TokenError, TokenProvider};
use crate::core::backoff::{Backoff, Random};
use crate::world::World;

/// When a token is replaced by the next one: the `sasl.login.refresh.` settings, with Kafka's defaults.
///
/// A token with an end is replaced when `window_factor` of its life is over, and up to `window_jitter` of it later, by chance: not
/// sooner than `min_period` after it came, and not later than `buffer` before it ends. Where its life is too short for both of them,
/// neither counts. While that fails it is tried again, with growing waits; the old token is used until it ends.
///
/// ```
/// use ottla::{Sasl, TokenFile, TokenRefresh};
///
/// let refresh = TokenRefresh { window_factor: 0.5, ..TokenRefresh::default() };
/// let sasl = Sasl::oauth_bearer(TokenFile::new("token")).token_refresh(refresh);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenRefresh {
    /// `sasl.login.refresh.window.factor`. Default 0.8, from 0.5 to 1.
    pub window_factor: f64,
    /// `sasl.login.refresh.window.jitter`. Default 0.05, from 0 to 0.25.
    pub window_jitter: f64,
    /// `sasl.login.refresh.min.period.seconds`. Default 60 s, up to 15 min.
    pub min_period: Duration,
    /// `sasl.login.refresh.buffer.seconds`. Default 5 min, up to 1 h.
    pub buffer: Duration,
    /// The first wait after a failure (`sasl.login.retry.backoff.ms`). Default 100 ms.
    pub retry_backoff: Duration,
    /// The longest wait after failures (`sasl.login.retry.backoff.max.ms`). Default 10 s.
    pub retry_backoff_max: Duration,
}

impl Default for TokenRefresh {
    fn default() -> Self {
        TokenRefresh {
            window_factor: 0.8,
            window_jitter: 0.05,
            min_period: Duration::from_secs(60),
            buffer: Duration::from_secs(300),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(10),
        }
    }
}

impl TokenRefresh {
    /// How long after it came a token is replaced. `chance` is from 0 to 1.
    fn pause(&self, lifetime: Duration, chance: f64) -> Duration {
        let part = (self.window_factor + self.window_jitter * chance).clamp(0.0, 1.0);
        let window = Duration::try_from_secs_f64(lifetime.as_secs_f64() * part).unwrap_or(lifetime);
        match lifetime.checked_sub(self.buffer) {
            Some(last) if last >= self.min_period => window.clamp(self.min_period, last),
            _ => window,
        }
    }
}

/// Longer ones are replaced all the same.
const LIFETIME_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The token of one client, and of every clone of its settings.
pub(super) struct Keeper {
    provider: Arc<dyn TokenProvider>,
    refresh: TokenRefresh,
    held: Mutex<Option<Held>>,
    /// Whoever has it asks the provider.
    turn: AsyncMutex<()>,
    /// Ends the task when nobody has the keeper any more.
    over: Arc<Notify>,
}

struct Held {
    token: Token,
    came: Instant,
    lifetime: Duration,
    /// The task that will replace it runs.
    watched: bool,
}

impl Held {
    fn is_good(&self) -> bool {
        self.came.elapsed() < self.lifetime
    }
}

impl Keeper {
    pub(super) fn new(provider: Arc<dyn TokenProvider>, refresh: TokenRefresh) -> Self {
        let (held, turn, over) = (Mutex::default(), AsyncMutex::default(), Arc::default());
        Keeper { provider, refresh, held, turn, over }
    }

    pub(super) fn with(&self, refresh: TokenRefresh) -> Self {
        Keeper::new(self.provider.clone(), refresh)
    }

    pub(super) fn refresh(&self) -> &TokenRefresh {
        &self.refresh
    }

    /// A token that is good now. Dropping the future leaves the question to whoever waits next.
    pub(super) async fn token(self: &Arc<Self>, world: &dyn World) -> Result<Token, TokenError> {
        if let Some(token) = self.held() {
            return Ok(token);
        }
        let _turn = self.turn.lock().await;
        // Somebody may have got one meanwhile.
        if let Some(token) = self.held() {
            return Ok(token);
        }
        let token = self.ask().await?;
        if self.watch() {
            let (keeper, over) = (Arc::downgrade(self), self.over.clone());
            world.spawn("token", Box::pin(replace(keeper, over, Random::new(world.random()))));
        }
        Ok(token)
    }

    /// A broker does not believe in the token: the next login gets another one.
    pub(super) fn refused(&self) {
        let mut held = self.held.lock();
        if let Some(held) = &mut *held {
            held.lifetime = Duration::ZERO;
        }
    }

    fn held(&self) -> Option<Token> {
        let held = self.held.lock();
        held.as_ref().filter(|held| held.is_good()).map(|held| held.token.clone())
    }

    /// Asks the provider; the caller has the turn.
    async fn ask(&self) -> Result<Token, TokenError> {
        let token = self.provider.token().await?;
        token.check()?;
        let mut held = self.held.lock();
        let watched = held.as_ref().is_some_and(|held| held.watched);
        *held = match token.lifetime {
            Some(lifetime) => {
                let lifetime = lifetime.min(LIFETIME_MAX);
                Some(Held { token: token.clone(), came: Instant::now(), lifetime, watched })
            }
            None => None,
        };
        Ok(token)
    }

    /// Whether there is a token with an end that no task looks after; from here on one does.
    fn watch(&self) -> bool {
        let mut held = self.held.lock();
        held.as_mut().is_some_and(|held| !std::mem::replace(&mut held.watched, true))
    }

    /// When the token at hand is to be replaced.
    fn due(&self, chance: f64) -> Option<Instant> {
        let held = self.held.lock();
        let held = held.as_ref()?;
        Some(held.came + self.refresh.pause(held.lifetime, chance))
    }

    /// Gets the next token, unless somebody has since `asked`.
    async fn renew(&self, asked: Instant) -> Result<(), TokenError> {
        let _turn = self.turn.lock().await;
        if self.held.lock().as_ref().is_some_and(|held| held.came > asked && held.is_good()) {
            return Ok(());
        }
        self.ask().await.map(drop)
    }
}

/// Replaces each token before it ends, until the keeper is gone or tokens come that have no end.
async fn replace(keeper: Weak<Keeper>, over: Arc<Notify>, mut random: Random) {
    let mut failures: Option<Backoff> = None;
    loop {
        let Some(at) = keeper.upgrade().and_then(|keeper| match &mut failures {
            Some(backoff) => Some(Instant::now() + backoff.next(&mut random)),
            None => keeper.due(random.below(1_001) as f64 / 1_000.0),
        }) else {
            return;
        };
        tokio::select! {
            biased;
            () = over.notified() => return,
            () = sleep_until(at) => {}
        }
        let Some(keeper) = keeper.upgrade() else { return };
        let rules = keeper.refresh;
        match keeper.renew(at).await {
            Ok(()) => failures = None,
            Err(cause) => {
                tracing::warn!(%cause, "no new token so far");
                failures.get_or_insert_with(|| Backoff::new(rules.retry_backoff, rules.retry_backoff_max));
            }
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.over.notify_one();
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("refresh", &self.refresh).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::connect::Tcp;

    const SECOND: Duration = Duration::from_secs(1);

    /// Numbered tokens that are good for 100 s and take a second to get; those whose number is in `failing` do not come.
    fn keeper(failing: std::ops::Range<u64>) -> (Arc<Keeper>, Arc<AtomicU64>) {
        let asked = Arc::new(AtomicU64::new(0));
        let counter = asked.clone();
        let provider = move || {
            let (number, failing) = (counter.fetch_add(1, Ordering::Relaxed), failing.clone());
            async move {
                tokio::time::sleep(SECOND).await;
                match failing.contains(&number) {
                    true => Err(std::io::Error::other("nobody is there").into()),
                    false => Ok(Token::new(number.to_string()).valid_for(SECOND * 100)),
                }
            }
        };
        (Arc::new(Keeper::new(Arc::new(provider), TokenRefresh::default())), asked)
    }

    async fn number(keeper: &Arc<Keeper>) -> String {
        let token = keeper.token(&Tcp::default()).await.expect("it comes");
        String::from_utf8(token.value.expose().to_vec()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn many_logins_at_once_ask_for_one_token() {
        let (keeper, asked) = keeper(0..0);
        let numbers = tokio::join!(number(&keeper), number(&keeper), number(&keeper));
        assert_eq!(numbers, ("0".into(), "0".into(), "0".into()));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    /// SEC16.
    #[tokio::test(start_paused = true)]
    async fn the_next_token_is_there_before_the_last_one_ends_and_nobody_waits_for_it() {
        let (keeper, _) = keeper(0..0);
        assert_eq!(number(&keeper).await, "0");
        for expected in ["1", "2", "3"] {
            // 80 to 85 of 100 seconds, and one to get it.
            tokio::time::sleep(SECOND * 90).await;
            let start = Instant::now();
            assert_eq!(number(&keeper).await, expected);
            assert_eq!(start.elapsed(), Duration::ZERO);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn while_no_new_token_comes_the_old_one_is_used_until_it_ends() {
        let (keeper, asked) = keeper(1..1_000);
        assert_eq!(number(&keeper).await, "0");
        tokio::time::sleep(SECOND * 99).await;
        assert_eq!(number(&keeper).await, "0");
        assert!((3..20).contains(&asked.load(Ordering::Relaxed)), "it is tried again, with growing waits");
        tokio::time::sleep(SECOND * 2).await;
        let error = keeper.token(&Tcp::default()).await.expect_err("none is left");
        assert!(error.downcast_ref::<std::io::Error>().is_some(), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_was_refused_is_not_used_again() {
        let (keeper, _) = keeper(0..0);
        assert_eq!(number(&keeper).await, "0");
        keeper.refused();
        assert_eq!(number(&keeper).await, "1");
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_that_is_given_up_leaves_the_question_to_the_next() {
        let (keeper, asked) = keeper(0..0);
        let half = Duration::from_millis(500);
        tokio::time::timeout(half, keeper.token(&Tcp::default())).await.expect_err("it takes a second");
        assert_eq!(number(&keeper).await, "1");
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_asks_for_tokens_when_the_client_is_gone() {
        let (keeper, asked) = keeper(0..0);
        number(&keeper).await;
        let weak = Arc::downgrade(&keeper);
        drop(keeper);
        tokio::time::sleep(SECOND * 1_000).await;
        assert_eq!((asked.load(Ordering::Relaxed), weak.strong_count()), (1, 0));
    }

    #[test]
    fn a_token_is_replaced_when_kafkas_clients_would() {
        let rules = TokenRefresh::default();
        let pause =
            |seconds: u64, chance| rules.pause(SECOND * u32::try_from(seconds).unwrap(), chance).as_secs();
        assert_eq!(pause(3_600, 0.0), 2_880);
        assert_eq!(pause(3_600, 1.0), 3_060);
        // 300 s before its end at the latest, 60 s after its beginning at the soonest, and else neither counts.
        assert_eq!(pause(900, 1.0), 600);
        assert_eq!(pause(360, 0.0), 60);
        assert_eq!(pause(100, 0.0), 80);
        assert_eq!(rules.pause(Duration::ZERO, 1.0), Duration::ZERO);
        assert!(rules.pause(Duration::MAX, 1.0) <= Duration::MAX);
    }
}
