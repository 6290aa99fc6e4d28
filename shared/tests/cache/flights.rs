//! Many processes miss at once, and loaders that die, sleep or wake up late.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use sojourn::platform::cache::{Cache, LEASE, Loaded, Name};
use tokio::sync::oneshot;

use crate::stage::{Down, GROUP, Item, Listing, Stage, item_name};

/// Processes, each with a connection of its own.
const PROCESSES: usize = 200;
/// How long a load takes here: the processes of a test share two cores, and all of them are to miss
/// before it ends.
const SLOW_LOAD: Duration = Duration::from_millis(100);

async fn processes(stage: &Stage, count: usize) -> Vec<Cache> {
    let mut processes = Vec::with_capacity(count);
    for _ in 0..count {
        processes.push(stage.shared().await);
    }
    processes
}

/// A read whose load takes its time.
async fn slow_read(stage: &Stage, cache: &Cache) -> Option<Item> {
    let load = async {
        stage.truth.loads.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(SLOW_LOAD).await;
        Ok::<_, Down>(stage.truth.read("tea"))
    };
    cache.read_through("tea", load).await.unwrap()
}

#[tokio::test]
async fn two_hundred_processes_that_miss_at_once_make_one_load() {
    let Some(stage) = Stage::redis() else { return };
    let tea = stage.truth.write("tea", "green");
    let processes = processes(&stage, PROCESSES).await;
    let reads: FuturesUnordered<_> = processes.iter().map(|cache| slow_read(&stage, cache)).collect();
    let answers: Vec<_> = reads.collect().await;
    assert!(answers.iter().all(|answer| answer.as_ref() == Some(&tea)));
    assert_eq!(stage.truth.loads(), 1);
}

#[tokio::test]
async fn two_hundred_processes_that_miss_what_is_not_there_make_one_load() {
    let Some(stage) = Stage::redis() else { return };
    let processes = processes(&stage, PROCESSES).await;
    let reads: FuturesUnordered<_> = processes.iter().map(|cache| slow_read(&stage, cache)).collect();
    let answers: Vec<_> = reads.collect().await;
    assert!(answers.iter().all(Option::is_none));
    assert_eq!(stage.truth.loads(), 1);
}

#[tokio::test]
async fn a_loader_that_dies_costs_one_load_more_and_not_one_for_each_who_waits() {
    let Some(stage) = Stage::redis() else { return };
    let tea = stage.truth.write("tea", "green");
    let processes = processes(&stage, PROCESSES).await;
    let (dies, others) = processes.split_first().unwrap();
    let began = dead_loader(&stage, dies).await;
    let reads: FuturesUnordered<_> = others.iter().map(|cache| slow_read(&stage, cache)).collect();
    let answers: Vec<_> = reads.collect().await;
    assert!(answers.iter().all(|answer| answer.as_ref() == Some(&tea)));
    assert_eq!(stage.truth.loads(), 2);
    assert!(began.elapsed() >= LEASE, "the dead loader's lease was respected");
}

/// A process that takes the lease, begins to load, and is never heard of again.
async fn dead_loader(stage: &Stage, cache: &Cache) -> std::time::Instant {
    let (loads, loading) = oneshot::channel();
    let load = async {
        stage.truth.loads.fetch_add(1, Ordering::SeqCst);
        loads.send(()).unwrap();
        std::future::pending::<Result<Loaded<Item>, Down>>().await
    };
    let began = std::time::Instant::now();
    tokio::select! {
        _ = cache.read_through("tea", load) => panic!("it is dead"),
        loading = loading => loading.unwrap(),
    }
    began
}

#[tokio::test]
async fn whoever_waits_in_vain_loads_and_fills_nothing() {
    let Some(stage) = Stage::redis() else { return };
    stage.truth.write("tea", "green");
    let [dies, writer, waiting] = [stage.shared().await, stage.shared().await, stage.shared().await];
    dead_loader(&stage, &dies).await;
    // Writers that never end take the lease over and over.
    let held = async {
        for _ in 0..4 {
            tokio::time::sleep(LEASE * 3 / 5).await;
            let write = std::future::pending::<Result<(Loaded<Item>, ()), Down>>();
            let forced = writer.write_through("tea", write);
            assert!(tokio::time::timeout(Duration::from_millis(50), forced).await.is_err());
        }
    };
    let ((), text) = tokio::join!(held, stage.text(&waiting, "tea"));
    assert_eq!(text, "green");
    let mut raw = stage.raw().await;
    let filled: bool =
        redis::cmd("HEXISTS").arg("test:item:tea").arg("value").query_async(&mut raw).await.unwrap();
    assert!(!filled, "it had no lease");
}

/// A loader that has read, and fills only when it is let go on.
struct Paused {
    go_on: oneshot::Sender<()>,
    read: tokio::task::JoinHandle<Option<Item>>,
}

impl Paused {
    /// Returns once the loader has read.
    async fn after_reading(stage: &Stage, cache: Cache) -> Self {
        let (go_on, wakes) = oneshot::channel::<()>();
        let (has_read, reading) = oneshot::channel::<()>();
        let truth = Arc::clone(&stage.truth);
        let read = tokio::spawn(async move {
            let load = async {
                let loaded = truth.read("tea");
                has_read.send(()).unwrap();
                wakes.await.unwrap();
                Ok::<_, Down>(loaded)
            };
            cache.read_through("tea", load).await.unwrap()
        });
        reading.await.unwrap();
        Self { go_on, read }
    }

    async fn wakes_up(self) -> Option<Item> {
        self.go_on.send(()).unwrap();
        self.read.await.unwrap()
    }
}

#[tokio::test]
async fn a_value_read_before_an_invalidation_never_fills_the_cache() {
    let Some(stage) = Stage::redis() else { return };
    let [slow, other] = [stage.shared().await, stage.shared().await];
    stage.truth.write("tea", "green");
    let paused = Paused::after_reading(&stage, slow).await;
    stage.truth.write("tea", "black");
    other.invalidate(&[item_name("tea")]).await.unwrap();
    assert_eq!(paused.wakes_up().await.unwrap().text, "green", "it read before");
    assert_eq!(stage.text(&other, "tea").await, "black");
}

#[tokio::test]
async fn a_slow_loader_does_not_replace_what_its_successor_loaded() {
    let Some(stage) = Stage::redis() else { return };
    let [slow, other] = [stage.shared().await, stage.shared().await];
    stage.truth.write("tea", "green");
    let paused = Paused::after_reading(&stage, slow).await;
    stage.truth.write("tea", "black");
    // Nobody invalidates. The other one waits for the lease to lapse, takes it over, and fills.
    assert_eq!(stage.text(&other, "tea").await, "black");
    paused.wakes_up().await;
    assert_eq!(stage.text(&other, "tea").await, "black");
    assert_eq!(stage.truth.loads(), 1, "the second read was a hit");
}

#[tokio::test]
async fn a_late_fill_does_not_come_before_the_load_that_has_the_lease() {
    let Some(stage) = Stage::redis() else { return };
    let [late, holder, reader] = [stage.shared().await, stage.shared().await, stage.shared().await];
    stage.truth.write("tea", "green");
    let late = Paused::after_reading(&stage, late).await;
    stage.truth.write("tea", "black");
    reader.invalidate(&[item_name("tea")]).await.unwrap();
    let holder = Paused::after_reading(&stage, holder).await;
    late.wakes_up().await;
    let holder = async {
        tokio::time::sleep(LEASE / 10).await;
        holder.wakes_up().await
    };
    let (_, text) = tokio::join!(holder, stage.text(&reader, "tea"));
    assert_eq!(text, "black");
}

#[tokio::test]
async fn a_slow_loader_of_what_has_no_version_does_not_replace_what_its_successor_loaded() {
    let Some(stage) = Stage::redis() else { return };
    let [slow, other] = [stage.shared().await, stage.shared().await];
    stage.truth.write("tea", "black");
    let load = async {
        // The other one waits for the lease to lapse, takes it over, and fills.
        assert_eq!(stage.listing(&other).await, ["black"]);
        Ok::<_, Down>(Loaded::value(Listing(vec!["green".to_owned()])))
    };
    slow.read_through::<Listing, _>("all", load).await.unwrap();
    assert_eq!(stage.listing(&other).await, ["black"]);
}

#[tokio::test]
async fn a_slow_loader_does_not_replace_what_was_written_through() {
    let Some(stage) = Stage::redis() else { return };
    let [slow, writer] = [stage.shared().await, stage.shared().await];
    stage.truth.write("tea", "green");
    let paused = Paused::after_reading(&stage, slow).await;
    stage.put(&writer, "tea", "black").await;
    paused.wakes_up().await;
    assert_eq!(stage.text(&writer, "tea").await, "black");
    assert_eq!(stage.truth.loads(), 0, "the writer filled");
}

#[tokio::test]
async fn a_slow_loader_of_a_group_does_not_bring_back_what_the_group_was() {
    let Some(stage) = Stage::redis() else { return };
    let [slow, other] = [stage.shared().await, stage.shared().await];
    stage.truth.write("tea", "green");
    let load = async {
        stage.truth.write("tea", "black");
        other.invalidate(&[Name::Group(GROUP)]).await.unwrap();
        Ok::<_, Down>(Loaded::value(Listing(vec!["green".to_owned()])))
    };
    slow.read_through::<Listing, _>("all", load).await.unwrap();
    assert_eq!(stage.listing(&other).await, ["black"]);
}

#[tokio::test]
async fn a_generation_that_redis_lost_is_replaced_by_another_one() {
    let Some(stage) = Stage::redis() else { return };
    let cache = stage.shared().await;
    stage.truth.write("tea", "green");
    stage.listing(&cache).await;
    stage.truth.write("tea", "black");
    let mut raw = stage.raw().await;
    let lost: u32 = redis::cmd("DEL").arg("test:group:items").query_async(&mut raw).await.unwrap();
    assert_eq!((lost, stage.listing(&cache).await), (1, vec!["black".to_owned()]));
}

/// A writer that has written to the truth, and is paused before it tells the cache.
async fn paused_writer(
    stage: &Stage,
    cache: Cache,
    text: &'static str,
) -> (oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let (go_on, wakes) = oneshot::channel::<()>();
    let (has_written, writing) = oneshot::channel::<()>();
    let truth = Arc::clone(&stage.truth);
    let writer = tokio::spawn(async move {
        let write = async {
            let item = truth.write("tea", text);
            has_written.send(()).unwrap();
            wakes.await.unwrap();
            Ok::<_, Down>((Loaded::version(item.clone(), item.version), ()))
        };
        cache.write_through::<Item, _, _>("tea", write).await.unwrap();
    });
    writing.await.unwrap();
    (go_on, writer)
}

#[tokio::test]
async fn a_paused_writer_that_wakes_up_does_not_bring_its_value_back() {
    let Some(stage) = Stage::redis() else { return };
    let [paused, writer] = [stage.shared().await, stage.shared().await];
    let (go_on, asleep) = paused_writer(&stage, paused, "green").await;
    stage.put(&writer, "tea", "black").await;
    assert_eq!(stage.text(&writer, "tea").await, "black");
    go_on.send(()).unwrap();
    asleep.await.unwrap();
    assert_eq!(stage.text(&writer, "tea").await, "black");
}

#[tokio::test]
async fn a_value_written_before_an_invalidation_does_not_come_back_with_its_writer() {
    let Some(stage) = Stage::redis() else { return };
    let [paused, other] = [stage.shared().await, stage.shared().await];
    let (go_on, asleep) = paused_writer(&stage, paused, "green").await;
    stage.truth.write("tea", "black");
    other.invalidate(&[item_name("tea")]).await.unwrap();
    go_on.send(()).unwrap();
    asleep.await.unwrap();
    assert_eq!(stage.text(&other, "tea").await, "black");
}

#[tokio::test]
async fn of_two_writers_that_overtake_each_other_the_later_write_is_served() {
    let Some(stage) = Stage::redis() else { return };
    let [first, second] = [stage.shared().await, stage.shared().await];
    // `second` takes the lease after `first`, writes before it, and fills.
    let write = async {
        stage.put(&second, "tea", "green").await;
        let item = stage.truth.write("tea", "black");
        Ok::<_, Down>((Loaded::version(item.clone(), item.version), ()))
    };
    first.write_through::<Item, _, _>("tea", write).await.unwrap();
    assert_eq!(stage.text(&second, "tea").await, "black");
}

#[tokio::test]
async fn an_older_version_does_not_replace_a_newer_one_even_with_a_lease() {
    let Some(stage) = Stage::redis() else { return };
    let stage = stage.at_rest();
    let cache = stage.shared().await;
    let old = stage.truth.write("tea", "green");
    stage.put(&cache, "tea", "black").await;
    // The value is past its freshness, and who refreshes it reads a replica that is behind.
    stage.manual.advance(Duration::from_secs(661));
    let behind = async { Ok::<_, Down>(Loaded::version(old.clone(), old.version)) };
    assert_eq!(cache.read_through("tea", behind).await, Ok(Some(old)));
    let mut raw = stage.raw().await;
    let version: u64 =
        redis::cmd("HGET").arg("test:item:tea").arg("version").query_async(&mut raw).await.unwrap();
    assert_eq!(version, 2);
}
