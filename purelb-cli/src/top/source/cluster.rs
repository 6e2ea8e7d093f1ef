//! A cluster, or the lab, as a source.

use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread;
use std::time::Duration;

use futures::stream::{BoxStream, SelectAll};
use futures::{StreamExt, stream};
use k8s_openapi::jiff::Timestamp;
use purelb_core::membership::DEFAULT_DURATION;
use purelb_k8s::{Client, leases, watch};

use super::{OwnTime, Source, SourceError};
use crate::command::cluster::{Cluster, Failure};
use crate::top::model::{Fact, Model};

/// How often the API is asked whether it is there, as nothing may happen for long.
const ASKED: Duration = Duration::from_secs(1);

/// How long it may take to answer that.
const PATIENCE: Duration = Duration::from_secs(5);

/// A fact and its moment, or why there is none.
type News = Result<(Timestamp, Fact), Failure>;

/// The watches of a cluster, which a thread keeps.
#[derive(Debug)]
pub struct Watched {
    title: String,
    news: Receiver<News>,
}

impl Watched {
    /// Begins to look at `cluster`.
    pub fn new(cluster: &Cluster) -> Self {
        let (sender, news) = mpsc::channel();
        let title = format!("cluster, namespace {}", cluster.namespace());
        let cluster = cluster.clone();
        // It ends with the program, or when nobody wants its news.
        thread::spawn(move || keep_watching(&cluster, &sender));
        Self { title, news }
    }
}

fn keep_watching(cluster: &Cluster, sender: &Sender<News>) {
    let looked = cluster.look(async |client, snapshot| {
        let mut facts = facts(&client, cluster.namespace());
        let mut next = Some(Fact::Looked(Box::new(snapshot)));
        while let Some(fact) = next {
            if sender.send(Ok((Timestamp::now(), fact))).is_err() {
                return;
            }
            next = facts.next().await;
        }
    });
    if let Err(failure) = looked {
        // Whoever has gone does not want to know.
        let _ = sender.send(Err(failure));
    }
}

fn facts(client: &Client, namespace: &str) -> SelectAll<BoxStream<'static, Fact>> {
    let it = || client.clone();
    stream::select_all([
        watch::services(it()).map(Fact::Services).boxed(),
        watch::service_groups(it(), namespace).map(Fact::Groups).boxed(),
        watch::lb_node_agents(it(), namespace).map(Fact::Agents).boxed(),
        watch::nodes(it()).map(Fact::Nodes).boxed(),
        leases::watch(it(), namespace, leases::pace(DEFAULT_DURATION)).map(Fact::Leases).boxed(),
        signs_of_life(it()),
    ])
}

fn signs_of_life(client: Client) -> BoxStream<'static, Fact> {
    let answers = stream::unfold(client, |client| async {
        loop {
            tokio::time::sleep(ASKED).await;
            let asked = client.list_api_group_resources("purelb.io/v2");
            if let Ok(Ok(_)) = tokio::time::timeout(PATIENCE, asked).await {
                return Some((Fact::Alive, client));
            }
        }
    });
    answers.boxed()
}

impl Source for Watched {
    fn title(&self) -> String {
        self.title.clone()
    }

    fn begin(&mut self) -> Result<Model, SourceError> {
        let (at, fact) = self.news.recv().map_err(|_| SourceError::Ended)??;
        let mut model = Model::new(at);
        model.handle_fact(fact, at);
        Ok(model)
    }

    fn advance(&mut self, _span: Duration, model: &mut Model) -> Result<(), SourceError> {
        loop {
            match self.news.try_recv() {
                Ok(news) => {
                    let (at, fact) = news?;
                    model.handle_fact(fact, at);
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(SourceError::Ended),
            }
        }
        model.handle_time(Timestamp::now());
        Ok(())
    }

    fn own_time(&mut self) -> Option<&mut dyn OwnTime> {
        None
    }
}
