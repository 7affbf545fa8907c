//! Exec and attach over SPDY: the client makes a stream for each stream, and says in a header which it is.

use super::{Client, Opening, Reader, Shape, Status, Writer, end, run};
use crate::StreamingSettings;
use crate::negotiate::Version;
use crate::spdy::{Connection, Headers, Incoming, Settings, Stream};
use cringle_domain::spec::Terminal;
use cringle_service::streams::Wanted;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// Streams on one connection: five are needed.
const STREAMS: usize = 16;

/// Serves a client to the end, the session's or its own.
pub(crate) async fn serve<I, O>(
    io: I,
    version: Version,
    settings: &StreamingSettings,
    shape: Shape,
    opening: O,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    O: Opening,
{
    let limits = Settings { streams_cap: STREAMS, idle: settings.idle };
    let mut connection = Connection::serve(io, &limits);
    let made = Made::new(version, shape);
    match made.collect(&mut connection, settings.creation).await {
        Ok(client) => {
            let left = async {
                while let Some(stranger) = connection.accept().await {
                    stranger.refuse();
                }
            };
            tokio::select! {
                () = left => return tracing::debug!("a streaming client left"),
                () = run(client, opening) => {}
            }
        }
        Err(NotMade::Left) => return tracing::debug!("a streaming client left"),
        Err(NotMade::TooSlow(made)) => made.complain().await,
    }
    connection.close().await.tell();
}

/// The streams that a client has made so far.
#[derive(Debug)]
struct Made {
    version: Version,
    shape: Shape,
    input: Option<Stream>,
    output: Option<Stream>,
    error: Option<Stream>,
    sizes: Option<Stream>,
    status: Option<Stream>,
}

/// Why a client has no session.
#[derive(Debug)]
enum NotMade {
    /// It went.
    Left,
    /// It did not make the streams that it had asked for.
    TooSlow(Box<Made>),
}

impl Made {
    fn new(version: Version, shape: Shape) -> Self {
        Self { version, shape, input: None, output: None, error: None, sizes: None, status: None }
    }

    /// Waits until there are all of them.
    async fn collect(
        mut self,
        connection: &mut Connection,
        patience: Duration,
    ) -> Result<Client, NotMade> {
        let deadline = tokio::time::sleep(patience);
        tokio::pin!(deadline);
        loop {
            let incoming = tokio::select! {
                incoming = connection.accept() => incoming.ok_or(NotMade::Left)?,
                () = &mut deadline => return Err(NotMade::TooSlow(Box::new(self))),
            };
            self.take(incoming);
            self = match self.complete() {
                Ok(client) => return client.prepared().await,
                Err(made) => *made,
            };
        }
    }

    /// Takes a stream that is wanted and not there yet.
    fn take(&mut self, incoming: Incoming) {
        let streams = self.shape.streams;
        let sizes = match self.shape.terminal {
            Terminal::Present if self.version >= Version::V3 => Wanted::Yes,
            Terminal::Present | Terminal::Absent => Wanted::No,
        };
        let (place, wanted) = match incoming.headers.get("streamtype") {
            Some("error") => (&mut self.status, Wanted::Yes),
            Some("stdin") => (&mut self.input, streams.input),
            Some("stdout") => (&mut self.output, streams.output),
            Some("stderr") => (&mut self.error, streams.error),
            Some("resize") => (&mut self.sizes, sizes),
            Some(_) | None => return incoming.refuse(),
        };
        if place.is_none() && wanted == Wanted::Yes {
            *place = Some(incoming.reply(&Headers::new()));
        } else {
            incoming.refuse();
        }
    }

    /// The client, if nothing is missing.
    fn complete(self) -> Result<Client, Box<Self>> {
        let Shape { streams, terminal } = self.shape;
        let there = |stream: &Option<Stream>, wanted| stream.is_some() || wanted == Wanted::No;
        let sizes =
            terminal == Terminal::Absent || self.version < Version::V3 || self.sizes.is_some();
        let all = there(&self.input, streams.input)
            && there(&self.output, streams.output)
            && there(&self.error, streams.error)
            && sizes;
        if !all || self.status.is_none() {
            return Err(Box::new(self));
        }
        let Self { version, shape: _, input, output, error, sizes, status } = self;
        let (input, input_end) = input.map(tokio::io::split).unzip();
        Ok(Client {
            version,
            input: input.map(|stream| Box::new(stream) as Reader),
            output: output.map(|stream| Box::new(stream) as Writer),
            error: error.map(|stream| Box::new(stream) as Writer),
            sizes: sizes.map(|stream| Box::new(stream) as Reader),
            status: status.map(|stream| Box::new(stream) as Writer),
            input_end: input_end.map(|stream| Box::new(stream) as Writer),
        })
    }

    /// Tells a client what it has not done.
    async fn complain(self) {
        let Some(stream) = self.status else { return };
        let status = Status::Failure("the client did not make its streams in time".to_owned());
        status.send(self.version, Box::new(stream)).await;
    }
}

impl Client {
    /// In the first version the server ended its half of the input at once.
    async fn prepared(mut self) -> Result<Self, NotMade> {
        if self.version == Version::V1
            && let Some(mut stream) = self.input_end.take()
        {
            end(&mut stream).await;
        }
        Ok(self)
    }
}
