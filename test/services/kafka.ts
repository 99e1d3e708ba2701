/**
 * One broker of Apache Kafka (KRaft: broker and controller in one process) on free ports of 127.0.0.1, its data in a folder.
 * It may be stopped, killed and started again on the same data and ports.
 *
 * Four listeners: plain, TLS, SASL, and SASL over TLS (the last three with the users and the certificate given). The
 * broker ends when the process that started it does, however that ends: a shell beside it waits for the end of a pipe.
 */

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createWriteStream, existsSync, openSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { Admin } from '@platformatic/kafka'
import { freePorts } from '../loopback.ts'
import type { FoundKafka } from './found.ts'

export interface BrokerOptions {
  /** PEM texts; without them there are no TLS listeners. */
  readonly tls?: { readonly key: string; readonly certificate: string }
  /** Name to password; known to PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512. Without them there are no SASL listeners. */
  readonly users?: Readonly<Record<string, string>>
  /** Of Java; default 512m. */
  readonly heap?: string
  /** More of server.properties. */
  readonly properties?: Readonly<Record<string, string>>
}

type Listener = 'plain' | 'tls' | 'sasl' | 'sasl-tls'

const protocols = { plain: 'PLAINTEXT', tls: 'SSL', sasl: 'SASL_PLAINTEXT', 'sasl-tls': 'SASL_SSL' } as const

/** Measured on two quiet cores: 4 s. */
const startMs = 120_000

export class Broker {
  readonly #kafka: FoundKafka
  readonly #heap: string
  readonly folder: string
  /** host:port of each listener that there is. */
  readonly listeners: Readonly<Partial<Record<Listener, string>>>
  #server: ChildProcess | undefined

  private constructor(kafka: FoundKafka, folder: string, heap: string, listeners: Broker['listeners']) {
    this.#kafka = kafka
    this.#heap = heap
    this.folder = folder
    this.listeners = listeners
  }

  /** A new broker in a new folder, which answers. */
  static async start(kafka: FoundKafka, options: BrokerOptions = {}): Promise<Broker> {
    const folder = await mkdtemp(join(tmpdir(), 'sluice-kafka-'))
    try {
      const wanted: Listener[] = ['plain']
      if (options.tls) wanted.push('tls')
      if (options.users) wanted.push('sasl')
      if (options.tls && options.users) wanted.push('sasl-tls')
      const ports = await freePorts(wanted.length + 1)
      const listeners = Object.fromEntries(wanted.map((name, index) => [name, `127.0.0.1:${ports[index]}`]))
      const broker = new Broker(kafka, folder, options.heap ?? '512m', listeners)
      await broker.#format(options, ports.at(-1)!)
      await broker.start()
      return broker
    } catch (thrown) {
      await rm(folder, { recursive: true, force: true })
      throw thrown
    }
  }

  /** host:port of the plain listener. */
  get brokers(): string {
    return this.listeners.plain!
  }

  get log(): string {
    return join(this.folder, 'broker.log')
  }

  async #format({ tls, users, properties }: BrokerOptions, controller: number): Promise<void> {
    const data = join(this.folder, 'data')
    await mkdir(data)
    const named = Object.entries(this.listeners) as [Listener, string][]
    const listeners = named.map(([name, at]) => `${protocols[name]}://${at}`)
    const plain = Object.entries(users ?? {}).map(([name, password]) => `user_${name}="${password}"`)
    const module = 'org.apache.kafka.common.security'
    const pem = join(this.folder, 'server.pem')
    if (tls) await writeFile(pem, `${tls.key.trim()}\n${tls.certificate.trim()}\n`)
    const settings = {
      'process.roles': 'broker,controller',
      'node.id': '1',
      'controller.quorum.voters': `1@127.0.0.1:${controller}`,
      'controller.listener.names': 'CONTROLLER',
      listeners: [...listeners, `CONTROLLER://127.0.0.1:${controller}`].join(','),
      'advertised.listeners': listeners.join(','),
      'listener.security.protocol.map': [...Object.values(protocols), 'CONTROLLER']
        .map((name) => `${name}:${name === 'CONTROLLER' ? 'PLAINTEXT' : name}`)
        .join(','),
      'log.dirs': data,
      'auto.create.topics.enable': 'false',
      'offsets.topic.num.partitions': '2',
      'offsets.topic.replication.factor': '1',
      'transaction.state.log.num.partitions': '2',
      'transaction.state.log.replication.factor': '1',
      'transaction.state.log.min.isr': '1',
      'group.initial.rebalance.delay.ms': '0',
      'log.cleaner.backoff.ms': '200',
      'log.initial.task.delay.ms': '500',
      'log.retention.check.interval.ms': '500',
      ...(tls ? { 'ssl.keystore.type': 'PEM', 'ssl.keystore.location': pem } : {}),
      ...(users
        ? {
            'sasl.enabled.mechanisms': 'PLAIN,SCRAM-SHA-256,SCRAM-SHA-512',
            ...Object.fromEntries(
              ['sasl_plaintext', 'sasl_ssl'].flatMap((listener) => [
                [
                  `listener.name.${listener}.plain.sasl.jaas.config`,
                  `${module}.plain.PlainLoginModule required ${plain.join(' ')};`,
                ],
                ...['256', '512'].map((bits) => [
                  `listener.name.${listener}.scram-sha-${bits}.sasl.jaas.config`,
                  `${module}.scram.ScramLoginModule required;`,
                ]),
              ]),
            ),
          }
        : {}),
      ...properties,
    }
    const file = join(this.folder, 'server.properties')
    await writeFile(
      file,
      Object.entries(settings)
        .map(([name, value]) => `${name}=${value}\n`)
        .join(''),
    )
    const scram = Object.entries(users ?? {}).flatMap(([name, password]) =>
      ['256', '512'].flatMap((bits) => ['--add-scram', `SCRAM-SHA-${bits}=[name=${name},password=${password}]`]),
    )
    const cluster = randomBytes(16).toString('base64url')
    // With `=`: one id in 64 begins with a dash, and would be taken for an option.
    const tool = ['kafka.tools.StorageTool', 'format', `--cluster-id=${cluster}`, '--config', file, ...scram]
    await promisify(execFile)(this.#kafka.java, [...this.#flags(), ...tool])
  }

  #flags(): string[] {
    return [
      ...['-Xms128m', `-Xmx${this.#heap}`, '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-Djava.awt.headless=true'],
      `-Dlog4j2.configurationFile=${join(import.meta.dirname, 'log4j2.properties')}`,
      ...['-cp', join(this.#kafka.jars, '*')],
    ]
  }

  /** Again, on the same data and ports. Resolves when it answers. */
  async start(): Promise<void> {
    const main = ['kafka.Kafka', join(this.folder, 'server.properties')]
    // The shell becomes the broker; its child waits for the end of descriptor 3, which is ours.
    const script = '(read -r _ <&3; kill -9 $$) 3<&3 >/dev/null 2>&1 & exec 3<&-; exec "$@"'
    const server = spawn('sh', ['-c', script, 'sh', this.#kafka.java, ...this.#flags(), ...main], {
      cwd: this.folder,
      stdio: ['ignore', 'pipe', openSync(this.log, 'a'), 'pipe'],
      detached: true,
    })
    this.#server = server
    const log = createWriteStream(this.log, { flags: 'a' })
    const lines = createInterface(server.stdout!)
    const ready = new Promise<void>((resolve, reject) => {
      lines.on('line', (line) => {
        log.write(`${line}\n`)
        if (line.includes('Kafka Server started')) resolve()
      })
      server.once('exit', (code, signal) => reject(new Error(`it ended with ${code ?? signal}`)))
      setTimeout(() => reject(new Error(`it did not start within ${startMs} ms`)), startMs).unref()
    })
    try {
      await ready
      await this.#answers()
    } catch (thrown) {
      await this.kill()
      const said = existsSync(this.log) ? await readFile(this.log, 'utf8') : ''
      throw new Error(`Kafka did not start: ${thrown}\n${said.slice(-4_000)}`)
    }
  }

  async #answers(): Promise<void> {
    const admin = new Admin({ clientId: 'sluice-test', bootstrapBrokers: [this.brokers], retries: 0 })
    try {
      for (const deadline = performance.now() + startMs; ; await delay(50)) {
        try {
          await admin.metadata({ topics: [] })
          return
        } catch (thrown) {
          if (performance.now() > deadline) throw thrown
        }
      }
    } finally {
      await admin.close()
    }
  }

  /** In order. */
  stop(): Promise<void> {
    return this.#end('SIGTERM')
  }

  /** As a crash of its machine but for the files: what it had written is there. */
  kill(): Promise<void> {
    return this.#end('SIGKILL')
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const server = this.#server
    this.#server = undefined
    if (server === undefined) return
    if (server.exitCode === null && server.signalCode === null) {
      const ended = once(server, 'exit')
      server.kill(signal)
      const stuck = setTimeout(() => server.kill('SIGKILL'), 30_000)
      await ended
      clearTimeout(stuck)
    }
    // The shell that waits for the end of this pipe ends, too.
    const pipe = server.stdio[3]
    if (pipe && 'destroy' in pipe) pipe.destroy()
  }

  /** Stops it and removes its folder. */
  async remove(): Promise<void> {
    await this.kill()
    await rm(this.folder, { recursive: true, force: true })
  }
}
