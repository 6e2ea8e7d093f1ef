//! Where questions about a running machine are put, and answered by its loop.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::Uri;
use hyper::body::Bytes;
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
                let asked = desk.ask(move |machine| serde_json::to_string(&look(machine, &uri)));
                let json = asked.await.ok_or(NOBODY)?.map_err(|error| error.to_string())?;
                Ok(Body { kind: "application/json", bytes: json.into() })
            })
        })
    }

    /// A page that is a file of this type, if `make` makes one of the machine; else it says why not.
    pub fn file(
        &self,
        kind: &'static str,
        make: impl Fn(&M) -> Result<Vec<u8>, String> + Clone + Send + Sync + 'static,
    ) -> Page {
        let desk = self.clone();
        Arc::new(move |_| {
            let (desk, make) = (desk.clone(), make.clone());
            Box::pin(async move {
                let bytes = desk.ask(move |machine| make(machine)).await.ok_or(NOBODY)??;
                Ok(Body { kind, bytes: bytes.into() })
            })
        })
    }
}

/// Pages by path.
pub type Pages = BTreeMap<&'static str, Page>;

/// A page of the HTTP server, or why there is none now.
pub type Page =
    Arc<dyn Fn(Uri) -> Pin<Box<dyn Future<Output = Result<Body, String>> + Send>> + Send + Sync>;

/// What a page shows.
#[derive(Clone, Debug)]
pub struct Body {
    /// Its media type.
    pub kind: &'static str,
    /// All of it.
    pub bytes: Bytes,
}

/// Nobody took the question.
const NOBODY: &str = "this program decides nothing now: it is ending, or another one leads";
