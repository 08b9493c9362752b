//! The load tester as a program of the embedded world's pods.

use serin_sandbox::traffic::{PodContext, Programs};

use super::{LoadTestOptions, LoadTester};

/// What pods of the embedded world run: the load tester where an image is called so.
pub fn programs() -> Programs {
    Programs::default().with("loadtester", |PodContext { proxy, speed, stop }| {
        let tester = LoadTester::new(LoadTestOptions { proxy: Some(proxy), speed, ..LoadTestOptions::default() });
        let router = tester.router();
        tokio::spawn(async move {
            stop.cancelled().await;
            tester.stop();
        });
        router
    })
}
