/** The authors' view of what their functions may do, over calls that are answered here or elsewhere. */
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { fetchSettings, openFetch } from '../../connectors/fetch/fetch.ts'
import { messageOf, SluiceError } from '../../errors.ts'
import type { ObjectInfo, ObjectSource, ObjectStore } from '../../ports/objects.ts'
import type { FetchClient } from '../../sdk/connection.ts'
import type { Capabilities, Documents, Log, Objects } from '../../sdk/context.ts'
import { systemClock } from '../../time.ts'
import type { AskedHost } from '../tell-hosts.ts'
import { version } from '../version.ts'
import type { CapabilityCalls } from './calls.ts'

/** Connections of one process, opened at first use and shared: their limits per host hold for the process. */
export class OpenConnections {
  private readonly clients = new Map<string, Promise<ReturnType<typeof openFetch>>>()
  private readonly opened = new Map<string, ReturnType<typeof openFetch>>()
  private readonly settings: CapabilityCalls['connectionSettings']

  constructor(settings: CapabilityCalls['connectionSettings']) {
    this.settings = settings
  }

  get(name: string, signal: AbortSignal): FetchClient {
    return {
      get: async (url, options) =>
        (await this.open(name)).get(url, {
          ...options,
          signal: options?.signal ? AbortSignal.any([signal, options.signal]) : signal,
        }),
    }
  }

  /** The hosts that this process asks, or has asked of late. */
  hosts(): AskedHost[] {
    return [...this.opened].flatMap(([connection, client]) => client.hosts().map((host) => ({ connection, ...host })))
  }

  async close(): Promise<void> {
    const open = await Promise.allSettled(this.clients.values())
    await Promise.all(open.flatMap((client) => (client.status === 'fulfilled' ? [client.value.close()] : [])))
  }

  private open(name: string) {
    let client = this.clients.get(name)
    if (!client) {
      client = this.settings(name, 'fetch').then((settings) => {
        const parsed = fetchSettings.safeParse(settings)
        const parts = { clock: systemClock, random: Math.random, product: `sluice/${version}` }
        if (parsed.success) return openFetch(parsed.data, parts)
        const faults = parsed.error.issues.map((issue) => ({ where: issue.path.join('.'), message: issue.message }))
        const detail = faults.map(({ where, message }) => `${where}: ${message}`).join('; ')
        throw new SluiceError('CONFIGURATION', `connection ${name}: ${detail}`, { faults })
      })
      client.then(
        (ready) => this.opened.set(name, ready),
        () => this.clients.delete(name),
      )
      this.clients.set(name, client)
    }
    return client
  }
}

export interface CapabilityParts {
  readonly calls: CapabilityCalls
  readonly store: ObjectStore
  readonly connections: Pick<OpenConnections, 'get'>
  readonly projectDir: string
  readonly log: Log
  /** When an attempt is reproduced: what the files were that it stored; they are not looked at again. */
  readonly files?: Readonly<Record<string, ObjectInfo>> | undefined
}

export function capabilitiesOver(parts: CapabilityParts, signal: AbortSignal): Capabilities {
  const { calls } = parts
  return {
    signal,
    log: parts.log,
    objects: objectsOver(parts),
    documents: <Document extends object>(collection: string) => documentsOver(calls, collection) as Documents<Document>,
    connection: ((handle) => parts.connections.get(handle.name, signal)) as Capabilities['connection'],
    secret: (secret) => calls.secretText(typeof secret === 'string' ? secret : secret.name),
  }
}

function objectsOver({ calls, store, projectDir, files }: CapabilityParts): Objects {
  const put = (source: ObjectSource) => store.put(source, (object) => calls.claimObject(object))
  return {
    put,
    open: (sha256) => store.open(sha256),
    read: (sha256) => store.read(sha256),
    async putFile(path) {
      if (files) return recalledFile(files, path)
      const file = resolve(projectDir, path)
      const found = await stat(file).catch((cause) => {
        throw new SluiceError('NOT_FOUND', `the file ${path} cannot be read: ${messageOf(cause)}`, { cause })
      })
      if (!found.isFile()) throw new SluiceError('INVALID_INPUT', `${path} is no file`)
      return put(createReadStream(file))
    },
  }
}

function recalledFile(files: Readonly<Record<string, ObjectInfo>>, path: string): ObjectInfo {
  const stored = Object.hasOwn(files, path) ? files[path] : undefined
  if (stored) return stored
  throw new SluiceError('NOT_FOUND', `the file ${path} was not stored when this ran`)
}

function documentsOver(calls: CapabilityCalls, collection: string): Documents<object> {
  return {
    get: (key, options) => calls.getDocument(collection, key, options?.bytes ?? false),
    put: (key, document, options) => calls.putDocument(collection, key, document, options?.objects ?? []),
    async change(key, change, options) {
      for (;;) {
        const found = await calls.revisedDocument(collection, key)
        const changed = found && change(found.document)
        if (found === undefined || changed === undefined) return undefined
        if (await calls.replaceDocument(collection, key, found.revision, changed, options ?? {})) return changed
      }
    },
    list: (options) => calls.listDocuments(collection, options ?? {}),
    count: (options) => calls.countDocuments(collection, options ?? {}),
    stored: (keys) => calls.storedFields(collection, keys),
  }
}
