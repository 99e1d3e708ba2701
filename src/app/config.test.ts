import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { childEnvironment, forgetDeployment, plainEnvironment, readConfig, unknownSettings } from './config.ts'

const folder = mkdtempSync(join(tmpdir(), 'sluice-config-'))
afterAll(() => rmSync(folder, { recursive: true }))

function file(name: string, text: string, mode: number): string {
  writeFileSync(join(folder, name), text)
  chmodSync(join(folder, name), mode)
  return join(folder, name)
}

describe('readConfig', () => {
  it('has defaults for everything, and takes an empty variable as not set', () => {
    const config = readConfig({ PORT: '', SLUICE_DATABASE_URL: '', SLUICE_KAFKA_BROKERS: '' }, { projectDir: '/srv/p' })
    expect(config).toMatchObject({
      environment: 'dev',
      projectDir: '/srv/p',
      home: '/srv/p/.sluice',
      host: '127.0.0.1',
      port: 8000,
      databaseUrl: undefined,
      logLevel: 'info',
      auth: 'none',
      executor: 'local',
      shardProcesses: 1,
      retentionMs: 30 * 86_400_000,
      leaseMs: 10_000,
    })
    expect(config.runners).toBeGreaterThanOrEqual(1)
    expect(config.runners).toBeLessThanOrEqual(2)
  })

  it('reads every variable, and the command line wins', () => {
    const environment = {
      PORT: '9000',
      SLUICE_HOME: '/var/a',
      SLUICE_ENV: 'prod',
      SLUICE_RETENTION: '1y',
      SLUICE_RUNNERS: '4',
    }
    expect(readConfig(environment)).toMatchObject({ port: 9000, home: '/var/a', environment: 'prod', runners: 4 })
    const overrides = { projectDir: '/srv/p', home: 'data', port: 1 }
    expect(readConfig(environment, overrides)).toMatchObject({
      port: 1,
      home: '/srv/p/data',
      retentionMs: 31_536_000_000,
    })
  })

  it.each([
    [{ PORT: '65536' }, 'PORT: "65536" is not allowed; allowed is a whole number from 0 to 65535'],
    [{ PORT: 'http' }, 'PORT: "http" is not allowed; allowed is a whole number from 0 to 65535'],
    [{ SLUICE_ENV: 'staging' }, 'SLUICE_ENV: "staging" is not allowed; allowed is one of dev, test, prod'],
    [
      { SLUICE_RETENTION: 'long' },
      'SLUICE_RETENTION: "long" is not allowed; allowed is a duration of at least 1h, written as 90s',
    ],
    [{ SLUICE_RETENTION: '5s' }, 'SLUICE_RETENTION: "5s" is not allowed; allowed is a duration of at least 1h'],
    [{ SLUICE_LEASE: '20ms' }, 'SLUICE_LEASE: "20ms" is not allowed; allowed is a duration from 1s to 10m'],
    [{ SLUICE_AUTH: 'jwt' }, 'SLUICE_AUTH: "jwt" is not allowed; allowed is none; local and jwt are not built yet'],
    [{ SLUICE_EXECUTOR: 'worker' }, 'allowed is local; worker and kubernetes are not built yet'],
    [
      { SLUICE_S3_URL: 'http://x' },
      'SLUICE_S3_URL: its value is not allowed; allowed is nothing: the S3 object store is not built yet',
    ],
    [{ SLUICE_SECRETS_FILE: '/nowhere/at/all' }, 'SLUICE_SECRETS_FILE: ENOENT'],
    [
      { SLUICE_OPENLINEAGE_URL: 'ftp://u:hunter2@x' },
      'SLUICE_OPENLINEAGE_URL: its value is not allowed; allowed is http://host:port/api/v1/lineage',
    ],
    [{ SLUICE_OPENLINEAGE_NAMESPACE: 'a b' }, '"a b" is not allowed; allowed is 1 to 200 printable ASCII characters'],
  ])('refuses %o', (environment, message) => {
    expect(() => readConfig(environment)).toThrow(message)
  })

  it('says all that is wrong at once, and shows no value that may be secret', () => {
    const environment = { PORT: 'x', SLUICE_DATABASE_URL: 'mysql://root:hunter2@db' }
    expect(() => readConfig(environment)).toThrow(/PORT: .*; SLUICE_DATABASE_URL: .*postgresql:/)
    const port = { SLUICE_DATABASE_URL: 'postgresql://u:hunter2@db:port/d' }
    expect(() => readConfig(port)).toThrow(/^SLUICE_DATABASE_URL: its value is not allowed/)
    const socket = { SLUICE_DATABASE_URL: 'postgresql://u@/d?host=/run/postgresql' }
    expect(readConfig(socket).databaseUrl).toBe(socket.SLUICE_DATABASE_URL)
    expect(() => readConfig(environment)).not.toThrow('hunter2')
  })

  it('reads secrets and connections from files that only their owner can read', () => {
    const SLUICE_SECRETS_FILE = file('secrets', 'token = abc\n', 0o600)
    const SLUICE_CONNECTIONS_FILE = file('connections.json', '{"web":{"kind":"fetch"}}', 0o600)
    const config = readConfig({ SLUICE_SECRETS_FILE, SLUICE_CONNECTIONS_FILE, SLUICE_SECRET_OTHER: 'def' })
    expect(config.secrets.names).toEqual(['other', 'token'])
    expect(config.connectionsFile).toEqual({ web: { kind: 'fetch' } })
    expect(JSON.stringify(config)).not.toMatch(/abc|def/)
    expect(() => readConfig({ SLUICE_SECRETS_FILE: file('open', 'token=abc', 0o644) })).toThrow('mode 644')
    expect(() => readConfig({ SLUICE_CONNECTIONS_FILE: file('list', '["hunter2"', 0o600) })).toThrow(
      'must be a JSON object',
    )
  })
})

describe('childEnvironment', () => {
  const config = readConfig({
    SLUICE_DATABASE_URL: 'postgresql://a@b/c',
    SLUICE_SECRET_API_TOKEN: 'abc',
    SLUICE_CONNECTION_WEB: '{"kind":"fetch"}',
    SLUICE_RETENTION: '90d',
    SLUICE_OPENLINEAGE_URL: 'http://lineage:5000/api/v1/lineage',
    SLUICE_OPENLINEAGE_SECRET: 'api-token',
    PORT: '9999',
  })

  it('gives a child the same settings', () => {
    const child = readConfig(childEnvironment(config, { database: true, secrets: true }), {
      projectDir: config.projectDir,
    })
    expect(child).toMatchObject({ ...config, secrets: { names: ['api-token'] } })
    expect(child.secrets.get('api-token').reveal()).toBe('abc')
  })

  it('keeps database and secrets back unless the child may have them', () => {
    const text = JSON.stringify(childEnvironment(config, { database: false, secrets: false }))
    expect(text).not.toMatch(/abc|postgresql|CONNECTION|OPENLINEAGE/)
    const environment = { PATH: '/bin', SLUICE_SECRET_A: 'abc', AWS_SECRET_ACCESS_KEY: 'x' }
    expect(plainEnvironment(environment)).not.toHaveProperty('AWS_SECRET_ACCESS_KEY')
  })

  it('forgets what authors must not read', () => {
    const environment = {
      PATH: '/bin',
      SLUICE_SECRET_A: 'a',
      SLUICE_CONNECTION_B: 'b',
      SLUICE_DATABASE_URL: 'c',
      SLUICE_OPENLINEAGE_URL: 'd',
      PORT: '1',
    }
    forgetDeployment(environment)
    expect(environment).toEqual({ PATH: '/bin', PORT: '1' })
  })

  it('knows mistyped settings', () => {
    expect(unknownSettings({ SLUICE_TEST_DATABASE_URL: 'x' })).toEqual([])
    expect(unknownSettings({ SLUICE_DATABSE_URL: 'x', SLUICE_HOME: 'y', SLUICE_SECRET_A: 'z', HOME: '/' })).toEqual([
      'SLUICE_DATABSE_URL',
    ])
  })
})
