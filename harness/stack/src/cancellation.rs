//! A request to end, for everything that runs.

use tokio::sync::watch;

/// The request of the user that the harness ends, as everything that runs sees it.
#[derive(Debug, Clone)]
pub struct Cancellation(watch::Receiver<bool>);

impl Cancellation {
    /// A cancellation and what triggers it: send `true`.
    pub fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Whether it was triggered.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is triggered; for ever if it never is.
    pub async fn requested(&mut self) {
        if self.0.wait_for(|requested| *requested).await.is_err() {
            std::future::pending().await
        }
    }
}
