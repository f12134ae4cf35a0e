//! A value that is expensive to make, shared by the tests of a module: made by the first that asks, and dropped once
//! tests of another module have asked for theirs and the last test that holds it has ended. Tests run in the order of
//! their names, module by module, so each value is made once.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Keeps the value that was requested last while no test holds it.
static LATEST: Mutex<Option<Arc<dyn Any + Send + Sync>>> = Mutex::new(None);

/// See the module.
pub struct Shared<T> {
    make: fn() -> T,
    made: Mutex<Weak<T>>,
}

impl<T: Send + Sync + 'static> Shared<T> {
    pub const fn new(make: fn() -> T) -> Self {
        Self { make, made: Mutex::new(Weak::new()) }
    }

    /// A test calls this first and keeps the value until its end. If making it failed once, all callers fail.
    pub fn get(&self) -> Arc<T> {
        let mut made = self.made.lock().expect("it could not be made for an earlier test");
        let value = made.upgrade().unwrap_or_else(|| {
            // Dropped first, so that two do not exist at the same time unless a test still holds the old one.
            drop(replace_latest(None));
            Arc::new((self.make)())
        });
        *made = Arc::downgrade(&value);
        drop(replace_latest(Some(value.clone())));
        value
    }
}

/// Returns the one before, so that it is dropped outside the lock.
fn replace_latest(value: Option<Arc<dyn Any + Send + Sync>>) -> Option<Arc<dyn Any + Send + Sync>> {
    std::mem::replace(&mut LATEST.lock().unwrap_or_else(PoisonError::into_inner), value)
}
