/**
 * Several steps in one round trip: what the extended query protocol does with everything before one Sync is one transaction,
 * so nothing is asked of the server but the steps themselves. (Measured: a group of BEGIN, three statements, COPY and COMMIT
 * costs six waits for an answer, and as many times the parsing of one.)
 *
 * 1. All is written at once, the rows of a COPY too: the server takes them up when it comes to it, and passes over everything
 *    up to the Sync when a step failed.
 * 2. A statement is prepared once per connection under its name, and counts as prepared when the server has said so.
 */
import type { Client } from 'pg'
import type { PipelineStep } from '../ports/database.ts'

/** What the driver's connection offers to those who speak the protocol by themselves, as its own cursors do. */
interface Wire {
  readonly stream: { cork(): void; uncork(): void }
  readonly parsedStatements: Record<string, string>
  parse(message: { readonly name: string; readonly text: string }): void
  bind(message: { readonly statement: string; readonly values: readonly (string | null)[] }): void
  execute(message: object): void
  sync(): void
  sendCopyFromChunk(chunk: Buffer): void
  endCopyFrom(): void
  on(event: 'parseComplete', listener: () => void): void
  removeListener(event: 'parseComplete', listener: () => void): void
}

/** Resolves when all steps are committed; rejects with the error of the step that failed, when none is. */
export function runPipeline(client: Client, steps: readonly PipelineStep[]): Promise<void> {
  return new Promise((resolve, reject) => {
    client.query(new Pipeline(steps, (error) => (error === undefined ? resolve() : reject(error))) as never)
  })
}

class Pipeline {
  readonly #steps: readonly PipelineStep[]
  readonly #end: (error?: Error) => void
  /** Sent to be prepared, in their order. */
  readonly #preparing: { readonly name: string; readonly text: string }[] = []
  #silence: () => void = () => {}

  constructor(steps: readonly PipelineStep[], end: (error?: Error) => void) {
    this.#steps = steps
    this.#end = end
  }

  submit(wire: Wire): null {
    const sent = new Set<string>()
    let prepared = 0
    const onPrepared = () => {
      const { name, text } = this.#preparing[prepared]!
      prepared += 1
      if (name !== '') wire.parsedStatements[name] = text
    }
    wire.on('parseComplete', onPrepared)
    this.#silence = () => wire.removeListener('parseComplete', onPrepared)
    wire.stream.cork()
    for (const step of this.#steps) {
      const { name, text } = 'copy' in step ? { name: '', text: step.copy } : step.statement
      if (name === '' || (wire.parsedStatements[name] !== text && !sent.has(name))) {
        sent.add(name)
        this.#preparing.push({ name, text })
        wire.parse({ name, text })
      }
      wire.bind({ statement: name, values: 'copy' in step ? [] : step.values })
      wire.execute({})
      if ('copy' in step) {
        wire.sendCopyFromChunk(Buffer.from(step.rows))
        wire.endCopyFrom()
      }
    }
    wire.sync()
    wire.stream.uncork()
    return null
  }

  handleReadyForQuery(): void {
    this.#silence()
    this.#end()
  }

  handleError(error: Error): void {
    this.#silence()
    this.#end(error)
  }

  // What the steps answer is of no interest: they either did what they say, or failed.
  handleCommandComplete(): void {}
  handleRowDescription(): void {}
  handleDataRow(): void {}
  handleEmptyQuery(): void {}
  handlePortalSuspended(): void {}
  handleCopyInResponse(): void {}
  handleCopyData(): void {}
}
