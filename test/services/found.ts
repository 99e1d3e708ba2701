/** Which programs of services there are on this machine, and why others are not to be had. */
import { execFileSync } from 'node:child_process'
import { existsSync, globSync, readdirSync } from 'node:fs'
import { delimiter, join } from 'node:path'

export interface Missing {
  /** What is not there, and how to get it. */
  readonly missing: string
}

export const isMissing = (found: object): found is Missing => 'missing' in found

const onPath = (program: string): string | undefined =>
  (process.env.PATH ?? '')
    .split(delimiter)
    .map((folder) => join(folder, program))
    .find((path) => existsSync(path))

const said = (program: string, args: readonly string[]) =>
  execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })

export interface FoundPostgres {
  /** The folder of `initdb` and `postgres`. */
  readonly bin: string
  readonly version: string
}

/** On the PATH, else the newest where Debian puts them; never the one that npm brings. */
export function findPostgres(): FoundPostgres | Missing {
  const debian = globSync('/usr/lib/postgresql/*/bin').sort((a, b) => Number(b.split('/')[4]) - Number(a.split('/')[4]))
  const folders = [...(process.env.PATH ?? '').split(delimiter), ...debian]
  const bin = folders.find((folder) => existsSync(join(folder, 'initdb')) && existsSync(join(folder, 'postgres')))
  if (bin === undefined)
    return { missing: 'there is no PostgreSQL server on this machine (on Debian: apt-get install postgresql-15)' }
  return { bin, version: said(join(bin, 'postgres'), ['--version']).trim() }
}

export function findRedis(): { readonly program: string; readonly version: string } | Missing {
  const program = onPath('redis-server')
  if (program === undefined)
    return { missing: 'there is no Redis server on this machine (on Debian: apt-get install redis-server)' }
  return { program, version: said(program, ['--version']).trim() }
}

/** Beside the sources and ignored by git: what `make services` fetched. */
export const kafkaFolder = join(import.meta.dirname, '../../.services/kafka')

export interface FoundKafka {
  readonly java: string
  /** The folder of its jars, complete. */
  readonly jars: string
  readonly version: string
}

const oldestJava = 17

/** Why this machine runs no broker, whatever is fetched. */
export function findJava(): { readonly java: string } | Missing {
  const java = process.env.JAVA_HOME ? join(process.env.JAVA_HOME, 'bin/java') : onPath('java')
  if (java === undefined || !existsSync(java))
    return {
      missing: `there is no Java on this machine; Kafka needs ${oldestJava} or newer (on Debian: apt-get install openjdk-17-jre-headless)`,
    }
  // It says its version on the error stream; -version exists in all, --version since 9.
  const text = said(java, ['--version'])
  const version = Number(/\b(\d+)[.\s]/.exec(text)?.[1])
  if (!(version >= oldestJava)) return { missing: `Java here is ${version}; Kafka needs ${oldestJava} or newer` }
  return { java }
}

export function findKafka(): FoundKafka | Missing {
  const found = findJava()
  if (isMissing(found)) return found
  const server = existsSync(kafkaFolder)
    ? readdirSync(kafkaFolder).find((name) => /^kafka-server-\d[\d.]*\.jar$/.test(name))
    : undefined
  if (server === undefined) return { missing: 'its jars are not here: run `make services`' }
  return { ...found, jars: kafkaFolder, version: server.slice('kafka-server-'.length, -'.jar'.length) }
}
