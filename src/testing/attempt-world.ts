/** What attempts of a simulated world can do: the same view that a runner gives them, over memory. */
import type { AttemptCalls, PublishedRecord } from '../app/capabilities/calls.ts'
import { SluiceError } from '../errors.ts'
import type { ConnectionClient, ConnectionHandle, ConnectionKind } from '../sdk/connection.ts'
import type { DatasetVersionRow, DatasetWrite } from '../store/lineage.ts'
import { MemoryDocuments } from './memory-documents.ts'

export interface Published {
  readonly id: string
  readonly key: string | null
  readonly value: unknown
}

export interface AttemptWorldParts {
  secretText(name: string): Promise<string>
  /** Records that are new in a topic. */
  readonly published: (topic: string, records: readonly PublishedRecord[]) => void
}

/** Under which key a task's durable steps and an attempt's dataset writes are kept. */
export interface AttemptName {
  readonly task: string
  readonly attempt: string
}

export class AttemptWorld {
  readonly documents = new MemoryDocuments()
  readonly #topics = new Map<string, Map<string, Published>>()
  readonly #steps = new Map<string, Map<string, string>>()
  readonly #datasets = new Map<string, DatasetVersionRow[]>()
  readonly #pending = new Map<string, DatasetWrite[]>()
  readonly #parts: AttemptWorldParts

  constructor(parts: AttemptWorldParts) {
    this.#parts = parts
  }

  topic(name: string): Published[] {
    return [...(this.#topics.get(name)?.values() ?? [])]
  }

  dataset(name: string): readonly DatasetVersionRow[] {
    return this.#datasets.get(name) ?? []
  }

  /** Makes the versions visible that a successful attempt wrote; gives the names of the datasets, one for each version. */
  commitDatasets({ attempt }: AttemptName): string[] {
    const writes = this.#pending.get(attempt) ?? []
    this.#pending.delete(attempt)
    for (const { dataset, hash, objects, rows, metadata } of writes) {
      const versions = this.#datasets.get(dataset) ?? []
      const shown = metadata === null ? null : JSON.parse(metadata)
      this.#datasets.set(dataset, [...versions, { version: versions.length + 1, hash, objects, rows, metadata: shown }])
    }
    return writes.map(({ dataset }) => dataset)
  }

  /** The steps of a task are made again. */
  forgetSteps(task: string): void {
    this.#steps.delete(task)
  }

  calls(name: AttemptName): AttemptCalls {
    const { documents } = this
    return {
      claimObject: async () => {},
      getDocument: (...args) => documents.getDocument(...args),
      putDocument: (collection, key, document) => documents.putDocument(collection, key, document),
      revisedDocument: (...args) => documents.revisedDocument(...args),
      replaceDocument: (collection, key, revision, document) =>
        documents.replaceDocument(collection, key, revision, document),
      listDocuments: (...args) => documents.listDocuments(...args),
      countDocuments: (...args) => documents.countDocuments(...args),
      storedFields: (...args) => documents.storedFields(...args),
      connectionSettings: async (connection) => {
        throw new SluiceError(
          'CONNECTION_UNKNOWN',
          `connection ${connection} is not simulated: give it to simulate(...)`,
        )
      },
      secretText: (secret) => this.#parts.secretText(secret),
      publish: async (topic, records) => this.#publish(topic, records),
      readStep: async (step) => this.#steps.get(name.task)?.get(step),
      writeStep: async (step, result) => {
        this.#steps.set(name.task, (this.#steps.get(name.task) ?? new Map()).set(step, result))
      },
      readDataset: async (dataset, version) =>
        version === null ? this.dataset(dataset).at(-1) : this.dataset(dataset)[version - 1],
      writeDataset: async (write) => {
        this.#pending.set(name.attempt, [...(this.#pending.get(name.attempt) ?? []), write])
      },
      noteLineage: async () => {},
      recalled: async () => undefined,
    }
  }

  #publish(topic: string, records: readonly PublishedRecord[]) {
    const all = this.#topics.get(topic) ?? new Map<string, Published>()
    this.#topics.set(topic, all)
    const fresh = records.filter(({ id }) => !all.has(id))
    for (const { id, key, value } of fresh) all.set(id, { id, key, value: JSON.parse(value) })
    if (fresh.length > 0) this.#parts.published(topic, fresh)
    return { published: fresh.length, known: records.length - fresh.length }
  }
}

/** The secrets that were given, by name. */
export function secretsOver(given: Readonly<Record<string, string>>) {
  return async (name: string): Promise<string> => {
    if (Object.hasOwn(given, name)) return given[name]!
    throw new SluiceError('SECRET_UNKNOWN', `secret ${name} is not simulated: give it to simulate(...)`)
  }
}

/** The connections that were given, by name. */
export function connectionsOver(given: Readonly<Record<string, ConnectionClient<ConnectionKind>>>) {
  return {
    get<Kind extends ConnectionKind>({ name, of }: ConnectionHandle<Kind>): ConnectionClient<Kind> {
      if (Object.hasOwn(given, name)) return given[name] as ConnectionClient<Kind>
      const unknown = () =>
        Promise.reject(
          new SluiceError('CONNECTION_UNKNOWN', `connection ${name} is not simulated: give it to simulate(...)`),
        )
      const refusing: { readonly [Each in ConnectionKind]: ConnectionClient<Each> } = {
        fetch: { get: unknown, check: unknown },
        postgres: { query: unknown, transaction: unknown },
      }
      return refusing[of]
    },
  }
}
