//! Runs a plan in a session and collects its result, which may arrive in several streams.
//!
//! A stream that ends normally is not the end of the result: Spark ends each stream after two minutes.
//! Only the response `ResultComplete` reports the end of the result. The `DataFrame` API of
//! `apache-spark-connect` 4.2.0 reattaches only after a broken connection, and mistakes the end of a
//! stream for the end of the result. So this module uses [`SparkConnectClient`], the layer below, and
//! reattaches until `ResultComplete`.

use std::time::Duration;

use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::record_batch::RecordBatch;
use spark_connect_core::error::{Result, SparkError};
use spark_connect_core::{
    ExecutePlanResponseReattachableIterator as Execution, RetryPolicy, RetryPolicyState,
    SparkConnectClient, block_on,
};
use spark_connect_proto::execute_plan_response::{ExecutionProgress, ResponseType};
use spark_connect_proto::plan::OpType;
use spark_connect_proto::read::{DataSource, ReadType};
use spark_connect_proto::relation::RelType;
use spark_connect_proto::{
    Command, CreateDataFrameViewCommand, ExecutePlanRequest, Plan, Read, Relation, Sql,
    UserContext, command,
};

use crate::Table;

/// The delay before reattaching, because a server may end a stream without having sent anything.
const PAUSE: Duration = Duration::from_millis(20);

/// The plan that runs the SQL query `text`.
pub(crate) fn sql(text: &str) -> OpType {
    let sql = Sql { query: text.to_owned(), ..Default::default() };
    OpType::Root(relation(RelType::Sql(sql)))
}

/// The command that registers the Parquet files at `path` as the view `table.name` of the session.
pub(crate) fn view(table: &Table, path: &str) -> OpType {
    let files = DataSource {
        format: Some("parquet".to_owned()),
        schema: Some(table.columns.to_owned()),
        paths: vec![path.to_owned()],
        ..Default::default()
    };
    let read = Read { read_type: Some(ReadType::DataSource(files)), ..Default::default() };
    let view = CreateDataFrameViewCommand {
        input: Some(relation(RelType::Read(read))),
        name: table.name.to_owned(),
        is_global: false,
        replace: true,
    };
    OpType::Command(Command { command_type: Some(command::CommandType::CreateDataframeView(view)) })
}

fn relation(of: RelType) -> Relation {
    Relation { rel_type: Some(of), ..Default::default() }
}

/// Executes `operation` in the client's session and waits for the whole result. `on_progress` receives
/// the state of the stages.
///
/// # Errors
///
/// The server's error, or that of a connection which retries did not restore.
pub(crate) fn execute(
    client: &SparkConnectClient,
    operation: OpType,
    on_progress: impl Fn(&ExecutionProgress),
) -> Result<Vec<RecordBatch>> {
    let execution = Execution::new(ExecutePlanRequest {
        session_id: client.session_id().to_owned(),
        // Sessions belong to a user; all requests of this crate use the default user.
        user_context: Some(UserContext::default()),
        plan: Some(Plan { op_type: Some(operation) }),
        ..Default::default()
    });
    let mut batches = Vec::new();
    block_on(responses(client, &execution, |response| {
        match response {
            ResponseType::ExecutionProgress(progress) => on_progress(&progress),
            ResponseType::ArrowBatch(batch) => batches.extend(decoded(&batch.data)?),
            _ => {}
        }
        Ok(())
    }))?;
    Ok(batches)
}

/// Passes every response to `on_response`, from the first stream and from those after reattaching.
async fn responses(
    client: &SparkConnectClient,
    execution: &Execution,
    mut on_response: impl FnMut(ResponseType) -> Result<()>,
) -> Result<()> {
    let mut stream = client.execute_plan(execution.request().clone()).await?;
    while !execution.is_completed().await {
        let mut failed = match stream.message().await {
            Ok(Some(response)) => {
                execution.set_last_response_id(&response).await;
                if let Some(response) = response.response_type {
                    on_response(response)?;
                }
                continue;
            }
            Ok(None) => None,
            Err(status) => Some(SparkError::from_grpc_status(status)),
        };
        let mut attempts = RetryPolicyState::new(RetryPolicy::default());
        stream = loop {
            let wait = match failed {
                None => PAUSE,
                Some(error) if is_temporary(&error) => {
                    Duration::from_millis(attempts.next_attempt(None).ok_or(error)?)
                }
                Some(error) => return Err(error),
            };
            tokio::time::sleep(wait).await;
            match client.reattach_execute(execution.create_reattach_request().await).await {
                Ok(rest) => break rest,
                Err(error) => failed = Some(error),
            }
        };
    }
    // The server buffers the responses until they are released, or until a timeout. So a failure here
    // has no effect on the result.
    let _ = client.release_execute(execution.create_release_request(true).await).await;
    Ok(())
}

/// Whether a retry can succeed: the connection broke, or another client reads the stream. The rule is
/// that of PySpark's `DefaultPolicy`.
fn is_temporary(error: &SparkError) -> bool {
    const UNAVAILABLE: i32 = 14;
    let message = error.message();
    // Sail uses the same messages, with details, for a broken connection to one of its workers.
    let broke = ["h2 protocol error", "transport error"].iter().any(|w| message.contains(w));
    error.grpc_code == Some(UNAVAILABLE)
        || message.contains("INVALID_CURSOR.DISCONNECTED")
        || (broke && error.grpc_details.is_none())
}

/// Reads the batches of an Arrow IPC stream.
fn decoded(stream: &[u8]) -> Result<Vec<RecordBatch>> {
    if stream.is_empty() {
        return Ok(Vec::new());
    }
    StreamReader::try_new(stream, None)
        .and_then(Iterator::collect)
        .map_err(|error: ArrowError| SparkError::connect_msg(error.to_string()))
}
