//! A cluster that speaks Spark Connect, and a query on it that is watched.

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
use crate::{Status, TABLES, address, answer};

/// How long a server may take for a word on itself.
const FIRST_WORD: Duration = Duration::from_secs(30);
/// How often a running query is looked after.
const LOOK: Duration = Duration::from_millis(500);
/// The server is gone when it was not there so many looks in a row.
const ABSENT: usize = 4;
/// How long the cluster may be told that a query is cancelled.
const GOODBYE: Duration = Duration::from_secs(5);

/// A session on a server that speaks Spark Connect.
pub struct Cluster {
    client: Arc<SparkConnectClient>,
    address: String,
    data: Mutex<String>,
}

/// How far one stage is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The stage's number in the application.
    pub stage: i64,
    /// Its tasks.
    pub tasks: i64,
    /// Those that are done.
    pub done: i64,
    /// Bytes it has read from files.
    pub bytes_read: i64,
}

impl Progress {
    /// Of every stage that the server tells of.
    fn of(told: &ExecutionProgress) -> Vec<Self> {
        let stages = told.stages.iter();
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

/// What ends a query before it is done.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// Set to true to cancel the query.
    pub cancelled: Arc<AtomicBool>,
    /// Where to ask whether there are workers; without it, nobody asks.
    pub status: Option<Status>,
    /// How long there may be none.
    pub without_workers: Option<Duration>,
}

impl Cluster {
    /// A session on the server at `sc://HOST:PORT`, once it was seen that there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Address`], [`Error::NoServer`], [`Error::WrongProtocol`], [`Error::Refused`].
    pub fn connect(remote: &str) -> Result<Self> {
        let (address, tls) = address::parse(remote)?;
        if tls {
            address::reach(&address)?;
        } else {
            address::speaks_http2(&address)?;
        }
        let client = ChannelBuilder::parse(remote)
            .and_then(|channel| block_on(SparkConnectClient::connect(&channel)))
            .map_err(|error| Error::at_first(&address, &error))?;
        let client = Arc::new(client);
        // Of which columns that has, no worker need be asked.
        let plan = Some(Plan { op_type: Some(answer::sql("SELECT 1")) });
        let columns = Analyze::Schema(analyze_plan_request::Schema { plan });
        let asked = Arc::clone(&client);
        match within(FIRST_WORD, move || analyze(&asked, columns)) {
            Some(Ok(_)) => Ok(Self { client, address, data: Mutex::default() }),
            Some(Err(error)) => Err(Error::at_first(&address, &error)),
            None => {
                let reason = format!("no answer within {} s", FIRST_WORD.as_secs());
                Err(Error::WrongProtocol { address, reason })
            }
        }
    }

    /// The release of Spark that the server is; some that are not Spark do not tell.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        match analyze(&self.client, Analyze::SparkVersion(Default::default())).ok()?.result? {
            analyze_plan_response::Result::SparkVersion(told) => Some(told.version),
            _ => None,
        }
    }

    /// Give the tables of a dataset their names, for this session.
    ///
    /// `data` is a folder or a URL as the workers see it. Nothing is read yet; Spark looks whether there
    /// is something, and Sail takes no file for a table without rows.
    ///
    /// # Errors
    ///
    /// [`Error::NoFiles`], [`Error::Refused`], [`Error::Query`].
    pub fn read_tables(&self, data: &str) -> Result<()> {
        data.clone_into(&mut self.data());
        for table in TABLES {
            let path = format!("{}/{}", data.trim_end_matches('/'), table.place);
            answer::to(&self.client, answer::view(&table, &path), |_| {})
                .map_err(self.failed("read the tables"))?;
        }
        Ok(())
    }

    /// The engine's plan of the query `sql`, as the engine prints it.
    ///
    /// # Errors
    ///
    /// [`Error::NoFiles`], [`Error::Refused`], [`Error::Query`].
    pub fn plan(&self, sql: &str) -> Result<String> {
        // The worker need do nothing for it, as it would for an EXPLAIN.
        let plan = Some(Plan { op_type: Some(answer::sql(sql)) });
        let explain =
            analyze_plan_request::Explain { plan, explain_mode: ExplainMode::Simple.into() };
        let told = analyze(&self.client, Analyze::Explain(explain))
            .map_err(self.failed("plan the query"))?;
        Ok(match told.result {
            Some(analyze_plan_response::Result::Explain(plan)) => plan.explain_string,
            _ => String::new(),
        })
    }

    /// Run the query `sql`; `progress` is called with the state of its stages.
    ///
    /// # Errors
    ///
    /// [`Error::Cancelled`], [`Error::WorkerLost`], [`Error::NoWorkers`], [`Error::ServerLost`],
    /// [`Error::NoFiles`], [`Error::Refused`], [`Error::Query`].
    pub fn run(
        &self,
        sql: &str,
        watch: &Watch,
        progress: impl Fn(&[Progress]) + Send + 'static,
    ) -> Result<Vec<RecordBatch>> {
        let (send, receive) = mpsc::channel();
        let client = Arc::clone(&self.client);
        let asked = answer::sql(sql);
        thread::spawn(move || {
            let ran = answer::to(&client, asked, |told| progress(&Progress::of(told)));
            // Nobody listens any more once the query was given up.
            let _ = send.send(ran);
        });
        let batches = self.look_after(&receive, watch)?;
        if batches.iter().any(|batch| batch.num_rows() > 0) {
            return Ok(batches);
        }
        // Of Sail, which takes no file for a table without rows.
        let reason = "the result has no rows".to_owned();
        Err(Error::NoFiles { path: self.data().clone(), reason })
    }

    /// Wait for the result, and look in between whether there is still somebody to give one.
    fn look_after(
        &self,
        receive: &mpsc::Receiver<Result<Vec<RecordBatch>, SparkError>>,
        watch: &Watch,
    ) -> Result<Vec<RecordBatch>> {
        let (mut absent, mut idle) = (0, None::<Instant>);
        loop {
            match receive.recv_timeout(LOOK) {
                Ok(Ok(batches)) => return Ok(batches),
                Ok(Err(error)) => return Err(self.failed("run the query")(error)),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(self.server_lost()),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            if watch.cancelled.load(Ordering::Relaxed) {
                self.cancel();
                return Err(Error::Cancelled);
            }
            absent = if address::reach(&self.address).is_ok() { 0 } else { absent + 1 };
            if absent == ABSENT {
                return Err(self.server_lost());
            }
            let (Some(status), Some(limit)) = (&watch.status, watch.without_workers) else {
                continue;
            };
            if status.workers().unwrap_or(1) > 0 {
                idle = None;
            } else if idle.get_or_insert_with(Instant::now).elapsed() > limit {
                self.cancel();
                return Err(Error::NoWorkers { seconds: limit.as_secs() });
            }
        }
    }

    /// Have the cluster end what this session runs, if it answers.
    fn cancel(&self) {
        let client = Arc::clone(&self.client);
        within(GOODBYE, move || block_on(client.interrupt_all()));
    }

    /// Where the workers were told to look.
    fn data(&self) -> MutexGuard<'_, String> {
        self.data.lock().unwrap_or_else(|held| held.into_inner())
    }

    fn server_lost(&self) -> Error {
        Error::ServerLost { address: self.address.clone() }
    }

    /// What an error of the client's means; first of all, whether the server is still there.
    fn failed(&self, task: &'static str) -> impl Fn(SparkError) -> Error + '_ {
        move |error| match address::reach(&self.address) {
            Ok(_) => Error::of(task, &self.data(), &error),
            Err(_) => self.server_lost(),
        }
    }
}

/// What a server says of something without doing it.
fn analyze(client: &SparkConnectClient, asked: Analyze) -> Result<AnalyzePlanResponse, SparkError> {
    block_on(client.analyze_plan(AnalyzePlanRequest {
        session_id: client.session_id().to_owned(),
        user_context: Some(UserContext::default()),
        analyze: Some(asked),
        ..Default::default()
    }))
}

/// What `work` returns, if it does in time; the client tries again for minutes.
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
