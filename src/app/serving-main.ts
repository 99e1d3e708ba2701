/** A serving process: holds the port, serves the platform's API and the endpoints of authors. */
import { openApi } from '../api/server.ts'
import { messageOf } from '../errors.ts'
import { roomIn } from '../objects/room.ts'
import { isHttpStream } from '../sdk/stream.ts'
import { currentVersion } from '../store/versions.ts'
import { identify } from '../streams/intake.ts'
import { systemClock } from '../time.ts'
import { type Orders, runChild, type Started } from './child-process.ts'
import type { Config } from './config.ts'
import { openIngestParts } from './ingest-parts.ts'
import { kafkaCheck } from './kafka/kafka-check.ts'
import { openKafka } from './kafka/open-kafka.ts'
import { openProcessParts } from './process-parts.ts'
import { random } from './random.ts'
import { startRun } from './start-run.ts'
import { tableChecks } from './table-checks.ts'
import { version } from './version.ts'

runChild(startServing)

/** No request of the API may keep the database busy for longer. */
const statementTimeoutMs = 15_000
/** Nor wait longer for a connection; whoever asks gets a 503 then. */
const connectTimeoutMs = 5_000

async function startServing(orders: Orders, config: Config, note: (line: string) => void): Promise<Started> {
  const parts = await openProcessParts(
    'serving',
    orders,
    config,
    { max: 8, statementTimeoutMs, connectTimeoutMs },
    note,
  )
  const { db, definitions } = parts
  let manifest = (await currentVersion(db))!
  const refresh = () =>
    void currentVersion(db).then(
      (found) => {
        manifest = found ?? manifest
      },
      (error) => note(`the deployment could not be read: ${messageOf(error)}`),
    )
  const unlisten = await db.listen('sluice_deployment', refresh, refresh)
  const ingest = await openIngestParts(parts, config, note)
  const kafka = await openKafka(config, parts.configured, 'serving')
  const brokers = kafka && kafkaCheck(kafka, systemClock.now)
  const api = await openApi({
    db,
    manifest: () => manifest,
    endpoints: [...definitions.endpoints.values()].map((endpoint) => ({
      endpoint,
      file: definitions.fileOf(endpoint),
    })),
    metrics: [...definitions.metrics.values()],
    capabilities: parts.capabilities,
    startRun: ({ name, priority }, params, { idempotencyKey }) =>
      startRun(
        { db, random, now: systemClock.now },
        { name, version: manifest.hash, priority },
        params,
        idempotencyKey,
      ),
    identify(name, value) {
      const stream = definitions.streams.get(name)
      return stream && !isHttpStream(stream) ? identify(stream, value) : undefined
    },
    ingest: ingest.points.map((point) => ({
      point,
      file: definitions.fileOf(definitions.streams.get(point.stream)!),
    })),
    ...(kafka && { keptFrom: (topic: string) => kafka.beginningsOf(topic) }),
    ready: async () => [
      { name: 'storage', ...(await roomIn(config.home)) },
      ...(await tableChecks(db, manifest.streams)),
      ...ingest.checks(),
      ...(brokers ? [await brokers()] : []),
    ],
    clock: systemClock,
    random,
    version,
    allowedHosts: [],
    log: parts.log,
  })
  for (const { where, message } of api.faults) note(`${where}: ${message}`)
  return {
    url: await api.listen(config.port, config.host),
    async stop() {
      await unlisten()
      // Requests that were taken are answered first.
      await api.close()
      await ingest.stop()
      await kafka?.close()
      await parts.close()
    },
  }
}
