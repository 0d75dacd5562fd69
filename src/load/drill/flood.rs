//! A flood of names by chance, beside the lookups that are measured. Nothing of it is recorded.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use crate::load::arrivals::{Arrivals, Profile};
use crate::load::packets;
use crate::load::record::Recorder;
use crate::load::run::{Course, Run};
use crate::load::target::{Target, Transport};
use crate::load::tasks::mix::{self, Mix};
use crate::load::tasks::popularity::Popularity;
use crate::load::tasks::{Recipe, Work};
use crate::wire::Name;

/// Sockets that it comes from.
const SOCKETS: usize = 8;
/// Names are made of this one, each with another first label, so no cache knows them and each costs
/// the upstream a question.
const BESIDE: &str = "x.flood.example.org";

/// A flood. Dropping it ends it.
pub struct Flood(Course);

impl Flood {
    /// So many questions per second; none for 0.
    pub fn start(server: SocketAddr, rate: u32) -> Option<Self> {
        if rate == 0 {
            return None;
        }
        let course = Course::new(Instant::now(), None);
        let run = Arc::new(Run {
            target: Target { servers: vec![server], transport: Transport::Udp },
            work: ArcSwap::from_pointee(names()),
            truth: None,
            recorder: Recorder::new(course.clone(), Duration::from_secs(1)),
            course: course.clone(),
            timeout: Duration::from_secs(1),
            seed: 7,
        });
        let arrivals = Arrivals::new(&Profile::Constant(rate.into()), None, 0, 1, 7);
        let settings =
            packets::Settings { sockets: SOCKETS, payload_bytes: Some(1232), first_client: 0 };
        tokio::task::spawn_blocking(move || {
            if let Err(error) = packets::drive(&run, arrivals, &settings) {
                tracing::warn!("the flood ended: {error}");
            }
        });
        Some(Self(course))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn names() -> Work {
    let recipe = Recipe {
        popularity: Popularity::Uniform,
        // Names by chance are beside foreign ones only where there are such.
        mix: Mix::parse("foreign=1,random=99").expect("it is right"),
        foreign: mix::foreign(&[BESIDE]).expect("it is a name"),
        domain: Name::parse("cluster.local").expect("it is a name"),
        namespace: "default".into(),
        seed: 7,
    };
    Work::build(Vec::new(), &recipe).expect("names by chance need no list")
}
