//! Ten thousand clients that come and go in all manners leave nothing behind.

#[cfg(test)]
mod cases {
    use bytes::BytesMut;
    use cringle_streaming::spdy::frame::{Control, put_data};
    use cringle_streaming::spdy::headers::Packer;
    use cringle_streaming::spdy::{Connection, Headers, Settings};
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use tokio::runtime::Handle;
    use tokio::time::timeout;

    async fn connect(manner: usize) {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut connection = Connection::serve(near, &Settings { streams_cap: 3, idle: None });
        let (mut packer, mut bytes) = (Packer::default(), BytesMut::new());
        for stream in [1, 3, 5, 7] {
            let block = packer.pack(&Headers::new().with("streamtype", "stdin"));
            Control::SynStream { stream, fin: false, unidirectional: false, block }.put(&mut bytes);
            put_data(&mut bytes, stream, &[0; 100], false);
        }
        if manner == 0 {
            bytes.truncate(bytes.len() / 2);
        }
        far.write_all(&bytes).await.unwrap();
        let mut stream = connection.accept().await.unwrap().reply(&Headers::new());
        match manner {
            // The client leaves in the midst of a frame; streams are never accepted.
            0 => {
                drop(far);
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.unwrap_err();
            }
            // The server drops the connection and keeps a stream.
            1 => {
                drop(connection);
                stream.read_u8().await.unwrap();
            }
            // The server closes, the client leaves when it hears of it.
            2 => {
                stream.write_all(b"last words").await.unwrap();
                stream.shutdown().await.unwrap();
                let closing = tokio::spawn(connection.close());
                let mut all = Vec::new();
                far.read_to_end(&mut all).await.unwrap();
                drop(far);
                closing.await.unwrap();
            }
            // A close that nobody waits for the end of, before a client that does not read.
            _ => {
                stream.write_all(&[0; 30_000]).await.unwrap();
                stream.shutdown().await.unwrap();
                tokio::select! {
                    biased;
                    ending = connection.close() => panic!("{ending:?} while the client is there"),
                    () = tokio::task::yield_now() => {}
                }
            }
        }
    }

    fn descriptors() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }

    /// Resident memory in KiB.
    fn memory() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Tasks that were ended have yet to be seen by the runtime.
    async fn settled(tasks: usize) {
        let alone = async {
            while Handle::current().metrics().num_alive_tasks() > tasks {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(30), alone).await.expect("tasks are left");
    }

    #[tokio::test]
    async fn ten_thousand_connections_leave_no_task_descriptor_or_memory() {
        let tasks = Handle::current().metrics().num_alive_tasks();
        for n in 0..400 {
            connect(n % 4).await;
        }
        settled(tasks).await;
        let before = (descriptors(), memory());
        for n in 0..10_000 {
            connect(n % 4).await;
        }
        settled(tasks).await;
        let after = (descriptors(), memory());
        assert_eq!(after.0, before.0, "descriptors");
        assert!(after.1 < before.1 + 2048, "{} KiB have become {} KiB", before.1, after.1);
    }
}
