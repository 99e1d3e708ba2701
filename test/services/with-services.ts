/**
 * Runs a command beside servers of this machine: `node test/services/with-services.ts kafka postgres -- vitest run src`. Each
 * lives in a temporary folder and is stopped by its process id when the command ends; the log of a server stays when the
 * command fails. The command finds PostgreSQL as SLUICE_TEST_DATABASE_URL, Kafka as SLUICE_TEST_KAFKA_BROKERS.
 * Without a command: says what there is. Exit codes: those of the command; 2 for wrong usage; 3 when a server is missing.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFile } from 'node:fs/promises'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { findKafka, findPostgres, isMissing, type Missing } from './found.ts'
import { Broker } from './kafka.ts'
import { startPostgres } from './postgres.ts'

interface Started {
  readonly environment: Readonly<Record<string, string>>
  stop(failed: boolean): Promise<void>
}

interface Service {
  readonly version: string
  start(): Promise<Started>
}

const services: Readonly<Record<string, () => Service | Missing>> = {
  postgres() {
    const found = findPostgres()
    if (isMissing(found)) return found
    const start = async () => {
      const server = await startPostgres(found)
      return { environment: { SLUICE_TEST_DATABASE_URL: server.url }, stop: () => server.stop() }
    }
    return { version: `${found.version}, ${found.bin}`, start }
  },
  kafka() {
    const found = findKafka()
    if (isMissing(found)) return found
    const start = async () => {
      const broker = await Broker.start(found)
      return {
        environment: { SLUICE_TEST_KAFKA_BROKERS: broker.brokers },
        async stop(failed: boolean) {
          await broker.stop()
          if (failed) {
            const kept = join(tmpdir(), `sluice-kafka-${process.pid}.log`)
            await copyFile(broker.log, kept)
            console.error(`The log of Kafka: ${kept}`)
          }
          await broker.remove()
        },
      }
    }
    return { version: `Apache Kafka ${found.version}, ${found.jars}`, start }
  },
}

async function run(command: readonly string[], environment: Readonly<Record<string, string>>): Promise<number> {
  const [program, ...args] = command
  const child = spawn(program!, args, { stdio: 'inherit', env: { ...process.env, ...environment } })
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal))
  const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null]
  return code ?? 128 + constants.signals[signal!]
}

async function main(args: readonly string[]): Promise<number> {
  const end = args.indexOf('--')
  const names = end < 0 ? args : args.slice(0, end)
  const command = end < 0 ? [] : args.slice(end + 1)
  const unknown = names.find((name) => !(name in services))
  if (unknown !== undefined || names.length === 0) {
    console.error(`There is no service ${unknown ?? ''}; choose among ${Object.keys(services).join(', ')}`)
    return 2
  }
  const found = names.map((name) => services[name]!())
  for (const [index, service] of found.entries())
    console.error(isMissing(service) ? `${names[index]}: ${service.missing}` : service.version)
  if (found.some(isMissing)) return 3
  if (command.length === 0) return 0

  const started: Started[] = []
  let code = 1
  try {
    for (const service of found as Service[]) started.push(await service.start())
    code = await run(command, Object.assign({}, ...started.map(({ environment }) => environment)))
    return code
  } finally {
    for (const server of started.reverse()) await server.stop(code !== 0)
  }
}

process.exitCode = await main(process.argv.slice(2))
