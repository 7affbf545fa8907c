//! Names that are being made: a second request for the same name joins the first.
//!
//! What comes of an operation is not kept here. Whoever asks again after its end finds the object that it made, and
//! whether that is what the request means is for its verb to say.

use crate::ServiceError;
use crate::detached::detached_with;
use crate::progress::{Progress, SoFar};
use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The names in flight, each with what was asked for and where its result will appear.
#[derive(Debug)]
pub struct Claims<N, S, R> {
    inner: Mutex<HashMap<N, Flight<S, R>>>,
}

#[derive(Debug)]
struct Flight<S, R> {
    spec: S,
    progress: Arc<Progress>,
    result: Landing<R>,
}

type Outcome<R> = Option<Result<R, Arc<ServiceError>>>;
type Landing<R> = watch::Receiver<Outcome<R>>;

/// What a request for a name is to do.
#[derive(Debug)]
pub enum Claim<N: Eq + Hash, S, R> {
    /// Make it, and land it.
    Mine(Ticket<N, S, R>),
    /// Wait for the one who makes it.
    Joined(Joined<R>),
    /// Somebody makes it with other content, and is so far.
    Conflict(SoFar),
}

/// The right and duty to make a name. Dropped without a landing, it frees the name.
#[derive(Debug)]
pub struct Ticket<N: Eq + Hash, S, R> {
    claims: Arc<Claims<N, S, R>>,
    name: N,
    progress: Arc<Progress>,
    result: watch::Sender<Outcome<R>>,
}

/// Somebody else's result, to come.
#[derive(Debug)]
pub struct Joined<R>(Landing<R>);

impl<N, S, R> Default for Claims<N, S, R> {
    fn default() -> Self {
        Self { inner: Mutex::new(HashMap::new()) }
    }
}

impl<N: Clone + Eq + Hash, S: PartialEq, R: Clone> Claims<N, S, R> {
    /// Claims `name` for a request of this content.
    pub fn claim(self: &Arc<Self>, name: &N, spec: S) -> Claim<N, S, R> {
        let mut inner = self.lock();
        if let Some(flight) = inner.get(name) {
            return if flight.spec == spec {
                Claim::Joined(Joined(flight.result.clone()))
            } else {
                Claim::Conflict(flight.progress.so_far())
            };
        }
        let (result, landing) = watch::channel(None);
        let progress = Arc::new(Progress::default());
        let flight = Flight { spec, progress: Arc::clone(&progress), result: landing };
        inner.insert(name.clone(), flight);
        Claim::Mine(Ticket { claims: Arc::clone(self), name: name.clone(), progress, result })
    }
}

impl<N, S, R> Claims<N, S, R>
where
    N: Clone + Eq + Hash + Send + 'static,
    S: Clone + PartialEq + Send + 'static,
    R: Clone + Send + Sync + 'static,
{
    /// Carries out `operation` for `name` in a task of its own, or waits for the one that does so for the same content.
    ///
    /// # Errors
    /// How far another one is that does so for other content.
    pub async fn carry_out<F>(
        self: &Arc<Self>,
        name: &N,
        spec: S,
        operation: impl FnOnce() -> F,
    ) -> Result<Result<R, ServiceError>, SoFar>
    where
        F: Future<Output = Result<R, ServiceError>> + Send + 'static,
    {
        loop {
            match self.claim(name, spec.clone()) {
                Claim::Mine(ticket) => {
                    let progress = Arc::clone(&ticket.progress);
                    let operation = operation();
                    let landed = async move { ticket.land(operation.await) };
                    return Ok(detached_with(progress, landed).await);
                }
                Claim::Joined(joined) => {
                    if let Some(result) = joined.result().await {
                        return Ok(result);
                    }
                }
                Claim::Conflict(so_far) => return Err(so_far),
            }
        }
    }
}

impl<N, S, R> Claims<N, S, R> {
    fn lock(&self) -> MutexGuard<'_, HashMap<N, Flight<S, R>>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<N: Eq + Hash, S, R: Clone> Ticket<N, S, R> {
    /// Publishes the result to all who joined, and frees the name.
    ///
    /// # Errors
    /// The error that was landed, shared.
    pub fn land(self, result: Result<R, ServiceError>) -> Result<R, ServiceError> {
        let shared = result.map_err(Arc::new);
        self.result.send_replace(Some(shared.clone()));
        shared.map_err(ServiceError::Joined)
    }
}

impl<N: Eq + Hash, S, R> Drop for Ticket<N, S, R> {
    fn drop(&mut self) {
        self.claims.lock().remove(&self.name);
    }
}

impl<R: Clone> Joined<R> {
    /// The result, when it is there; `None` if its maker died without one: then claim again.
    ///
    /// # Errors
    /// The maker's error.
    pub async fn result(mut self) -> Option<Result<R, ServiceError>> {
        let landed = self.0.wait_for(Option::is_some).await.ok()?;
        landed.clone().map(|result| result.map_err(ServiceError::Joined))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    type Names = Claims<&'static str, u32, u64>;

    #[tokio::test]
    async fn a_request_of_the_same_content_gets_the_result_of_the_first() {
        let claims = Arc::new(Names::default());
        let Claim::Mine(ticket) = claims.claim(&"a", 1) else { panic!("not mine") };
        let Claim::Joined(joined) = claims.claim(&"a", 1) else { panic!("not joined") };
        assert!(matches!(claims.claim(&"a", 2), Claim::Conflict(_)));
        assert_eq!(ticket.land(Ok(7)).unwrap(), 7);
        assert_eq!(joined.result().await.unwrap().unwrap(), 7);
        assert!(matches!(claims.claim(&"a", 2), Claim::Mine(_)));
    }

    #[tokio::test]
    async fn an_operation_outlives_its_client_and_is_joined() {
        let claims = Arc::new(Names::default());
        let (go, gone) = tokio::sync::oneshot::channel();
        let operation = move || async move { Ok(gone.await.unwrap_or(0)) };
        let first = tokio::time::timeout(Duration::ZERO, claims.carry_out(&"a", 1, operation));
        first.await.unwrap_err();
        let never = || async { panic!("a second operation") };
        let refused = claims.carry_out(&"a", 2, never).await.unwrap_err();
        assert_eq!(refused.stage, "begin");
        let again = claims.carry_out(&"a", 1, never);
        tokio::pin!(again);
        tokio::time::timeout(Duration::ZERO, &mut again).await.unwrap_err();
        go.send(7).unwrap();
        assert_eq!(again.await.unwrap().unwrap(), 7);
    }

    #[tokio::test]
    async fn a_maker_that_dies_frees_the_name_and_those_who_wait() {
        let claims = Arc::new(Names::default());
        let Claim::Mine(ticket) = claims.claim(&"a", 1) else { panic!("not mine") };
        let Claim::Joined(joined) = claims.claim(&"a", 1) else { panic!("not joined") };
        drop(ticket);
        assert!(joined.result().await.is_none());
        assert!(matches!(claims.claim(&"a", 1), Claim::Mine(_)));
    }
}
