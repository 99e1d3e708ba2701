/** What authors import: `import { action, workflow, stream, z } from 'sluice'`. */
export { SluiceError } from '../errors.ts'
export type { Duration } from '../time.ts'
export { type Action, action } from './action.ts'
export type { ActionOptions, RetryOptions } from './action-definition.ts'
export { type ApiClient, type Command, type CommandContext, command, type ProgressBar } from './command.ts'
export { defineConfig, type ProjectConfig } from './config.ts'
export { type ConnectionHandle, connection, type FetchClient, type FetchResponse } from './connection.ts'
export type {
  ActionContext,
  Capabilities,
  Documents,
  ListOptions,
  Log,
  Objects,
  Page,
  PublishResult,
  StoredField,
  StoredObject,
} from './context.ts'
export { type Dataset, type DatasetAccess, type DatasetContent, type DatasetVersion, dataset } from './dataset.ts'
export { type Endpoint, type EndpointRequest, endpoint, HttpReply, problem, reply } from './endpoint.ts'
export { defer, skip } from './ends.ts'
export type { CheckFailure, CheckTimings, FetchCheck, FetchCheckOptions } from './fetch-check.ts'
export { branch, each, group, shortCircuit, using } from './flow.ts'
export { type CallOptions, stage, type TriggerRule } from './graph-builder.ts'
export { type HttpSource, type HttpSourceOptions, http } from './http-source.ts'
export { type MetricSample, type Metrics, type MetricsOptions, metrics } from './metrics.ts'
export {
  type CronPlan,
  cron,
  type DatasetWrittenPlan,
  datasetWritten,
  every,
  type FileArrivalPlan,
  fileArrival,
  type IntervalPlan,
  type Plan,
  type TopicRecordPlan,
  topicRecord,
  type WebhookPlan,
  webhook,
} from './plan.ts'
export { type EventField, event, type PlanParams, type TickField, tick } from './plan-params.ts'
export { type LimitOptions, type Pool, pool, type Rate, type RateOptions, rate } from './pool.ts'
export {
  type IsolationLevel,
  type PostgresClient,
  SqlError,
  type SqlQueries,
  type SqlValue,
  type TransactionOptions,
} from './postgres.ts'
export { type ExitCodes, type ProgramOptions, program } from './program.ts'
export { type Arg, type Args, type Ref, text } from './reference.ts'
export { z } from './schema.ts'
export { type SecretHandle, secret } from './secret.ts'
export { type SensorOptions, sensor } from './sensor.ts'
export {
  type DocumentSink,
  documents,
  type HttpStream,
  type Records,
  type Step,
  type StepContext,
  type Stream,
  stream,
} from './stream.ts'
export { type Table, type TableOptions, table } from './table.ts'
export { type Timer, type TimerOptions, type TimerRecord, timer } from './timer.ts'
export { type Topic, type TopicOptions, topic } from './topic.ts'
export { type ApprovalOptions, type Approved, approve, run, wait } from './waits.ts'
export { type Workflow, workflow } from './workflow.ts'
