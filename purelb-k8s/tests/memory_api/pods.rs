//! What runs behind pods: `kubectl logs` and `kubectl exec`, and the protocol of the latter.

use std::process::Stdio;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, SinkExt, StreamExt};
use jiff::Timestamp;
use purelb_k8s::memory::{Container, Exec, MemoryApi, PodLog, PodRuntime, Run};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::cluster::{Cluster, in_time};
use crate::kubectl::Kubectl;

/// Containers with a log of two runs, and a few commands.
#[derive(Default)]
struct Machine {
    present: PodLog,
    previous: PodLog,
    /// How many commands run that never end.
    endless: watch::Sender<usize>,
}

impl PodRuntime for Machine {
    fn log(&self, container: &Container, run: Run) -> Option<PodLog> {
        (container.name == "main").then_some(match run {
            Run::Present => self.present.clone(),
            Run::Previous => self.previous.clone(),
        })
    }

    fn exec(&self, container: &Container, exec: Exec) -> BoxFuture<'static, Result<i32, String>> {
        let Exec { command, stdin, stdout, stderr, terminal } = exec;
        let (container, endless) = (container.to_string(), self.endless.clone());
        async move {
            let mut stdout = stdout.ok_or("nobody wants the output")?;
            let command: Vec<&str> = command.iter().map(String::as_str).collect();
            match command[..] {
                ["where"] => {
                    let line = format!("{container}, terminal: {}\n", terminal.is_some());
                    stdout.write_all(line.as_bytes()).await.map_err(|e| e.to_string())?;
                    Ok(0)
                }
                ["cat"] => {
                    let mut stdin = stdin.ok_or("nothing to read")?;
                    copy(&mut stdin, &mut stdout).await.map_err(|e| e.to_string())?;
                    Ok(0)
                }
                ["fail", code] => {
                    let mut stderr = stderr.ok_or("nobody wants the complaints")?;
                    stderr.write_all(b"it failed\n").await.map_err(|e| e.to_string())?;
                    code.parse().map_err(|_| "no code".to_owned())
                }
                ["size"] => {
                    let mut size = terminal.ok_or("no terminal")?;
                    let known = size.wait_for(|size| size.rows > 0).await;
                    let known = *known.map_err(|e| e.to_string())?;
                    let line = format!("{} by {}\n", known.columns, known.rows);
                    stdout.write_all(line.as_bytes()).await.map_err(|e| e.to_string())?;
                    Ok(0)
                }
                ["wait"] => {
                    endless.send_modify(|count| *count += 1);
                    let _counted = Counted(endless);
                    std::future::pending().await
                }
                _ => Err(format!("{:?}: executable file not found", command[0])),
            }
        }
        .boxed()
    }
}

struct Counted(watch::Sender<usize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// A cluster with pods `one`, of one container, and `two`, of two, and the machine that runs them.
async fn cluster() -> (Cluster, MemoryApi, Arc<Machine>) {
    let (cluster, api) = Cluster::memory().await;
    for (name, containers) in [("one", &["main"][..]), ("two", &["main", "other"])] {
        let containers: Vec<Value> =
            containers.iter().map(|name| json!({"name": name, "image": "none"})).collect();
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": cluster.namespace, "labels": {"app": "a"}},
            "spec": {"nodeName": "n1", "containers": containers},
        });
        api.create(pod).expect("a pod");
        status(&api, &cluster, name, &json!({"phase": "Running", "podIP": "192.0.2.1"}));
    }
    let machine = Arc::new(Machine::default());
    api.set_pod_runtime(machine.clone());
    (cluster, api, machine)
}

fn status(api: &MemoryApi, cluster: &Cluster, name: &str, status: &Value) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": cluster.namespace}, "status": status,
    });
    api.apply_status("kubelet", pod).expect("a status");
}

/// The same with `kubectl`, where there is one.
async fn kubectl() -> Option<(Kubectl, MemoryApi, Arc<Machine>)> {
    let (cluster, api, machine) = cluster().await;
    Some((Kubectl::of(async { Some(cluster) }).await?, api, machine))
}

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

#[tokio::test]
async fn kubectl_prints_logs_as_asked() {
    let Some((kubectl, _, machine)) = kubectl().await else { return };
    machine.present.append(time("2026-01-02T03:04:05.6Z"), "one");
    machine.present.append(time("2026-01-02T03:04:06Z"), "two");
    machine.previous.append(time("2026-01-01T00:00:00Z"), "before");
    assert_eq!(kubectl.run(&["logs", "one"], "").await, "one\ntwo\n");
    assert_eq!(
        kubectl.run(&["logs", "--timestamps", "one"], "").await,
        "2026-01-02T03:04:05.600000000Z one\n2026-01-02T03:04:06.000000000Z two\n"
    );
    assert_eq!(kubectl.run(&["logs", "one", "--tail=1"], "").await, "two\n");
    assert_eq!(kubectl.run(&["logs", "one", "--since=1h"], "").await, "");
    let since = "--since-time=2026-01-02T03:04:06Z";
    assert_eq!(kubectl.run(&["logs", "one", since], "").await, "two\n");
    assert_eq!(kubectl.run(&["logs", "one", "--previous"], "").await, "before\n");
    assert_eq!(kubectl.run(&["logs", "two", "-c", "main", "--tail=1"], "").await, "two\n");
    let prefixed = kubectl.run(&["logs", "-l", "app=a", "-c", "main", "--prefix"], "").await;
    assert!(prefixed.contains("[pod/two/main] one\n"), "{prefixed}");
    let none = kubectl.fails(&["logs", "two", "-c", "other"], "").await;
    assert!(none.contains(r#"container "other" in pod "two" not found"#), "{none}");
    let none = kubectl.fails(&["logs", "three"], "").await;
    assert!(none.contains(r#"pods "three" not found"#), "{none}");
}

#[tokio::test]
async fn kubectl_follows_a_log_until_the_container_ends() {
    let Some((kubectl, _, machine)) = kubectl().await else { return };
    machine.present.append(Timestamp::UNIX_EPOCH, "there");
    let mut follower = kubectl
        .command(&["logs", "-f", "one"])
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .expect("kubectl starts");
    let mut lines = BufReader::new(follower.stdout.take().expect("it is piped")).lines();
    let mut next = async || in_time("a line", lines.next_line()).await.expect("text");
    assert_eq!(next().await.as_deref(), Some("there"));
    machine.present.append(Timestamp::UNIX_EPOCH, "new");
    assert_eq!(next().await.as_deref(), Some("new"));
    machine.present.end();
    assert_eq!(next().await, None);
    assert!(in_time("kubectl ends", follower.wait()).await.expect("it ran").success());
}

#[tokio::test]
async fn kubectl_runs_commands_in_containers() {
    let Some((kubectl, api, machine)) = kubectl().await else { return };
    let namespace = kubectl.cluster.namespace.clone();
    let place = kubectl.run(&["exec", "one", "--", "where"], "").await;
    assert_eq!(place, format!("main of {namespace}/one, terminal: false\n"));
    let place = kubectl.run(&["exec", "two", "-c", "other", "--", "where"], "").await;
    assert!(place.starts_with("other of"), "{place}");
    // More than is on its way at once, both ways.
    let text = "0123456789abcdef".repeat(64 * 1024);
    let back = kubectl.run(&["exec", "-i", "one", "--", "cat"], &text).await;
    assert!(back == text, "{} of {} bytes came back", back.len(), text.len());
    let failed = kubectl.try_run(&["exec", "one", "--", "fail", "3"], "").await;
    assert_eq!(failed.status.code(), Some(3));
    let why = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert_eq!(why, "it failed\ncommand terminated with exit code 3\n");
    let why = kubectl.fails(&["exec", "one", "--", "nonsense"], "").await;
    assert!(why.contains(r#""nonsense": executable file not found"#), "{why}");
    status(&api, &kubectl.cluster, "one", &json!({"phase": "Succeeded"}));
    let why = kubectl.fails(&["exec", "one", "--", "where"], "").await;
    assert!(why.contains("cannot exec into a container in a completed pod"), "{why}");

    let mut endless =
        kubectl.command(&["exec", "two", "-c", "main", "--", "wait"]).spawn().expect("it starts");
    let mut count = machine.endless.subscribe();
    in_time("it runs", count.wait_for(|count| *count == 1)).await.expect("the machine is there");
    endless.kill().await.expect("it is ours");
    in_time("the command is ended", count.wait_for(|count| *count == 0)).await.expect("the same");
}

/// Asks for a command over a WebSocket, with these parameters.
async fn ask(
    cluster: &Cluster,
    protocol: &str,
    query: &str,
) -> Result<WebSocketStream<TcpStream>, Error> {
    let address = cluster.kubeconfig.split("http://").nth(1).expect("it names the server");
    let address = address.split('"').next().expect("a part");
    let path = format!("/api/v1/namespaces/{}/pods/one/exec?{query}", cluster.namespace);
    let mut request = format!("ws://{address}{path}").into_client_request()?;
    let protocol = protocol.parse().expect("a header's value");
    request.headers_mut().insert("sec-websocket-protocol", protocol);
    let stream = TcpStream::connect(address).await?;
    Ok(in_time("an answer", client_async(request, stream)).await?.0)
}

/// All messages, to the end, each as its channel and its text.
async fn hear(socket: &mut WebSocketStream<TcpStream>) -> Vec<(u8, String)> {
    let mut heard = Vec::new();
    while let Some(message) = in_time("a message", socket.next()).await {
        let message = message.expect("the server ends in order");
        match &message {
            Message::Binary(bytes) => {
                let text = String::from_utf8_lossy(&bytes[1..]).into_owned();
                heard.push((bytes[0], text));
            }
            Message::Close(_) => {}
            Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {
                panic!("unexpected {message:?}")
            }
        }
    }
    heard
}

#[tokio::test]
async fn both_versions_of_the_protocol_are_spoken() {
    let (cluster, _, _machine) = cluster().await;
    for protocol in ["v4.channel.k8s.io", "v5.channel.k8s.io", "v9, v5.channel.k8s.io"] {
        let mut socket =
            ask(&cluster, protocol, "command=fail&command=7&stdout=1&stderr=1").await.unwrap();
        let heard = hear(&mut socket).await;
        assert_eq!(heard[0], (2, "it failed\n".to_owned()), "{protocol}");
        let (channel, status) = &heard[1];
        let status: Value = serde_json::from_str(status).unwrap();
        assert_eq!((*channel, &status["reason"]), (3, &json!("NonZeroExitCode")));
        let cause = json!({"reason": "ExitCode", "message": "7"});
        assert_eq!(status["details"]["causes"], json!([cause]));
    }
    let mut socket =
        ask(&cluster, "v5.channel.k8s.io", "command=cat&stdin=1&stdout=1").await.unwrap();
    for message in [&b""[..], b"\x00hello", b"\xff\x00"] {
        socket.send(Message::binary(message.to_vec())).await.unwrap();
    }
    let heard = hear(&mut socket).await;
    assert_eq!(heard[0], (1, "hello".to_owned()));
    assert!(heard[1].1.contains("Success"), "{heard:?}");
}

#[tokio::test]
async fn a_terminal_has_the_size_that_the_client_tells() {
    let (cluster, _, _machine) = cluster().await;
    let query = "command=size&stdin=true&stdout=true&stderr=true&tty=true";
    let mut socket = ask(&cluster, "v5.channel.k8s.io", query).await.unwrap();
    let size = b"\x04{\"Width\":132,\"Height\":50}\n".to_vec();
    socket.send(Message::binary(size)).await.unwrap();
    assert_eq!(hear(&mut socket).await[0], (1, "132 by 50\n".to_owned()));
}

#[tokio::test]
async fn what_is_no_command_is_refused() {
    let (cluster, api, _machine) = cluster().await;
    for (protocol, query, code) in [
        ("v5.channel.k8s.io", "stdout=true", 400),
        ("v5.channel.k8s.io", "command=where", 400),
        ("v5.channel.k8s.io", "command=where&stdout=true&container=none", 400),
        ("v1.channel.k8s.io", "command=where&stdout=true", 400),
    ] {
        match ask(&cluster, protocol, query).await {
            Err(Error::Http(response)) => assert_eq!(response.status(), code, "{query}"),
            other => panic!("{protocol} {query}: {other:?}"),
        }
    }
    api.delete("Pod", &cluster.namespace, "one").unwrap();
    match ask(&cluster, "v5.channel.k8s.io", "command=where&stdout=true").await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 404),
        other => panic!("{other:?}"),
    }
    // An ordinary request for it.
    let address = cluster.kubeconfig.split("http://").nth(1).and_then(|a| a.split('"').next());
    let mut stream = TcpStream::connect(address.expect("it names the server")).await.unwrap();
    let path = format!("/api/v1/namespaces/{}/pods/two/exec", cluster.namespace);
    let request = format!(
        "GET {path}?command=where&stdout=1&container=main HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    in_time("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.contains("400 Bad Request") && answer.contains("Upgrade request required"));
}

#[tokio::test]
async fn tables_say_what_is_wrong_with_a_pod() {
    let Some((kubectl, api, _machine)) = kubectl().await else { return };
    let table = async || {
        let text = kubectl.run(&["get", "pods", "one", "-o", "wide", "--no-headers"], "").await;
        text.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    let row = table().await;
    assert_eq!(row[..4], ["one", "0/1", "Running", "0"]);
    assert_eq!(row[5..], ["192.0.2.1", "n1", "<none>", "<none>"]);
    let container = |state: Value, ready: bool| {
        json!({"phase": "Running", "containerStatuses": [{
            "name": "main", "image": "none", "imageID": "", "ready": ready, "restartCount": 2,
            "state": state,
            "lastState": {"terminated": {"exitCode": 1, "finishedAt": Timestamp::now()}},
        }]})
    };
    for (state, ready, shown) in [
        (json!({"running": {}}), true, "1/1 Running 2 "),
        (json!({"waiting": {"reason": "CrashLoopBackOff"}}), false, "0/1 CrashLoopBackOff 2 "),
        (json!({"terminated": {"reason": "Error", "exitCode": 137}}), false, "0/1 Error 2 "),
        (json!({"terminated": {"exitCode": 4}}), false, "0/1 ExitCode:4 2 "),
    ] {
        status(&api, &kubectl.cluster, "one", &container(state, ready));
        let row = table().await.join(" ");
        assert!(row.starts_with(&format!("one {shown}(")) && row.contains(" ago)"), "{row}");
    }
}
