//! Runs asynchronous work.

use crate::exit::Failure;

/// Runs it on one thread, since the parent death signal of a child belongs to the thread that started it.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::error)?;
    let local = tokio::task::LocalSet::new();
    let done = runtime.block_on(local.run_until(work));
    // Do not wait for an unfinished download; it ends with this process.
    runtime.shutdown_background();
    done
}
