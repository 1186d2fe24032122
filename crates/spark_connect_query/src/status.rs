//! Reads stages and executors from Spark's REST interface, version 1.

use std::time::Duration;

use serde::Deserialize;

use crate::error::{Error, Result};

/// The REST interface of one Spark application; a Connect server is one application.
#[derive(Debug, Clone)]
pub struct Status {
    url: String,
}

/// One stage: the same work on every partition of the data, between two exchanges of rows.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stage {
    /// The stage's number in the application.
    pub stage_id: u64,
    /// The number of earlier attempts; above 0 if Spark repeated lost work.
    pub attempt_id: u64,
    /// `COMPLETE`, `SKIPPED` (an earlier query computed the result), `FAILED`, `ACTIVE` or `PENDING`.
    pub status: String,
    /// The number of tasks, one per partition.
    pub num_tasks: u64,
    /// The number of tasks that failed, were killed or were lost, and were repeated.
    pub num_failed_tasks: u64,
    /// Sum of the tasks' run times, in ms.
    pub executor_run_time: u64,
    /// Sum of the tasks' CPU times, in ns.
    pub executor_cpu_time: u64,
    /// Bytes read from files.
    pub input_bytes: u64,
    /// Rows read from files.
    pub input_records: u64,
    /// Bytes read from the previous stages.
    pub shuffle_read_bytes: u64,
    /// Bytes written for the next stages.
    pub shuffle_write_bytes: u64,
    /// Rows written for the next stages.
    pub shuffle_write_records: u64,
}

impl Stage {
    /// The column names of [`Stage::csv`].
    pub(crate) const CSV_HEADER: &str = "stage_id,attempt_id,status,num_tasks,num_failed_tasks,\
        executor_run_time,executor_cpu_time,input_bytes,input_records,shuffle_read_bytes,\
        shuffle_write_bytes,shuffle_write_records";

    /// The stage as a line of a CSV file.
    pub(crate) fn csv(&self) -> String {
        format!(
            "{},{},{},{},{},{},{},{},{},{},{},{}\n",
            self.stage_id,
            self.attempt_id,
            self.status,
            self.num_tasks,
            self.num_failed_tasks,
            self.executor_run_time,
            self.executor_cpu_time,
            self.input_bytes,
            self.input_records,
            self.shuffle_read_bytes,
            self.shuffle_write_bytes,
            self.shuffle_write_records,
        )
    }
}

/// A worker's process that runs tasks, or the driver.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Executor {
    /// A number, or `driver`.
    pub id: String,
    /// Whether the process runs.
    pub is_active: bool,
    /// The number of completed tasks.
    pub completed_tasks: u64,
    /// The number of failed tasks.
    pub failed_tasks: u64,
    /// Why Spark removed the executor, if it did.
    #[serde(default)]
    pub remove_reason: Option<String>,
}

#[derive(Deserialize)]
struct Application {
    id: String,
}

impl Status {
    /// Finds the application of the web page `page`, for example `http://127.0.0.1:4040`.
    ///
    /// # Errors
    ///
    /// [`Error::Status`] if the page does not reply, or has no application.
    pub fn at(page: &str) -> Result<Self> {
        let all = format!("{}/api/v1/applications", page.trim_end_matches('/'));
        let applications: Vec<Application> = get(&all)?;
        match applications.first() {
            Some(application) => Ok(Self { url: format!("{all}/{}", application.id) }),
            None => Err(Error::Status { url: all, reason: "it has no application".into() }),
        }
    }

    /// Returns the stages of all queries, in order of their numbers.
    ///
    /// # Errors
    ///
    /// [`Error::Status`] if the page does not reply.
    pub fn stages(&self) -> Result<Vec<Stage>> {
        let mut stages: Vec<Stage> = get(&format!("{}/stages", self.url))?;
        stages.sort_by_key(|stage| (stage.stage_id, stage.attempt_id));
        Ok(stages)
    }

    /// Returns all executors, including removed ones.
    ///
    /// # Errors
    ///
    /// [`Error::Status`] if the page does not reply.
    pub fn executors(&self) -> Result<Vec<Executor>> {
        get(&format!("{}/allexecutors", self.url))
    }

    /// Returns the number of active executors, without the driver.
    ///
    /// # Errors
    ///
    /// [`Error::Status`] if the page does not reply.
    pub fn workers(&self) -> Result<usize> {
        let is_worker = |executor: &&Executor| executor.is_active && executor.id != "driver";
        Ok(self.executors()?.iter().filter(is_worker).count())
    }
}

fn get<T: serde::de::DeserializeOwned>(url: &str) -> Result<T> {
    let agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).build();
    ureq::Agent::from(agent)
        .get(url)
        .call()
        .and_then(|mut reply| reply.body_mut().read_json())
        .map_err(|error| Error::Status { url: url.to_owned(), reason: error.to_string() })
}
