//! The faults of a proxy, and which request gets which.

use super::Kind;
use std::io;
use std::time::Duration;

/// A fault of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Status 500, 502, 503 or 504. The server never sees the request.
    Error,
    /// Status 429, or 503 with the code `SlowDown`. The server never sees the request.
    Throttle,
    /// The response stops for [`Faults::stall_time`], before its head or in its body, and goes on.
    Stall,
    /// The connection ends in the body of the request, for both sides. If the request has no body,
    /// the server never sees it.
    CutRequest,
    /// The connection ends in the body of the response; in its head if it has no body. The server
    /// has carried the request out.
    CutResponse,
    /// The response says another length than it has. A shorter one ends where it says. Happens only
    /// to responses that give a length.
    WrongLength,
    /// One bit of the body of a successful response is inverted. Happens only to responses with a
    /// body.
    Flip,
    /// The server carries the request out, and the connection ends before the reply.
    LoseReply,
}

impl Fault {
    /// All faults.
    pub const ALL: [Fault; 8] = [
        Fault::Error,
        Fault::Throttle,
        Fault::Stall,
        Fault::CutRequest,
        Fault::CutResponse,
        Fault::WrongLength,
        Fault::Flip,
        Fault::LoseReply,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Fault::Error => "error",
            Fault::Throttle => "throttle",
            Fault::Stall => "stall",
            Fault::CutRequest => "cut request",
            Fault::CutResponse => "cut response",
            Fault::WrongLength => "wrong length",
            Fault::Flip => "flip",
            Fault::LoseReply => "lost reply",
        }
    }
}

/// How often each fault happens, as a fraction of the requests. The sum must not exceed 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    /// Decides which requests get a fault, and where.
    pub seed: u64,
    /// Time by which every request is delayed.
    pub latency: Duration,
    /// Maximum of a further random delay.
    pub jitter: Duration,
    /// Bytes of responses a second, for all connections together; no limit if `None`.
    pub link: Option<u64>,
    /// Rate of [`Fault::Error`].
    pub error: f64,
    /// Rate of [`Fault::Throttle`].
    pub throttle: f64,
    /// Rate of [`Fault::Stall`].
    pub stall: f64,
    /// Duration of a stall.
    pub stall_time: Duration,
    /// Rate of [`Fault::CutRequest`].
    pub cut_request: f64,
    /// Rate of [`Fault::CutResponse`].
    pub cut_response: f64,
    /// Rate of [`Fault::WrongLength`].
    pub wrong_length: f64,
    /// Rate of [`Fault::Flip`].
    pub flip: f64,
    /// Rate of [`Fault::LoseReply`].
    pub lose_reply: f64,
    /// Only requests of these kinds get faults. The delay is for all.
    pub kinds: Vec<Kind>,
}

impl Faults {
    /// No faults.
    #[must_use]
    pub fn none(seed: u64) -> Self {
        Faults {
            seed,
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            link: None,
            error: 0.0,
            throttle: 0.0,
            stall: 0.0,
            stall_time: Duration::from_secs(5),
            cut_request: 0.0,
            cut_response: 0.0,
            wrong_length: 0.0,
            flip: 0.0,
            lose_reply: 0.0,
            kinds: Kind::ALL.to_vec(),
        }
    }

    fn rate(&self, fault: Fault) -> f64 {
        match fault {
            Fault::Error => self.error,
            Fault::Throttle => self.throttle,
            Fault::Stall => self.stall,
            Fault::CutRequest => self.cut_request,
            Fault::CutResponse => self.cut_response,
            Fault::WrongLength => self.wrong_length,
            Fault::Flip => self.flip,
            Fault::LoseReply => self.lose_reply,
        }
    }

    pub(super) fn check(&self) -> io::Result<()> {
        let refused = |what: String| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        let mut sum = 0.0;
        for fault in Fault::ALL {
            let rate = self.rate(fault);
            if !(0.0..=1.0).contains(&rate) {
                return refused(format!("the rate of {} is {rate}; give a fraction", fault.name()));
            }
            sum += rate;
        }
        match sum > 1.0 + 1e-9 {
            true => refused(format!("the sum of the faults' rates is {sum}; it may be 1 at most")),
            false => Ok(()),
        }
    }

    /// What happens to the request with this number.
    pub(super) fn plan(&self, number: u64, kind: Kind) -> Plan {
        let mut dice = Dice(mixed(self.seed) ^ number);
        let delay = self.latency + self.jitter.mul_f64(dice.fraction());
        let mut drawn = dice.fraction();
        let fault = Fault::ALL.into_iter().filter(|_| self.kinds.contains(&kind)).find(|fault| {
            drawn -= self.rate(*fault);
            drawn < 0.0
        });
        Plan { fault, delay, stall: self.stall_time, dice }
    }
}

/// What happens to one request.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) fault: Option<Fault>,
    pub(super) delay: Duration,
    /// Duration of a stall.
    pub(super) stall: Duration,
    /// Further draws for this request.
    pub(super) dice: Dice,
}

/// Pseudo-random numbers: SplitMix64.
#[derive(Debug)]
pub(super) struct Dice(u64);

fn mixed(state: u64) -> u64 {
    let mut mixed = state.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = mixed(self.0.wrapping_add(1));
        self.0
    }

    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number below `end`; 0 for 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next().checked_rem(end).unwrap_or(0)
    }

    /// One of these.
    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let number = usize::try_from(self.below(from.len() as u64)).ok()?;
        from.get(number).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_fractions_whose_sum_is_1_at_most() {
        for (faults, fits) in [
            (Faults::none(1), true),
            (Faults { error: 0.25, throttle: 0.30, stall: 0.45, ..Faults::none(1) }, true),
            (Faults { error: 0.6, flip: 0.5, ..Faults::none(1) }, false),
            (Faults { flip: -0.1, ..Faults::none(1) }, false),
            (Faults { flip: f64::NAN, ..Faults::none(1) }, false),
            (Faults { flip: 25.0, ..Faults::none(1) }, false),
        ] {
            assert_eq!(faults.check().is_ok(), fits, "{faults:?}");
        }
    }

    #[test]
    fn faults_follow_the_seed_and_occur_at_their_rates() {
        let faults = |seed| Faults { error: 0.25, throttle: 0.30, lose_reply: 0.01, ..Faults::none(seed) };
        let drawn = |seed, kind| -> Vec<_> {
            (0..10_000).map(|number| faults(seed).plan(number, kind).fault).collect()
        };
        let plan = drawn(1, Kind::Put);
        assert!(plan == drawn(1, Kind::Put) && plan != drawn(2, Kind::Put));
        for (fault, least, most) in [
            (Some(Fault::Error), 2300, 2700),
            (Some(Fault::Throttle), 2800, 3200),
            (Some(Fault::LoseReply), 60, 140),
            (Some(Fault::Flip), 0, 0),
            (None, 4200, 4600),
        ] {
            let count = plan.iter().filter(|found| **found == fault).count();
            assert!((least..=most).contains(&count), "{fault:?}: {count}");
        }
        let only = Faults { error: 1.0, kinds: vec![Kind::Get], ..Faults::none(1) };
        assert_eq!(only.plan(0, Kind::Put).fault, None);
        assert_eq!(only.plan(0, Kind::Get).fault, Some(Fault::Error));
    }

    #[test]
    fn delays_are_within_their_bounds() {
        let milli = Duration::from_millis;
        let faults = Faults { latency: milli(30), jitter: milli(10), ..Faults::none(3) };
        let delays: Vec<_> = (0..100).map(|number| faults.plan(number, Kind::Get).delay).collect();
        assert!(delays.iter().all(|delay| (milli(30)..milli(40)).contains(delay)));
        assert!(delays.iter().max().unwrap().saturating_sub(*delays.iter().min().unwrap()) > milli(5));
    }
}
