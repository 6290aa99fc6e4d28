//! Shows, evacuates and readmits regions. There is no route to it: whoever may invoke it by IAM may do this.
//!
//! | event | does |
//! |---|---|
//! | `{"show": {}}` | tells which regions serve, which are evacuated, and when each had its latest heartbeat |
//! | `{"evacuate": {"region": "ap-east-2", "successor": "ap-northeast-1"}}` | leads clients away from a region; the successor, which need not be named, cancels its expired orders meanwhile |
//! | `{"readmit": {"region": "ap-east-2"}}` | lets clients come back |
//!
//! Each is answered with the regions as they are now: `{"regions": [{"region", "heartbeat", "evacuation", "fence"}]}`. It may be
//! invoked in any region, so also when the region in question is lost. What cannot be done is a function error whose type is
//! `InvalidCommand`, `SingleRegion`, `UnknownRegion`, `UnfitSuccessor`, `LastRegion`, `Changed` or `Unavailable`.

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
