/** The authors' view of what their functions may do, over calls that are answered here or elsewhere. */

import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { messageOf, SluiceError } from '../../errors.ts'
import type { ObjectInfo, ObjectSource, ObjectStore } from '../../ports/objects.ts'
import type { ConnectionClient, ConnectionHandle, ConnectionKind } from '../../sdk/connection.ts'
import type { Capabilities, Documents, Log, Objects } from '../../sdk/context.ts'
import type { AskedHost } from '../tell-hosts.ts'
import type { CapabilityCalls } from './calls.ts'
import { connectionKinds, type OpenConnection } from './connection-kinds.ts'

/** Connections of one process, opened at first use and shared: their limits hold for the process. */
export class OpenConnections {
  private readonly connections = new Map<string, Promise<OpenConnection<ConnectionKind>>>()
  private readonly opened = new Map<string, OpenConnection<ConnectionKind>>()
  private readonly settings: CapabilityCalls['connectionSettings']

  constructor(settings: CapabilityCalls['connectionSettings']) {
    this.settings = settings
  }

  get<Kind extends ConnectionKind>({ name, of }: ConnectionHandle<Kind>, signal: AbortSignal): ConnectionClient<Kind> {
    const kind = Object.hasOwn(connectionKinds, of) ? connectionKinds[of] : undefined
    if (kind) return kind.later(() => this.open(name, of) as Promise<OpenConnection<Kind>>, signal)
    const known = Object.keys(connectionKinds).join(', ')
    throw new SluiceError('USAGE', `connection ${name} is of kind ${JSON.stringify(of)}; there are ${known}`)
  }

  /** The hosts that this process asks, or has asked of late. */
  hosts(): AskedHost[] {
    return [...this.opened].flatMap(([connection, open]) => open.hosts().map((host) => ({ connection, ...host })))
  }

  async close(): Promise<void> {
    const open = await Promise.allSettled(this.connections.values())
    await Promise.all(open.flatMap((one) => (one.status === 'fulfilled' ? [one.value.close()] : [])))
  }

  private open(name: string, of: ConnectionKind): Promise<OpenConnection<ConnectionKind>> {
    const key = `${of} ${name}`
    let connection = this.connections.get(key)
    if (!connection) {
      connection = this.settings(name, of).then(
        (settings) => connectionKinds[of].open(name, settings) as OpenConnection<ConnectionKind>,
      )
      connection.then(
        (ready) => this.opened.set(name, ready),
        () => this.connections.delete(key),
      )
      this.connections.set(key, connection)
    }
    return connection
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
    connection: (handle) => parts.connections.get(handle, signal),
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
