//! Work on several cores at once.

use std::sync::{Mutex, PoisonError};

/// Gives the items out to the workers, each on a thread of its own but for the first, which works on this one. The results
/// are in the order of the items.
pub(crate) fn in_parallel<W: Send, T: Send, R: Send>(
    workers: &mut [W],
    items: Vec<T>,
    work: impl Fn(&mut W, T) -> R + Sync,
) -> Vec<R> {
    let count = items.len();
    let waiting = Mutex::new(items.into_iter().enumerate());
    let take = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    let run = |worker: &mut W| {
        let mut done = Vec::with_capacity(count);
        while let Some((number, item)) = take() {
            done.push((number, work(worker, item)));
        }
        done
    };
    let Some((first, others)) = workers.split_first_mut() else { return Vec::new() };
    let mut done = std::thread::scope(|scope| {
        let others: Vec<_> = others.iter_mut().map(|worker| scope.spawn(|| run(worker))).collect();
        let mut done = run(first);
        for other in others {
            match other.join() {
                Ok(more) => done.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items_whoever_made_them() {
        for workers in 1..5 {
            let mut made = vec![0; workers];
            let squares = in_parallel(&mut made, (0..100).collect(), |made, number: u64| {
                *made += 1;
                number * number
            });
            assert_eq!(squares, (0..100).map(|number| number * number).collect::<Vec<_>>());
            assert_eq!(made.iter().sum::<u64>(), 100);
        }
    }
}
