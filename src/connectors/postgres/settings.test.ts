import { describe, expect, it } from 'vitest'
import { postgresSettings, withLogin } from './settings.ts'

const faultsOf = (settings: object): string[] => {
  const judged = postgresSettings.safeParse({ kind: 'postgres', url: 'postgresql://a@b/c', ...settings })
  return judged.success ? [] : judged.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`)
}

describe('settings of a connection of kind postgres', () => {
  it('have defaults', () => {
    expect(postgresSettings.parse({ kind: 'postgres', url: 'postgresql://a@b/c' })).toEqual({
      ...{ kind: 'postgres', url: 'postgresql://a@b/c', pool: 4 },
      ...{ statementTimeout: '60s', connectTimeout: '10s', maxRows: 100_000 },
    })
  })

  it.each([
    ['postgresql://user:p%40ss@host:5433/db?sslmode=verify-full'],
    ['postgres://host/db'],
    ['postgresql://user@/db?host=/run/postgres'],
    ['postgresql://user@[::1]:5432/db'],
  ])('take %s', (url) => expect(faultsOf({ url })).toEqual([]))

  it.each([
    [{ url: 'mysql://a@b/c' }, /^url: postgresql:\/\/user@host:port\/database/],
    [{ url: 'postgresql://' }, /^url: /],
    [{ url: '' }, /^url: /],
    [{ password: '' }, /^password: /],
    [{ pool: 0 }, /^pool: /],
    [{ pool: 51 }, /^pool: /],
    [{ statementTimeout: 'soon' }, /^statementTimeout: a duration from 1ms to 1h, such as 60s/],
    [{ statementTimeout: '2h' }, /^statementTimeout: /],
    [{ maxRows: 0 }, /^maxRows: /],
    [{ ssl: 'yes' }, /^ssl: /],
    [{ host: 'b' }, /Unrecognized key: "host"/],
  ])('refuse %j', (settings, message) => expect(faultsOf(settings)).toEqual([expect.stringMatching(message)]))
})

describe('another login in a URL', () => {
  it.each([
    ['postgresql://a:b@host:1/db', 'role', 'p@:/?#', 'postgresql://role:p%40%3A%2F%3F%23@host:1/db'],
    ['postgresql://host/db', 'role', 'x', 'postgresql://role:x@host/db'],
    [
      'postgresql://a:b@host/db?user=c&password=d&sslmode=verify-full',
      'role',
      'x',
      'postgresql://role:x@host/db?sslmode=verify-full',
    ],
    ['postgresql://sluice@/sluice?host=%2Ftmp%2Fx', 'role', 'x', 'postgresql://role:x@/sluice?host=%2Ftmp%2Fx'],
    ['postgresql://a:b@host/db', undefined, 'x', 'postgresql://a:x@host/db'],
    ['postgresql://a:b@host/db', undefined, undefined, 'postgresql://a:b@host/db'],
    ['postgresql://a@host/db', undefined, undefined, 'postgresql://a@host/db'],
    ['postgresql://a:b%3Ac@host/db?x=1', undefined, undefined, 'postgresql://a:b%3Ac@host/db?x=1'],
  ])('%s', (url, user, password, expected) => expect(withLogin(url, user, password)).toBe(expected))
})
