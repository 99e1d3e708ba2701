/** Capability calls of an attempt in a runner, answered by the engine's side over the runner protocol. */
import { SluiceError } from '../../errors.ts'
import type { FromRunner, ToRunner } from '../../executors/runner-protocol.ts'
import type { AttemptCalls } from './calls.ts'
import { fromWire, toWire } from './wire.ts'

export class RemoteCalls {
  private readonly waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>()
  private lastId = 0
  private readonly send: (message: FromRunner) => void

  constructor(send: (message: FromRunner) => void) {
    this.send = send
  }

  hear(message: ToRunner & { t: 'answer' | 'refuse' }): void {
    const waiting = this.waiting.get(message.id)
    this.waiting.delete(message.id)
    if (message.t === 'answer') waiting?.resolve(fromWire(message.value))
    else {
      const { code, message: detail, retryAfterMs } = message.error
      waiting?.reject(new SluiceError(code, detail, retryAfterMs === undefined ? {} : { retryAfterMs }))
    }
  }

  of(token: number): AttemptCalls {
    const call = <Answer>(name: keyof AttemptCalls, ...args: unknown[]) =>
      new Promise<Answer>((resolve, reject) => {
        this.lastId += 1
        this.waiting.set(this.lastId, { resolve: resolve as (value: unknown) => void, reject })
        this.send({ t: 'call', id: this.lastId, token, name, args: toWire(args) })
      })
    return {
      claimObject: (object) => call('claimObject', object),
      getDocument: (collection, key, bytes) => call('getDocument', collection, key, bytes),
      putDocument: (collection, key, document, named) => call('putDocument', collection, key, document, named),
      revisedDocument: (collection, key) => call('revisedDocument', collection, key),
      replaceDocument: (collection, key, revision, document, options) =>
        call('replaceDocument', collection, key, revision, document, options),
      listDocuments: (collection, options) => call('listDocuments', collection, options),
      countDocuments: (collection, options) => call('countDocuments', collection, options),
      storedFields: (collection, keys) => call('storedFields', collection, keys),
      connectionSettings: (name, kind) => call('connectionSettings', name, kind),
      secretText: (name) => call('secretText', name),
      publish: (topic, records) => call('publish', topic, records),
      readStep: (name) => call('readStep', name),
      writeStep: (name, result) => call('writeStep', name, result),
      readDataset: (name, version) => call('readDataset', name, version),
      writeDataset: (write) => call('writeDataset', write),
      noteLineage: (notes) => call('noteLineage', notes),
      recalled: () => call('recalled'),
    }
  }
}

const names: ReadonlySet<string> = new Set<keyof AttemptCalls>([
  'claimObject',
  'getDocument',
  'putDocument',
  'revisedDocument',
  'replaceDocument',
  'listDocuments',
  'countDocuments',
  'storedFields',
  'connectionSettings',
  'secretText',
  'publish',
  'readStep',
  'writeStep',
  'readDataset',
  'writeDataset',
  'noteLineage',
  'recalled',
])

/** Answers a call that came over the wire. @throws SluiceError USAGE for a name that is none of the calls. */
export async function answerCall(calls: AttemptCalls, name: string, args: unknown): Promise<unknown> {
  if (!names.has(name)) throw new SluiceError('USAGE', `there is no call named ${JSON.stringify(name)}`)
  const call = calls[name as keyof AttemptCalls] as (...args: unknown[]) => Promise<unknown>
  return toWire(await call(...(fromWire(args) as unknown[])))
}
