//! A session on a Spark Connect server, and queries that stop if the server or all workers are lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use arrow::record_batch::RecordBatch;
use spark_connect_core::error::SparkError;
use spark_connect_core::{ChannelBuilder, SparkConnectClient, block_on};
use spark_connect_proto::analyze_plan_request::explain::ExplainMode;
use spark_connect_proto::analyze_plan_request::{self, Analyze};
use spark_connect_proto::execute_plan_response::ExecutionProgress;
use spark_connect_proto::{
    AnalyzePlanRequest, AnalyzePlanResponse, Plan, UserContext, analyze_plan_response,
};

use crate::error::{Error, Result};
use crate::{Status, TABLES, address, execute};

/// How long a server may take to reply to the first request.
const FIRST_REPLY: Duration = Duration::from_secs(30);
/// How often the server and the workers are checked during a query.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// The server counts as lost after this number of failed checks in a row.
const MAX_FAILED_CHECKS: usize = 4;
/// How long the cluster may take to confirm a cancellation.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// A session on a Spark Connect server.
pub struct Cluster {
    client: Arc<SparkConnectClient>,
    address: String,
    data: Mutex<String>,
}

/// The progress of one stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The stage's number in the application.
    pub stage: i64,
    /// The number of the stage's tasks.
    pub tasks: i64,
    /// The number of completed tasks.
    pub done: i64,
    /// Bytes that the stage has read from files.
    pub bytes_read: i64,
}

impl Progress {
    /// The progress of every stage in the server's report.
    fn of(report: &ExecutionProgress) -> Vec<Self> {
        let stages = report.stages.iter();
        stages
            .map(|stage| Self {
                stage: stage.stage_id,
                tasks: stage.num_tasks,
                done: stage.num_completed_tasks,
                bytes_read: stage.input_bytes_read,
            })
            .collect()
    }
}

/// The conditions that stop a query early.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// Set to true to cancel the query.
    pub cancelled: Arc<AtomicBool>,
    /// Where to read the number of workers; `None` disables this check.
    pub status: Option<Status>,
    /// How long the cluster may have no worker; `None` disables this check.
    pub without_workers: Option<Duration>,
}

impl Cluster {
    /// Opens a session on the server at `sc://HOST:PORT`, after checking that the server replies.
    ///
    /// # Errors
    ///
    /// - [`Error::Address`]: `remote` is invalid
    /// - [`Error::NoServer`]: no process listens there
    /// - [`Error::WrongProtocol`]: the server is no Spark Connect server, or does not reply in 30 s
    /// - [`Error::Refused`]: the server requires another token
    pub fn connect(remote: &str) -> Result<Self> {
        let (address, tls) = address::parse(remote)?;
        if tls {
            address::connect(&address)?;
        } else {
            address::check_http2(&address)?;
        }
        let client = ChannelBuilder::parse(remote)
            .and_then(|channel| block_on(SparkConnectClient::connect(&channel)))
            .map_err(|error| Error::from_connect(&address, &error))?;
        let client = Arc::new(client);
        // The server returns a schema without any worker.
        let plan = Some(Plan { op_type: Some(execute::sql("SELECT 1")) });
        let schema = Analyze::Schema(analyze_plan_request::Schema { plan });
        let shared = Arc::clone(&client);
        match within(FIRST_REPLY, move || analyze(&shared, schema)) {
            Some(Ok(_)) => Ok(Self { client, address, data: Mutex::default() }),
            Some(Err(error)) => Err(Error::from_connect(&address, &error)),
            None => {
                let reason = format!("no reply within {} s", FIRST_REPLY.as_secs());
                Err(Error::WrongProtocol { address, reason })
            }
        }
    }

    /// Returns the server's Spark version; `None` if the server, for example another engine, reports none.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        match analyze(&self.client, Analyze::SparkVersion(Default::default())).ok()?.result? {
            analyze_plan_response::Result::SparkVersion(reply) => Some(reply.version),
            _ => None,
        }
    }

    /// Registers the tables of a dataset as views of this session.
    ///
    /// `data` is the dataset's folder or URL on the workers. No rows are read yet. Spark checks that the
    /// files exist; Sail treats missing files as a table without rows.
    ///
    /// # Errors
    ///
    /// - [`Error::NoFiles`]: the workers find no files
    /// - [`Error::Refused`]: the object store requires other keys
    /// - [`Error::Query`]: any other error of the engine
    pub fn read_tables(&self, data: &str) -> Result<()> {
        data.clone_into(&mut self.data());
        for table in TABLES {
            let path = format!("{}/{}", data.trim_end_matches('/'), table.place);
            execute::execute(&self.client, execute::view(&table, &path), |_| {})
                .map_err(self.failed("read the tables"))?;
        }
        Ok(())
    }

    /// Returns the plan of the query `sql`, as the engine prints it.
    ///
    /// # Errors
    ///
    /// - [`Error::NoFiles`]: the workers find no files
    /// - [`Error::Refused`]: the object store requires other keys
    /// - [`Error::Query`]: any other error of the engine
    pub fn plan(&self, sql: &str) -> Result<String> {
        // An EXPLAIN statement would run on a worker; this request needs none.
        let plan = Some(Plan { op_type: Some(execute::sql(sql)) });
        let explain =
            analyze_plan_request::Explain { plan, explain_mode: ExplainMode::Simple.into() };
        let reply = analyze(&self.client, Analyze::Explain(explain))
            .map_err(self.failed("plan the query"))?;
        Ok(match reply.result {
            Some(analyze_plan_response::Result::Explain(plan)) => plan.explain_string,
            _ => String::new(),
        })
    }

    /// Runs the query `sql` and returns its rows. `on_progress` receives the progress of its stages.
    ///
    /// # Errors
    ///
    /// - [`Error::Cancelled`]: `watch.cancelled` was set
    /// - [`Error::WorkerLost`]: a worker was lost, and the engine did not repeat its work
    /// - [`Error::NoWorkers`]: the cluster had no worker for longer than `watch.without_workers`
    /// - [`Error::ServerLost`]: the server stopped
    /// - [`Error::NoFiles`]: the workers find no files, or the result has no rows
    /// - [`Error::Refused`]: the object store requires other keys
    /// - [`Error::Query`]: any other error of the engine
    pub fn run(
        &self,
        sql: &str,
        watch: &Watch,
        on_progress: impl Fn(&[Progress]) + Send + 'static,
    ) -> Result<Vec<RecordBatch>> {
        let (send, receive) = mpsc::channel();
        let client = Arc::clone(&self.client);
        let query = execute::sql(sql);
        thread::spawn(move || {
            let result =
                execute::execute(&client, query, |report| on_progress(&Progress::of(report)));
            // The receiver no longer exists if the query was stopped early.
            let _ = send.send(result);
        });
        let batches = self.wait(&receive, watch)?;
        if batches.iter().any(|batch| batch.num_rows() > 0) {
            return Ok(batches);
        }
        // Sail treats missing files as a table without rows.
        let reason = "the result has no rows".to_owned();
        Err(Error::NoFiles { path: self.data().clone(), reason })
    }

    /// Waits for the result. Meanwhile, checks for a cancellation, the server and the workers.
    fn wait(
        &self,
        receive: &mpsc::Receiver<Result<Vec<RecordBatch>, SparkError>>,
        watch: &Watch,
    ) -> Result<Vec<RecordBatch>> {
        let (mut failed_checks, mut without_workers_since) = (0, None::<Instant>);
        loop {
            match receive.recv_timeout(CHECK_INTERVAL) {
                Ok(Ok(batches)) => return Ok(batches),
                Ok(Err(error)) => return Err(self.failed("run the query")(error)),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(self.server_lost()),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            if watch.cancelled.load(Ordering::Relaxed) {
                self.cancel();
                return Err(Error::Cancelled);
            }
            failed_checks =
                if address::connect(&self.address).is_ok() { 0 } else { failed_checks + 1 };
            if failed_checks == MAX_FAILED_CHECKS {
                return Err(self.server_lost());
            }
            let (Some(status), Some(limit)) = (&watch.status, watch.without_workers) else {
                continue;
            };
            if status.workers().unwrap_or(1) > 0 {
                without_workers_since = None;
            } else if without_workers_since.get_or_insert_with(Instant::now).elapsed() > limit {
                self.cancel();
                return Err(Error::NoWorkers { seconds: limit.as_secs() });
            }
        }
    }

    /// Cancels this session's queries on the cluster, if the cluster replies.
    fn cancel(&self) {
        let client = Arc::clone(&self.client);
        within(CANCEL_TIMEOUT, move || block_on(client.interrupt_all()));
    }

    /// The dataset's path on the workers.
    fn data(&self) -> MutexGuard<'_, String> {
        self.data.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn server_lost(&self) -> Error {
        Error::ServerLost { address: self.address.clone() }
    }

    /// Classifies an error of the client library: the server was lost, or the engine reported it.
    fn failed(&self, task: &'static str) -> impl Fn(SparkError) -> Error + '_ {
        move |error| match address::connect(&self.address) {
            Ok(_) => Error::from_engine(task, &self.data(), &error),
            Err(_) => self.server_lost(),
        }
    }
}

/// Sends a request that the server handles without running a query.
fn analyze(
    client: &SparkConnectClient,
    request: Analyze,
) -> Result<AnalyzePlanResponse, SparkError> {
    block_on(client.analyze_plan(AnalyzePlanRequest {
        session_id: client.session_id().to_owned(),
        user_context: Some(UserContext::default()),
        analyze: Some(request),
        ..Default::default()
    }))
}

/// Returns the result of `work`, or `None` after `limit`. The client library retries for minutes, so its
/// calls need a limit.
fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let _ = send.send(work());
    });
    receive.recv_timeout(limit).ok()
}
