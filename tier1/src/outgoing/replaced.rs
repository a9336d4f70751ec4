//! Clients that do not keep connections for ever.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long one is used.
const PERIOD: Duration = Duration::from_secs(10);

/// Something that is made anew every ten seconds, while those who have the former one go on with it.
///
/// `awc` looks at idle connections only when it wants one to the same server, so that those to cloudlets that are not asked
/// any more would stay open until there are no more file descriptors. They close with the client.
#[derive(Clone)]
pub(super) struct Replaced<T>(Rc<Inner<T>>);

struct Inner<T> {
    make: Box<dyn Fn() -> T>,
    current: RefCell<Option<(Instant, T)>>,
}

impl<T: Clone> Replaced<T> {
    pub(super) fn new(make: impl Fn() -> T + 'static) -> Self {
        Self(Rc::new(Inner { make: Box::new(make), current: RefCell::default() }))
    }

    /// The one of now.
    pub(super) fn get(&self, now: Instant) -> T {
        let mut current = self.0.current.borrow_mut();
        match &*current {
            Some((made, value)) if now < *made + PERIOD => value.clone(),
            _ => {
                let value = (self.0.make)();
                *current = Some((now, value.clone()));
                value
            }
        }
    }
}

impl<T> fmt::Debug for Replaced<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Replaced")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_used_for_a_while_and_then_dropped() {
        let replaced = Replaced::new(|| Rc::new(()));
        let begin = Instant::now();
        let first = replaced.get(begin);
        let weak = Rc::downgrade(&first);
        assert!(Rc::ptr_eq(&first, &replaced.get(begin + PERIOD / 2)));
        drop(first);
        assert!(weak.upgrade().is_some());
        let _second = replaced.get(begin + PERIOD);
        assert!(weak.upgrade().is_none(), "its connections are closed");
    }
}
