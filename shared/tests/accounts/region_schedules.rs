//! Random schedules of sign-ins, refreshes, revocations and new passwords in three regions that
//! replicate, are cut off from each other and meet again.
//!
//! After all regions have met: a session that somebody revoked is over in all of them, a session
//! that nobody revoked is live in all of them, and regions never disagree.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use sojourn::identity::sessions::RefreshToken;
use sojourn::identity::sign_in::{Renewal, SignedIn};
use sojourn::identity::users::{PasswordUpdate, User};
use sojourn_testing::Regions;

use crate::stage::{Stage, of_regions, soon, spared_of};

const REGIONS: [&str; 3] = ["singapore", "taiwan", "tokyo"];

/// Schedules, each with its seed and a user of its own.
const SCHEDULES: u64 = 60;

/// Steps of a schedule.
const STEPS: usize = 14;

/// A session as its user knows it.
struct Held {
    signed_in: SignedIn,
    /// The latest refresh token that the user was given.
    newest: RefreshToken,
    fate: Fate,
    /// Whether it was revoked by itself. Then no new password spares it.
    has_end: bool,
}

/// What may have become of a session once all regions have met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Live,
    Over,
    /// It began, or changed the password, in a region that had not heard of an end of all sessions.
    Either,
}

struct Schedule<'a> {
    regions: &'a Regions,
    stages: &'a BTreeMap<&'static str, Stage>,
    ann: User,
    random: StdRng,
    sessions: Vec<Held>,
    is_cut: bool,
    /// Whether an end of all sessions has not reached every region.
    is_end_on_its_way: bool,
    steps: Vec<String>,
}

impl Schedule<'_> {
    fn any_region(&mut self) -> &'static str {
        REGIONS.choose(&mut self.random).unwrap()
    }

    async fn meet(&mut self) {
        self.regions.heal();
        self.regions.settle().await;
        (self.is_cut, self.is_end_on_its_way) = (false, false);
    }

    async fn step(&mut self) {
        let region = self.any_region();
        let stage = &self.stages[region];
        stage.clock.advance(Duration::from_secs(20));
        let chosen = self.random.random_range(0..self.sessions.len().max(1));
        let action = self.random.random_range(0..12);
        self.steps.push(format!("{action} in {region} with session {chosen}"));
        match action {
            0..=1 => {
                self.regions.cut();
                self.is_cut = true;
            }
            2 => self.meet().await,
            3..=5 => self.sign_in(stage).await,
            _ if self.sessions.is_empty() => {}
            6..=7 => {
                let held = &mut self.sessions[chosen];
                match stage.renew(&held.newest).await {
                    Renewal::Renewed(renewed) => held.newest = renewed.refresh,
                    Renewal::Refused => assert_ne!(held.fate, Fate::Live, "{:?}", self.steps),
                    Renewal::Reused(_) => panic!("the newest token is not used: {:?}", self.steps),
                }
            }
            8 => {
                let is_live = stage.stands(&self.sessions[chosen].signed_in).await;
                assert!(is_live || self.sessions[chosen].fate != Fate::Live, "{:?}", self.steps);
            }
            9 => {
                let held = &mut self.sessions[chosen];
                let session = &held.signed_in.session;
                stage.revoker.revoke_proven(&session.id, &session.user_id, soon()).await.unwrap();
                (held.fate, held.has_end) = (Fate::Over, true);
            }
            10 => {
                stage.revoker.revoke_all(&self.ann.id, soon()).await.unwrap();
                self.end_all_but(None);
            }
            _ => self.change_password(stage, chosen).await,
        }
        if !self.is_cut {
            // So that a seed is the same schedule every time.
            self.meet().await;
        }
    }

    async fn sign_in(&mut self, stage: &Stage) {
        let signed_in = stage.sign_in(&self.ann).await;
        let newest = signed_in.refresh.clone();
        let fate = if self.is_end_on_its_way { Fate::Either } else { Fate::Live };
        self.sessions.push(Held { signed_in, newest, fate, has_end: false });
    }

    async fn change_password(&mut self, stage: &Stage, chosen: usize) {
        let signed_in = &self.sessions[chosen].signed_in;
        if !stage.stands(signed_in).await {
            return;
        }
        let (user, hash) = stage.account(&self.ann).await;
        let update =
            stage.passwords.replace(&user, &hash, &hash, &spared_of(signed_in), soon()).await.unwrap();
        assert_eq!(update, PasswordUpdate::Done, "{:?}", self.steps);
        // An end of all that is on its way counts as if it had come before or after the new
        // password.
        if self.is_end_on_its_way && !self.sessions[chosen].has_end {
            self.sessions[chosen].fate = Fate::Either;
        }
        self.end_all_but(Some(chosen));
    }

    fn end_all_but(&mut self, spared: Option<usize>) {
        for (number, held) in self.sessions.iter_mut().enumerate() {
            if Some(number) != spared {
                held.fate = Fate::Over;
            }
        }
        self.is_end_on_its_way = true;
    }
}

impl Held {
    /// Whether the session is live in a region: by its token, its cookie and its refresh token,
    /// which never disagree.
    async fn is_live(&mut self, stage: &Stage, hint: &[String]) -> bool {
        let by_token = stage.stands(&self.signed_in).await;
        let by_cookie = stage.is_live(&self.signed_in.cookie.credential()).await;
        let by_refresh = match stage.renew(&self.newest).await {
            Renewal::Renewed(renewed) => {
                self.newest = renewed.refresh;
                true
            }
            Renewal::Refused => false,
            Renewal::Reused(_) => panic!("the newest token is not used: {hint:?}"),
        };
        assert_eq!((by_cookie, by_refresh), (by_token, by_token), "{hint:?}");
        by_token
    }
}

/// Runs a schedule. Gives how many sessions must be live at its end, and how many over.
async fn run(regions: &Regions, stages: &BTreeMap<&'static str, Stage>, seed: u64) -> (usize, usize) {
    let ann = stages["tokyo"].new_user(&format!("ann{seed}@example.com")).await;
    let mut schedule = Schedule {
        regions,
        stages,
        ann,
        random: StdRng::seed_from_u64(seed),
        sessions: Vec::new(),
        is_cut: false,
        is_end_on_its_way: false,
        steps: vec![format!("seed {seed}")],
    };
    schedule.meet().await;
    for _ in 0..STEPS {
        schedule.step().await;
    }
    schedule.meet().await;
    let Schedule { mut sessions, steps, .. } = schedule;
    for held in &mut sessions {
        let mut live = Vec::new();
        for stage in stages.values() {
            live.push(held.is_live(stage, &steps).await);
        }
        let (agreed, expected) = ([live[0]; 3], held.fate);
        assert_eq!(live, agreed, "{steps:?}");
        assert!(expected == Fate::Either || live[0] == (expected == Fate::Live), "{expected:?} {steps:?}");
    }
    let count = |fate| sessions.iter().filter(|held| held.fate == fate).count();
    (count(Fate::Live), count(Fate::Over))
}

#[tokio::test]
async fn after_all_regions_have_met_a_session_is_over_if_and_only_if_somebody_ended_it() {
    let regions = Regions::start(REGIONS);
    let stages = of_regions(&regions);
    let (mut live, mut over) = (0, 0);
    for seed in 0..SCHEDULES {
        let (more_live, more_over) = run(&regions, &stages, seed).await;
        live += more_live;
        over += more_over;
    }
    assert!(live > 40 && over > 40, "{live} live, {over} over");
}
