//! One request at a time for one question: whoever asks what is being asked already waits for that answer.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, PoisonError},
};

use super::{JudgeError, Judgement, Unjudged, cache::Key};

/// What became of a question.
pub(super) type Outcome = Result<Result<Judgement, Unjudged>, JudgeError>;

/// The questions that are being asked.
#[derive(Debug, Default)]
pub(super) struct Flights {
    open: Mutex<HashMap<Key, Arc<Flight>>>,
}

/// A question on its way.
#[derive(Debug, Default)]
pub(super) struct Flight {
    outcome: Mutex<Option<Outcome>>,
    landed: Condvar,
}

/// The part that a caller gets.
pub(super) enum Turn<'f> {
    /// To ask, and to tell the others.
    Lead(Lead<'f>),
    /// To wait.
    Follow(Arc<Flight>),
}

/// Who asks. Others wait until it lands, or is dropped.
pub(super) struct Lead<'f> {
    flights: &'f Flights,
    key: Key,
    flight: Arc<Flight>,
}

impl Flights {
    /// Leads if nobody else does.
    pub(super) fn join(&self, key: &Key) -> Turn<'_> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = open.get(key) {
            return Turn::Follow(Arc::clone(flight));
        }
        let flight = Arc::new(Flight::default());
        open.insert(key.clone(), Arc::clone(&flight));
        Turn::Lead(Lead { flights: self, key: key.clone(), flight })
    }
}

impl Flight {
    /// Waits for the leader.
    pub(super) fn wait(&self) -> Outcome {
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = self
            .landed
            .wait_while(outcome, |outcome| outcome.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        outcome.clone().unwrap_or_else(|| Err(JudgeError("the judge stopped".into())))
    }

    fn land(&self, outcome: Outcome) {
        let mut own = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        if own.is_none() {
            *own = Some(outcome);
            self.landed.notify_all();
        }
    }
}

impl Lead<'_> {
    pub(super) fn land(self, outcome: Outcome) {
        self.flight.land(outcome);
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.flights.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        self.flight.land(Err(JudgeError("the judge stopped while this was being asked".into())));
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use serde_json::json;

    use super::*;

    #[test]
    fn followers_get_what_the_leader_got() {
        let (flights, key) = (Flights::default(), Key::of(&[json!("x")]));
        let Turn::Lead(lead) = flights.join(&key) else { panic!("nobody else leads") };
        let outcome: Outcome = Ok(Ok(Judgement { scores: [3.0; 5] }));
        thread::scope(|scope| {
            let followers: Vec<_> = (0..4)
                .map(|_| {
                    let Turn::Follow(flight) = flights.join(&key) else { panic!("somebody leads") };
                    scope.spawn(move || flight.wait())
                })
                .collect();
            thread::sleep(Duration::from_millis(20));
            lead.land(outcome.clone());
            assert!(followers.into_iter().all(|follower| follower.join().unwrap() == outcome));
        });
        assert!(matches!(flights.join(&key), Turn::Lead(_)), "the flight is over");
    }

    #[test]
    fn a_leader_that_is_lost_leaves_nobody_waiting() {
        let (flights, key) = (Flights::default(), Key::of(&[]));
        let Turn::Lead(lead) = flights.join(&key) else { panic!("nobody else leads") };
        let Turn::Follow(flight) = flights.join(&key) else { panic!("somebody leads") };
        drop(lead);
        assert!(flight.wait().is_err());
    }
}
