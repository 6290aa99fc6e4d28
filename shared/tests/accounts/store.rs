//! The stage that the other tests stand on.

use sojourn::platform::tables;
use sojourn_testing::Store;

#[tokio::test]
async fn the_store_has_every_table_of_the_library() {
    let store = Store::start();
    let names = store.client.list_tables().send().await.unwrap().table_names.unwrap();
    for table in tables::ALL {
        assert!(names.contains(&table.logical_id.to_owned()), "{} is missing", table.logical_id);
        assert_eq!(table.name(&store.env).as_deref(), Ok(table.logical_id));
    }
}
