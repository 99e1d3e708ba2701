/**
 * `make services`: fetches what is to be fetched and says which servers the tests will find. A service is whole or not
 * there: the jars of Kafka are copied beside their folder and take its name at the end. Nothing is started here: servers
 * are started by who needs one (`with-services.ts`, the tests), in a temporary folder, and stopped by their process id.
 *
 * Exit code 0; 3 when one is missing and REQUIRE_SERVICES=1 is set.
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { messageOf } from '../../src/errors.ts'
import { findJava, findKafka, findPostgres, findRedis, isMissing, kafkaFolder, type Missing } from './found.ts'

const pom = join(import.meta.dirname, 'pom.xml')

/** Fetched again when the list of jars changes. */
async function fetchKafka(): Promise<Missing | undefined> {
  const java = findJava()
  if (isMissing(java)) return java
  const wanted = createHash('sha256')
    .update(await readFile(pom))
    .digest('hex')
  const mark = join(kafkaFolder, 'pom.sha256')
  if (existsSync(mark) && (await readFile(mark, 'utf8')) === wanted) return undefined
  const part = `${kafkaFolder}.${process.pid}`
  await mkdir(dirname(part), { recursive: true })
  try {
    const goal = ['dependency:copy-dependencies', `-DoutputDirectory=${part}`, '-DincludeScope=runtime']
    const waits = ['-Dmaven.wagon.http.connectionTimeout=20000', '-Daether.connector.connectTimeout=20000']
    execFileSync('mvn', ['--batch-mode', '--quiet', '--file', pom, ...waits, ...goal], {
      stdio: ['ignore', 'pipe', 'pipe'],
      encoding: 'utf8',
      timeout: 600_000,
    })
    await writeFile(join(part, 'pom.sha256'), wanted)
    await rm(kafkaFolder, { recursive: true, force: true })
    await rename(part, kafkaFolder)
    return undefined
  } catch (thrown) {
    return { missing: whyNot(thrown) }
  } finally {
    await rm(part, { recursive: true, force: true })
    for (const name of await readdir(dirname(part))) {
      // Of one that was killed meanwhile; its process id is free by now.
      const pid = /^kafka\.(\d+)$/.exec(name)?.[1]
      if (pid !== undefined && !existsSync(`/proc/${pid}`)) await rm(join(dirname(part), name), { recursive: true })
    }
  }
}

function whyNot(thrown: unknown): string {
  if (thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT')
    return 'there is no Maven on this machine to fetch it with (on Debian: apt-get install maven)'
  const said = thrown instanceof Error && 'stdout' in thrown ? `${thrown.stdout}` : messageOf(thrown)
  const line = said.split('\n').find((text) => text.includes('ERROR')) ?? said.split('\n')[0]
  return `its jars could not be fetched from Maven Central: ${line?.slice(0, 500)}`
}

async function main(): Promise<number> {
  const kafkaFault = await fetchKafka()
  const kafka = kafkaFault ?? findKafka()
  const postgres = findPostgres()
  const redis = findRedis()
  const lines: [string, Missing | { readonly version: string }][] = [
    ['Apache Kafka', isMissing(kafka) ? kafka : { version: `${kafka.version}, ${kafka.jars}` }],
    ['PostgreSQL', isMissing(postgres) ? postgres : { version: `${postgres.version}, ${postgres.bin}` }],
    ['Redis', isMissing(redis) ? redis : { version: `${redis.version}, ${redis.program}` }],
  ]
  for (const [name, found] of lines) {
    const unused = name === 'Redis' ? ' (nothing uses it yet)' : ''
    console.log(`${name}: ${isMissing(found) ? `not to be had, ${found.missing}` : found.version}${unused}`)
  }
  // Redis is looked for only: a machine without it misses nothing.
  const missing = lines.filter(([name, found]) => name !== 'Redis' && isMissing(found)).map(([name]) => name)
  if (missing.length === 0 || process.env.REQUIRE_SERVICES !== '1') return 0
  console.error(`REQUIRE_SERVICES=1: ${missing.join(' and ')} must be there`)
  return 3
}

process.exitCode = await main()
