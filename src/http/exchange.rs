//! One connection: the request arrives, the answer leaves, the connection ends. Each step has a limit of size and a deadline,
//! so that nobody can hold a connection by doing nothing. The caller decides what is answered.

use super::request::{self, HEAD_MAX, Refusal, Request};
use crate::time::{Duration, Instant};

/// How long the request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the answer may take to leave.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the other side may take to close after it has the answer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The most bytes that are read and thrown away after the answer: closed with something unread, TCP would take the
/// answer back.
const SURPLUS_MAX: usize = 64 * 1024;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Request,
    Answer,
    /// The answer has left; the other side has to close.
    Ending,
    Over,
}

/// One request and its answer.
#[derive(Debug)]
pub struct Exchange {
    step: Step,
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    surplus: usize,
    deadline: Instant,
}

impl Exchange {
    /// A connection that was just accepted.
    pub fn new(now: Instant) -> Exchange {
        Exchange {
            step: Step::Request,
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
            surplus: 0,
            deadline: now.after(REQUEST_TIMEOUT),
        }
    }

    /// When `expire` has to be called.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Ends the connection if its time is over.
    pub fn expire(&mut self, now: Instant) {
        if now >= self.deadline {
            self.step = Step::Over;
        }
    }

    /// Whether nothing is left to do: the connection is to be closed.
    pub fn is_over(&self) -> bool {
        self.step == Step::Over
    }

    /// Whether bytes from the connection are of use. While the answer leaves they are not.
    pub fn reads(&self) -> bool {
        matches!(self.step, Step::Request | Step::Ending)
    }

    /// Takes bytes that have arrived. If they complete the request, `answer` is asked for the answer. `host`: as for
    /// `request::parse`.
    pub fn received(
        &mut self,
        bytes: &[u8],
        host: Option<&str>,
        now: Instant,
        answer: impl FnOnce(Result<Request, Refusal>) -> Vec<u8>,
    ) {
        match self.step {
            Step::Request => {
                let room = (HEAD_MAX + 1).saturating_sub(self.input.len());
                self.surplus += bytes.len().saturating_sub(room);
                self.input
                    .extend_from_slice(&bytes[..bytes.len().min(room)]);
                if let Some(request) = request::parse(&self.input, host) {
                    self.input = Vec::new();
                    self.output = answer(request);
                    self.step = Step::Answer;
                    self.deadline = now.after(ANSWER_TIMEOUT);
                }
            }
            Step::Answer | Step::Ending => self.surplus += bytes.len(),
            Step::Over => {}
        }
        if self.surplus > SURPLUS_MAX {
            self.step = Step::Over;
        }
    }

    /// The other side has closed its half.
    pub fn closed(&mut self) {
        if self.step != Step::Answer {
            self.step = Step::Over;
        }
    }

    /// The connection is of no more use.
    pub fn fail(&mut self) {
        self.step = Step::Over;
    }

    /// What is to be written.
    pub fn unsent(&self) -> &[u8] {
        match self.step {
            Step::Answer => &self.output[self.written..],
            _ => &[],
        }
    }

    /// The first `n` bytes of `unsent` were written. True once, when all were and the writing half is to be shut down.
    pub fn wrote(&mut self, n: usize, now: Instant) -> bool {
        self.written += n;
        let done = self.step == Step::Answer && self.written >= self.output.len();
        if done {
            self.output = Vec::new();
            self.step = Step::Ending;
            self.deadline = now.after(CLOSE_TIMEOUT);
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: Result<Request, Refusal>) -> Vec<u8> {
        panic!("no request yet")
    }

    #[test]
    fn from_the_request_to_the_end() {
        let at = |ms| Instant::from_millis(ms);
        let mut exchange = Exchange::new(at(0));
        exchange.received(b"GET / HTTP/1.1\r\nHost: loc", None, at(1), none);
        assert!(exchange.step == Step::Request && exchange.unsent().is_empty());
        exchange.received(b"alhost\r\n\r\nmore", None, at(2), |request| {
            assert!(request.is_ok());
            b"answer".to_vec()
        });
        assert!(!exchange.reads());
        assert!(!exchange.wrote(4, at(3)));
        assert_eq!(exchange.unsent(), b"er");
        // whoever closes his half first still gets the answer
        exchange.closed();
        assert!(exchange.wrote(2, at(4)) && exchange.reads() && !exchange.is_over());
        assert_eq!(exchange.deadline(), at(2004));
        exchange.closed();
        assert!(exchange.is_over());
    }

    #[test]
    fn every_step_has_its_time_and_its_size() {
        let at = |ms| Instant::from_millis(ms);
        let mut slow = Exchange::new(at(0));
        for second in 0..5 {
            slow.received(b"G", None, at(second * 1000), |_| b"refused".to_vec());
            slow.expire(at(second * 1000));
            assert!(!slow.is_over());
        }
        slow.expire(at(5000));
        assert!(slow.is_over());
        let whole = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let mut lazy = Exchange::new(at(0));
        lazy.received(whole, None, at(0), |_| vec![0; 100]);
        lazy.wrote(50, at(19_000));
        lazy.expire(at(20_000));
        assert!(lazy.is_over());
        let mut chatty = Exchange::new(at(0));
        chatty.received(whole, None, at(0), |_| vec![0]);
        chatty.wrote(1, at(0));
        (0..65).for_each(|_| chatty.received(&[0; 1024], None, at(1), none));
        assert!(chatty.is_over());
        let mut endless = Exchange::new(at(0));
        let mut answers = 0;
        for _ in 0..9 {
            let answer = |request: Result<Request, Refusal>| {
                assert!(request.is_err());
                answers += 1;
                vec![0]
            };
            endless.received(&[b'a'; 1024], None, at(0), answer);
        }
        assert_eq!((answers, endless.input.len()), (1, 0));
    }
}
