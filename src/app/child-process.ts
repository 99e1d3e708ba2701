/** The life of a process under the supervisor: it waits for its orders, tells when it is ready, and stops when told. */
import { messageOf } from '../errors.ts'
import { type Config, forgetDeployment, readConfig } from './config.ts'

export interface Orders {
  readonly databaseUrl: string
  /** The folder of the version that takes new work. */
  readonly version: string
  readonly project: { readonly connections: Readonly<Record<string, unknown>> }
}

export type ToChild = ({ readonly t: 'go' } & Orders) | { readonly t: 'stop' }
export type FromChild =
  | { readonly t: 'ready'; readonly url?: string }
  | { readonly t: 'failed'; readonly code: string; readonly message: string }

export interface Started {
  /** Where it is reached, when it serves. */
  readonly url?: string
  /** @param hurry what is under way is not waited for: it goes on elsewhere, from what is committed. */
  stop(hurry: boolean): Promise<void>
}

/** How long a process may take to stop before it ends itself; and when its supervisor is gone. */
const stopMs = 20_000
const hurryMs = 5_000

export function runChild(
  start: (orders: Orders, config: Config, note: (line: string) => void) => Promise<Started>,
): void {
  const config = readConfig()
  forgetDeployment()
  const tell = (message: FromChild, told: () => void = () => {}) => process.send?.(message, undefined, undefined, told)
  const note = (line: string) => process.stderr.write(`${line}\n`)
  let started: Promise<Started> | undefined
  let stopping = false

  const stop = async (hurry: boolean) => {
    if (hurry) setTimeout(() => process.exit(1), hurryMs).unref()
    if (stopping) return
    stopping = true
    setTimeout(() => process.exit(1), stopMs).unref()
    await started?.then((running) => running.stop(hurry)).catch((error) => note(`stopping: ${messageOf(error)}`))
    process.exit(0)
  }
  process.on('message', (message: ToChild) => {
    if (message.t === 'stop') return void stop(false)
    started = start(message, config, note)
    started.then(
      ({ url }) => tell(url === undefined ? { t: 'ready' } : { t: 'ready', url }),
      (error) => {
        const code = (error as { code?: string }).code ?? 'INTERNAL'
        tell({ t: 'failed', code, message: messageOf(error) }, () => process.exit(1))
      },
    )
  })
  // The supervisor is gone: nobody would start the others again or stop the server. What work needs may be gone with it,
  // such as the origin of a demo, so nothing is tried any longer.
  process.on('disconnect', () => void stop(true))
  process.on('SIGTERM', () => void stop(false))
  // Ctrl-C reaches the whole process group; the supervisor decides the order of stopping.
  process.on('SIGINT', () => {})
}
