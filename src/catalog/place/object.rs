//! S3-compatible object storage as a place.
//!
//! What lives here: the contract of [`super::Place`] by the `object_store` crate: multipart with parts of at
//! most [`PART`] bytes, each sent with its sha256 for the server to check, conditional puts where one of two writers must win. What does
//! not: where the credentials come from (settings).
//!
//! There is no renaming and no folder: a point's files bear their final names from the start, and the manifest, which is
//! put last and only where there is none, makes it a point.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum, S3ConditionalPut};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, ClientOptions, Error, GetOptions, GetRange, ObjectStore as _, ObjectStoreExt as _, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, RetryConfig, UpdateVersion,
};
use tokio::sync::mpsc;

use super::super::disk;
use super::super::progress::MANIFEST;
use super::{Cargo, Heard, LARGEST_SMALL, Stream, check_name, differs, missing};
use crate::digest::Hasher;
use crate::failure::{Failure, Kind};
use crate::name::{ClusterName, PointId};
use crate::secret::{ExposeSecret as _, clean};
use crate::settings::aws::Aws;

/// The size of a part, in bytes.
pub const PART: usize = 8 << 20;
/// More parts S3 does not take for one object.
const MOST_PARTS: u64 = 10_000;
/// Parts that are under way at once.
const AT_ONCE: usize = 3;
/// How often a change of another writer is met when a line is added.
const TRIES: u32 = 20;
/// The name under which the digest lies beside an object.
const DIGEST: &str = "sha256";

/// A bucket, or what begins with a prefix there.
pub struct ObjectPlace {
    name: String,
    prefix: String,
    store: AmazonS3,
}

impl std::fmt::Debug for ObjectPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ObjectPlace({})", self.name)
    }
}

/// True for an address on this machine.
fn loopback(endpoint: &str) -> bool {
    let host = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or_default();
    let host = host
        .strip_prefix('[')
        .and_then(|rest| rest.split(']').next())
        .unwrap_or_else(|| host.split(':').next().unwrap_or_default());
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl ObjectPlace {
    /// The bucket `bucket`, names beginning with `prefix`; `name` is how the place is written.
    ///
    /// # Errors
    /// [`Kind::CouldNotStart`]: an address that is none, or one without TLS on another machine.
    pub fn new(name: String, bucket: &str, prefix: &str, aws: &Aws) -> Result<Arc<Self>, Failure> {
        let wrong = |what: String| Failure::new(Kind::CouldNotStart, what);
        // As the environment has it for containers and machines; what was read goes before.
        let retry = RetryConfig { max_retries: 5, retry_timeout: Duration::from_secs(120), ..RetryConfig::default() };
        let client = ClientOptions::new()
            .with_connect_timeout(Duration::from_secs(15))
            .with_timeout(Duration::from_secs(24 * 3600))
            .with_read_timeout(Duration::from_secs(90));
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_retry(retry)
            .with_checksum_algorithm(Checksum::SHA256)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_region(aws.region.as_deref().unwrap_or("us-east-1"));
        let mut plain = false;
        if let Some(endpoint) = &aws.endpoint {
            plain = !endpoint.to_ascii_lowercase().starts_with("https://");
            if plain && !loopback(endpoint) {
                return Err(wrong(format!("{name} is reached without TLS"))
                    .saw(endpoint.clone())
                    .why("an archive holds every secret of a platform, and whoever sits in between would have it")
                    .mend("name an https:// address"));
            }
            builder = builder.with_endpoint(endpoint.as_str());
        }
        builder = builder.with_client_options(client.with_allow_http(plain));
        if let (Some(id), Some(secret)) = (&aws.key_id, &aws.secret) {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret.expose_secret());
            if let Some(token) = &aws.token {
                builder = builder.with_token(token.expose_secret());
            }
        }
        let store = builder
            .build()
            .map_err(|error| wrong(format!("{name} cannot be used")).saw(clean(error.to_string().as_bytes())))?;
        Ok(Arc::new(Self { name, prefix: prefix.to_owned(), store }))
    }

    pub(super) fn name(&self) -> String {
        self.name.clone()
    }

    fn path(&self, name: &str) -> Result<Path, Failure> {
        check_name(name)?;
        let whole = if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) };
        Path::parse(&whole)
            .map_err(|error| Failure::new(Kind::Bad, format!("{name} is no name for an object")).saw(error.to_string()))
    }

    fn failed(&self, doing: &str, error: &Error) -> Failure {
        // The words of the server, not of the layers between.
        let mut said = error.to_string();
        let mut inner: Option<&dyn std::error::Error> = std::error::Error::source(error);
        while let Some(source) = inner {
            said = source.to_string();
            inner = source.source();
        }
        let said: String = clean(said.as_bytes()).chars().take(500).collect();
        // Of a listing and a removal the client tells the status in words only.
        let refused = ["status code: 401", "status code: 403"].iter().any(|status| said.contains(status));
        match error {
            _ if refused => self.refused(doing, said),
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => self.refused(doing, said),
            Error::NotFound { .. } => Failure::new(Kind::Failed, format!("could not {doing} in {}", self.name))
                .saw(said)
                .mend("look whether there is such a bucket"),
            _ => Failure::new(Kind::Unreachable, format!("could not {doing} in {}", self.name)).saw(said).again(),
        }
    }

    fn refused(&self, doing: &str, said: String) -> Failure {
        Failure::new(Kind::Refused, format!("{} does not let us {doing}", self.name))
            .saw(said)
            .mend("look at the credentials (AWS_PROFILE, AWS_ACCESS_KEY_ID) and at the bucket's policy")
    }

    pub(super) async fn probe(&self) -> Result<(), Failure> {
        let name = format!(".probe-{:016x}", rand::random::<u64>());
        let made = self.create(&name, b"ferry").await?;
        let again = self.create(&name, b"ferry").await?;
        let seen = self.read(&name).await?;
        self.remove(&name).await?;
        if !made || seen.as_deref() != Some(b"ferry") {
            return Err(Failure::new(
                Kind::CouldNotStart,
                format!("{} does not give back what was put there", self.name),
            ));
        }
        if again {
            return Err(Failure::new(Kind::CouldNotStart, format!("{} does not know conditional puts", self.name))
                .why("two writers could not be kept apart, nor a sealed point from being replaced")
                .mend("use a storage that knows If-None-Match"));
        }
        Ok(())
    }

    pub(super) async fn files(&self, below: &str) -> Result<Vec<(String, u64)>, Failure> {
        if !below.is_empty() {
            check_name(below)?;
        }
        let whole =
            [self.prefix.as_str(), below].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
        let prefix = Path::parse(&whole)
            .map_err(|error| Failure::new(Kind::Bad, "no name for objects").saw(error.to_string()))?;
        let objects: Vec<_> = self
            .store
            .list(Some(&prefix).filter(|_| !whole.is_empty()))
            .try_collect()
            .await
            .map_err(|error| self.failed("list what lies", &error))?;
        let strip = if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) };
        let mut found: Vec<(String, u64)> = objects
            .into_iter()
            .filter_map(|object| Some((object.location.as_ref().strip_prefix(&strip)?.to_owned(), object.size)))
            .filter(|(name, _)| check_name(name).is_ok())
            .collect();
        found.sort();
        Ok(found)
    }

    pub(super) async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        Ok(self.read_version(name).await?.map(|(bytes, _)| bytes))
    }

    async fn read_version(&self, name: &str) -> Result<Option<(Vec<u8>, UpdateVersion)>, Failure> {
        let got = match self.store.get(&self.path(name)?).await {
            Ok(got) => got,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.failed("read", &error)),
        };
        if got.meta.size > LARGEST_SMALL {
            return Err(Failure::new(
                Kind::Bad,
                format!("{name} in {} is larger than {LARGEST_SMALL} bytes", self.name),
            ));
        }
        let version = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
        let bytes = got.bytes().await.map_err(|error| self.failed("read", &error))?;
        Ok(Some((bytes.to_vec(), version)))
    }

    pub(super) async fn get(self: &Arc<Self>, name: &str, from: u64) -> Result<Stream, Failure> {
        let path = self.path(name)?;
        let (sender, stream) = mpsc::channel(16);
        let head = match self.store.head(&path).await {
            Ok(head) => head,
            Err(Error::NotFound { .. }) => return Err(missing(&self.name, name)),
            Err(error) => return Err(self.failed("read", &error)),
        };
        if from >= head.size {
            return Ok(stream);
        }
        let options = GetOptions { range: Some(GetRange::Offset(from)), if_match: head.e_tag, ..GetOptions::default() };
        let got = self.store.get_opts(&path, options).await.map_err(|error| self.failed("read", &error))?;
        let place = Arc::clone(self);
        let wanted = head.size - from;
        tokio::spawn(async move {
            let (mut bytes, mut done) = (got.into_stream(), 0);
            while let Some(piece) = bytes.next().await {
                let piece = piece.map_err(|error| place.failed("read", &error));
                done += piece.as_ref().map_or(0, |piece| piece.len() as u64);
                let last = piece.is_err();
                if sender.send(piece).await.is_err() || last {
                    return;
                }
            }
            if done < wanted {
                let cut = Failure::new(Kind::Unreachable, format!("{} ended before its end", place.name))
                    .saw(format!("{done} of {wanted} bytes"))
                    .again();
                let _ = sender.send(Err(cut)).await;
            }
        });
        Ok(stream)
    }

    /// Whether an earlier attempt put this very file there: its size, and the digest that we left beside it once the
    /// server had proved all parts.
    async fn is_there(&self, path: &Path, cargo: &Cargo<'_>) -> Result<bool, Failure> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        match self.store.get_opts(path, options).await {
            Ok(got) => {
                let digest =
                    got.attributes.get(&Attribute::Metadata(DIGEST.into())).map(|value| value.as_ref().to_owned());
                Ok(got.meta.size == cargo.bytes && digest == Some(cargo.sha256.to_string()))
            }
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed("look at a file", &error)),
        }
    }

    pub(super) async fn put(&self, name: &str, cargo: &Cargo<'_>, heard: Heard<'_>) -> Result<String, Failure> {
        let mut file = disk::read(cargo.file).map_err(|error| disk::failed(Kind::Bad, "read", cargo.file, &error))?;
        self.put_reader(name, cargo, &mut file, heard).await
    }

    /// The same, of what a reader gives; the file of the cargo is only its name then.
    pub(super) async fn put_reader(
        &self,
        name: &str,
        cargo: &Cargo<'_>,
        file: &mut (dyn std::io::Read + Send),
        heard: Heard<'_>,
    ) -> Result<String, Failure> {
        let path = self.path(name)?;
        let how = "the sha256 of every part was given to the server to check";
        if self.is_there(&path, cargo).await? {
            heard(cargo.bytes);
            return Ok(how.to_owned());
        }
        if cargo.bytes > PART as u64 * MOST_PARTS {
            return Err(Failure::new(Kind::Refused, format!("{name} is too large for one object"))
                .saw(format!("{} bytes; {} are the most", cargo.bytes, PART as u64 * MOST_PARTS))
                .why("object storage takes ten thousand parts, and ferry keeps a part small")
                .mend("keep such archives in a folder or on another host (ssh://)"));
        }
        let mut attributes = Attributes::new();
        attributes.insert(Attribute::Metadata(DIGEST.into()), cargo.sha256.to_string().into());
        let mut hasher = Hasher::new();
        let mut next = |file: &mut (dyn std::io::Read + Send)| -> Result<Vec<u8>, Failure> {
            let mut part = Vec::with_capacity(PART.min(usize::try_from(cargo.bytes).unwrap_or(PART) + 1));
            file.take(PART as u64)
                .read_to_end(&mut part)
                .map_err(|error| disk::failed(Kind::Bad, "read", cargo.file, &error))?;
            hasher.update(&part);
            Ok(part)
        };
        if cargo.bytes <= PART as u64 {
            let part = next(file)?;
            let rest = next(file)?;
            let (bytes, sha256) = (hasher.bytes(), hasher.finish());
            if (bytes, sha256) != (cargo.bytes, cargo.sha256) || !rest.is_empty() {
                return Err(differs(name, cargo, bytes, sha256));
            }
            let options = PutOptions { attributes, ..PutOptions::default() };
            self.store
                .put_opts(&path, PutPayload::from(part), options)
                .await
                .map_err(|error| self.failed("put a file", &error))?;
            heard(bytes);
        } else {
            let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
            let mut upload = self
                .store
                .put_multipart_opts(&path, options)
                .await
                .map_err(|error| self.failed("begin a file", &error))?;
            let mut under_way = FuturesUnordered::new();
            let mut done = 0;
            let sent = async {
                loop {
                    let part = next(file)?;
                    if part.is_empty() {
                        break;
                    }
                    let length = part.len() as u64;
                    let put = upload.put_part(PutPayload::from(part));
                    under_way.push(async move { put.await.map(|()| length) });
                    if under_way.len() >= AT_ONCE
                        && let Some(length) = under_way.next().await
                    {
                        done += length.map_err(|error| self.failed("put a part", &error))?;
                        heard(done);
                    }
                }
                while let Some(length) = under_way.next().await {
                    done += length.map_err(|error| self.failed("put a part", &error))?;
                    heard(done);
                }
                Ok::<(), Failure>(())
            }
            .await;
            let sent = sent.and_then(|()| {
                let (bytes, sha256) = (hasher.bytes(), hasher.finish());
                if (bytes, sha256) == (cargo.bytes, cargo.sha256) {
                    Ok(())
                } else {
                    Err(differs(name, cargo, bytes, sha256))
                }
            });
            let finished = match sent {
                Ok(()) => upload.complete().await.map(drop).map_err(|error| self.failed("finish a file", &error)),
                Err(failure) => Err(failure),
            };
            if let Err(failure) = finished {
                // Parts that nobody finishes cost money: the server is told. What it does not hear its own rules remove.
                let _ = upload.abort().await;
                return Err(failure);
            }
        }
        if !self.is_there(&path, cargo).await? {
            return Err(Failure::new(Kind::Failed, format!("{name} is not in {} as it was put there", self.name))
                .mend("do it again"));
        }
        Ok(how.to_owned())
    }

    pub(super) async fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, Failure> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&self.path(name)?, PutPayload::from(bytes.to_vec()), options).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(self.failed("put a file", &error)),
        }
    }

    pub(super) async fn append(&self, name: &str, line: &str) -> Result<(), Failure> {
        let path = self.path(name)?;
        for attempt in 0..TRIES {
            let (mut bytes, mode) = match self.read_version(name).await? {
                Some((bytes, version)) => (bytes, PutMode::Update(version)),
                None => (Vec::new(), PutMode::Create),
            };
            if attempt > 0 && bytes.split(|byte| *byte == b'\n').any(|there| there == line.as_bytes()) {
                // What came before us were we, in an attempt whose answer was lost.
                return Ok(());
            }
            if bytes.last().is_some_and(|last| *last != b'\n') {
                bytes.push(b'\n');
            }
            bytes.extend_from_slice(line.as_bytes());
            bytes.push(b'\n');
            let options = PutOptions { mode, ..PutOptions::default() };
            match self.store.put_opts(&path, PutPayload::from(bytes), options).await {
                Ok(_) => return Ok(()),
                // Another writer came first: theirs is read, and ours added to it.
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotFound { .. }) => {
                    tokio::time::sleep(Duration::from_millis(
                        20 + u64::from(rand::random::<u8>()) * u64::from(attempt),
                    ))
                    .await;
                }
                Err(error) => return Err(self.failed("add a line", &error)),
            }
        }
        Err(Failure::new(Kind::Failed, format!("{name} in {} is being changed by others all the time", self.name))
            .mend("do it again"))
    }

    pub(super) async fn remove(&self, name: &str) -> Result<(), Failure> {
        match self.store.delete(&self.path(name)?).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("remove a file", &error)),
        }
    }

    pub(super) async fn seal(&self, cluster: &ClusterName, id: &PointId, manifest: &[u8]) -> Result<(), Failure> {
        let name = format!("{cluster}/{id}/{MANIFEST}");
        // The same bytes there: ours, by a first attempt whose answer was lost.
        if self.create(&name, manifest).await? || self.read(&name).await?.as_deref() == Some(manifest) {
            return Ok(());
        }
        Err(Failure::new(Kind::Refused, format!("{cluster}/{id} is there already in {}", self.name))
            .why("a sealed point is never replaced"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::sync::Mutex;

    use super::*;
    use crate::catalog::Who;
    use crate::catalog::place::Place;
    use crate::digest::Sha256;

    /// What a storage was asked.
    #[derive(Debug, Clone)]
    struct Asked {
        method: String,
        path: String,
        head: String,
        body: Vec<u8>,
    }

    type Heard = Arc<Mutex<Vec<Asked>>>;

    /// A storage that answers as it is told, one request for each connection: the status, more lines of the head, the body.
    /// It ends with the test's process.
    fn storage(
        answer: impl Fn(&Asked, usize) -> (u16, &'static str, Vec<u8>) + Send + 'static,
    ) -> (Arc<ObjectPlace>, Heard) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let aws = Aws {
            key_id: Some("AKID".to_owned()),
            secret: Some("not-a-secret".to_owned().into()),
            token: Some("for-an-hour".to_owned().into()),
            endpoint: Some(format!("http://{}", listener.local_addr().unwrap())),
            ..Aws::default()
        };
        let heard = Heard::default();
        let hears = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(stream);
                let (mut head, mut line) = (String::new(), String::new());
                while reader.read_line(&mut line).unwrap_or(0) > 2 {
                    head.push_str(&std::mem::take(&mut line).to_ascii_lowercase());
                }
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
                let mut body = vec![0; length.unwrap_or(0)];
                if head.is_empty() || reader.read_exact(&mut body).is_err() {
                    continue;
                }
                let mut words = head.split_whitespace();
                let mut word = || words.next().unwrap_or_default();
                let asked = Asked { method: word().to_uppercase(), path: word().to_owned(), head: head.clone(), body };
                let number = {
                    let mut hears = hears.lock().unwrap();
                    hears.push(asked.clone());
                    hears.len()
                };
                let (status, more, body) = answer(&asked, number);
                let length = if more.contains("content-length") {
                    String::new()
                } else {
                    format!("content-length: {}\r\n", body.len())
                };
                let mut stream = reader.into_inner();
                let head = format!("HTTP/1.1 {status} x\r\nconnection: close\r\n{length}{more}\r\n");
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            }
        });
        (ObjectPlace::new("s3://shelf".to_owned(), "shelf", "", &aws).unwrap(), heard)
    }

    fn who() -> Who {
        Who { user: "ops".into(), machine: "jump".into(), ci: None }
    }

    const DELETED: &str = "<DeleteResult><Deleted><Key>x</Key></Deleted></DeleteResult>";
    const ETAG: &str = "etag: \"1\"\r\nlast-modified: Thu, 26 Nov 2026 08:00:00 GMT\r\n";

    #[tokio::test]
    async fn a_storage_that_says_no_is_told_with_what_was_wanted() {
        let (place, heard) = storage(|_, _| (403, "", b"<Error><Code>AccessDenied</Code></Error>".to_vec()));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        std::fs::write(&file, b"bytes").unwrap();
        let cargo = Cargo { file: &file, bytes: 5, sha256: Sha256::of(b"bytes") };
        for (doing, failure) in [
            ("put a file", place.probe().await.unwrap_err()),
            ("list what lies", place.files("prod").await.unwrap_err()),
            ("read", place.read("prod/x").await.unwrap_err()),
            ("read", place.get("prod/x", 0).await.unwrap_err()),
            ("look at a file", place.put("prod/x", &cargo, &|_| {}).await.unwrap_err()),
            ("read", place.append("prod/x", "line").await.unwrap_err()),
            ("remove a file", place.remove("prod/x").await.unwrap_err()),
        ] {
            assert_eq!(failure.kind, Kind::Refused, "{failure:?}");
            assert_eq!(failure.what, format!("s3://shelf does not let us {doing}"));
            assert!(failure.mend.as_deref().unwrap().contains("AWS_PROFILE"), "{failure:?}");
            assert!(
                !format!("{failure:?}").contains("not-a-secret") && !format!("{failure:?}").contains("for-an-hour")
            );
        }
        let heard = heard.lock().unwrap();
        assert_eq!(heard.len(), 7, "each was asked once: {heard:?}");
        assert!(heard.iter().all(|asked| asked.head.contains("x-amz-security-token: for-an-hour")));
        assert_eq!(format!("{place:?}"), "ObjectPlace(s3://shelf)");
    }

    #[tokio::test]
    async fn a_storage_that_keeps_no_promise_is_found_by_trying() {
        // One that takes whatever is put, also where something is.
        let (place, heard) = storage(|asked, _| match asked.method.as_str() {
            "GET" => (200, ETAG, b"ferry".to_vec()),
            "POST" => (200, "", DELETED.into()),
            _ => (200, ETAG, Vec::new()),
        });
        let failure = place.probe().await.unwrap_err();
        assert!(failure.kind == Kind::CouldNotStart && failure.what.contains("conditional puts"), "{failure:?}");
        assert!(failure.mend.unwrap().contains("If-None-Match"));
        let methods: Vec<String> = heard.lock().unwrap().iter().map(|asked| asked.method.clone()).collect();
        assert_eq!(methods, ["PUT", "PUT", "GET", "POST"], "what was tried is removed");
        assert!(heard.lock().unwrap()[0].head.contains("if-none-match: *"));
        // One that gives back something else, or nothing.
        for body in [Some("other"), None] {
            let (place, _) = storage(move |asked, number| match (asked.method.as_str(), body) {
                ("GET", Some(body)) => (200, ETAG, body.into()),
                ("GET", None) => (404, "", Vec::new()),
                ("PUT", _) if number > 1 => (412, "", Vec::new()),
                ("POST", _) => (200, "", DELETED.into()),
                _ => (200, ETAG, Vec::new()),
            });
            let failure = place.probe().await.unwrap_err();
            assert!(failure.what.contains("does not give back"), "{body:?}: {failure:?}");
        }
    }

    #[tokio::test]
    async fn what_is_too_large_or_cut_is_told() {
        let (place, _) = storage(|_, _| {
            (
                200,
                "etag: \"1\"\r\nlast-modified: Thu, 26 Nov 2026 08:00:00 GMT\r\ncontent-length: 99000000\r\n",
                Vec::new(),
            )
        });
        let failure = place.read("prod/x/manifest.json").await.unwrap_err();
        assert!(failure.kind == Kind::Bad && failure.what.contains("is larger than"), "{failure:?}");
        // A server between that promises a hundred bytes and gives fewer.
        let (place, _) = storage(|asked, _| match asked.method.as_str() {
            "HEAD" => (
                200,
                "etag: \"1\"\r\nlast-modified: Thu, 26 Nov 2026 08:00:00 GMT\r\ncontent-length: 100\r\n",
                Vec::new(),
            ),
            _ => (
                206,
                "etag: \"1\"\r\nlast-modified: Thu, 26 Nov 2026 08:00:00 GMT\r\ncontent-range: bytes 0-99/100\r\n",
                vec![b'x'; 40],
            ),
        });
        let mut stream = place.get("prod/x", 0).await.unwrap();
        let (mut bytes, mut failure) = (0, None);
        while let Some(piece) = stream.recv().await {
            match piece {
                Ok(piece) => bytes += piece.len(),
                Err(told) => failure = Some(told),
            }
        }
        let failure = failure.unwrap();
        assert!(bytes <= 40 && failure.kind == Kind::Unreachable && failure.again, "{failure:?}");
        // More than ten thousand parts: refused before a byte goes.
        let (place, heard) = storage(|_, _| (404, "", Vec::new()));
        let cargo = Cargo {
            file: &std::env::current_exe().unwrap(),
            bytes: PART as u64 * MOST_PARTS + 1,
            sha256: Sha256::of(b""),
        };
        let failure = place.put("prod/x", &cargo, &|_| {}).await.unwrap_err();
        assert!(failure.kind == Kind::Refused && failure.mend.unwrap().contains("ssh://"));
        assert!(heard.lock().unwrap().iter().all(|asked| asked.method == "HEAD"));
    }

    #[tokio::test]
    async fn a_file_is_looked_at_after_it_was_put() {
        let (place, _) = storage(|asked, _| match asked.method.as_str() {
            "HEAD" => (404, "", Vec::new()),
            _ => (200, ETAG, Vec::new()),
        });
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        std::fs::write(&file, b"bytes").unwrap();
        let cargo = Cargo { file: &file, bytes: 5, sha256: Sha256::of(b"bytes") };
        let failure = place.put("prod/x", &cargo, &|_| {}).await.unwrap_err();
        assert!(failure.kind == Kind::Failed && failure.what.contains("as it was put there"), "{failure:?}");
    }

    /// Lines of another writer that came between are kept, and a line that a crash cut is not glued to.
    #[tokio::test]
    async fn a_line_is_added_to_what_is_there_by_then() {
        let (place, heard) = storage(|asked, number| match asked.method.as_str() {
            "GET" if number < 3 => (200, ETAG, b"one\ncut".to_vec()),
            "GET" => {
                (200, "etag: \"2\"\r\nlast-modified: Thu, 26 Nov 2026 08:00:00 GMT\r\n", b"one\ncut\ntheirs\n".to_vec())
            }
            _ if number < 3 => (412, "", Vec::new()),
            _ => (200, ETAG, Vec::new()),
        });
        place.append("prod/x/notes.jsonl", "ours").await.unwrap();
        let heard = heard.lock().unwrap().clone();
        let puts: Vec<&Asked> = heard.iter().filter(|asked| asked.method == "PUT").collect();
        assert_eq!(puts.len(), 2);
        assert!(puts[0].body == b"one\ncut\nours\n" && puts[0].head.contains("if-match: \"1\""), "{heard:?}");
        assert!(puts[1].body == b"one\ncut\ntheirs\nours\n" && puts[1].head.contains("if-match: \"2\""), "{heard:?}");
        assert!(puts.iter().all(|asked| asked.path.ends_with("/shelf/prod/x/notes.jsonl")));
        // Kept, and the answer lost: the line is there once.
        let (place, heard) = storage(|asked, number| match asked.method.as_str() {
            "GET" if number == 1 => (200, ETAG, b"one\n".to_vec()),
            "GET" => (200, ETAG, b"one\nours\n".to_vec()),
            _ => (412, "", Vec::new()),
        });
        place.append("prod/x/notes.jsonl", "ours").await.unwrap();
        assert_eq!(heard.lock().unwrap().len(), 3);
        let (place, _) = storage(|asked, _| match asked.method.as_str() {
            "GET" => (404, "", Vec::new()),
            _ => (400, "", b"no".to_vec()),
        });
        let failure = place.append("prod/x/notes.jsonl", "ours").await.unwrap_err();
        assert!(failure.kind == Kind::Unreachable && failure.what.contains("could not add a line"), "{failure:?}");
    }

    /// The client sends a put again when the answer to the first was an error of the server: the first may have been done.
    #[tokio::test]
    async fn our_own_first_attempt_is_not_taken_for_another_writer() {
        let (cluster, id) = ("prod".parse().unwrap(), "20261126T010203Z-00ff".parse().unwrap());
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keeps = Arc::clone(&kept);
        let (place, _) = storage(move |asked, _| match asked.method.as_str() {
            "GET" => (200, ETAG, keeps.lock().unwrap().clone()),
            _ => {
                *keeps.lock().unwrap() = asked.body.clone();
                (412, "", Vec::new())
            }
        });
        place.seal(&cluster, &id, b"{}").await.unwrap();
        let place = Place::Object(place);
        let held = place.lock(&cluster, &id, &who(), "copy").await.unwrap();
        assert!(String::from_utf8(kept.lock().unwrap().clone()).unwrap().contains("\"doing\":\"copy\""));
        drop(held);
        // Another's bytes stay another's.
        let (place, _) = storage(|asked, _| match asked.method.as_str() {
            "GET" => (200, ETAG, b"{\"id\": 1}".to_vec()),
            _ => (412, "", Vec::new()),
        });
        let failure = place.seal(&cluster, &id, b"{}").await.unwrap_err();
        assert!(failure.kind == Kind::Refused && failure.why.unwrap().contains("never replaced"));
        let failure = Place::Object(place).lock(&cluster, &id, &who(), "copy").await.unwrap_err();
        assert!(failure.kind == Kind::Refused && failure.mend.unwrap().contains("break-lock"));
    }

    #[test]
    fn only_this_machine_is_reached_without_tls() {
        for good in ["http://127.0.0.1:9000", "http://localhost/x", "http://[::1]:1"] {
            assert!(loopback(good), "{good}");
        }
        for bad in ["http://10.0.0.1:9000", "http://localhost.example", "http://127.0.0.1.example:80", "http://s3"] {
            assert!(!loopback(bad), "{bad}");
        }
        let aws = Aws { endpoint: Some("http://10.0.0.1:9000".to_owned()), ..Aws::default() };
        assert!(
            ObjectPlace::new("s3://b".to_owned(), "b", "", &aws)
                .is_err_and(|failure| failure.what.contains("without TLS"))
        );
    }
}
