/** What a step gets. Everything is made when it is first used: many steps use nothing of it. */
import type { Capabilities, Objects } from '../sdk/context.ts'
import type { StepContext } from '../sdk/stream.ts'

/** Thrown by `reject`. */
export class Rejection extends Error {
  readonly reason: string
  readonly detail: string | undefined
  constructor(reason: string, detail: string | undefined) {
    super(detail ?? reason)
    this.reason = reason
    this.detail = detail
  }
}

/** Thrown by `filter`. */
export class Filtered extends Error {}

/** The context of one attempt of one record. Its functions may be taken apart from it. */
export class RecordContext implements StepContext<unknown> {
  readonly record: unknown
  readonly attempt: number
  readonly #capabilitiesOf: (signal: AbortSignal) => Capabilities
  #controller: AbortController | undefined
  #capabilities: Capabilities | undefined
  #objects: Objects | undefined
  #put: string[] | undefined
  #aborted: unknown

  constructor(record: unknown, attempt: number, capabilitiesOf: (signal: AbortSignal) => Capabilities) {
    this.record = record
    this.attempt = attempt
    this.#capabilitiesOf = capabilitiesOf
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      if (this.#aborted !== undefined) this.#controller.abort(this.#aborted)
    }
    return this.#controller.signal
  }

  abort(reason: unknown): void {
    this.#aborted = reason
    this.#controller?.abort(reason)
  }

  /** sha256 of what was put. */
  get put(): readonly string[] {
    return this.#put ?? []
  }

  get log() {
    return this.#given.log
  }

  get objects(): Objects {
    this.#objects ??= this.#remembering(this.#given.objects)
    return this.#objects
  }

  documents: Capabilities['documents'] = (collection) => this.#given.documents(collection)
  connection: Capabilities['connection'] = (handle) => this.#given.connection(handle)
  secret: Capabilities['secret'] = (name) => this.#given.secret(name)

  reject = (reason: string, detail?: string): never => {
    throw new Rejection(reason, detail)
  }

  filter = (): never => {
    throw new Filtered()
  }

  get #given(): Capabilities {
    this.#capabilities ??= this.#capabilitiesOf(this.signal)
    return this.#capabilities
  }

  #remembering(objects: Objects): Objects {
    const put: string[] = []
    this.#put = put
    const remember = async <Stored extends { readonly sha256: string }>(storing: Promise<Stored>): Promise<Stored> => {
      const stored = await storing
      if (!put.includes(stored.sha256)) put.push(stored.sha256)
      return stored
    }
    return {
      put: (source) => remember(objects.put(source)),
      putFile: (path) => remember(objects.putFile(path)),
      open: (sha256) => objects.open(sha256),
      read: (sha256) => objects.read(sha256),
    }
  }
}
