//! A request to end, for everything that runs.

use tokio::sync::watch;

/// The user's request to end the harness, shared with everything that runs.
#[derive(Debug, Clone)]
pub struct Cancellation(watch::Receiver<bool>);

impl Cancellation {
    /// A cancellation and its trigger: send `true`.
    pub fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Whether it was triggered.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is triggered; forever if it never is.
    pub async fn requested(&mut self) {
        if self.0.wait_for(|requested| *requested).await.is_err() {
            std::future::pending().await
        }
    }
}
