//! What can go wrong between here and a cluster, and what mends it.

use std::io;
use std::path::PathBuf;

use spark_connect_core::SparkError;

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a query on a cluster has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An address that is not of the form `sc://HOST:PORT`.
    #[error(
        "{address} is not the address of a cluster: {reason}. It is sc://HOST:PORT, as in \
         sc://127.0.0.1:15002"
    )]
    Address {
        /// As it was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody listens. Looked for before connecting, for a client would try again for minutes.
    #[error(
        "No server listens at {address} ({reason}). On this machine: ./justw cluster starts one"
    )]
    NoServer {
        /// `HOST:PORT`.
        address: String,
        /// What the operating system says.
        reason: String,
    },
    /// Somebody listens, who does not speak Spark Connect.
    #[error(
        "What listens at {address} does not speak Spark Connect ({reason}). Is it the port of the \
         Connect server (15002, for Sail often 50051), and not of a web page or of the master?"
    )]
    WrongProtocol {
        /// `HOST:PORT`.
        address: String,
        /// What it answered.
        reason: String,
    },
    /// A server wants a token, or a store wants keys, that are not given or are others.
    #[error("{place} does not let in who asks: {reason}. {mend}")]
    Refused {
        /// The server's `HOST:PORT`, or the dataset as the workers were told.
        place: String,
        /// What it says.
        reason: String,
        /// Where the token or the keys are to be set.
        mend: &'static str,
    },
    /// The workers find no files.
    #[error(
        "The workers find no Parquet files at {path}: {reason}. They look on their own disks, or in \
         an object store, so the path must be theirs. On this machine: ./justw data small"
    )]
    NoFiles {
        /// As the workers were told.
        path: String,
        /// What the engine says.
        reason: String,
    },
    /// A worker went away, and the engine could not do its work again.
    #[error(
        "A worker was lost, and the query with it: {reason}. Run it again; Spark does the lost work \
         again by itself as long as a worker is left"
    )]
    WorkerLost {
        /// What the engine says.
        reason: String,
    },
    /// No worker is left, so nothing will be done.
    #[error(
        "No worker is left since {seconds} s, so the query will not end; it was cancelled. Start \
         workers (./justw cluster), and run it again"
    )]
    NoWorkers {
        /// For how long there has been none.
        seconds: u64,
    },
    /// The server went away under way.
    #[error("The server at {address} went away during the query. Start it again: ./justw cluster")]
    ServerLost {
        /// `HOST:PORT`.
        address: String,
    },
    /// Ctrl-C; the server was told, too.
    #[error("cancelled, here and on the cluster")]
    Cancelled,
    /// The engine refuses the query or fails at it.
    #[error(
        "The cluster could not {task}: {reason}. Its log says more; on this machine it is in \
         target/cluster"
    )]
    Query {
        /// What it was asked to do.
        task: &'static str,
        /// What it says.
        reason: String,
    },
    /// The file with the query cannot be read.
    #[error("The query {} could not be read: {source}. Check the path after --sql", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The result could not be written.
    #[error("{} could not be written: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system, or the Parquet writer, says.
        reason: String,
    },
    /// The web page of the cluster, which tells of stages and workers, does not answer.
    #[error("The cluster's web page at {url} does not tell of its work: {reason}. See --status")]
    Status {
        /// What was asked.
        url: String,
        /// What went wrong.
        reason: String,
    },
}

impl Error {
    /// The exit code of a program that ends with this error: 130 for Ctrl-C, as shells have it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Cancelled) { 130 } else { 1 }
    }

    /// For `map_err` where a file is written.
    pub(crate) fn write(path: &std::path::Path) -> impl Fn(io::Error) -> Self {
        move |error| Self::Write { path: path.to_owned(), reason: error.to_string() }
    }

    /// What a server's error means that answers in its protocol, or in none, before anything was asked
    /// of it.
    pub(crate) fn at_first(address: &str, error: &SparkError) -> Self {
        let reason = first_lines(&error.message());
        if ["token", "UNAUTHENTICATED", "Unauthenticated"].iter().any(|word| reason.contains(word))
        {
            return Self::Refused {
                place: address.to_owned(),
                reason,
                mend: "Set SPARK_CONNECT_AUTHENTICATE_TOKEN to the token that it was started with; \
                       ./justw cluster query knows that of its own",
            };
        }
        Self::WrongProtocol { address: address.to_owned(), reason }
    }

    /// What an engine's error means; engines say it in words of their own.
    ///
    /// `data` is where the workers were told to look.
    pub(crate) fn of(task: &'static str, data: &str, error: &SparkError) -> Self {
        let reason = first_lines(&once(&error.message(), &error.error_class));
        let says = |words: &[&str]| words.iter().any(|word| reason.contains(word));
        if says(&["OPERATION_CANCELED", "cancelled", "canceled"]) {
            return Self::Cancelled;
        }
        if error.error_class == "PATH_NOT_FOUND"
            || says(&[
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
        if says(&["SignatureDoesNotMatch", "AccessDenied", "InvalidAccessKeyId", "403 Forbidden"]) {
            return Self::Refused {
                place: data.to_owned(),
                reason,
                mend: "The keys are those of the cluster's processes: AWS_ACCESS_KEY_ID and \
                       AWS_SECRET_ACCESS_KEY where they are started",
            };
        }
        // Sail passes on how its connection to a worker ended; to a store it would say which.
        let broken = [
            "h2 protocol error",
            "transport error",
            "broken pipe",
            "connection closed",
            "connection error",
            "connection refused",
            "connection reset",
        ];
        let spoken = reason.to_lowercase();
        let gone = broken.iter().any(|word| spoken.contains(word)) && !spoken.contains("://");
        let lost = ["ExecutorLost", "executor lost", "worker lost", "lost worker", "eartbeat"];
        if gone || says(&lost) || says(&["MetadataFetchFailed", "FetchFailed"]) {
            return Self::WorkerLost { reason };
        }
        Self::Query { task, reason }
    }
}

/// A message that begins with its class only once.
fn once(message: &str, class: &str) -> String {
    let head = format!("[{class}] ");
    message.replacen(&format!("{head}{head}"), &head, 1)
}

/// An engine's message without its stack: at most three lines, and not long.
fn first_lines(message: &str) -> String {
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut text = lines.into_iter().take(3).collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = text.char_indices().nth(400) {
        text.truncate(end);
        text.push('…');
    }
    text
}
