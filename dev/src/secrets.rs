//! Gives the keys to the regions: the public ones by a parameter, the private ones by secrets.
//!
//! 1. Each region has a [`KeyRing`], which it keeps with its data. `TokenJwks` of every region
//!    lists the public keys of all, so that a token of one is good in the others.
//! 2. Before the regions serve, each region's signing key is put into the secret that functions
//!    know by `TOKEN_SIGNING_KEY_SECRET`, and the sealing keys of all into that of
//!    `SESSION_SEALING_KEYS_SECRET`.
//! 3. The regions' control API gets two routes:
//!
//! | call | answer |
//! |---|---|
//! | `POST sealing-keys/rotate` | 200 `{"kids": ["new", "old"]}`: the first seals from now on, all of them open |
//! | `POST sealing-keys/drop` | 200 `{"kids": ["new"]}`: only the first is left |

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use local_region::region::{DataFolder, Place, Region};
use local_region::regions::Options;
use local_region::services::control::message;
use serde_json::json;

use crate::keys::{KeyError, KeyRing, SealingKeys, SealingKeysError};

/// The template's parameter that takes the public keys.
pub(crate) const JWKS_PARAMETER: &str = "TokenJwks";

/// The variable by which a function is told which secret holds the signing key.
const SIGNING_KEY_VARIABLE: &str = "TOKEN_SIGNING_KEY_SECRET";

/// The same for the keys that seal session payloads.
const SEALING_KEYS_VARIABLE: &str = "SESSION_SEALING_KEYS_SECRET";

/// Gives the keys to the regions of `options`.
pub(crate) fn add(options: &mut Options) -> Result<(), KeyError> {
    let rings = options.places.iter().map(ring).collect::<Result<Vec<_>, _>>()?;
    let jwks = KeyRing::public_jwks_of(&rings);
    for place in &mut options.places {
        place.parameters.insert(JWKS_PARAMETER.to_owned(), jwks.clone());
    }
    options.before_serving = Some(Box::new(move |regions| put(regions, &rings)));
    Ok(())
}

fn ring(place: &Place) -> Result<KeyRing, KeyError> {
    match place.data.as_ref().map(DataFolder::path) {
        Some(folder) => KeyRing::load_or_generate(folder),
        None => KeyRing::generate(),
    }
}

/// Puts the private keys into the secrets of the regions. Returns the routes that change them.
fn put(regions: &[Region], rings: &[KeyRing]) -> Result<Router, Box<dyn Error + Send + Sync>> {
    for (region, ring) in regions.iter().zip(rings) {
        for name in region.secrets_named_by(SIGNING_KEY_VARIABLE) {
            region.secrets().put(name, &ring.signing().private_jwk())?;
        }
    }
    let replicas = regions.iter().map(|region| Arc::clone(region.secrets())).collect();
    let names: BTreeSet<String> = regions
        .iter()
        .flat_map(|region| region.secrets_named_by(SEALING_KEYS_VARIABLE))
        .map(str::to_owned)
        .collect();
    Ok(routes(SealingKeys::open(replicas, names)?))
}

fn routes(keys: SealingKeys) -> Router {
    Router::new()
        .route("/sealing-keys/rotate", post(rotate))
        .route("/sealing-keys/drop", post(drop_earlier))
        .with_state(keys)
}

async fn rotate(State(keys): State<SealingKeys>) -> Response {
    kids(keys.rotate())
}

async fn drop_earlier(State(keys): State<SealingKeys>) -> Response {
    kids(keys.drop_earlier())
}

fn kids(changed: Result<Vec<String>, SealingKeysError>) -> Response {
    match changed {
        Ok(kids) => Json(json!({ "kids": kids })).into_response(),
        Err(error) => message(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}
