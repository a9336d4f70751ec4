//! HTTPS, as clients see it: what is shown, what changes while it is served, what is not served.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io;
    use std::net::SocketAddr;
    use std::path::{Path, PathBuf};
    use std::time::{Duration, Instant};

    use actix_web::{HttpResponse, rt, web};
    use awc::{Client, Connector, http::Version};
    use futures_util::FutureExt as _;
    use sinfonia_server::{Readiness, ServeError, Server, ServerOptions};
    use sinfonia_tls::{Certificate, TlsTrust};
    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;

    const PATIENCE: Duration = Duration::from_secs(30);

    struct Https {
        directory: TempDir,
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        done: rt::task::JoinHandle<Result<(), ServeError>>,
    }

    impl Https {
        fn start() -> Self {
            let directory = tempfile::tempdir().unwrap();
            new_pair(directory.path());
            let certificate = Certificate::open(directory.path().join("crt"), directory.path().join("key")).unwrap();
            let options = ServerOptions {
                host: Some([127, 0, 0, 1].into()),
                workers: Some(1),
                certificate: Some(certificate),
                // Clients keep their connections.
                shutdown_deadline: Duration::from_secs(1),
                ..ServerOptions::new("example", 0)
            };
            let server = Server::bind(options).unwrap();
            let (address, (stop, stopped)) = (server.address(), oneshot::channel());
            let routes = |routes: &mut web::ServiceConfig| {
                routes.route("/hello", web::get().to(async || HttpResponse::Ok().body("hello")));
            };
            let done = rt::spawn(server.run_until(Readiness::new(), routes, stopped.map(drop)));
            Self { directory, address, stop, done }
        }

        /// Says hello by a new connection, trusting nobody but this certificate.
        async fn hello(&self, trusted: PathBuf) -> Result<Version, String> {
            say_hello(&client(trusted), self.address).await
        }

        /// Waits until this certificate is shown; a client that trusts another one uses its connection meanwhile.
        async fn eventually(&self, trusted: &Path, old: &Client) {
            let deadline = Instant::now() + PATIENCE;
            while self.hello(trusted.to_owned()).await.is_err() {
                // It would not trust a new connection once the new certificate is shown.
                say_hello(old, self.address).await.unwrap();
                assert!(Instant::now() < deadline, "the new certificate is not shown");
                rt::time::sleep(Duration::from_millis(20)).await;
            }
        }

        async fn stop(self) {
            drop(self.stop);
            self.done.await.unwrap().unwrap();
        }
    }

    /// Writes another certificate and key, and returns a copy of the certificate that stays.
    fn new_pair(directory: &Path) -> PathBuf {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let number = fs::read_dir(directory).unwrap().count();
        let copy = directory.join(format!("copy-{number}"));
        fs::write(&copy, made.cert.pem()).unwrap();
        fs::write(directory.join("crt"), made.cert.pem()).unwrap();
        fs::write(directory.join("key"), made.signing_key.serialize_pem()).unwrap();
        copy
    }

    fn client(trusted: PathBuf) -> Client {
        let trust = TlsTrust { tls_ca: Some(trusted) }.client_config().unwrap().unwrap();
        Client::builder().connector(Connector::new().rustls_0_23(trust)).finish()
    }

    async fn say_hello(client: &Client, address: SocketAddr) -> Result<Version, String> {
        let request = client.get(format!("https://localhost:{}/hello", address.port()));
        let mut answer = request.send().await.map_err(|error| error.to_string())?;
        let body = answer.body().await.map_err(|error| error.to_string())?;
        assert_eq!(body, "hello");
        Ok(answer.version())
    }

    #[actix_web::test]
    async fn https_is_served_and_nothing_else() {
        let https = Https::start();
        let trusted = https.directory.path().join("copy-0");
        let version = https.hello(trusted).await.unwrap();
        assert!(matches!(version, Version::HTTP_2 | Version::HTTP_11), "{version:?}");
        let other = new_pair(tempfile::tempdir().unwrap().keep().as_path());
        let refused = https.hello(other.clone()).await.unwrap_err();
        assert!(refused.contains("certificate"), "{refused}");
        fs::remove_dir_all(other.parent().unwrap()).unwrap();

        let mut plain = TcpStream::connect(https.address).await.unwrap();
        plain.write_all(b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut said = Vec::new();
        // A TLS alert or a reset.
        let _: io::Result<_> = plain.read_to_end(&mut said).await;
        assert!(!said.starts_with(b"HTTP") && said.len() < 16, "{said:?}");
        https.stop().await;
    }

    #[actix_web::test]
    async fn another_certificate_is_shown_and_open_connections_stay() {
        let https = Https::start();
        let first = https.directory.path().join("copy-0");
        let old = client(first.clone());
        say_hello(&old, https.address).await.unwrap();
        let second = new_pair(https.directory.path());
        https.eventually(&second, &old).await;
        assert!(https.hello(first).await.is_err(), "new connections see the new one only");
        say_hello(&old, https.address).await.unwrap();

        // Broken ones change nothing, and a later good one counts.
        fs::write(https.directory.path().join("key"), "nonsense").unwrap();
        let waited = Instant::now();
        while waited.elapsed() < Duration::from_secs(5) {
            https.hello(second.clone()).await.unwrap();
            rt::time::sleep(Duration::from_millis(100)).await;
        }
        let old = client(second);
        say_hello(&old, https.address).await.unwrap();
        let third = new_pair(https.directory.path());
        https.eventually(&third, &old).await;
        https.stop().await;
    }
}
