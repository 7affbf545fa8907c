//! A plugin for tests: it says what it is told to say, also what no plugin should.

use crate::connection::Connection;
use crate::frame::{
    Assembler, FRAME_HEADER, Kind, Message, PLUGIN_SERVICE, RUNTIME_SERVICE, encode, frame,
};
use crate::nri::{Nri, Runtime};
use crate::{NriSettings, ValidatorSettings};
use cringle_proto_nri::ttrpc::{Request, Response, Status};
use cringle_proto_nri::v1alpha1::{
    ConfigureResponse, Container, ContainerEviction, ContainerUpdate, Empty, FailurePolicy,
    PodSandbox, RegisterPluginRequest, SynchronizeRequest, SynchronizeResponse,
};
use cringle_proto_nri::{Call, Named};
use futures::future::BoxFuture;
use prost::Message as _;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// What a plugin does with a call.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Answers with these bytes.
    Answer(Vec<u8>),
    /// Answers with an error.
    Refuse(i32, &'static str),
    /// Says nothing.
    Silence,
    /// Ends the connection.
    Leave,
    /// Writes these bytes instead of an answer.
    Babble(Vec<u8>),
}

/// A message as an answer.
pub(crate) fn answer(message: &impl prost::Message) -> Reply {
    Reply::Answer(message.encode_to_vec())
}

/// How a plugin is to be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Character {
    pub(crate) name: &'static str,
    pub(crate) events: i32,
    pub(crate) policy: FailurePolicy,
    /// What it does with calls by their method; it answers all others with nothing.
    pub(crate) replies: BTreeMap<&'static str, Reply>,
}

/// A method that was called, and with what.
type Seen = (String, Vec<u8>);

/// A plugin, and what it was asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peer(Arc<Mutex<Vec<Seen>>>);

impl Peer {
    /// The methods that were called, in order.
    pub(crate) fn called(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(|(method, _)| method.clone()).collect()
    }

    /// The first request of a kind.
    pub(crate) fn seen<Q: Call<cringle_proto_nri::Plugin> + Default>(&self) -> Option<Q> {
        let calls = self.0.lock().unwrap();
        let found = calls.iter().find(|(method, _)| method == Q::METHOD)?;
        Some(Q::decode(found.1.as_slice()).unwrap())
    }
}

/// The runtime that the plugins of tests have.
#[derive(Debug, Default)]
pub(crate) struct Host {
    pub(crate) pods: Vec<PodSandbox>,
    pub(crate) containers: Vec<Container>,
    pub(crate) updated: Mutex<Vec<ContainerUpdate>>,
    pub(crate) evicted: Mutex<Vec<ContainerEviction>>,
}

impl Runtime for Host {
    fn state(&self) -> (Vec<PodSandbox>, Vec<Container>) {
        (self.pods.clone(), self.containers.clone())
    }

    fn update(&self, update: ContainerUpdate) -> BoxFuture<'_, Result<(), String>> {
        let known = update.container_id != "unknown";
        self.updated.lock().unwrap().push(update);
        Box::pin(async move { if known { Ok(()) } else { Err("unknown".to_owned()) } })
    }

    fn evict(&self, eviction: ContainerEviction) -> BoxFuture<'_, Result<(), String>> {
        self.evicted.lock().unwrap().push(eviction);
        Box::pin(async { Ok(()) })
    }
}

/// Plugins that have two seconds to answer and to register.
pub(crate) fn nri(validator: Option<ValidatorSettings>) -> Arc<Nri> {
    Nri::new(NriSettings {
        plugin_directory: "/nowhere".into(),
        plugin_config_directory: "/nowhere".into(),
        registration_timeout: Duration::from_secs(2),
        request_timeout: Duration::from_secs(2),
        validator,
    })
}

/// A connection and the stream at its other end.
pub(crate) fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

/// Connects a plugin and waits until it has joined.
pub(crate) async fn join(nri: &Arc<Nri>, host: &Arc<Host>, character: Character) -> Peer {
    let before = nri.names().len();
    let peer = connect(nri, host, character);
    until("the plugin has joined", || nri.names().len() > before).await;
    peer
}

/// Connects a plugin.
pub(crate) fn connect(nri: &Arc<Nri>, host: &Arc<Host>, character: Character) -> Peer {
    let (ours, theirs) = pair();
    let runtime: Arc<dyn Runtime> = Arc::<Host>::clone(host);
    nri.spawn(Arc::clone(nri).attend(ours, runtime));
    let peer = Peer::default();
    drop(tokio::spawn(live(theirs, character, peer.clone())));
    peer
}

async fn live(mut stream: UnixStream, character: Character, peer: Peer) {
    let (index, name) = character.name.split_once('-').unwrap_or(("", character.name));
    let register = RegisterPluginRequest {
        plugin_name: name.to_owned(),
        plugin_idx: index.to_owned(),
        nri_version: String::new(),
    };
    stream.write_all(&call(1, &register)).await.unwrap();
    let mut assembler = Assembler::default();
    loop {
        let mut header = [0; FRAME_HEADER];
        if stream.read_exact(&mut header).await.is_err() {
            return;
        }
        let (connection, length) = frame(header).unwrap();
        let mut content = vec![0; length as usize];
        stream.read_exact(&mut content).await.unwrap();
        if connection == RUNTIME_SERVICE {
            continue;
        }
        assembler.room().extend(content);
        while let Some(message) = assembler.message().unwrap() {
            let request = Request::decode(message.payload.as_slice()).unwrap();
            let reply = reply(&character, &request);
            peer.0.lock().unwrap().push((request.method, request.payload));
            let response = match reply {
                Reply::Answer(payload) => Response { status: None, payload },
                Reply::Refuse(code, text) => {
                    let status = Status { code, message: text.to_owned() };
                    Response { status: Some(status), payload: Vec::new() }
                }
                Reply::Silence => continue,
                Reply::Leave => return,
                Reply::Babble(bytes) => {
                    drop(stream.write_all(&bytes).await);
                    continue;
                }
            };
            let (kind, payload) = (Kind::Response, response.encode_to_vec());
            let message = Message { kind, stream: message.stream, payload };
            stream.write_all(&encode(PLUGIN_SERVICE, &message)).await.unwrap();
        }
    }
}

fn reply(character: &Character, request: &Request) -> Reply {
    if let Some(reply) = character.replies.get(request.method.as_str()) {
        return reply.clone();
    }
    match request.method.as_str() {
        "Configure" => answer(&ConfigureResponse {
            events: character.events,
            failure_policy: Some(character.policy),
        }),
        "Synchronize" => {
            let asked = SynchronizeRequest::decode(request.payload.as_slice()).unwrap();
            answer(&SynchronizeResponse { more: asked.more, update: Vec::new() })
        }
        _ => answer(&Empty {}),
    }
}

/// The bytes of a call to the runtime.
pub(crate) fn call<Q: Call<cringle_proto_nri::Runtime>>(stream: u32, request: &Q) -> Vec<u8> {
    let request = Request {
        service: cringle_proto_nri::Runtime::NAME.to_owned(),
        method: Q::METHOD.to_owned(),
        payload: request.encode_to_vec(),
        ..Request::default()
    };
    let payload = request.encode_to_vec();
    encode(RUNTIME_SERVICE, &Message { kind: Kind::Request, stream, payload })
}

/// Waits for something, for no longer than ten seconds.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect(what);
}

/// The connection of a stream, whose incoming calls nobody takes.
pub(crate) fn started(stream: UnixStream) -> Connection {
    Connection::start(stream).0
}
