use mcpctl_core::{
    resource::{Object, Spec, kinds},
    store::{SqlStore, Store, Txn, Write},
};
use tests::postgres::Postgres;

async fn smoke(url: &str) {
    let store = SqlStore::open(url).await.unwrap();
    let object = Object::new(kinds::LLMS, "a", Spec::new());
    let txn = Txn { writes: vec![Write::Put(object.clone())], ..Txn::default() };
    println!("{:?}", store.commit(txn).await.unwrap());
    println!("{:?}", store.changes(0).await.unwrap());
    assert_eq!(store.find(kinds::LLMS, "a").await.unwrap().unwrap().id, object.id);
}

#[tokio::test]
async fn sqlite() {
    let folder = tempfile::tempdir().unwrap();
    smoke(&format!("sqlite://{}/x.db", folder.path().display())).await;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        println!(
            "{:?} {:?}",
            entry.as_ref().unwrap().path(),
            entry.unwrap().metadata().unwrap().permissions()
        );
    }
}

#[tokio::test]
async fn postgres() {
    let Some(postgres) = Postgres::shared() else { return };
    smoke(&postgres.create_database()).await;
}
