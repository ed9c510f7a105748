//! The crate's one way to lock a mutex.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks it, also after a panic of a thread that had it: what these mutexes guard
/// is whole after every single change.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
