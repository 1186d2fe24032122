//! What Spark's web page says of the work: its REST interface, version 1.

use std::time::Duration;

use serde::Deserialize;

use crate::error::{Error, Result};

/// The REST interface of one Spark application, which a Connect server is.
#[derive(Debug, Clone)]
pub struct Status {
    url: String,
}

/// One stage: work between two exchanges, the same on every part of the data.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stage {
    /// Its number in the application.
    pub stage_id: u64,
    /// How often it was begun before: more than 0 where a part of its work was lost.
    pub attempt_id: u64,
    /// `COMPLETE`, `SKIPPED` (an earlier query's result was there), `FAILED`, `ACTIVE` or `PENDING`.
    pub status: String,
    /// Parts of the data.
    pub num_tasks: u64,
    /// Tasks that failed, were killed or were lost, and were done again.
    pub num_failed_tasks: u64,
    /// Time that tasks ran, in all, in ms.
    pub executor_run_time: u64,
    /// Of it, on a core, in ns.
    pub executor_cpu_time: u64,
    /// Bytes read from files.
    pub input_bytes: u64,
    /// Rows read from files.
    pub input_records: u64,
    /// Bytes taken from the stages before.
    pub shuffle_read_bytes: u64,
    /// Bytes left for the stages after.
    pub shuffle_write_bytes: u64,
    /// Rows left for the stages after.
    pub shuffle_write_records: u64,
}

impl Stage {
    /// The names of what [`Stage::csv`] writes.
    pub(crate) const CSV_HEADER: &str = "stage_id,attempt_id,status,num_tasks,num_failed_tasks,\
        executor_run_time,executor_cpu_time,input_bytes,input_records,shuffle_read_bytes,\
        shuffle_write_bytes,shuffle_write_records";

    /// A line of a CSV file.
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

/// A process of a worker that runs tasks, or the `driver`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Executor {
    /// A number, or `driver`.
    pub id: String,
    /// Whether it is there.
    pub is_active: bool,
    /// Tasks it has done.
    pub completed_tasks: u64,
    /// Tasks that failed on it.
    pub failed_tasks: u64,
    /// Why it is gone.
    #[serde(default)]
    pub remove_reason: Option<String>,
}

#[derive(Deserialize)]
struct Application {
    id: String,
}

impl Status {
    /// The interface behind a web page, as in `http://127.0.0.1:4040`.
    ///
    /// # Errors
    ///
    /// [`Error::Status`] where there is none.
    pub fn at(page: &str) -> Result<Self> {
        let all = format!("{}/api/v1/applications", page.trim_end_matches('/'));
        let applications: Vec<Application> = get(&all)?;
        match applications.first() {
            Some(application) => Ok(Self { url: format!("{all}/{}", application.id) }),
            None => Err(Error::Status { url: all, reason: "it has no application".into() }),
        }
    }

    /// All stages, from the first.
    ///
    /// # Errors
    ///
    /// [`Error::Status`].
    pub fn stages(&self) -> Result<Vec<Stage>> {
        let mut stages: Vec<Stage> = get(&format!("{}/stages", self.url))?;
        stages.sort_by_key(|stage| (stage.stage_id, stage.attempt_id));
        Ok(stages)
    }

    /// All executors, with those that are gone.
    ///
    /// # Errors
    ///
    /// [`Error::Status`].
    pub fn executors(&self) -> Result<Vec<Executor>> {
        get(&format!("{}/allexecutors", self.url))
    }

    /// How many executors can do work now.
    ///
    /// # Errors
    ///
    /// [`Error::Status`].
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
        .and_then(|mut answer| answer.body_mut().read_json())
        .map_err(|error| Error::Status { url: url.to_owned(), reason: error.to_string() })
}
