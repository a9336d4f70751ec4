use std::sync::Arc;

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::AbortHandle,
};

use super::*;

/// How a fake server treats a request.
#[derive(Debug, Clone)]
pub(crate) enum Behaviour {
    /// 200 with this body.
    Answers(String),
    /// Another status.
    Refuses(u16),
    /// Reads the request and says nothing.
    Keeps,
    /// 200 and bytes without end.
    Floods,
    /// Hangs up.
    Drops,
}

/// A server on loopback that behaves as it is told by path; it ends with this value.
pub(crate) struct Fake {
    pub(crate) url: Url,
    requests: watch::Receiver<usize>,
    accepting: AbortHandle,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Fake {
    pub(crate) async fn start(behave: impl Fn(&str) -> Behaviour + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let (counter, requests) = watch::channel(0);
        let (behave, counter) = (Arc::new(behave), Arc::new(counter));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (behave, counter) = (Arc::clone(&behave), Arc::clone(&counter));
                tokio::spawn(async move {
                    // The client may hang up at any time.
                    let _ = serve(stream, &*behave, &counter).await;
                });
            }
        });
        Self { url, requests, accepting: accepting.abort_handle() }
    }

    /// Behaves the same whatever is asked for.
    pub(crate) async fn always(behaviour: Behaviour) -> Self {
        Self::start(move |_| behaviour.clone()).await
    }

    /// Nothing listens at its URL.
    pub(crate) async fn down() -> Url {
        Self::always(Behaviour::Drops).await.url.clone()
    }

    /// Waits until so many requests have come.
    pub(crate) async fn asked(&self, times: usize) {
        self.requests.clone().wait_for(|requests| *requests >= times).await.unwrap();
    }

    /// How many requests have come.
    pub(crate) fn requests(&self) -> usize {
        *self.requests.borrow()
    }

    /// A client for which this is the API server.
    pub(crate) fn client(&self) -> Client {
        client(&self.url)
    }
}

/// A client whose API server is at this URL.
pub(crate) fn client(url: &Url) -> Client {
    let mut config = Config::new(url.as_str().parse().unwrap());
    config.root_cert = Some(vec![]);
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

/// Reads one request, and gives its path; none at the end.
async fn request(reading: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<String>> {
    let (mut path, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        if reading.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let line = line.trim();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.parse().unwrap();
        }
        path.get_or_insert_with(|| line.split(' ').nth(1).unwrap_or_default().to_owned());
    }
    reading.read_exact(&mut vec![0; length]).await?;
    Ok(path)
}

async fn serve(
    mut stream: TcpStream,
    behave: &(dyn Fn(&str) -> Behaviour + Send + Sync),
    counter: &watch::Sender<usize>,
) -> std::io::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut reading = BufReader::new(reading);
    while let Some(path) = request(&mut reading).await? {
        counter.send_modify(|requests| *requests += 1);
        let head = match behave(&path) {
            Behaviour::Answers(body) => {
                format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                )
            }
            Behaviour::Refuses(status) => {
                let reason = match status {
                    404 => "NotFound",
                    409 => "Conflict",
                    _ => "",
                };
                let body = format!(r#"{{"status":"Failure","message":"no","reason":"{reason}","code":{status}}}"#);
                format!("HTTP/1.1 {status} No\r\ncontent-length: {}\r\n\r\n{body}", body.len())
            }
            Behaviour::Keeps => std::future::pending().await,
            Behaviour::Drops => return Ok(()),
            Behaviour::Floods => {
                writing.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                loop {
                    writing.write_all(&[b'x'; 1 << 16]).await?;
                }
            }
        };
        writing.write_all(head.as_bytes()).await?;
    }
    Ok(())
}

async fn error(url: &Url) -> FetchError {
    Server::at(url, "the fake").unwrap().get("/metrics").await.unwrap_err()
}

#[tokio::test]
async fn an_answer_is_its_body() {
    let fake = Fake::start(|path| Behaviour::Answers(path.to_owned())).await;
    let server = Server::at(&fake.url.join("base").unwrap(), "the fake").unwrap();
    assert_eq!(server.get("/a?b=c%20d").await.unwrap(), b"/base/a?b=c%20d");
}

#[tokio::test]
async fn failures_name_the_server_and_no_secret() {
    let refusing = Fake::always(Behaviour::Refuses(503)).await;
    let mut secret = refusing.url.clone();
    secret.set_username("me").unwrap();
    secret.set_password(Some("hush")).unwrap();
    let refused = error(&secret).await;
    assert!(refused.is_absent());
    assert_eq!(refused.to_string(), format!("the fake at {} answers 503 Service Unavailable", refusing.url));

    let down = error(&Fake::down().await).await.to_string();
    assert!(down.contains("cannot be reached") && down.contains("refused"), "{down}");
    let dropping = Fake::always(Behaviour::Drops).await;
    assert!(matches!(error(&dropping.url).await, FetchError::Unreachable { .. }));
    let flooding = Fake::always(Behaviour::Floods).await;
    assert!(matches!(error(&flooding.url).await, FetchError::TooLong { .. }));
}

#[tokio::test]
async fn a_silent_server_is_waited_for_no_longer_than_the_limit() {
    let fake = Fake::always(Behaviour::Keeps).await;
    let url = fake.url.clone();
    let asking = tokio::spawn(async move { error(&url).await });
    fake.asked(1).await;
    tokio::time::pause();
    tokio::time::advance(TIME_LIMIT).await;
    assert!(matches!(asking.await.unwrap(), FetchError::Silent { .. }));
}
