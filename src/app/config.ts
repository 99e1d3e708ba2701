/**
 * The settings of a deployment, read once. This is the only reader of the environment.
 */
import { readFileSync, statSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { isAbsolute, resolve } from 'node:path'
import { z } from 'zod'
import { parseBrokers } from '../connectors/kafka/settings.ts'
import { parseSecrets, type Secrets } from '../connectors/secrets.ts'
import { type Fault, inOneLine, messageOf, SluiceError } from '../errors.ts'
import { parseDuration } from '../time.ts'
import { compileCacheEnvironment } from './own-process.ts'

export type Environment = Readonly<Record<string, string | undefined>>

export interface Config {
  readonly environment: 'dev' | 'test' | 'prod'
  /** The folder with `sluice.config.ts` and the definitions; absolute. */
  readonly projectDir: string
  /** State of this machine; absolute. */
  readonly home: string
  /** Always loopback, until there are users. */
  readonly host: '127.0.0.1'
  readonly port: number
  /** Undefined: the embedded PostgreSQL. */
  readonly databaseUrl: string | undefined
  /** `host:port,host:port`; undefined: topics lie in the database, unless there is a connection `kafka`. */
  readonly kafkaBrokers: string | undefined
  readonly logLevel: 'debug' | 'info' | 'warn' | 'error'
  readonly auth: 'none'
  readonly executor: 'local'
  /** Warm processes for attempts. */
  readonly runners: number
  /** Processes for stream shards. */
  readonly shardProcesses: number
  /** How long history is kept, in milliseconds. */
  readonly retentionMs: number
  /** How long a node may be silent before others take what it holds, in milliseconds. */
  readonly leaseMs: number
  readonly secrets: Secrets
  /** `SLUICE_CONNECTION_*` as they are, with those of the file; see `parseConnections`. */
  readonly connectionVariables: Readonly<Record<string, string>>
  /** Connections of `SLUICE_CONNECTIONS_FILE`; they win over the project's own. */
  readonly connectionsFile: Readonly<Record<string, unknown>>
  /** Where OpenLineage events go; undefined: nowhere. `secret` names the one that is sent as a bearer token. */
  readonly openLineage:
    | { readonly url: string; readonly namespace: string; readonly secret: string | undefined }
    | undefined
}

/** What a command line says; it wins over the environment. */
export interface Overrides {
  readonly projectDir?: string
  readonly home?: string
  readonly port?: string | number
}

const empty = (value: unknown) => (value === '' ? undefined : value)
const whole = (from: number, to: number) =>
  z
    .string()
    .regex(/^\d+$/, `a whole number from ${from} to ${to}`)
    .transform(Number)
    .refine((value) => value >= from && value <= to, `a whole number from ${from} to ${to}`)
const setting = <Type extends z.ZodType>(type: Type) => z.preprocess(empty, type)
const choice = <const Values extends readonly [string, ...string[]]>(...values: Values) =>
  z.enum(values, { error: `one of ${values.join(', ')}` })
const only = (value: string, others: string) =>
  z.literal(value, { error: `${value}; ${others} are not built yet` }).default(value)
const notBuilt = (what: string) =>
  setting(z.undefined({ error: `nothing: ${what} is not built yet, so leave it unset` }).optional())

const duration = (standard: string, range: string, fits: (ms: number) => boolean) =>
  z
    .string()
    .default(standard)
    .transform((text, context) => {
      try {
        const ms = parseDuration(text)
        if (fits(ms)) return ms
      } catch {
        // Told with what is allowed, below.
      }
      context.addIssue({ code: 'custom', message: `a duration ${range}, written as 90s, 12h or 30d` })
      return z.NEVER
    })

const openLineageForm = 'http://host:port/api/v1/lineage'
const databaseUrlForm = 'postgresql://user:password@host:port/database'

/** Every variable that Sluice reads, beside `SLUICE_SECRET_<NAME>` and `SLUICE_CONNECTION_<NAME>`. */
const settings = z.object({
  PORT: setting(whole(0, 65_535).default(8000)),
  SLUICE_HOME: setting(z.string().default('.sluice')),
  SLUICE_ENV: setting(choice('dev', 'test', 'prod').default('dev')),
  SLUICE_DATABASE_URL: setting(
    z
      .string()
      .regex(/^postgres(ql)?:\/\/./, databaseUrlForm)
      // A host that is empty is named by ?host=, a folder with a socket.
      .refine((text) => URL.canParse(text.replace('@/', '@localhost/')), databaseUrlForm)
      .optional(),
  ),
  SLUICE_LOG_LEVEL: setting(choice('debug', 'info', 'warn', 'error').default('info')),
  SLUICE_AUTH: setting(only('none', 'local and jwt')),
  SLUICE_EXECUTOR: setting(only('local', 'worker and kubernetes')),
  SLUICE_RUNNERS: setting(whole(1, 256).default(() => Math.min(availableParallelism(), 2))),
  SLUICE_SHARD_PROCESSES: setting(whole(1, 64).default(1)),
  SLUICE_RETENTION: setting(duration('30d', 'of at least 1h', (ms) => ms >= 3_600_000)),
  SLUICE_LEASE: setting(duration('10s', 'from 1s to 10m', (ms) => ms >= 1_000 && ms <= 600_000)),
  SLUICE_SECRETS_FILE: setting(z.string().optional()),
  SLUICE_CONNECTIONS_FILE: setting(z.string().optional()),
  SLUICE_OPENLINEAGE_URL: setting(
    z
      .string()
      .regex(/^https?:\/\/./, openLineageForm)
      .refine((text) => URL.canParse(text), openLineageForm)
      .optional(),
  ),
  SLUICE_OPENLINEAGE_NAMESPACE: setting(
    z
      .string()
      .regex(/^[\x21-\x7e]{1,200}$/, '1 to 200 printable ASCII characters without spaces')
      .default('sluice'),
  ),
  SLUICE_OPENLINEAGE_SECRET: setting(z.string().optional()),
  SLUICE_SECRET_KEY: notBuilt('the encryption of stored secrets'),
  SLUICE_KAFKA_BROKERS: setting(
    z
      .string()
      .refine((text) => brokersAreSound(text), 'host:port, several with commas between')
      .optional(),
  ),
  SLUICE_S3_URL: notBuilt('the S3 object store'),
  SLUICE_MONGODB_URL: notBuilt('MongoDB'),
})

function brokersAreSound(text: string): boolean {
  try {
    return parseBrokers(text).length > 0
  } catch {
    return false
  }
}

/** Values of these may carry a password, so no message shows them. */
const confidential = /URL|SECRET|BROKERS/

/**
 * @throws SluiceError CONFIGURATION with a fault per variable: its name, its value unless that may be secret, and what is
 * allowed.
 */
export function readConfig(environment: Environment = process.env, overrides: Overrides = {}): Config {
  const projectDir = resolve(overrides.projectDir ?? '.')
  const given = {
    ...environment,
    ...(overrides.home === undefined ? {} : { SLUICE_HOME: overrides.home }),
    ...(overrides.port === undefined ? {} : { PORT: String(overrides.port) }),
  }
  const parsed = settings.safeParse(given)
  if (!parsed.success) {
    const faults = faultsOf(parsed.error, given)
    throw new SluiceError('CONFIGURATION', inOneLine(faults), { faults })
  }
  const value = parsed.data
  return {
    environment: value.SLUICE_ENV,
    projectDir,
    home: resolve(projectDir, value.SLUICE_HOME),
    host: '127.0.0.1',
    port: value.PORT,
    databaseUrl: value.SLUICE_DATABASE_URL,
    kafkaBrokers: value.SLUICE_KAFKA_BROKERS,
    logLevel: value.SLUICE_LOG_LEVEL,
    auth: 'none',
    executor: 'local',
    runners: value.SLUICE_RUNNERS,
    shardProcesses: value.SLUICE_SHARD_PROCESSES,
    retentionMs: value.SLUICE_RETENTION,
    leaseMs: value.SLUICE_LEASE,
    secrets: parseSecrets(
      given,
      value.SLUICE_SECRETS_FILE && readPrivate('SLUICE_SECRETS_FILE', projectDir, value.SLUICE_SECRETS_FILE),
    ),
    connectionVariables: Object.fromEntries(
      Object.entries(given).filter(
        (entry): entry is [string, string] => entry[0].startsWith('SLUICE_CONNECTION_') && !!entry[1],
      ),
    ),
    connectionsFile:
      value.SLUICE_CONNECTIONS_FILE === undefined
        ? {}
        : readConnectionsFile(readPrivate('SLUICE_CONNECTIONS_FILE', projectDir, value.SLUICE_CONNECTIONS_FILE)),
    openLineage:
      value.SLUICE_OPENLINEAGE_URL === undefined
        ? undefined
        : {
            url: value.SLUICE_OPENLINEAGE_URL,
            namespace: value.SLUICE_OPENLINEAGE_NAMESPACE,
            secret: value.SLUICE_OPENLINEAGE_SECRET,
          },
  }
}

/**
 * The environment of a child process of ours, in which `readConfig` gives the same settings; without `database` and
 * `secrets` it has neither the platform's database URL nor any secret or connection, as for authors' code in a build.
 */
export function childEnvironment(
  config: Config,
  may: { readonly database: boolean; readonly secrets: boolean },
): Record<string, string> {
  return {
    ...plainEnvironment(),
    PORT: String(config.port),
    SLUICE_HOME: config.home,
    SLUICE_ENV: config.environment,
    SLUICE_LOG_LEVEL: config.logLevel,
    SLUICE_RUNNERS: String(config.runners),
    SLUICE_SHARD_PROCESSES: String(config.shardProcesses),
    SLUICE_RETENTION: `${config.retentionMs}ms`,
    SLUICE_LEASE: `${config.leaseMs}ms`,
    ...(may.database && config.databaseUrl !== undefined ? { SLUICE_DATABASE_URL: config.databaseUrl } : {}),
    ...(may.secrets ? { ...secretEnvironment(config), ...openLineageEnvironment(config) } : {}),
    ...(may.secrets && config.kafkaBrokers !== undefined ? { SLUICE_KAFKA_BROKERS: config.kafkaBrokers } : {}),
  }
}

/** What any program needs to run here, and nothing that says anything about the deployment. */
export function plainEnvironment(environment: Environment = process.env): Record<string, string> {
  return {
    ...minimalEnvironment(environment),
    ...pick(environment, ['NO_COLOR', 'FORCE_COLOR']),
    ...compileCacheEnvironment(),
  }
}

/** What a program of an author gets, beside what its action declares. */
export function minimalEnvironment(environment: Environment = process.env): Record<string, string> {
  return pick(environment, ['PATH', 'HOME', 'LANG', 'LC_ALL', 'TZ', 'TMPDIR'])
}

function pick(environment: Environment, names: readonly string[]): Record<string, string> {
  const found = names.flatMap((name) => (environment[name] === undefined ? [] : [[name, environment[name]] as const]))
  return Object.fromEntries(found)
}

/** Before authors' code runs in this process: what it must not read is taken out of the environment. */
export function forgetDeployment(environment: Record<string, string | undefined> = process.env): void {
  for (const name of Object.keys(environment))
    if (/^SLUICE_(DATABASE_URL|KAFKA|SECRET|CONNECTION|OPENLINEAGE)/.test(name)) delete environment[name]
}

function secretEnvironment(config: Config): Record<string, string> {
  const secrets = config.secrets.names.map((name) => [variable('SECRET', name), config.secrets.get(name).reveal()])
  const file = Object.entries(config.connectionsFile).map(([name, value]) => [
    variable('CONNECTION', name),
    JSON.stringify(value),
  ])
  return { ...Object.fromEntries(secrets), ...Object.fromEntries(file), ...config.connectionVariables }
}

function openLineageEnvironment({ openLineage }: Config): Record<string, string> {
  if (!openLineage) return {}
  const { url, namespace, secret } = openLineage
  return {
    SLUICE_OPENLINEAGE_URL: url,
    SLUICE_OPENLINEAGE_NAMESPACE: namespace,
    ...(secret === undefined ? {} : { SLUICE_OPENLINEAGE_SECRET: secret }),
  }
}

function variable(kind: 'SECRET' | 'CONNECTION', name: string): string {
  return `SLUICE_${kind}_${name.toUpperCase().replaceAll('-', '_')}`
}

function faultsOf(error: z.ZodError, given: Environment): Fault[] {
  return error.issues.map((issue) => {
    const name = String(issue.path[0])
    const shown = confidential.test(name) ? 'its value' : JSON.stringify(given[name])
    return { where: name, message: `${shown} is not allowed; allowed is ${issue.message}` }
  })
}

/** Read by the tests of Sluice itself; a developer may have set it for good. */
const ofTests: readonly string[] = ['SLUICE_TEST_DATABASE_URL', 'SLUICE_TEST_KAFKA_BROKERS']

/** Variables that look like ours and are none: mistyped, probably. */
export function unknownSettings(environment: Environment = process.env): string[] {
  const named = /^SLUICE_(SECRET|CONNECTION)_./
  return Object.keys(environment).filter(
    (name) => name.startsWith('SLUICE_') && !(name in settings.shape) && !named.test(name) && !ofTests.includes(name),
  )
}

/** The program in which this user edits texts, maybe with arguments. */
export function editorCommand(environment: Environment = process.env): string {
  return environment.VISUAL || environment.EDITOR || 'vi'
}

/** The names of all settings. */
export const settingNames: readonly string[] = Object.keys(settings.shape)

/** @throws SluiceError CONFIGURATION when the file cannot be read, or others than its owner can read it. */
function readPrivate(name: string, projectDir: string, path: string): string {
  const file = isAbsolute(path) ? path : resolve(projectDir, path)
  try {
    const { mode } = statSync(file)
    if ((mode & 0o077) !== 0) {
      const octal = (mode & 0o777).toString(8)
      throw new SluiceError(
        'CONFIGURATION',
        `${name}: ${file} can be read by others (mode ${octal}); run chmod 600 on it`,
      )
    }
    return readFileSync(file, 'utf8')
  } catch (thrown) {
    if (thrown instanceof SluiceError) throw thrown
    throw new SluiceError('CONFIGURATION', `${name}: ${messageOf(thrown)}`, { cause: thrown })
  }
}

function readConnectionsFile(text: string): Readonly<Record<string, unknown>> {
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch {
    // The parser's message quotes what it read, which may be a credential.
  }
  if (typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)) return parsed as Record<string, unknown>
  throw new SluiceError('CONFIGURATION', 'SLUICE_CONNECTIONS_FILE: it must be a JSON object of connections by name')
}
