//! The data before the load: an operator, products with stock in every region, customers who are
//! signed in.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::json;

use crate::client::{Answer, Client, NoAnswer, Request};
use crate::journal::Journal;
use crate::run::DrillError;
use crate::world::World;

/// Products of the shop.
pub const PRODUCTS: usize = 16;
/// Units of each in each region: more than the drill can sell.
pub const UNITS: i64 = 1_000_000;
/// The first customer's address. All of 127.0.0.0/8 is this machine, on Linux.
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 0);
/// The password of everybody.
const PASSWORD: &str = "correct horse battery staple";
/// Longest wait for replication to another region.
const REPLICATION: Duration = Duration::from_secs(20);
/// Concurrent sign-ups: a password takes processor time.
const SIGN_UPS_AT_ONCE: usize = 4;

/// A customer with two devices.
#[derive(Debug)]
pub struct Customer {
    pub user_id: String,
    /// The device that sends requests.
    pub phone: Arc<Client>,
    /// The device with the socket.
    pub tablet: Arc<Client>,
}

/// The n-th product's id.
pub fn product(n: usize) -> String {
    format!("drill-{}", n % PRODUCTS)
}

/// The n-th customer's address, 127.1.0.0 and up. The front door keeps DNS answers by client
/// address: with one address, the customers of one place would share an answer, and change regions
/// at the same moment.
fn address(n: usize) -> Ipv4Addr {
    // There are 1,000 customers at most.
    Ipv4Addr::from_bits(FIRST_ADDRESS.to_bits() + u32::try_from(n).unwrap_or_default())
}

/// Creates the data. Every answer must be the expected one: nothing is broken yet.
pub async fn open(
    world: &World,
    customers: usize,
    journal: &Arc<Journal>,
) -> Result<Vec<Customer>, DrillError> {
    let names: Vec<&String> = world.regions.keys().collect();
    let first = names.first().ok_or(DrillError::NoRegion)?;
    // An earlier run may have left its customers in the tables.
    let run = ulid::Ulid::generate().to_string().to_lowercase();
    let person = |n: usize, base: &str, near: &str| {
        let email = format!("drill-{run}-{n}@example.com");
        Client::new((n, email, PASSWORD), (base, near), address(n), journal)
    };
    let email = format!("drill-{run}-operator@example.com");

    // Products and stock are created directly in each region: each region's stock is its own row.
    let base = &world.regions[*first].http;
    let operator =
        Client::new((usize::MAX, email.clone(), PASSWORD), (base, first), Ipv4Addr::LOCALHOST, journal)?;
    let user_id = expect(operator.sign_up().await?, 201)?.text("userId");
    let grant = json!({"grant": {"userId": user_id, "role": "operator"}});
    world.regions[*first].invoke("admin-users", &grant).await?;
    expect(operator.sign_in("desk").await?, 201)?;
    for n in 0..PRODUCTS {
        let body = json!({"name": "Lamp", "price": {"amount": 12_900, "currency": "TWD"}});
        let put = Request::new(reqwest::Method::PUT, format!("/products/{}", product(n))).json(body);
        expect(operator.send(&put).await?, 200)?;
    }
    for name in &names {
        let base = &world.regions[*name].http;
        let operator =
            Client::new((usize::MAX, email.clone(), PASSWORD), (base, name), Ipv4Addr::LOCALHOST, journal)?;
        let stock = |n| {
            // A refusal is recorded under its key, so each try has a key of its own.
            let key = ulid::Ulid::generate().to_string();
            Request::post(format!("/products/{}/stock", product(n)), json!({"delta": UNITS})).key(&key)
        };
        // The account and its role are replicated separately. A token has the roles of its sign-in.
        until(200, async || {
            let signed_in = operator.sign_in("desk").await?;
            if signed_in.status == 201 { operator.send(&stock(0)).await } else { Ok(signed_in) }
        })
        .await?;
        for n in 1..PRODUCTS {
            until(200, async || operator.send(&stock(n)).await).await?;
        }
    }
    stream::iter(0..customers)
        .map(|n| {
            let near = names[n % names.len()];
            let (phone, tablet) = (person(n, &world.front, near), person(n, &world.front, near));
            async move {
                let (phone, tablet) = (phone?, tablet?);
                let user_id = expect(phone.sign_up().await?, 201)?.text("userId");
                until(201, async || phone.sign_in("phone").await).await?;
                until(201, async || tablet.sign_in("tablet").await).await?;
                Ok::<_, DrillError>(Customer { user_id, phone: phone.into(), tablet: tablet.into() })
            }
        })
        .buffered(SIGN_UPS_AT_ONCE)
        .try_collect()
        .await
}

/// Repeats a call until it has the expected answer, within the time of replication.
async fn until(status: u16, call: impl AsyncFn() -> Result<Answer, NoAnswer>) -> Result<Answer, DrillError> {
    let began = Instant::now();
    loop {
        match expect(call().await?, status) {
            Err(_) if began.elapsed() < REPLICATION => tokio::time::sleep(Duration::from_millis(200)).await,
            answered => return answered,
        }
    }
}

fn expect(answer: Answer, status: u16) -> Result<Answer, DrillError> {
    match answer.status {
        201 if status == 200 => Ok(answer),
        got if got == status => Ok(answer),
        got => Err(DrillError::Unready { status: got, body: answer.body.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_customer_has_an_address_of_this_machine() {
        assert_eq!(address(0), Ipv4Addr::new(127, 1, 0, 0));
        assert_eq!(address(999), Ipv4Addr::new(127, 1, 3, 231));
    }
}
