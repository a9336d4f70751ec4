//! Asking several candidates for a few answers, without waiting for the slow ones.

use futures_util::{FutureExt as _, StreamExt as _, future::LocalBoxFuture, stream::FuturesUnordered};
use std::{collections::VecDeque, time::Duration};
use tokio::time::{Instant, timeout_at};

/// How many answers are wanted, and how long to wait for them.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How many candidates are asked at once, and after how many answers it is enough.
    pub wanted: usize,
    /// A candidate that takes longer gets company; and once there is an answer, the others get this long to follow.
    pub patience: Duration,
    /// When to stop in any case.
    pub deadline: Duration,
}

/// What came of it. Candidates are known by their number.
#[derive(Debug)]
pub struct Gathered<T, E> {
    /// Answers in the order of the candidates.
    pub answers: Vec<(usize, T)>,
    /// Failures in the order in which they happened.
    pub failures: Vec<(usize, E)>,
    /// Candidates that were asked and have not answered yet.
    pub unanswered: Vec<usize>,
    /// Their answers, when they come.
    pub late: FuturesUnordered<Ask<T, E>>,
}

/// A question on its way.
pub type Ask<T, E> = LocalBoxFuture<'static, (usize, Result<T, E>)>;

/// Asks candidates `0..count` in order: as many as are wanted at once, another one for each that fails, and one more
/// beside each that is slow.
pub async fn gather<T, E, F>(count: usize, pace: Pace, ask: impl Fn(usize) -> F) -> Gathered<T, E>
where
    F: Future<Output = Result<T, E>> + 'static,
{
    let mut deadline = Instant::now() + pace.deadline;
    let mut fresh = 0..count;
    let mut running = FuturesUnordered::new();
    let mut started = VecDeque::new();
    let mut unanswered = Vec::new();
    let (mut answers, mut failures) = (Vec::new(), Vec::new());
    let mut starts = pace.wanted;
    loop {
        for candidate in fresh.by_ref().take(std::mem::take(&mut starts)) {
            running.push(ask(candidate).map(move |answer| (candidate, answer)).boxed_local());
            started.push_back((Instant::now() + pace.patience, candidate));
            unanswered.push(candidate);
        }
        started.retain(|(_, candidate)| unanswered.contains(candidate));
        if answers.len() >= pace.wanted || running.is_empty() {
            break;
        }
        let slow = started.front().filter(|_| !fresh.is_empty()).map(|(slow, _)| *slow);
        match timeout_at(slow.map_or(deadline, |slow| slow.min(deadline)), running.next()).await {
            Ok(Some((candidate, answer))) => {
                unanswered.retain(|other| *other != candidate);
                match answer {
                    Ok(answer) => {
                        answers.push((candidate, answer));
                        deadline = deadline.min(Instant::now() + pace.patience);
                    }
                    Err(error) => {
                        failures.push((candidate, error));
                        starts = 1;
                    }
                }
            }
            Ok(None) => break,
            Err(_) if Instant::now() >= deadline => break,
            Err(_) => {
                started.pop_front();
                starts = 1;
            }
        }
    }
    answers.sort_by_key(|(candidate, _)| *candidate);
    Gathered { answers, failures, unanswered, late: running }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use tokio::time::sleep;

    const PACE: Pace = Pace { wanted: 1, patience: Duration::from_secs(3), deadline: Duration::from_secs(60) };
    const NEVER: u64 = 1_000_000;

    /// Candidates by number; times in milliseconds.
    struct Outcome {
        answers: Vec<usize>,
        failures: Vec<usize>,
        unanswered: Vec<usize>,
        asked: Vec<(usize, u128)>,
        took: u128,
    }

    async fn run(pace: Pace, candidates: &'static [(u64, bool)]) -> Outcome {
        tokio::time::pause();
        let begin = Instant::now();
        // The clock of paused time may be ahead by some milliseconds.
        let elapsed = || begin.elapsed().as_millis() / 10 * 10;
        let asked = RefCell::new(Vec::new());
        let gathered = gather(candidates.len(), pace, |candidate| {
            asked.borrow_mut().push((candidate, elapsed()));
            let (delay, succeeds) = candidates[candidate];
            async move {
                sleep(Duration::from_millis(delay)).await;
                if succeeds { Ok(candidate) } else { Err(candidate) }
            }
        })
        .await;
        assert!(gathered.answers.iter().all(|(number, answer)| number == answer));
        Outcome {
            answers: gathered.answers.iter().map(|(number, _)| *number).collect(),
            failures: gathered.failures.iter().map(|(number, _)| *number).collect(),
            unanswered: gathered.unanswered,
            asked: asked.into_inner(),
            took: elapsed(),
        }
    }

    #[tokio::test]
    async fn the_first_is_enough() {
        let outcome = run(PACE, &[(10, true), (1, true)]).await;
        assert_eq!((outcome.answers, outcome.asked, outcome.took), (vec![0], vec![(0, 0)], 10));
    }

    #[tokio::test]
    async fn a_failure_is_followed_by_the_next_at_once() {
        let outcome = run(PACE, &[(10, false), (20, false), (30, true)]).await;
        assert_eq!((outcome.answers, outcome.failures, outcome.took), (vec![2], vec![0, 1], 60));
    }

    #[tokio::test]
    async fn a_slow_one_gets_company_and_may_still_win() {
        let outcome = run(PACE, &[(4_000, true), (5_000, true), (1, true)]).await;
        assert_eq!((outcome.answers, outcome.unanswered), (vec![0], vec![1]));
        assert_eq!((outcome.asked, outcome.took), (vec![(0, 0), (1, 3_000)], 4_000));
    }

    #[tokio::test]
    async fn hanging_ones_are_passed_one_after_another() {
        let outcome = run(PACE, &[(NEVER, true), (NEVER, true), (50, true)]).await;
        assert_eq!((outcome.answers, outcome.unanswered, outcome.took), (vec![2], vec![0, 1], 6_050));
    }

    #[tokio::test]
    async fn several_are_asked_at_once_and_answers_keep_the_order_of_preference() {
        let pace = Pace { wanted: 3, ..PACE };
        let outcome = run(pace, &[(300, true), (200, false), (100, true), (50, true)]).await;
        assert_eq!((outcome.answers, outcome.failures, outcome.took), (vec![0, 2, 3], vec![1], 300));
        assert_eq!(outcome.asked, [(0, 0), (1, 0), (2, 0), (3, 200)]);
    }

    #[tokio::test]
    async fn one_that_hangs_does_not_hold_up_those_that_answered() {
        let pace = Pace { wanted: 3, ..PACE };
        let outcome = run(pace, &[(100, true), (NEVER, true), (200, true)]).await;
        assert_eq!((outcome.answers, outcome.unanswered, outcome.took), (vec![0, 2], vec![1], 3_100));
    }

    #[tokio::test]
    async fn the_deadline_ends_it() {
        let outcome = run(PACE, &[(NEVER, true)]).await;
        assert_eq!((outcome.answers, outcome.unanswered, outcome.took), (vec![], vec![0], 60_000));
    }

    #[tokio::test]
    async fn without_candidates_nothing_happens() {
        let outcome = run(PACE, &[]).await;
        assert_eq!((outcome.answers, outcome.took), (vec![], 0));
    }

    #[tokio::test]
    async fn late_answers_can_be_had() {
        tokio::time::pause();
        let gathered = gather(2, PACE, |candidate| async move {
            sleep(Duration::from_secs(5 - candidate as u64 * 4)).await;
            Ok::<_, ()>(candidate)
        })
        .await;
        assert_eq!(gathered.answers, [(1, 1)]);
        assert_eq!(gathered.late.collect::<Vec<_>>().await, [(0, Ok(0))]);
    }
}
