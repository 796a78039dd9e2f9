//! The simulation as the outside of a client and of a broker: their `World` traits and `Connector`, and nothing else.
//!
//! Neither crate knows the other's trait; this is the one place that knows both.

use crate::world::Simulation;
use std::task::{Context, Poll};

impl ottla::Connector for Simulation {
    fn connect(&self, host: &str, port: u16) -> ottla::Connecting {
        let opening = self.network.connect(host, port);
        Box::pin(async move { Ok(Box::new(opening.await?) as Box<dyn ottla::Stream>) })
    }
}

impl ottla::world::World for Simulation {
    fn random(&self) -> u64 {
        self.draw()
    }

    fn wall_ms(&self) -> i64 {
        Simulation::wall_ms(self)
    }

    fn spawn(&self, name: &'static str, task: ottla::world::Work<()>) {
        self.tasks.spawn(name, task);
    }

    fn poll_pause(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.tasks.poll_pause(cx)
    }
}

impl ottla_broker::World for Simulation {
    fn spawn(&self, name: &'static str, task: ottla_broker::Work<()>) {
        self.tasks.spawn(name, task);
    }

    fn wall_ms(&self) -> i64 {
        Simulation::wall_ms(self)
    }

    fn random(&self) -> u64 {
        self.draw()
    }

    fn poll_pause(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.tasks.poll_pause(cx)
    }
}
