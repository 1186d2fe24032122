//! The errors of a query on a cluster. Each message names the failure, its place and the remedy.

use std::io;
use std::path::PathBuf;

use spark_connect_core::SparkError;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a query on a cluster has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An address that is not of the form `sc://HOST:PORT`.
    #[error(
        "{address} is not a cluster's address: {reason}. Use sc://HOST:PORT, for example \
         sc://127.0.0.1:15002"
    )]
    Address {
        /// The address from the command line.
        address: String,
        /// The part that is missing or invalid.
        reason: String,
    },
    /// No process listens at the address. Checked before connecting, because the client library
    /// retries for minutes.
    #[error(
        "No server listens at {address} ({reason}). To start one on this machine, run: \
         ./justw cluster"
    )]
    NoServer {
        /// `HOST:PORT`.
        address: String,
        /// The operating system's reason.
        reason: String,
    },
    /// The server at the address is not a Spark Connect server.
    #[error(
        "The server at {address} is not a Spark Connect server ({reason}). Use the port of the \
         Connect server (15002; for Sail often 50051), not that of a web page or of the master"
    )]
    WrongProtocol {
        /// `HOST:PORT`.
        address: String,
        /// The reply, or the reason that there was none.
        reason: String,
    },
    /// The server's token or the object store's keys are missing or wrong.
    #[error("{place} denied access: {reason}. {remedy}")]
    Refused {
        /// The server's `HOST:PORT`, or the dataset's path on the workers.
        place: String,
        /// The server's or the store's message.
        reason: String,
        /// Where to set the token or the keys.
        remedy: &'static str,
    },
    /// The workers find no files.
    #[error(
        "The workers find no Parquet files at {path}: {reason}. The path must exist on the workers' \
         disks or in an object store. If the cluster runs on this machine, run: ./justw data small"
    )]
    NoFiles {
        /// The dataset's path on the workers.
        path: String,
        /// The engine's message.
        reason: String,
    },
    /// A worker was lost, and the engine did not repeat its work.
    #[error(
        "The query failed because a worker was lost: {reason}. Run the query again. (Spark repeats \
         lost work by itself as long as it has a worker)"
    )]
    WorkerLost {
        /// The engine's message.
        reason: String,
    },
    /// The cluster has no worker, so the query cannot end.
    #[error(
        "The cluster has had no worker for {seconds} s, so the query was cancelled. Start workers \
         (./justw cluster), and run the query again"
    )]
    NoWorkers {
        /// How long the cluster has had no worker, in seconds.
        seconds: u64,
    },
    /// The server stopped during the query.
    #[error("The server at {address} stopped during the query. Start it again: ./justw cluster")]
    ServerLost {
        /// `HOST:PORT`.
        address: String,
    },
    /// The user pressed Ctrl-C. The query was cancelled on the server, too.
    #[error("The query was cancelled, here and on the cluster")]
    Cancelled,
    /// The engine rejected the query, or failed to run it.
    #[error(
        "The cluster could not {task}: {reason}. Its log has more details; on this machine it is in \
         target/cluster"
    )]
    Query {
        /// The failed step, as a verb phrase.
        task: &'static str,
        /// The engine's message.
        reason: String,
    },
    /// The file with the query cannot be read.
    #[error("Cannot read the query {}: {source}. Check the path after --sql", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The result could not be written.
    #[error("Cannot write {}: {reason}. Check --output, and the space on its disk", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason of the operating system or of the Parquet writer.
        reason: String,
    },
    /// Spark's REST interface, which reports stages and workers, cannot be read.
    #[error(
        "Cannot read the cluster's state from {url}: {reason}. Check the address after --status"
    )]
    Status {
        /// The requested address.
        url: String,
        /// The reason of the HTTP client.
        reason: String,
    },
}

impl Error {
    /// The exit code of a program that ends with this error: 130 after Ctrl-C, as in shells, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Cancelled) { 130 } else { 1 }
    }

    /// Converts an I/O error of writing `path`; pass it to `map_err`.
    pub(crate) fn write(path: &std::path::Path) -> impl Fn(io::Error) -> Self {
        move |error| Self::Write { path: path.to_owned(), reason: error.to_string() }
    }

    /// Classifies an error of the first request: the token was rejected, or the protocol is wrong.
    pub(crate) fn from_connect(address: &str, error: &SparkError) -> Self {
        let reason = first_lines(&error.message());
        if ["token", "UNAUTHENTICATED", "Unauthenticated"].iter().any(|word| reason.contains(word))
        {
            return Self::Refused {
                place: address.to_owned(),
                reason,
                remedy: "Set SPARK_CONNECT_AUTHENTICATE_TOKEN to the server's token; \
                         ./justw cluster query sets it for clusters of this clone",
            };
        }
        Self::WrongProtocol { address: address.to_owned(), reason }
    }

    /// Classifies an engine's error by its text, because Spark and Sail share no error codes.
    ///
    /// `data` is the dataset's path on the workers.
    pub(crate) fn from_engine(task: &'static str, data: &str, error: &SparkError) -> Self {
        let reason = first_lines(&without_repeated_class(&error.message(), &error.error_class));
        let contains = |texts: &[&str]| texts.iter().any(|text| reason.contains(text));
        if contains(&["OPERATION_CANCELED", "cancelled", "canceled"]) {
            return Self::Cancelled;
        }
        if error.error_class == "PATH_NOT_FOUND"
            || contains(&[
                "PATH_NOT_FOUND",
                "No files found",
                "no files found",
                "No such file",
                "UNABLE_TO_INFER_SCHEMA",
                "NoSuchBucket",
            ])
        {
            return Self::NoFiles { path: data.to_owned(), reason };
        }
        if contains(&[
            "SignatureDoesNotMatch",
            "AccessDenied",
            "InvalidAccessKeyId",
            "403 Forbidden",
        ]) {
            return Self::Refused {
                place: data.to_owned(),
                reason,
                remedy: "The workers use the keys of the cluster's environment: set \
                         AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY before you start the cluster",
            };
        }
        // Sail forwards the transport error of its connection to a worker. Errors of a connection to
        // an object store contain a URL.
        let broken = [
            "h2 protocol error",
            "transport error",
            "broken pipe",
            "connection closed",
            "connection error",
            "connection refused",
            "connection reset",
        ];
        let lowercase = reason.to_lowercase();
        let disconnected =
            broken.iter().any(|text| lowercase.contains(text)) && !lowercase.contains("://");
        let lost = ["ExecutorLost", "executor lost", "worker lost", "lost worker", "eartbeat"];
        if disconnected || contains(&lost) || contains(&["MetadataFetchFailed", "FetchFailed"]) {
            return Self::WorkerLost { reason };
        }
        Self::Query { task, reason }
    }
}

/// Removes the second error class of a message that begins with it twice.
fn without_repeated_class(message: &str, class: &str) -> String {
    let head = format!("[{class}] ");
    message.replacen(&format!("{head}{head}"), &head, 1)
}

/// An engine's message without its stack trace: at most three lines and 400 characters.
fn first_lines(message: &str) -> String {
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut text = lines.into_iter().take(3).collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = text.char_indices().nth(400) {
        text.truncate(end);
        text.push('…');
    }
    text
}
