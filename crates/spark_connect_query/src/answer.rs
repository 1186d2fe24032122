//! What is asked of a server in a session, and its answer, which may come in several streams.
//!
//! A server ends a stream of responses when it likes (Spark after two minutes), and says in a
//! response of its own when the result is complete. Until then a client is to ask for the rest. The
//! data frames of `apache-spark-connect` 4.2.0 do so for a connection that broke, and take a stream
//! that was ended in order for the end of the result. So only the layer below them is used here.

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

/// How long to wait before the rest is asked for: a server may end a stream that had nothing.
const PAUSE: Duration = Duration::from_millis(20);

/// To run a text.
pub(crate) fn sql(text: &str) -> OpType {
    let sql = Sql { query: text.to_owned(), ..Default::default() };
    OpType::Root(relation(RelType::Sql(sql)))
}

/// To give the Parquet files at `path` a table's name, for this session.
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

/// Have it done in the client's session, and wait for all of the result; `progress` hears how far the
/// stages are.
///
/// # Errors
///
/// What the server says, or what became of the connection.
pub(crate) fn to(
    client: &SparkConnectClient,
    asked: OpType,
    progress: impl Fn(&ExecutionProgress),
) -> Result<Vec<RecordBatch>> {
    let execution = Execution::new(ExecutePlanRequest {
        session_id: client.session_id().to_owned(),
        // A session is a user's; and every client of this crate's is the same.
        user_context: Some(UserContext::default()),
        plan: Some(Plan { op_type: Some(asked) }),
        ..Default::default()
    });
    let mut batches = Vec::new();
    block_on(responses(client, &execution, |response| {
        match response {
            ResponseType::ExecutionProgress(told) => progress(&told),
            ResponseType::ArrowBatch(batch) => batches.extend(decoded(&batch.data)?),
            _ => {}
        }
        Ok(())
    }))?;
    Ok(batches)
}

/// Hand on every response up to the last, also those of further streams.
async fn responses(
    client: &SparkConnectClient,
    execution: &Execution,
    mut heard: impl FnMut(ResponseType) -> Result<()>,
) -> Result<()> {
    let mut stream = client.execute_plan(execution.request().clone()).await?;
    while !execution.is_completed().await {
        let mut failed = match stream.message().await {
            Ok(Some(response)) => {
                execution.set_last_response_id(&response).await;
                if let Some(response) = response.response_type {
                    heard(response)?;
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
                Some(error) if passes(&error) => {
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
    // The server keeps what it has sent until it is told; it does so for a while only, so that it
    // does not matter should this fail.
    let _ = client.release_execute(execution.create_release_request(true).await).await;
    Ok(())
}

/// Whether it may help to ask again: the connection broke, or another has the stream (as PySpark's
/// `DefaultPolicy` has it).
fn passes(error: &SparkError) -> bool {
    const UNAVAILABLE: i32 = 14;
    let message = error.message();
    // Sail passes on in these words how its own connection to a worker broke, with details.
    let broke = ["h2 protocol error", "transport error"].iter().any(|w| message.contains(w));
    error.grpc_code == Some(UNAVAILABLE)
        || message.contains("INVALID_CURSOR.DISCONNECTED")
        || (broke && error.grpc_details.is_none())
}

/// The batches of an Arrow IPC stream.
fn decoded(stream: &[u8]) -> Result<Vec<RecordBatch>> {
    if stream.is_empty() {
        return Ok(Vec::new());
    }
    StreamReader::try_new(stream, None)
        .and_then(Iterator::collect)
        .map_err(|error: ArrowError| SparkError::connect_msg(error.to_string()))
}
