//! Where questions about a running machine are put, and answered by its loop.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::Uri;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::driver::Question;

/// How many questions may wait; a program that is asked more often has nothing better to do.
const WAITING: usize = 8;

/// Where to put questions about a machine; clones are the same desk.
#[derive(Debug)]
pub struct Desk<M> {
    questions: mpsc::Sender<Question<M>>,
}

impl<M> Clone for Desk<M> {
    fn clone(&self) -> Self {
        Self { questions: self.questions.clone() }
    }
}

/// Makes a desk, and what its host takes the questions from: each is an
/// [`Input::Question`](crate::driver::Input::Question).
pub fn desk<M>() -> (Desk<M>, mpsc::Receiver<Question<M>>) {
    let (questions, receiver) = mpsc::channel(WAITING);
    (Desk { questions }, receiver)
}

impl<M: 'static> Desk<M> {
    /// Asks; `None` if the loop has ended.
    pub async fn ask<A: Send + 'static>(
        &self,
        ask: impl FnOnce(&M) -> A + Send + 'static,
    ) -> Option<A> {
        let (question, answer) = Question::new(ask);
        self.questions.send(question).await.ok()?;
        answer.await.ok()
    }

    /// A page that shows, as JSON, what `look` makes of the machine.
    pub fn page<A: Serialize + 'static>(
        &self,
        look: impl Fn(&M, &Uri) -> A + Clone + Send + Sync + 'static,
    ) -> Page {
        let desk = self.clone();
        Arc::new(move |uri: Uri| {
            let (desk, look) = (desk.clone(), look.clone());
            Box::pin(async move {
                desk.ask(move |machine| serde_json::to_string(&look(machine, &uri))).await?.ok()
            })
        })
    }
}

/// Pages by path.
pub type Pages = BTreeMap<&'static str, Page>;

/// A page of the HTTP server: JSON, unless the loop has ended.
pub type Page =
    Arc<dyn Fn(Uri) -> Pin<Box<dyn Future<Output = Option<String>> + Send>> + Send + Sync>;
