/** Capability calls answered by a process that holds the database. */
import { type ConnectionSettings, type Connections, revealSettings } from '../../connectors/connections.ts'
import { canonicalName } from '../../connectors/names.ts'
import type { Secrets } from '../../connectors/secrets.ts'
import { SluiceError } from '../../errors.ts'
import type { LineageWriter } from '../../observe/lineage.ts'
import type { Database, Session } from '../../ports/database.ts'
import type { ObjectStore } from '../../ports/objects.ts'
import { documentObjects } from '../../store/document-bytes.ts'
import { openDocuments, type Tried } from '../../store/documents.ts'
import { publishDatasets, readVersionOf, writeDataset } from '../../store/lineage.ts'
import { groupedClaims, referToObjects } from '../../store/objects.ts'
import { type AttemptKey, guardAttempt, readCheckpoint, writeCheckpoint } from '../../store/tasks.ts'
import { append } from '../../store/topics.ts'
import type { AttemptCalls, CapabilityCalls } from './calls.ts'

export interface DirectParts {
  readonly db: Database
  readonly store: ObjectStore
  readonly connections: Connections
  readonly secrets: Secrets
  /** Settings of the connection `warehouse`, where no others are configured; default: there is none. */
  readonly warehouse?: () => Promise<ConnectionSettings>
  /** Where attempts publish to; default: the topics in the database. */
  readonly publish?: typeof append
  /** Under which name objects are claimed: the process, or the stream's shard. */
  readonly claimant: string
}

/** An object that was put and not referred to is kept this long. */
const claimMs = 3_600_000

export function directCalls(parts: DirectParts): CapabilityCalls {
  const { db, connections, secrets } = parts
  const objects = documentObjects(db, parts.store, parts.claimant)
  return {
    claimObject: groupedClaims(db, parts.claimant, claimMs),
    getDocument: (collection, key, bytes) => openDocuments<object>(db, objects, collection).get(key, { bytes }),
    putDocument: (collection, key, document, named) =>
      openDocuments<object>(db, objects, collection).put(key, document, { objects: named }),
    revisedDocument: (collection, key) => openDocuments<object>(db, objects, collection).revised(key),
    replaceDocument: (collection, key, revision, document, options) =>
      openDocuments<object>(db, objects, collection).replace(key, revision, document, options),
    listDocuments: (collection, options) => openDocuments<object>(db, objects, collection).list(options),
    countDocuments: (collection, options) => openDocuments<object>(db, objects, collection).count(options),
    storedFields: async (collection, keys) => ({
      ...(await openDocuments<object>(db, objects, collection).stored(keys)),
    }),
    async connectionSettings(name, kind) {
      const ours = canonicalName(name) === 'warehouse' && !connections.names.includes('warehouse')
      if (!ours || parts.warehouse === undefined) return revealSettings(connections.get(name, kind), secrets)
      if (kind === 'postgres') return parts.warehouse()
      throw new SluiceError('CONFIGURATION', `The connection "${name}" is of kind "postgres"; "${kind}" is needed here`)
    },
    secretText: async (name) => secrets.get(name).reveal(),
  }
}

/**
 * What an attempt puts is kept as long as its run is; what it writes carries its token. One call of these may be made again when
 * its answer was lost: a replacement then knows its own write.
 */
export function attemptCalls(
  parts: DirectParts,
  calls: CapabilityCalls,
  lineage: Pick<LineageWriter, 'note' | 'wroteDataset'>,
  key: AttemptKey,
): AttemptCalls {
  const { db, claimant } = parts
  const fenced = <T>(work: (session: Session) => Promise<T>): Promise<T> =>
    db.transaction(async (session) => {
      await guardAttempt(session, key)
      return work(session)
    })
  const fencedDb: Database = { ...db, transaction: fenced }
  const objects = documentObjects(db, parts.store, claimant)
  const tried: Tried = {}
  return {
    ...calls,
    async claimObject(object) {
      await calls.claimObject(object)
      await fenced((session) =>
        referToObjects(session, claimant, [{ sha256: object.sha256, kind: 'run', id: key.runId }]),
      )
    },
    putDocument: (collection, name, document, named) =>
      openDocuments<object>(fencedDb, objects, collection).put(name, document, { objects: named }),
    replaceDocument: (collection, name, revision, document, options) =>
      openDocuments<object>(fencedDb, objects, collection).replace(name, revision, document, options, tried),
    publish: (topic, records) => fenced((session) => (parts.publish ?? append)(session, topic, records)),
    readStep: (name) => readCheckpoint(db, key, name),
    writeStep: (name, result) => fenced((session) => writeCheckpoint(session, key, name, result)),
    async readDataset(name, version) {
      await publishDatasets(db, name)
      return readVersionOf(db, name, version)
    },
    async writeDataset(write) {
      await fenced((session) => writeDataset(session, claimant, key, write))
      lineage.wroteDataset(key)
    },
    noteLineage: (notes) => lineage.note(key, notes),
    recalled: async () => undefined,
  }
}
