//! The memory of a saved machine as a file: copied without its zeros, and hashed on several threads.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::errno::Errno;
use nix::unistd::Whence;
use sha2::{Digest as _, Sha256};

use super::format::hex;

/// Number of bytes that are read, compared with zeros and written in one step.
pub(super) const BLOCK: u64 = 256 << 10;
/// Number of bytes that one thread hashes in one step.
pub(super) const CHUNK: u64 = 32 << 20;

/// Reads a memory of `size` bytes; returns the SHA-256 of each [`CHUNK`], over its blocks that are not all zeros and their
/// places. Those blocks are also written to `copy`. The same memory has the same hashes, wherever its file has holes.
pub(super) fn read_memory(memory: &File, size: u64, copy: Option<&File>) -> io::Result<Vec<String>> {
    let chunks = usize::try_from(size.div_ceil(CHUNK)).map_err(io::Error::other)?;
    let next = AtomicUsize::new(0);
    let hashes = Mutex::new(vec![String::new(); chunks]);
    let work = || -> io::Result<()> {
        let mut buffer = vec![0; BLOCK as usize];
        loop {
            let chunk = next.fetch_add(1, Ordering::Relaxed);
            if chunk >= chunks {
                return Ok(());
            }
            let start = chunk as u64 * CHUNK;
            let hash = hex(read_chunk(memory, start, size.min(start + CHUNK), copy, &mut buffer)?);
            hashes.lock().unwrap_or_else(|e| e.into_inner())[chunk] = hash;
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
        })
    })?;
    Ok(hashes.into_inner().unwrap_or_else(|e| e.into_inner()))
}

fn read_chunk(
    memory: &File,
    start: u64,
    end: u64,
    copy: Option<&File>,
    buffer: &mut [u8],
) -> io::Result<Sha256> {
    let mut hasher = Sha256::new();
    let mut at = start;
    while at < end {
        let data = match next_data(memory, at)? {
            None => return Ok(hasher),
            Some(data) => data,
        };
        at = at.max(data / BLOCK * BLOCK);
        if at >= end {
            return Ok(hasher);
        }
        let block = &mut buffer[..usize::try_from(BLOCK.min(end - at)).map_err(io::Error::other)?];
        memory.read_exact_at(block, at)?;
        if block.iter().any(|byte| *byte != 0) {
            hasher.update(at.to_le_bytes());
            hasher.update(&*block);
            if let Some(copy) = copy {
                copy.write_all_at(block, at)?;
            }
        }
        at += BLOCK;
    }
    Ok(hasher)
}

/// The beginning of the next data of a sparse file, from `at` on: `None` after the last.
fn next_data(file: &File, at: u64) -> io::Result<Option<u64>> {
    let at = i64::try_from(at).map_err(io::Error::other)?;
    match nix::unistd::lseek64(file, at, Whence::SeekData) {
        Err(Errno::ENXIO) => Ok(None),
        data => u64::try_from(data?).map(Some).map_err(io::Error::other),
    }
}

/// Copies the data, without the holes, of a memory of `size` bytes.
pub(super) fn copy_memory(memory: &File, size: u64, to: &File) -> io::Result<()> {
    let mut buffer = vec![0; BLOCK as usize];
    let mut at = 0;
    while at < size {
        at = match next_data(memory, at)? {
            None => return Ok(()),
            Some(data) => data / BLOCK * BLOCK,
        };
        let block = &mut buffer[..usize::try_from(BLOCK.min(size - at)).map_err(io::Error::other)?];
        memory.read_exact_at(block, at)?;
        to.write_all_at(block, at)?;
        at += BLOCK;
    }
    Ok(())
}
