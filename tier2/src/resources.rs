//! What the host has to spare, from procfs, in the units of the wire.

use std::{collections::BTreeMap, time::Instant};

use procfs::{Current as _, CurrentSI as _};
use sinfonia_wire::Resources;

/// Samples the host; rates are over the time between two samples.
#[derive(Debug)]
pub(crate) struct Sampler {
    previous: Option<Sample>,
}

/// Counters at one moment. What could not be read is absent.
#[derive(Debug, Clone, Default, PartialEq)]
struct Sample {
    /// Seconds since an arbitrary start.
    at: f64,
    /// Busy and total time of all processors, in ticks.
    cpu: Option<(u64, u64)>,
    /// Available and total memory, in bytes.
    memory: Option<(u64, u64)>,
    /// Received and sent bytes of each interface.
    network: Option<BTreeMap<String, (u64, u64)>>,
}

impl Sampler {
    /// A sampler that has taken its first sample.
    #[must_use]
    pub(crate) fn start() -> Self {
        Self { previous: Some(Sample::take()) }
    }

    /// What the host did since the last call, and its memory now.
    pub(crate) fn sample(&mut self) -> Resources {
        let now = Sample::take();
        let resources = between(self.previous.as_ref(), &now);
        self.previous = Some(now);
        resources
    }
}

impl Sample {
    fn take() -> Self {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        Self {
            at: START.get_or_init(Instant::now).elapsed().as_secs_f64(),
            cpu: procfs::KernelStats::current().ok().map(|stats| cpu_times(&stats.total)),
            memory: procfs::Meminfo::current().ok().and_then(|memory| Some((memory.mem_available?, memory.mem_total))),
            network: procfs::net::dev_status().ok().map(|interfaces| {
                let outside = interfaces.into_iter().filter(|(name, _)| name != "lo");
                outside.map(|(name, device)| (name, (device.recv_bytes, device.sent_bytes))).collect()
            }),
        }
    }
}

fn cpu_times(cpu: &procfs::CpuTime) -> (u64, u64) {
    let idle = cpu.idle + cpu.iowait.unwrap_or(0);
    let others = [cpu.irq, cpu.softirq, cpu.steal].into_iter().flatten().sum::<u64>();
    let busy = cpu.user + cpu.nice + cpu.system + others;
    (busy, busy + idle)
}

/// The figures of the wire; one that cannot be told, or is not finite, is left out.
fn between(previous: Option<&Sample>, now: &Sample) -> Resources {
    let mut resources = Resources::default();
    let mut put = |name: &str, value: f64| {
        if value.is_finite() {
            // Finite values are all it asks for.
            let _ = resources.insert(name, value);
        }
    };
    if let Some((available, total)) = now.memory {
        put(Resources::MEM_RATIO, (1.0 - ratio(available, total)).clamp(0.0, 1.0));
    }
    let Some(previous) = previous else { return resources };
    if let (Some((busy_then, total_then)), Some((busy, total))) = (previous.cpu, now.cpu) {
        // The idle counter of a processor that went off line may run backwards.
        let (busy, total) = (busy.saturating_sub(busy_then), total.saturating_sub(total_then));
        let share = ratio(busy.min(total), total);
        put(Resources::CPU_RATIO, share);
    }
    let seconds = now.at - previous.at;
    if let (Some(then), Some(now), true) = (&previous.network, &now.network, seconds > 0.0) {
        let (received, sent) = transferred(then, now);
        put(Resources::NET_RX_RATE, received as f64 / seconds);
        put(Resources::NET_TX_RATE, sent as f64 / seconds);
    }
    resources
}

/// An interface that appeared in between did not receive its whole count in this time, so it does not count yet.
pub(crate) fn transferred(then: &BTreeMap<String, (u64, u64)>, now: &BTreeMap<String, (u64, u64)>) -> (u64, u64) {
    now.iter().filter_map(|(name, count)| then.get(name).map(|earlier| (earlier, count))).fold(
        (0, 0),
        |(received, sent), (earlier, count)| {
            (received + count.0.saturating_sub(earlier.0), sent + count.1.saturating_sub(earlier.1))
        },
    )
}

fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: f64, cpu: (u64, u64), network: &[(&str, u64, u64)]) -> Sample {
        Sample {
            at,
            cpu: Some(cpu),
            memory: Some((6, 24)),
            network: Some(network.iter().map(|(name, rx, tx)| ((*name).to_owned(), (*rx, *tx))).collect()),
        }
    }

    #[test]
    fn rates_are_over_the_interval() {
        let then = sample(10.0, (100, 1000), &[("eth0", 1000, 500), ("gone0", 7, 7)]);
        let now = sample(25.0, (250, 1300), &[("eth0", 16_000, 3500), ("new0", 1 << 40, 9)]);
        let resources = between(Some(&then), &now);
        assert_eq!(resources.get(Resources::CPU_RATIO), Some(0.5));
        assert_eq!(resources.get(Resources::MEM_RATIO), Some(0.75));
        assert_eq!(resources.get(Resources::NET_RX_RATE), Some(1000.0));
        assert_eq!(resources.get(Resources::NET_TX_RATE), Some(200.0));
    }

    #[test]
    fn what_cannot_be_told_is_left_out() {
        let now = sample(10.0, (100, 1000), &[]);
        assert_eq!(between(None, &now).iter().count(), 1);
        assert_eq!(between(Some(&now), &now).iter().count(), 1, "no time has passed");
        assert_eq!(between(Some(&now), &Sample::default()).iter().count(), 0);
        let backwards = sample(20.0, (90, 900), &[]);
        assert_eq!(between(Some(&now), &backwards).get(Resources::CPU_RATIO), None);
    }

    #[test]
    fn the_host_has_all_four() {
        let mut sampler = Sampler::start();
        let resources = sampler.sample();
        let memory = resources.get(Resources::MEM_RATIO).unwrap();
        assert!((0.0..=1.0).contains(&memory));
    }
}
