/**
 * What authors' functions may do, as plain calls. A process that holds the database answers them directly; a runner,
 * which never sees the database, sends them to the engine. `capabilitiesOver` makes the authors' view of either.
 */
import type { ConnectionSettings } from '../../connectors/connections.ts'
import type { ObjectInfo } from '../../ports/objects.ts'
import type { ListOptions, Page, PublishResult, StoredField } from '../../sdk/context.ts'
import type { ReplaceOptions, Revised } from '../../store/documents.ts'
import type { DatasetVersionRow, DatasetWrite, LineageNote } from '../../store/lineage.ts'

export interface CapabilityCalls {
  /** To be awaited before the object becomes visible. */
  claimObject(object: ObjectInfo): Promise<void>
  getDocument(collection: string, key: string, bytes: boolean): Promise<object | undefined>
  putDocument(collection: string, key: string, document: object, objects: readonly string[]): Promise<void>
  revisedDocument(collection: string, key: string): Promise<Revised<object> | undefined>
  /** False when it is no longer of that revision. */
  replaceDocument(
    collection: string,
    key: string,
    revision: string,
    document: object,
    options: ReplaceOptions,
  ): Promise<boolean>
  listDocuments(collection: string, options: ListOptions): Promise<Page<object>>
  countDocuments(collection: string, options: Pick<ListOptions, 'where'>): Promise<number>
  storedFields(collection: string, keys: readonly string[]): Promise<Record<string, Record<string, StoredField>>>
  /** With secrets filled in. @throws SluiceError CONNECTION_UNKNOWN, SECRET_UNKNOWN */
  connectionSettings(name: string, kind: string): Promise<ConnectionSettings>
  secretText(name: string): Promise<string>
}

export interface PublishedRecord {
  readonly id: string
  readonly key: string | null
  /** JSON text. */
  readonly value: string
}

/** What only an attempt may do, under its token. */
export interface AttemptCalls extends CapabilityCalls {
  publish(topic: string, records: readonly PublishedRecord[]): Promise<PublishResult>
  /** JSON text of a durable step's result, when there is one. */
  readStep(name: string): Promise<string | undefined>
  writeStep(name: string, result: string): Promise<void>
  /** The latest version when `version` is null. */
  readDataset(name: string, version: number | null): Promise<DatasetVersionRow | undefined>
  writeDataset(write: DatasetWrite): Promise<void>
  /** What the attempt read and wrote, all of it, right before its end. */
  noteLineage(notes: readonly LineageNote[]): Promise<void>
  /** When an attempt is reproduced: what it found when it ran. */
  recalled(): Promise<Recalled | undefined>
}

/** What an attempt found when it ran, for running it again. */
export interface Recalled {
  /** Its time, in milliseconds. */
  readonly now: number
  /** What each file was that it stored. */
  readonly files: Readonly<Record<string, ObjectInfo>>
}
