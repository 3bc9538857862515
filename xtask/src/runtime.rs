//! Where everything that waits is done.

use crate::exit::Failure;

/// Does it on one thread: the kernel ties the life of a child to the thread that started it.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::error)?;
    let local = tokio::task::LocalSet::new();
    let done = runtime.block_on(local.run_until(work));
    // A download that is still under way must not hold the end up; it is tied to this process.
    runtime.shutdown_background();
    done
}
