/** The API with the endpoints of the image app over a database and objects of its own, listening, without engine or stream. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as imagesApi from '../apps/images/workflows/api.ts'
import * as catalogModule from '../apps/images/workflows/catalog.ts'
import * as topics from '../apps/images/workflows/topics.ts'
import type { HttpLimits } from '../src/api/http-limits.ts'
import { openApi } from '../src/api/server.ts'
import { manifestOf } from '../src/app/build/manifest-of.ts'
import { capabilitiesOver, OpenConnections } from '../src/app/capabilities/capabilities.ts'
import { directCalls } from '../src/app/capabilities/direct-calls.ts'
import { collect } from '../src/app/definitions.ts'
import { startRun } from '../src/app/start-run.ts'
import { parseConnections } from '../src/connectors/connections.ts'
import { parseSecrets } from '../src/connectors/secrets.ts'
import type { Manifest } from '../src/core/manifest.ts'
import { openFiles } from '../src/objects/files.ts'
import type { Database } from '../src/ports/database.ts'
import type { Capabilities, Log } from '../src/sdk/context.ts'
import { deployVersion } from '../src/store/versions.ts'
import { systemClock } from '../src/time.ts'
import { testDatabase } from './database.ts'
import { identityOf, type Logged, testManifest } from './test-api.ts'

export interface ImagesApi {
  readonly db: Database
  readonly url: string
  readonly port: number
  /** Where the bytes of uploads go. */
  readonly objects: string
  /** What was logged as an error. */
  readonly logged: Logged[]
  /** As endpoints have them. */
  readonly capabilities: Capabilities
  close(): Promise<void>
}

export async function openImagesApi(limits: Partial<HttpLimits> = {}): Promise<ImagesApi> {
  const { db, drop } = await testDatabase({ max: 8 })
  const folder = await mkdtemp(join(tmpdir(), 'sluice-images-api-'))
  const logged: Logged[] = []
  const quiet = () => {}
  const log: Log = {
    debug: quiet,
    info: quiet,
    warn: quiet,
    error: (message, fields) => logged.push({ message, fields }),
  }
  const definitions = collect([
    { file: 'workflows/catalog.ts', exports: catalogModule },
    { file: 'workflows/topics.ts', exports: topics },
    { file: 'workflows/api.ts', exports: imagesApi },
  ])
  const described = manifestOf(definitions, { ofDefinition: (_kind, _name, file) => file, ofThrown: () => undefined })
  if (described.faults.length > 0) throw new Error(JSON.stringify(described.faults))
  const manifest: Manifest = {
    ...testManifest,
    ...described,
    workflows: [...described.workflows, ...testManifest.workflows.filter(({ name }) => name === 'empty')],
    streams: testManifest.streams,
    topics: [...described.topics, ...testManifest.topics],
  }
  await deployVersion(db, manifest)
  const store = openFiles(join(folder, 'objects'))
  const connections = parseConnections({})
  const calls = directCalls({ db, store, connections, secrets: parseSecrets({}), claimant: 'test' })
  const open = new OpenConnections(calls.connectionSettings)
  const capabilities = (signal: AbortSignal) =>
    capabilitiesOver({ calls, store, connections: open, projectDir: folder, log }, signal)
  const api = await openApi({
    db,
    manifest: () => manifest,
    endpoints: [...definitions.endpoints.values()].map((endpoint) => ({ endpoint, file: 'workflows/api.ts' })),
    capabilities,
    startRun: (workflow, params, { idempotencyKey }) =>
      startRun(
        { db, random: Math.random, now: systemClock.now },
        { name: workflow.name, version: manifest.hash },
        params,
        idempotencyKey,
      ),
    identify: (_, value) => identityOf(value),
    clock: systemClock,
    random: Math.random,
    version: '0.0.0-test',
    allowedHosts: [],
    log,
    limits,
  })
  const url = await api.listen(0)
  return {
    db,
    url,
    port: Number(new URL(url).port),
    objects: join(folder, 'objects'),
    logged,
    capabilities: capabilities(new AbortController().signal),
    async close() {
      await api.close()
      await open.close()
      await drop()
      await rm(folder, { recursive: true })
    },
  }
}
