//! Shows, evacuates and readmits regions. The function has no route: IAM decides who may invoke it.
//!
//! | event | does |
//! |---|---|
//! | `{"show": {}}` | returns which regions serve, which are evacuated, and when each had its latest heartbeat |
//! | `{"evacuate": {"region": "ap-east-2", "successor": "ap-northeast-1"}}` | leads clients away from a region; the successor (optional) cancels its expired orders meanwhile |
//! | `{"readmit": {"region": "ap-east-2"}}` | lets clients come back |
//!
//! Each returns the current state of the regions:
//! `{"regions": [{"region", "heartbeat", "evacuation", "fence"}]}`. The function may be invoked in
//! any region, also when the region in question is lost. A command that fails is a function error
//! of type `InvalidCommand`, `SingleRegion`, `UnknownRegion`, `UnfitSuccessor`, `LastRegion`,
//! `Changed` or `Unavailable`.

use std::process::ExitCode;

use sojourn::coordination::regions::Regions;
use sojourn::core::clock;
use sojourn::edge::boot;
use sojourn::edge::direct;
use sojourn::platform::aws;

mod handler;

fn main() -> ExitCode {
    boot::run("admin-regions", |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let regions = Regions::from_env(&sdk, &env, clock::system())?;
        let app = handler::App { region: aws::region(&env)?, regions };
        direct::serve("admin-regions", app, handler::handle).await
    })
}
