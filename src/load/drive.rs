//! All drivers of a run: one for each kind of client, and a thread for each that sends packets.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::arrivals::{Arrivals, Profile};
use super::resolver::{ResolvConf, Resolver};
use super::run::Run;
use super::{Error, lookups, packets};

/// What is driven, and by how much.
#[derive(Clone, Debug)]
pub struct Drivers {
    /// All lookups of all workers together.
    pub profile: Profile,
    /// Kinds of client, which share them evenly.
    pub resolvers: Vec<Resolver>,
    /// Clients in all, shared evenly too. At least one of each kind.
    pub clients: usize,
    /// Threads that send packets.
    pub threads: usize,
    /// Which of how many workers this is.
    pub worker: (usize, usize),
    /// For clients with a resolver.
    pub conf: Arc<ResolvConf>,
}

/// Most lookups of one kind of client that are under way.
const UNDER_WAY_MAX: usize = 20_000;
/// EDNS payload size of packets (DNS flag day 2020).
const PAYLOAD_BYTES: u16 = 1232;

impl Drivers {
    /// Runs until lookups are not due any more and those under way have ended.
    ///
    /// # Errors
    /// The first of a driver; the others are ended.
    pub async fn drive(&self, run: &Arc<Run>) -> Result<(), Error> {
        let mut drivers = JoinSet::new();
        let mut first_client = 0;
        for (at, resolver) in self.resolvers.iter().enumerate() {
            let clients = self.clients_of(at);
            match resolver {
                Resolver::Packet => self.packets(run, first_client, clients, &mut drivers),
                _ => self.lookups(run, (at, *resolver), first_client, clients, &mut drivers),
            }
            first_client += clients as u32;
        }
        while let Some(ended) = drivers.join_next().await {
            if let Err(error) = ended.expect("a driver does not panic") {
                run.course.stop();
                return Err(error);
            }
        }
        Ok(())
    }

    /// How many clients there are in all: packets have a bounded number of sockets.
    pub fn client_count(&self) -> usize {
        let of = |(at, resolver): (usize, &Resolver)| match resolver {
            Resolver::Packet => {
                self.clients_of(at).min(self.threads.saturating_mul(packets::SOCKETS_MAX))
            }
            _ => self.clients_of(at),
        };
        self.resolvers.iter().enumerate().map(of).sum()
    }

    /// How many clients the kind at this place has.
    fn clients_of(&self, at: usize) -> usize {
        let kinds = self.resolvers.len();
        (self.clients / kinds + usize::from(at < self.clients % kinds)).max(1)
    }

    fn arrivals(&self, run: &Run, thread: usize, threads: usize, at: usize) -> Arrivals {
        let (worker, workers) = self.worker;
        let profile = self.profile.scaled(1.0 / self.resolvers.len() as f64);
        // Kinds of client must not look up at the same instants.
        let seed = run.seed.wrapping_add(at as u64 * 1_000_003);
        let part = worker * threads + thread;
        Arrivals::new(&profile, run.course.duration, part, workers * threads, seed)
    }

    fn packets(
        &self,
        run: &Arc<Run>,
        first_client: u32,
        clients: usize,
        drivers: &mut JoinSet<Result<(), Error>>,
    ) {
        let threads = self.threads.min(clients);
        let mut next_client = first_client;
        for thread in 0..threads {
            let sockets = clients / threads + usize::from(thread < clients % threads);
            let settings = packets::Settings {
                sockets,
                payload_bytes: Some(PAYLOAD_BYTES),
                first_client: next_client,
            };
            next_client += sockets as u32;
            let arrivals = self.arrivals(run, thread, threads, 0);
            let run = Arc::clone(run);
            drivers.spawn_blocking(move || packets::drive(&run, arrivals, &settings));
        }
    }

    fn lookups(
        &self,
        run: &Arc<Run>,
        (at, resolver): (usize, Resolver),
        first_client: u32,
        clients: usize,
        drivers: &mut JoinSet<Result<(), Error>>,
    ) {
        let settings = lookups::Settings {
            resolvers: vec![resolver],
            clients,
            first_client,
            under_way_max: UNDER_WAY_MAX,
            conf: Arc::clone(&self.conf),
        };
        let arrivals = self.arrivals(run, 0, 1, at);
        let run = Arc::clone(run);
        drivers.spawn(async move { lookups::drive(&run, arrivals, &settings).await });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_counted_as_they_are() {
        let count = |resolvers: &[Resolver], clients, threads| {
            let conf = ResolvConf::of_pod("default", "cluster.local", Vec::new()).unwrap();
            let drivers = Drivers {
                profile: Profile::parse("constant:1").unwrap(),
                resolvers: resolvers.to_vec(),
                clients,
                threads,
                worker: (0, 1),
                conf: Arc::new(conf),
            };
            drivers.client_count()
        };
        assert_eq!(count(&[Resolver::Packet], 1000, 1), packets::SOCKETS_MAX);
        assert_eq!(count(&[Resolver::Packet], 1000, 4), 1000);
        assert_eq!(count(&[Resolver::Packet, Resolver::Glibc], 1000, 1), 256 + 500);
        assert_eq!(count(&[Resolver::Musl, Resolver::Jvm], 1, 1), 2, "one of each kind");
    }
}
