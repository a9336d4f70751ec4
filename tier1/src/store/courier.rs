//! Brings many answers to a thread at once, so that it is woken once for a group and not for each task.

use super::writer::Verdict;
use actix_web::rt;
use std::{cell::RefCell, sync::Arc};
use tokio::sync::{mpsc, oneshot};

/// An answer, and who waits for it.
pub(super) type Letter = (oneshot::Sender<Verdict>, Verdict);

/// Brings answers to one thread.
#[derive(Clone, Debug)]
pub(super) struct Courier(Arc<mpsc::UnboundedSender<Vec<Letter>>>);

thread_local! {
    static OF_THIS_THREAD: RefCell<Option<Courier>> = const { RefCell::new(None) };
}

impl Courier {
    /// The one of this thread, which has to have a runtime.
    pub(super) fn here() -> Self {
        OF_THIS_THREAD.with_borrow_mut(|known| {
            // The thread may have had a runtime before.
            let courier = known.take().filter(|courier| !courier.0.is_closed()).unwrap_or_else(Self::start);
            known.insert(courier).clone()
        })
    }

    fn start() -> Self {
        let (sender, mut letters) = mpsc::unbounded_channel::<Vec<Letter>>();
        rt::spawn(async move {
            while let Some(letters) = letters.recv().await {
                deliver(letters);
            }
        });
        Self(Arc::new(sender))
    }

    /// Whether both lead to the same thread.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Sends answers on their way.
    pub(super) fn send(&self, letters: Vec<Letter>) {
        // A thread that has ended waits for nothing.
        let _ = self.0.send(letters);
    }
}

fn deliver(letters: Vec<Letter>) {
    for (done, verdict) in letters {
        // Who asked may be gone.
        let _ = done.send(verdict);
    }
}
